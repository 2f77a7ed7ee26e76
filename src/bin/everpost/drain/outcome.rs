//! What a drain did, and how it ended.

use std::time::Duration;

use everpost::clock::{Clock as _, SystemClock};
use everpost::{FlusherState, Ledger, Status, exit};
use serde::Serialize;

use super::course::End;
use crate::fault::Fault;
use crate::out::Out;
use crate::text::{count, duration};
use crate::view;

/// The end of a drain, and the books before and after it.
pub(super) struct Outcome {
    end: End,
    took: Duration,
    before: Ledger,
    now: Status,
}

/// What a drain did.
#[derive(Serialize)]
struct Report<'a> {
    /// `drained`, `paused`, `deadline`, `interrupted` or `failed`.
    end: End,
    delivered: u64,
    dead: u64,
    expired: u64,
    lost: u64,
    pending: u64,
    took_ms: u64,
    flusher: &'a FlusherState,
}

impl Outcome {
    pub(super) fn new(end: End, took: Duration, before: Ledger, now: Status) -> Self {
        Self {
            end,
            took,
            before,
            now,
        }
    }

    /// Tells it, and gives the fault that the command ends with, if it does.
    pub(super) fn report(&self, out: Out) -> Result<(), Fault> {
        let books = &self.now.ledger;
        let report = Report {
            end: self.end,
            delivered: books.delivered - self.before.delivered,
            dead: books.dead - self.before.dead,
            expired: books.expired - self.before.expired,
            lost: books.lost - self.before.lost,
            pending: self.now.pending,
            took_ms: u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            flusher: &self.now.flusher,
        };
        let shown = out.show(&report, || {
            let mut text = format!("delivered {}", count(report.delivered, "event"));
            for (number, what) in [
                (report.dead, "set aside; see `everpost dead list`"),
                (report.expired, "expired; see `everpost dead list`"),
                (report.lost, "lost to damage"),
                (report.pending, "pending"),
            ] {
                if number > 0 {
                    text.push_str(&format!("; {number} {what}"));
                }
            }
            format!("{text}; took {}\n", duration(self.took))
        });
        // That it cannot be written does not hide how the drain ended.
        self.verdict().and(shown)
    }

    fn verdict(&self) -> Result<(), Fault> {
        let pending = count(self.now.pending, "event");
        match (self.end, &self.now.flusher) {
            (End::Drained, _) => Ok(()),
            (
                End::Paused,
                FlusherState::Paused {
                    reason, last_error, ..
                },
            ) => {
                let why = view::why(*reason, last_error);
                let text = format!("delivery is paused: {why}; {pending} pending");
                Err(Fault::new(exit::PAUSED, text).hint(view::cure(*reason)))
            }
            (End::Failed, FlusherState::Failed { message }) => {
                let text = format!("delivery ended by a panic: {message}");
                Err(Fault::new(exit::UNEXPECTED, text).hint("nothing is lost; run it again"))
            }
            (_, state) => {
                let state = view::state(state, SystemClock.wall());
                let text = format!("{pending} still pending; {state}");
                Err(Fault::new(exit::PENDING, text)
                    .hint("they are kept; run it again with more time, or `everpost run`"))
            }
        }
    }
}
