//! What is done to a whole set of dead letters: to exactly the one that was counted, or to none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Extension, Path, State};
use bytes::Bytes;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::DEED_MAX;
use super::access::Caller;
use super::desk::{Desk, Watched, json_body};
use super::diary;
use super::filter::{Filter, Sieve};
use crate::control::answer::{Answer, Refusal, json};
use crate::error::Error;
use crate::id::Seq;

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    action: Action,
    #[serde(default)]
    filter: Filter,
    /// The last number that the caller has seen counted.
    up_to: Seq,
    /// How many letters the caller has seen counted.
    count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Retry,
    Discard,
}

/// What is being done to a set, or was done last.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Job {
    /// Its number since the start, from 1.
    number: u64,
    action: Action,
    of: u64,
    /// Retried, or discarded.
    done: u64,
    /// Letters that were not there any more.
    gone: u64,
    is_running: bool,
    /// Why it ended before its end.
    error: Option<String>,
    #[serde(skip)]
    stop: Arc<AtomicBool>,
}

#[derive(Debug, Serialize)]
struct Accepted {
    accepted: bool,
    count: u64,
}

pub(super) async fn act(
    State(desk): State<Arc<Desk>>,
    Path(channel): Path<String>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Answer {
    caller.must_act()?;
    let at = desk.place(&channel)?;
    let wanted: Wanted = json_body(&body)?;
    let sieve = wanted.filter.clone().ready()?;
    let Ok(turn) = Arc::clone(&desk.deeds).try_acquire_owned() else {
        let hint = "wait until it is done, or stop it";
        return Err(Refusal::busy("another set is being retried or discarded").hinting(hint));
    };
    let seqs = chosen(&desk.channels[at], &sieve, &wanted).await?;
    let count = seqs.len() as u64;
    if count != wanted.count {
        let text = format!(
            "it is another set by now: {count} letters instead of {}; nothing was done",
            wanted.count
        );
        let hint = "look at the new set, and decide again";
        return Err(Refusal::new(
            StatusCode::CONFLICT,
            "set_changed",
            text,
            hint,
        ));
    }
    let stop = Arc::new(AtomicBool::new(false));
    desk.channels[at].set_job(Some(Job {
        number: desk.jobs.fetch_add(1, Ordering::Relaxed) + 1,
        action: wanted.action,
        of: count,
        done: 0,
        gone: 0,
        is_running: true,
        error: None,
        stop: Arc::clone(&stop),
    }));
    tokio::spawn(work(desk, at, caller, (wanted.action, seqs), stop, turn));
    let accepted = true;
    json(StatusCode::ACCEPTED, &Accepted { accepted, count })
}

pub(super) async fn stop(
    State(desk): State<Arc<Desk>>,
    Path(channel): Path<String>,
    Extension(caller): Extension<Caller>,
) -> Answer {
    caller.must_act()?;
    let watched = desk.channel(&channel)?;
    let mut count = 0;
    watched.change_job(|job| {
        job.stop.store(true, Ordering::Release);
        count = u64::from(job.is_running);
    });
    let accepted = true;
    json(StatusCode::ACCEPTED, &Accepted { accepted, count })
}

/// The numbers of the set. What is retried may come back as a letter, so all are known before the
/// first is touched.
async fn chosen(watched: &Watched, sieve: &Sieve, wanted: &Wanted) -> Result<Vec<Seq>, Refusal> {
    let mut seqs = Vec::new();
    let mut walk = watched.walk(0, Some(wanted.up_to));
    loop {
        let found = walk.next().await?;
        if found.is_empty() {
            return Ok(seqs);
        }
        let taken = found.iter().filter(|letter| sieve.takes(letter));
        seqs.extend(taken.map(|letter| letter.seq));
        if seqs.len() > DEED_MAX {
            let text = format!("the set is too large. max=`{DEED_MAX}`");
            let hint = "narrow the filter";
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            return Err(Refusal::new(status, "request_too_large", text, hint));
        }
    }
}

/// One letter after the other, until all are done, the disk refuses, or it is stopped.
async fn work(
    desk: Arc<Desk>,
    at: usize,
    caller: Caller,
    (action, seqs): (Action, Vec<Seq>),
    stop: Arc<AtomicBool>,
    turn: OwnedSemaphorePermit,
) {
    let watched = &desk.channels[at];
    let letters = watched.shown.queue().dead_letters();
    let (mut done, mut gone, mut ended) = (0_u64, 0_u64, None);
    for seq in seqs {
        if stop.load(Ordering::Acquire) {
            ended = Some("stopped".to_owned());
            break;
        }
        let result = match action {
            Action::Retry => letters.retry(seq).await.map(drop),
            Action::Discard => letters.discard(seq).await,
        };
        match result {
            Ok(()) => done += 1,
            Err(Error::NoSuchLetter { .. }) => gone += 1,
            Err(error) => {
                ended = Some(format!("{error}; {}", error.hint()));
                break;
            }
        }
        watched.change_job(|job| (job.done, job.gone) = (done, gone));
    }
    let outcome = ended.as_deref().unwrap_or("done");
    let deed = diary::Deed {
        channel: watched.shown.name(),
        what: match action {
            Action::Retry => "retried dead letters",
            Action::Discard => "discarded dead letters",
        },
        number_of: None,
        count: Some(done),
        outcome: &outcome,
    };
    desk.note(&caller, &deed);
    watched.change_job(|job| {
        job.is_running = false;
        job.error.clone_from(&ended);
    });
    watched.nudge.notify_one();
    drop(turn);
}
