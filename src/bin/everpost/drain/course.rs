//! The way a drain takes, from the first status to its end.

use std::time::{Duration, SystemTime};

use everpost::clock::{Clock as _, SystemClock};
use everpost::control::Lines;
use everpost::control::wire::DrainLine;
use everpost::{FlusherState, PauseReason, Queue, Status, StatusWatch};
use serde::Serialize;
use tokio::time::Instant;

use super::progress::Progress;
use crate::fault::Fault;
use crate::signals::Signals;

/// The bar is drawn so often that it counts down without leaving a second out.
const TICK: Duration = Duration::from_millis(250);

/// Where the status comes from, change by change.
pub(super) enum Source {
    Here {
        queue: Queue,
        watch: StatusWatch,
        begun: bool,
    },
    There(Lines<DrainLine>),
}

impl Source {
    /// A queue of this process.
    pub(super) fn here(queue: Queue, watch: StatusWatch) -> Self {
        Self::Here {
            queue,
            watch,
            begun: false,
        }
    }

    /// The next status, and, from an owner, whether this is its last word.
    ///
    /// # Cancel safety
    /// No change is lost for good: the next status shows it.
    async fn next(&mut self) -> Result<Option<(Status, bool)>, Fault> {
        match self {
            Self::Here { watch, begun, .. } => {
                if !std::mem::replace(begun, true) || watch.changed().await {
                    return Ok(Some((watch.current(), false)));
                }
                Ok(None)
            }
            Self::There(lines) => {
                // One that was killed is gone, as one that has ended is.
                let line = lines.next().await.ok().flatten();
                Ok(line.map(|line| (line.status, line.done && line.drained)))
            }
        }
    }

    /// Tries at once what a pause would try later. An owner does that by itself.
    async fn wake(&self) {
        if let Self::Here { queue, .. } = self {
            // If delivery has ended instead, the next status says so.
            drop(queue.wake().await);
        }
    }
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum End {
    /// It has not: the owner that it followed has.
    #[serde(skip)]
    Gone,
    Drained,
    Paused,
    Deadline,
    Interrupted,
    Failed,
}

/// A drain under way.
pub(super) struct Course {
    source: Source,
    /// How many requests the owner had made before.
    requests: u64,
    /// When the next probe was due before this drain has asked for one at once. What keeps delivery
    /// from sending anything costs no request, and is told by a probe that is due anew.
    asked: Option<SystemTime>,
}

impl Course {
    pub(super) fn new(source: Source, before: &Status) -> Self {
        let asked = match &source {
            Source::Here { .. } => None,
            Source::There(_) => probe(&before.flusher),
        };
        Self {
            source,
            requests: before.requests,
            asked,
        }
    }

    /// Follows it to its end, or to this moment.
    pub(super) async fn follow(
        mut self,
        progress: &mut Progress,
        by: Instant,
        signals: &mut Signals,
    ) -> Result<End, Fault> {
        let mut tick = tokio::time::interval(TICK);
        let end = loop {
            let next = tokio::select! {
                biased;
                () = signals.next() => break End::Interrupted,
                () = tokio::time::sleep_until(by) => break End::Deadline,
                _ = tick.tick(), if progress.has_bar() => {
                    progress.draw();
                    continue;
                }
                next = self.source.next() => next?,
            };
            let end = match next {
                Some((status, done)) => self.take(status, done, progress).await,
                None => Some(self.without_more(progress.now().pending, by)),
            };
            if let Some(end) = end {
                break end;
            }
        };
        // What came between the last look and the end is a part of the report.
        if let Source::Here { watch, .. } = &self.source {
            progress.note(watch.current());
        }
        // A deadline of nothing is enough for nothing.
        let is_empty = progress.now().pending == 0;
        Ok(match end {
            End::Deadline if is_empty => End::Drained,
            end => end,
        })
    }

    /// How it ended, where no status follows: an owner ends with its last word at the deadline, or
    /// goes away.
    fn without_more(&self, pending: u64, by: Instant) -> End {
        match &self.source {
            _ if pending == 0 => End::Drained,
            Source::There(_) if Instant::now() < by => End::Gone,
            _ => End::Deadline,
        }
    }

    /// Takes a status, and says how the drain ended if that is its end.
    async fn take(&mut self, status: Status, done: bool, progress: &mut Progress) -> Option<End> {
        if done || status.pending == 0 {
            progress.show(&status);
            return Some(End::Drained);
        }
        match &status.flusher {
            FlusherState::Closed if matches!(self.source, Source::There(_)) => Some(End::Gone),
            FlusherState::Failed { .. } | FlusherState::Closed => {
                progress.show(&status);
                Some(End::Failed)
            }
            FlusherState::Paused {
                reason, next_probe, ..
            } => {
                // A probe under way is due already; one that failed is due later.
                let waits = next_probe.is_none_or(|at| at > SystemClock.wall());
                let is_anew = self.asked.is_some_and(|asked| Some(asked) != *next_probe);
                let has_failed = status.requests > self.requests || is_anew;
                if *reason == PauseReason::Requested || (waits && has_failed) {
                    progress.show(&status);
                    return Some(End::Paused);
                }
                if waits && self.asked.is_none() {
                    self.asked = *next_probe;
                    self.source.wake().await;
                }
                // It is tried again at once, so that it is no news yet.
                progress.note(status);
                None
            }
            _ => {
                progress.show(&status);
                None
            }
        }
    }
}

/// When delivery that is paused tries next.
fn probe(state: &FlusherState) -> Option<SystemTime> {
    match state {
        FlusherState::Paused { next_probe, .. } => *next_probe,
        _ => None,
    }
}
