//! One task for each channel: takes its numbers, notes what was answered, and has the page told when
//! something changes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Notify, watch};
use tokio::time::{Duration, MissedTickBehavior, interval, sleep, timeout};

use super::channel::Shown;
use super::deed::Job;
use super::desk::{Desk, Watched};
use super::history::{History, Point, TICK};
use super::view::{Beside, Said, View};
use super::words::{Known, Outage};
use crate::clock::{Clock as _, SystemClock};
use crate::error::AppendError;
use crate::millis::unix_ms;
use crate::outcome::Answer;
use crate::status::{FlusherState, Status};

/// The least time between two pieces of news of a channel; what changes within it is told as one.
const PACE: Duration = Duration::from_millis(250);

/// Answers that are kept.
const ANSWERS_MAX: usize = 10;

/// How long the log may take to say whether there is room.
const ROOM_TIME: Duration = Duration::from_secs(1);

/// What is known of a channel beside its status.
#[derive(Debug, Default)]
pub(super) struct Kept {
    history: History,
    answers: VecDeque<Said>,
    requests: u64,
    outage: Option<Outage>,
    is_full: bool,
    job: Option<Job>,
    /// The channel as JSON, and which piece of news that is.
    told: Option<(u64, Arc<str>)>,
}

impl Watched {
    pub(super) fn new(shown: Shown) -> Self {
        Self {
            path: encoded(shown.name()),
            shown,
            kept: Mutex::default(),
            nudge: Arc::new(Notify::new()),
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The channel as it is now, as JSON.
    pub(super) fn json(&self) -> String {
        let status = self.shown.queue().status();
        let mut kept = self.kept();
        kept.see(&status);
        kept.json(&self.shown, &status)
    }

    /// The channel as it was told last, if that is newer news than these.
    pub(super) fn told_since(&self, news: u64) -> Option<Arc<str>> {
        let kept = self.kept();
        let told = kept.told.as_ref().filter(|(number, _)| *number > news);
        told.map(|(_, json)| Arc::clone(json))
    }

    pub(super) fn points(&self) -> Vec<Point> {
        self.kept().history.points()
    }

    pub(super) fn set_job(&self, job: Option<Job>) {
        self.kept().job = job;
        self.nudge.notify_one();
    }

    pub(super) fn change_job(&self, change: impl FnOnce(&mut Job)) {
        if let Some(job) = &mut self.kept().job {
            change(job);
        }
    }

    /// Looks at the queue; tells if there is news.
    async fn look(&self, status: &Status, is_tick: bool, news: &watch::Sender<u64>) {
        let asked = is_tick.then(|| timeout(ROOM_TIME, self.shown.queue().check_append()));
        let is_full = match asked {
            Some(asked) => Some(matches!(asked.await, Ok(Err(AppendError::Full { .. })))),
            None => None,
        };
        let mut kept = self.kept();
        kept.is_full = is_full.unwrap_or(kept.is_full);
        kept.see(status);
        if is_tick {
            let (at, now) = (SystemClock.monotonic(), unix_ms(SystemClock.wall()));
            kept.history.tick(status, at, now);
        }
        let json = kept.json(&self.shown, status);
        if kept.told.as_ref().is_none_or(|(_, told)| **told != *json) {
            // Under the lock, so that the number is there with the news.
            news.send_modify(|number| {
                *number += 1;
                kept.told = Some((*number, json.into()));
            });
        }
    }
}

impl Kept {
    fn see(&mut self, status: &Status) {
        self.see_answer(status);
        let books = &status.ledger;
        let judged = books.delivered.saturating_add(books.dead);
        if let FlusherState::BackingOff {
            since, last_error, ..
        } = &status.flusher
        {
            self.outage = Some(Outage {
                since: *since,
                last_error: last_error.clone(),
                judged,
            });
            return;
        }
        let is_over = |outage: &Outage| {
            View::is_failing(&status.flusher) == Some(false) || judged > outage.judged
        };
        if self.outage.as_ref().is_some_and(is_over) {
            self.outage = None;
        }
    }

    fn see_answer(&mut self, status: &Status) {
        let Some(answer) = &status.last_answer else {
            return;
        };
        let at_ms = unix_ms(SystemClock.wall());
        let more = status.requests.saturating_sub(self.requests);
        // The names of requests differ in each.
        let plain = |answer: &Answer| Answer {
            request_id: None,
            ..answer.clone()
        };
        match self.answers.back_mut() {
            Some(last) if last.answer == *answer => {
                if more > 0 {
                    (last.times, last.at_ms) = (last.times + more, at_ms);
                }
            }
            Some(last) if plain(&last.answer) == plain(answer) => {
                last.times += more.max(1);
                (last.answer, last.at_ms) = (answer.clone(), at_ms);
            }
            _ => {
                if self.answers.len() == ANSWERS_MAX {
                    self.answers.pop_front();
                }
                self.answers.push_back(Said {
                    at_ms,
                    answer: answer.clone(),
                    times: 1,
                });
            }
        }
        self.requests = status.requests;
    }

    fn json(&self, shown: &Shown, status: &Status) -> String {
        let known = Known {
            outage: self.outage.as_ref(),
            is_full: self.is_full,
            how_to_set_a_key: shown.how_to_set_a_key(),
        };
        let beside = Beside {
            known,
            answers: &self.answers,
            rates: self.history.rates(),
            point: self.history.last(),
            job: self.job.clone(),
        };
        // Texts and numbers always serialise.
        serde_json::to_string(&View::new(shown, status, beside)).unwrap_or_default()
    }
}

/// Follows a channel until its queue has ended, or the page is gone.
pub(super) async fn keep(desk: Weak<Desk>, at: usize) {
    let Some((mut watch, nudge)) = desk.upgrade().map(|desk| {
        let watched = &desk.channels[at];
        (watched.shown.queue().watch(), Arc::clone(&watched.nudge))
    }) else {
        return;
    };
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (is_tick, is_open) = tokio::select! {
            _ = ticks.tick() => (true, true),
            is_open = watch.changed() => (false, is_open),
            () = nudge.notified() => (false, true),
        };
        let Some(desk) = desk.upgrade() else {
            return;
        };
        let status = watch.current();
        desk.channels[at].look(&status, is_tick, &desk.news).await;
        drop(desk);
        if !is_open {
            return;
        }
        sleep(PACE).await;
    }
}

/// The name as a part of a path.
fn encoded(name: &str) -> String {
    let mut path = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Queue;

    fn backing_off() -> FlusherState {
        FlusherState::BackingOff {
            since: std::time::UNIX_EPOCH,
            until: std::time::UNIX_EPOCH,
            attempt: 1,
            last_error: Answer::from_detail("refused"),
        }
    }

    #[tokio::test]
    async fn an_outage_ends_with_a_delivery_and_answers_are_kept_once() {
        let dir = tempfile::tempdir().unwrap();
        let queue = Queue::builder(dir.path().join("spool")).open().await;
        let queue = queue.unwrap();
        let mut status = queue.status();
        queue.close(Duration::ZERO).await.unwrap();
        let mut kept = Kept::default();
        (status.flusher, status.requests) = (backing_off(), 3);
        status.last_answer = Some(Answer::from_detail("refused"));
        kept.see(&status);
        status.flusher = FlusherState::Sending;
        (status.requests, status.pending) = (9, 1);
        kept.see(&status);
        assert!(kept.outage.is_some(), "a try is no end");
        assert_eq!((kept.answers.len(), kept.answers[0].times), (1, 7));
        status.ledger.delivered = 1;
        for id in ["a", "b"] {
            let mut answer = Answer::from_status(200);
            answer.request_id = Some(id.to_owned());
            status.last_answer = Some(answer);
            status.requests += 1;
            kept.see(&status);
        }
        assert!(kept.outage.is_none());
        assert_eq!((kept.answers.len(), kept.answers[1].times), (2, 2));
        for code in 0..100 {
            status.last_answer = Some(Answer::from_status(code));
            kept.see(&status);
        }
        assert_eq!(kept.answers.len(), ANSWERS_MAX);
    }

    #[test]
    fn any_name_is_one_part_of_a_path() {
        assert_eq!(encoded("microsoft-bot_9"), "microsoft-bot_9");
        assert_eq!(encoded("a/{b}%\u{fc}"), "a%2F%7Bb%7D%25%C3%BC");
    }
}
