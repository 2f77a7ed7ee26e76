//! One line an hour, and one at the end of an outage: what was delivered, set aside and is still
//! pending.

use std::path::Path;
use std::time::Duration;

use everpost::{FlusherState, Ledger, PauseReason, Queue, Status, StatusWatch};
use tokio::time::{Instant, interval_at};

use crate::text::duration;

/// Between two lines, if nothing happens.
const HOUR: Duration = Duration::from_secs(3600);

/// Follows a queue and logs the lines, until the queue has ended.
pub(crate) async fn keep(queue: Queue) {
    let (watch, spool) = (queue.watch(), queue.spool().to_owned());
    drop(queue);
    keep_with(watch, |line| line.log(&spool)).await;
}

async fn keep_with(mut watch: StatusWatch, mut say: impl FnMut(&Line)) {
    let mut summary = Summary::new(&watch.current(), Instant::now());
    let mut hours = interval_at(Instant::now() + HOUR, HOUR);
    loop {
        let line = tokio::select! {
            is_open = watch.changed() => {
                if !is_open {
                    return;
                }
                summary.see(&watch.current(), Instant::now())
            }
            _ = hours.tick() => Some(summary.line(&watch.current(), Instant::now(), None)),
        };
        if let Some(line) = &line {
            say(line);
        }
    }
}

/// What has come of the events since the last line.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    delivered: u64,
    /// Events that were set aside, whatever for.
    dead: u64,
    pending: u64,
    since_last: Duration,
    /// If it is the end of one.
    outage: Option<Outage>,
}

/// How long nothing could be delivered, and how many requests that took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outage {
    lasted: Duration,
    requests: u64,
}

impl Line {
    fn log(&self, spool: &Path) {
        let spool = spool.display();
        let (delivered, dead, pending) = (self.delivered, self.dead, self.pending);
        let since_last = duration(self.since_last);
        match &self.outage {
            None => tracing::info!(%spool, delivered, dead, pending, %since_last, "summary"),
            Some(outage) => {
                let lasted = duration(outage.lasted);
                let requests = outage.requests;
                tracing::info!(%spool, %lasted, requests, delivered, dead, pending, %since_last,
                    "an outage is over");
            }
        }
    }
}

/// Sees outages begin and end, and counts between the lines.
#[derive(Debug)]
struct Summary {
    told: Instant,
    books: Ledger,
    /// The outage that lasts.
    outage: Option<Begun>,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    at: Instant,
    /// Sent before it.
    requests: u64,
    /// Events that the receiver had judged.
    judged: u64,
}

impl Summary {
    fn new(status: &Status, now: Instant) -> Self {
        Self {
            told: now,
            books: status.ledger,
            outage: None,
        }
    }

    /// Takes a status; gives a line if an outage is over with it.
    fn see(&mut self, status: &Status, now: Instant) -> Option<Line> {
        let fails = fails(&status.flusher);
        match self.outage {
            None if fails => {
                self.outage = Some(Begun {
                    at: now,
                    // The one that failed is of the outage.
                    requests: status.requests.saturating_sub(1),
                    judged: judged(&status.ledger),
                });
                None
            }
            Some(begun) if !fails => {
                let is_over =
                    judged(&status.ledger) > begun.judged || status.flusher == FlusherState::Idle;
                is_over.then(|| {
                    self.outage = None;
                    let outage = Outage {
                        lasted: now - begun.at,
                        requests: status.requests.saturating_sub(begun.requests),
                    };
                    self.line(status, now, Some(outage))
                })
            }
            _ => None,
        }
    }

    fn line(&mut self, status: &Status, now: Instant, outage: Option<Outage>) -> Line {
        let before = std::mem::replace(&mut self.books, status.ledger);
        let books = &self.books;
        Line {
            delivered: books.delivered.saturating_sub(before.delivered),
            dead: set_aside(books).saturating_sub(set_aside(&before)),
            pending: status.pending,
            since_last: now - std::mem::replace(&mut self.told, now),
            outage,
        }
    }
}

/// A pause on request is no outage.
fn fails(state: &FlusherState) -> bool {
    match state {
        FlusherState::BackingOff { .. } => true,
        FlusherState::Paused { reason, .. } => *reason != PauseReason::Requested,
        _ => false,
    }
}

