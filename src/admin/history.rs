//! Numbers of the last hours, in memory and bounded.

use std::collections::VecDeque;

use serde::Serialize;
use tokio::time::Duration;

use super::HISTORY;
use crate::status::Status;

/// How often a number is taken.
pub(super) const TICK: Duration = Duration::from_secs(5);

/// Of how many ticks one is kept for the whole of the history.
const COARSE: usize = 6;

/// Ticks that are kept: ten minutes.
const FINE_MAX: usize = 120;

/// Points that are kept for the hours before.
const COARSE_MAX: usize = HISTORY.as_secs() as usize / (TICK.as_secs() as usize * COARSE);

/// Ticks that a rate covers: a minute.
const MINUTE: usize = 12;

/// The numbers of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Point {
    /// When, in milliseconds since 1970.
    at_ms: u64,
    pending: u64,
    dead: u64,
    disk_bytes: u64,
    /// Events a second that came and that left, since the point before.
    r#in: f64,
    out: f64,
}

/// Events a second, over the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Rates {
    r#in: f64,
    out: f64,
}

/// What had come and left at a moment.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Duration,
    appended: u64,
    settled: u64,
}

impl Mark {
    fn rates_to(&self, later: &Self) -> Rates {
        let seconds = later.at.saturating_sub(self.at).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
        let rate = |before: u64, after: u64| match after.saturating_sub(before) {
            0 => 0.0,
            count if seconds > 0.0 => (count as f64 / seconds * 100.0).round() / 100.0,
            _ => 0.0,
        };
        Rates {
            r#in: rate(self.appended, later.appended),
            out: rate(self.settled, later.settled),
        }
    }
}

/// The numbers of one queue.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// Of the last ticks; the newest is last.
    marks: VecDeque<Mark>,
    fine: VecDeque<Point>,
    coarse: VecDeque<Point>,
    ticks: usize,
    coarse_mark: Option<Mark>,
}

impl History {
    /// Takes the numbers of this moment: `at` on a clock that only moves forward, `at_ms` for people.
    pub(super) fn tick(&mut self, status: &Status, at: Duration, at_ms: u64) {
        let mark = Mark {
            at,
            appended: status.ledger.appended,
            settled: status.ledger.settled(),
        };
        let since = |before: Option<&Mark>| {
            let rates = before.map(|before| before.rates_to(&mark));
            let Rates { r#in, out } = rates.unwrap_or_default();
            Point {
                at_ms,
                pending: status.pending,
                dead: status.dead_letters,
                disk_bytes: status.disk_bytes,
                r#in,
                out,
            }
        };
        push(&mut self.fine, since(self.marks.back()), FINE_MAX);
        if self.ticks.is_multiple_of(COARSE) {
            push(
                &mut self.coarse,
                since(self.coarse_mark.as_ref()),
                COARSE_MAX,
            );
            self.coarse_mark = Some(mark);
        }
        self.ticks = self.ticks.wrapping_add(1);
        push(&mut self.marks, mark, MINUTE + 1);
    }

    pub(super) fn rates(&self) -> Rates {
        match (self.marks.front(), self.marks.back()) {
            (Some(first), Some(last)) => first.rates_to(last),
            _ => Rates::default(),
        }
    }

    pub(super) fn last(&self) -> Option<Point> {
        self.fine.back().copied()
    }

    /// All points in order: coarse ones, and fine ones for the last minutes.
    pub(super) fn points(&self) -> Vec<Point> {
        let fine_from = self.fine.front().map_or(u64::MAX, |point| point.at_ms);
        let coarse = self.coarse.iter().filter(|point| point.at_ms < fine_from);
        coarse.chain(&self.fine).copied().collect()
    }
}

fn push<T>(ring: &mut VecDeque<T>, item: T, max: usize) {
    if ring.len() >= max {
        ring.pop_front();
    }
    ring.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Queue;

    #[tokio::test]
    async fn six_hours_are_kept_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let queue = Queue::builder(dir.path().join("spool")).open().await;
        let queue = queue.unwrap();
        let mut status = queue.status();
        queue.close(Duration::ZERO).await.unwrap();
        let mut history = History::default();
        for tick in 0..100_000_u32 {
            // Ten a second come, five leave.
            status.ledger.appended = u64::from(tick) * 50;
            status.ledger.delivered = u64::from(tick) * 25;
            let at = TICK * tick;
            history.tick(&status, at, u64::try_from(at.as_millis()).unwrap());
        }
        let rates = history.rates();
        assert_eq!((rates.r#in, rates.out), (10.0, 5.0));
        let points = history.points();
        let (first, last) = (points.first().unwrap(), points.last().unwrap());
        let span = Duration::from_millis(last.at_ms - first.at_ms);
        assert!(span <= HISTORY && span > HISTORY.mul_f64(0.99), "{span:?}");
        assert!(points.is_sorted_by(|a, b| a.at_ms < b.at_ms));
        assert!(points.len() <= FINE_MAX + COARSE_MAX, "{}", points.len());
        assert!(points.iter().all(|point| point.r#in == 10.0));
    }
}
