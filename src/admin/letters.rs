//! Dead letters: listed without their events, counted and grouped, and downloaded.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::HeaderValue;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use futures_util::stream;
use hyper::StatusCode;
use hyper::header::CONTENT_DISPOSITION;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::LIST_MAX;
use super::access::Caller;
use super::desk::{Desk, Watched, json_body};
use super::diary::Deed;
use super::filter::{Filter, Sieve, Where};
use super::survey::{Slice, Walk, survey};
use crate::control::answer::{Answer, Refusal, json, line, lines};
use crate::control::wire::LetterLine;
use crate::dead::{Cause, DeadLetter};
use crate::id::{EventId, Seq};
use crate::millis::unix_ms;
use crate::outcome;

type Shared = State<Arc<Desk>>;
type Asked = Result<Query<Wanted>, QueryRejection>;

/// What is asked for in the query: which letters, and which part of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default)]
    after: Seq,
    /// Those behind it are left out.
    up_to: Option<Seq>,
    #[serde(default = "list_default")]
    max: usize,
    /// Stands for a filter and the right to what it lets through.
    ticket: Option<Uuid>,
    cause: Option<Cause>,
    status: Option<u16>,
    group: Option<Uuid>,
    q: Option<String>,
    #[serde(default)]
    r#in: Where,
}

impl Wanted {
    fn filter(&self) -> Filter {
        Filter {
            cause: self.cause,
            status: self.status,
            group: self.group,
            q: self.q.clone(),
            r#in: self.r#in,
        }
    }
}

fn list_default() -> usize {
    50
}

/// A letter without its event.
#[derive(Debug, Serialize)]
struct Row {
    seq: Seq,
    id: EventId,
    time_ms: u64,
    cause: Cause,
    answer: outcome::Answer,
    attempts: u32,
    first_attempt_ms: u64,
    last_attempt_ms: u64,
    /// Bytes of the event.
    bytes: usize,
}

impl Row {
    fn of(letter: &DeadLetter) -> Self {
        Self {
            seq: letter.seq,
            id: letter.event.id(),
            time_ms: letter.event.time_ms(),
            cause: letter.cause,
            answer: letter.answer.clone(),
            attempts: letter.attempts,
            first_attempt_ms: unix_ms(letter.first_attempt),
            last_attempt_ms: unix_ms(letter.last_attempt),
            bytes: letter.event.json_bytes().len(),
        }
    }
}

/// A page of the list.
#[derive(Debug, Serialize)]
struct Page {
    letters: Vec<Row>,
    /// Where to go on; none at the end.
    next: Option<Seq>,
    /// Letters that were looked at.
    scanned: usize,
}

pub(super) async fn list(
    State(desk): Shared,
    Path(channel): Path<String>,
    wanted: Asked,
    Extension(caller): Extension<Caller>,
) -> Answer {
    let watched = desk.channel(&channel)?;
    let Query(wanted) = wanted?;
    let sieve = allowed(wanted.filter(), &caller)?;
    let max = wanted.max.clamp(1, LIST_MAX);
    let _turn = desk.scans.acquire().await;
    let mut walk = watched.walk(wanted.after, wanted.up_to);
    let (mut rows, mut next) = (Vec::new(), None);
    let mut slice = Slice::begin();
    'all: loop {
        let found = walk.next().await?;
        let Some(last) = found.last().map(|letter| letter.seq) else {
            break;
        };
        for letter in &found {
            slice.scanned += 1;
            if sieve.takes(letter) {
                rows.push(Row::of(letter));
            }
            if rows.len() == max {
                next = Some(letter.seq);
                break 'all;
            }
        }
        if slice.is_over() {
            next = Some(last);
            break;
        }
    }
    // What is asked for next may be the end.
    let page = Page {
        letters: rows,
        next,
        scanned: slice.scanned,
    };
    json(StatusCode::OK, &page)
}

pub(super) async fn count(
    State(desk): Shared,
    Path(channel): Path<String>,
    wanted: Asked,
    Extension(caller): Extension<Caller>,
) -> Answer {
    let watched = desk.channel(&channel)?;
    let Query(wanted) = wanted?;
    let sieve = allowed(wanted.filter(), &caller)?;
    let _turn = desk.scans.acquire().await;
    let walk = watched.walk(wanted.after, wanted.up_to);
    json(StatusCode::OK, &survey(walk, &sieve, Slice::begin()).await?)
}