/// Events on which the receiver has had a word.
fn judged(books: &Ledger) -> u64 {
    books.delivered.saturating_add(books.dead)
}

fn set_aside(books: &Ledger) -> u64 {
    books.dead.saturating_add(books.expired)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use everpost::Answer;

    use super::*;

    fn backing_off() -> FlusherState {
        FlusherState::BackingOff {
            since: SystemTime::UNIX_EPOCH,
            until: SystemTime::UNIX_EPOCH,
            attempt: 1,
            last_error: Answer::default(),
        }
    }

    async fn status() -> Status {
        let dir = tempfile::tempdir().unwrap();
        let queue = Queue::builder(dir.path().join("spool")).open().await;
        let queue = queue.unwrap();
        let status = queue.status();
        queue.close(Duration::ZERO).await.unwrap();
        status
    }

    #[tokio::test]
    async fn an_outage_is_over_with_the_first_delivery_and_not_between_two_tries() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut status = status().await;
        let mut summary = Summary::new(&status, began);
        status.flusher = backing_off();
        (status.requests, status.pending) = (5, 7);
        assert_eq!(summary.see(&status, at(10)), None);
        status.flusher = FlusherState::Sending;
        assert_eq!(summary.see(&status, at(20)), None, "the next try");
        status.flusher = backing_off();
        assert_eq!(summary.see(&status, at(30)), None);
        (status.flusher, status.requests) = (FlusherState::Sending, 9);
        (status.ledger.delivered, status.pending) = (4, 3);
        let line = summary.see(&status, at(40)).unwrap();
        let outage = Outage {
            lasted: Duration::from_secs(30),
            requests: 5,
        };
        let expected = Line {
            delivered: 4,
            dead: 0,
            pending: 3,
            since_last: Duration::from_secs(40),
            outage: Some(outage),
        };
        assert_eq!(line, expected);
        assert_eq!(summary.see(&status, at(50)), None, "told once");
        // Evicted or discarded, so that nothing is left to fail.
        status.flusher = backing_off();
        summary.see(&status, at(60));
        status.flusher = FlusherState::Idle;
        let over = summary.see(&status, at(70)).unwrap();
        assert_eq!((over.delivered, over.since_last.as_secs()), (0, 30));
    }

    #[tokio::test]
    async fn a_pause_on_request_is_no_outage() {
        let mut status = status().await;
        let now = Instant::now();
        let mut summary = Summary::new(&status, now);
        for (reason, told) in [
            (PauseReason::Requested, false),
            (PauseReason::Credentials, true),
        ] {
            status.flusher = FlusherState::Paused {
                reason,
                last_error: Answer::default(),
                since: SystemTime::UNIX_EPOCH,
                next_probe: None,
            };
            summary.see(&status, now);
            status.flusher = FlusherState::Idle;
            assert_eq!(summary.see(&status, now).is_some(), told, "{reason:?}");
        }
    }

    /// Time stands still but for the timers: three lines for three hours.
    #[tokio::test]
    async fn there_is_one_line_an_hour() {
        let dir = tempfile::tempdir().unwrap();
        let queue = Queue::builder(dir.path().join("spool")).open().await;
        let queue = queue.unwrap();
        let event = everpost::Event::json("1").unwrap();
        queue.append(event).await.unwrap();
        tokio::time::pause();
        let (say, mut said) = tokio::sync::mpsc::unbounded_channel();
        let watch = queue.watch();
        let keeper = tokio::spawn(keep_with(watch, move |line| {
            say.send((line.pending, line.since_last, line.outage))
                .unwrap();
        }));
        for _ in 0..3 {
            let (pending, since_last, outage) = said.recv().await.unwrap();
            // A timer is good to a millisecond.
            let late = since_last.checked_sub(HOUR).unwrap();
            assert!(late <= Duration::from_millis(1), "{late:?}");
            assert_eq!((pending, outage), (1, None));
        }
        tokio::time::resume();
        queue.close(Duration::ZERO).await.unwrap();
        keeper.await.unwrap();
    }
}
