//! Following the status of a queue, at a rate that is bounded.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use tokio::time::{Instant, timeout_at};

use super::answer;
use super::wire::DrainLine;
use crate::id::Seq;
use crate::status::{FlusherState, Status};
use crate::watch::StatusWatch;

/// The least time between two lines; changes within it are told as one.
pub(super) const PACE: Duration = Duration::from_millis(100);

/// Gives the status as it changes, each at least [`PACE`] after the one before.
struct Follower {
    watch: StatusWatch,
    told: Option<Status>,
    next_at: Instant,
}

impl Follower {
    fn new(watch: StatusWatch) -> Self {
        Self {
            watch,
            told: None,
            next_at: Instant::now(),
        }
    }

    /// The next status that differs from the last; without delay if it is `urgent`. `None` once
    /// the queue has ended and its last status was given.
    async fn next(&mut self, urgent: impl Fn(&Status) -> bool) -> Option<Status> {
        let told = self.told.take();
        let news = self.watch.wait_for(|now| told.as_ref() != Some(now)).await;
        let status = match news {
            Some(status) if urgent(&status) => status,
            Some(_) => match timeout_at(self.next_at, self.watch.wait_for(&urgent)).await {
                Ok(Some(status)) => status,
                Ok(None) | Err(_) => self.watch.current(),
            },
            None => {
                let last = self.watch.current();
                if told.as_ref() == Some(&last) {
                    self.told = told;
                    return None;
                }
                last
            }
        };
        self.told = Some(status.clone());
        self.next_at = Instant::now() + PACE;
        Some(status)
    }
}

/// The status now and at each change, until the queue ends.
pub(super) fn watch(watch: StatusWatch) -> Body {
    let follower = Follower::new(watch);
    body(stream::unfold(follower, |mut follower| async {
        let status = follower.next(|_| false).await?;
        Some((answer::line(&status).ok()?, follower))
    }))
}

/// Two lines: one that is there, and one that comes, unless the queue ends before.
pub(super) fn two(
    first: Vec<u8>,
    last: impl Future<Output = Option<Vec<u8>>> + Send + 'static,
) -> Body {
    let first = stream::once(std::future::ready(first));
    body(first.chain(stream::once(last).filter_map(std::future::ready)))
}

/// Where a drain stands.
struct Drain {
    follower: Follower,
    /// What was appended before the request: this much is to leave the queue.
    target: Seq,
    deadline: Instant,
    done: bool,
}

/// The progress of a drain: a line at each change, and a last one that says what came of it.
pub(super) fn drain(watch: StatusWatch, deadline: Duration) -> Body {
    let drain = Drain {
        target: watch.current().last_seq,
        follower: Follower::new(watch),
        deadline: Instant::now() + deadline,
        done: false,
    };
    body(stream::unfold(drain, |mut drain| async {
        if drain.done {
            return None;
        }
        let line = drain.next().await;
        Some((answer::line(&line).ok()?, drain))
    }))
}

impl Drain {
    async fn next(&mut self) -> DrainLine {
        let target = self.target;
        let over = |status: &Status| status.cursor >= target || has_ended(&status.flusher);
        let next = timeout_at(self.deadline, self.follower.next(over)).await;
        // The deadline, or the end of the queue, is the end in any case.
        let (status, ended) = match next {
            Ok(Some(status)) => {
                let ended = over(&status);
                (status, ended)
            }
            Ok(None) | Err(_) => (self.follower.watch.current(), true),
        };
        self.done = ended;
        DrainLine::new(ended, status.cursor >= target, status)
    }
}

fn has_ended(flusher: &FlusherState) -> bool {
    matches!(flusher, FlusherState::Closed | FlusherState::Failed { .. })
}

fn body(lines: impl Stream<Item = Vec<u8>> + Send + 'static) -> Body {
    Body::from_stream(lines.map(|line| Ok::<_, Infallible>(Bytes::from(line))))
}
