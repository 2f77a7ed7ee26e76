//! How a drain goes, told while it goes.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, SystemTime};

use everpost::clock::{Clock as _, SystemClock};
use everpost::{FlusherState, Status};
use tokio::time::Instant;

use super::course::End;
use super::outcome::Outcome;
use crate::out::{Out, remark};
use crate::screen::{Bar, grouped};
use crate::status::Pace;
use crate::text::{cut, duration};
use crate::view;

/// Lines of progress are at least so far apart.
const PACE: Duration = Duration::from_secs(1);

/// Characters shown of a fault of the disk.
const SAID: usize = 200;

/// Tells how it goes while it goes: a bar on a terminal, lines otherwise.
pub(super) struct Progress {
    before: Status,
    now: Status,
    bar: Option<Bar>,
    pace: Pace,
    lines: bool,
    told: Option<(Instant, std::mem::Discriminant<FlusherState>)>,
    began: Instant,
}

impl Progress {
    pub(super) fn new(before: Status, out: Out) -> Self {
        let bar = if out.json { None } else { Bar::new(true) };
        let mut pace = Pace::default();
        pace.note(&before);
        Self {
            now: before.clone(),
            before,
            lines: bar.is_none() && !out.json && !io::stderr().is_terminal(),
            bar,
            pace,
            told: None,
            began: Instant::now(),
        }
    }

    /// Events that have left the queue since the beginning, and those that are still to leave.
    fn gone(&self) -> (u64, u64) {
        let settled = self.now.ledger.settled();
        let gone = settled.saturating_sub(self.before.ledger.settled());
        (gone, gone + self.now.pending)
    }

    pub(super) fn show(&mut self, status: &Status) {
        self.now = status.clone();
        self.pace.note(status);
        self.draw();
        if status.flusher == FlusherState::Idle || status.pending == 0 {
            // It has not begun, or has ended, and the report says so.
            return;
        }
        let (now, kind) = (Instant::now(), std::mem::discriminant(&status.flusher));
        let news = self
            .told
            .is_none_or(|(at, told)| now >= at + PACE || told != kind);
        if self.lines && news {
            self.told = Some((now, kind));
            let (gone, all) = self.gone();
            let state = view::state(&status.flusher, SystemClock.wall());
            remark(&format!("{gone} of {all}: {state}{}", disk(status)));
        }
    }

    /// Whether there is a bar, which counts down.
    pub(super) fn has_bar(&self) -> bool {
        self.bar.is_some()
    }

    /// The status that was seen last.
    pub(super) fn now(&self) -> &Status {
        &self.now
    }

    /// Takes a status that is no news yet.
    pub(super) fn note(&mut self, status: Status) {
        self.now = status;
    }

    /// Draws the bar as it is at this moment.
    pub(super) fn draw(&self) {
        let Some(bar) = &self.bar else { return };
        let (gone, all) = self.gone();
        let (left, rate) = (self.now.pending, self.pace.rate());
        let pace = rate.map(|rate| (rate, left));
        let words = words(&self.now.flusher, SystemClock.wall(), pace);
        let (done, disk) = (grouped(gone), disk(&self.now));
        bar.set(
            gone,
            Some(all),
            format!("{done} of {}  {words}{disk}", grouped(all)),
        );
    }

    pub(super) fn end(self, end: End) -> Outcome {
        Outcome::new(end, self.began.elapsed(), self.before.ledger, self.now)
    }
}

/// What the bar says: how fast it goes, or why it does not, counting down in whole seconds.
fn words(state: &FlusherState, now: SystemTime, pace: Option<(f64, u64)>) -> String {
    match (state, pace) {
        (FlusherState::Sending | FlusherState::Idle, Some((rate, left))) if rate >= 1.0 => {
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let seconds = (left as f64 / rate).ceil();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "from 1 on, and an estimate"
            )]
            let per_second = rate as u64;
            let left = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
            format!("{}/s  {} left", grouped(per_second), duration(left))
        }
        (
            FlusherState::BackingOff {
                until,
                attempt,
                last_error,
                ..
            },
            _,
        ) => {
            // What counts down stands first, since the end of a long line is not seen.
            let left = duration(whole(until.duration_since(now).unwrap_or_default()));
            let said = view::said(last_error);
            format!("backing off, next attempt in {left}; attempt {attempt} failed ({said})")
        }
        (state, _) => view::state(state, now),
    }
}

/// Rounded up to whole seconds.
fn whole(left: Duration) -> Duration {
    Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0))
}

/// A fault of the disk, behind whatever else is told.
fn disk(status: &Status) -> String {
    let fault = status.storage_fault.as_ref();
    fault.map_or_else(String::new, |fault| {
        format!("; disk fault: {}", cut(fault, SAID))
    })
}

#[cfg(test)]
mod tests {
    use everpost::Answer;

    use super::*;

    /// The bar said "0s left" when nothing moved, numbers had four digits behind the point, and
    /// the time to the next attempt stood still until it was over.
    #[test]
    fn the_bar_has_whole_numbers_and_counts_down_while_nothing_moves() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_000_000);
        let sending = FlusherState::Sending;
        assert_eq!(
            words(&sending, now, Some((86_406.928, 200_000))),
            "86,406/s  3s left"
        );
        assert_eq!(words(&sending, now, Some((0.0, 5))), "sending");
        assert_eq!(words(&sending, now, None), "sending");
        let waiting = FlusherState::BackingOff {
            until: now + Duration::from_millis(12_209),
            attempt: 3,
            since: now,
            last_error: Answer::from_status(503),
        };
        for (later, left) in [
            (0, "13s"),
            (300, "12s"),
            (11_300, "1s"),
            (12_209, "0s"),
            (15_000, "0s"),
        ] {
            let now = now + Duration::from_millis(later);
            let told = format!("backing off, next attempt in {left}; attempt 3 failed (HTTP 503)");
            assert_eq!(words(&waiting, now, Some((5.0, 5))), told);
        }
    }
}