/// The filter, if this caller may look where it looks.
fn allowed(filter: Filter, caller: &Caller) -> Result<Sieve, Refusal> {
    let sieve = filter.ready()?;
    if sieve.reads_content() {
        caller.must_act()?;
    }
    Ok(sieve)
}

/// Where a download is, for once.
#[derive(Debug, Serialize)]
struct Given {
    path: String,
}

pub(super) async fn ticket(
    State(desk): Shared,
    Path(channel): Path<String>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Answer {
    caller.must_act()?;
    let watched = desk.channel(&channel)?;
    let filter: Filter = json_body(&body)?;
    filter.clone().ready()?;
    let number = desk.tickets.give(&channel, filter, caller);
    let path = format!(
        "/api/channels/{}/letters/export?ticket={number}",
        watched.path
    );
    json(StatusCode::OK, &Given { path })
}

pub(super) async fn export(
    State(desk): Shared,
    Path(channel): Path<String>,
    wanted: Asked,
    Extension(caller): Extension<Caller>,
) -> Answer {
    let watched = desk.channel(&channel)?;
    let Query(wanted) = wanted?;
    let (filter, caller) = match wanted.ticket {
        Some(number) => {
            let ticket = desk.tickets.take(number, &channel).ok_or_else(|| {
                let hint = "each is good once, for a minute: press the button again";
                let text = "the ticket is not good any more";
                Refusal::new(StatusCode::FORBIDDEN, "read_only", text, hint)
            })?;
            (ticket.filter, ticket.caller)
        }
        None => {
            caller.must_act()?;
            (wanted.filter(), caller)
        }
    };
    let sieve = filter.ready()?;
    let deed = Deed {
        channel: &channel,
        what: "downloaded dead letters",
        number_of: None,
        count: None,
        outcome: &"begun",
    };
    desk.note(&caller, &deed);
    let walk = watched.walk(0, None);
    let mut response = lines(exported(Arc::clone(&desk), walk, sieve)).into_response();
    let name = format!(
        "attachment; filename=\"dead-letters-{}.jsonl\"",
        watched.path
    );
    if let Ok(name) = HeaderValue::from_str(&name) {
        response.headers_mut().insert(CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// The letters as lines, a few at a time, as fast as the client takes them. If the log refuses, the
/// connection is cut, so that what is there is not taken for all.
fn exported(desk: Arc<Desk>, walk: Walk, sieve: Sieve) -> Body {
    let lines = stream::unfold(
        (desk, walk, sieve, false),
        |(desk, mut walk, sieve, over)| async move {
            if over {
                return None;
            }
            let made = {
                let _turn = desk.scans.acquire().await;
                stride(&mut walk, &sieve).await
            };
            match made {
                Ok(Some(bytes)) => Some((Ok(Bytes::from(bytes)), (desk, walk, sieve, false))),
                Ok(None) => None,
                Err(error) => Some((Err(error), (desk, walk, sieve, true))),
            }
        },
    );
    Body::from_stream(lines)
}

/// The lines of a few letters, and there may be none among them; `None` at the end.
async fn stride(walk: &mut Walk, sieve: &Sieve) -> Result<Option<Vec<u8>>, String> {
    let found = walk.next().await.map_err(|error| error.to_string())?;
    if found.is_empty() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    for letter in found.iter().filter(|letter| sieve.takes(letter)) {
        let made = LetterLine::new(letter).map_err(|error| error.to_string())?;
        bytes.extend(line(&made).map_err(|_| "a letter cannot be written".to_owned())?);
    }
    Ok(Some(bytes))
}

impl Watched {
    /// Goes through the dead letters of this channel, to the last that could be there by now.
    pub(super) fn walk(&self, after: Seq, up_to: Option<Seq>) -> Walk {
        let queue = self.shown.queue();
        let up_to = up_to.unwrap_or_else(|| queue.status().last_seq);
        Walk::new(queue.dead_letters(), after, up_to)
    }
}
