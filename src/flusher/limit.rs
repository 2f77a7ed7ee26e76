//! How many events go into one request.
//!
//! There is one number for both reasons to send less: the receiver says that it was too much, or a
//! batch does not get through in the time it has.

use std::time::Duration;

use super::growth::Growth;
use super::step::Reading;
use crate::id::Seq;
use crate::settings::Delivery;

/// Full batches delivered in a row after which a larger size is tried.
const GROW_AFTER: u32 = 64;

/// The most events in one request: what is set, fewer once that was found to be too many, or more
/// where the way to the receiver is long ([`Growth`]).
///
/// A smaller size outlives a restart. It is doubled after 64 full batches were delivered in a
/// row, so that some large events in the past do not make requests small for ever; at worst this
/// costs one refused request in 65. If the culprit turns out to be a single event, too large even
/// alone, the size from before it was met is valid again. What has grown is halved in the same way,
/// and not remembered.
#[derive(Debug)]
pub(crate) struct BatchSize {
    set: usize,
    bytes_max: u64,
    found: Option<usize>,
    growth: Growth,
    full_batches: u32,
    /// The last event of the batch that is being divided, and what was valid before.
    before: Option<(Seq, Option<usize>)>,
}

impl BatchSize {
    /// As the settings say.
    pub(crate) fn new(delivery: &Delivery) -> Self {
        let number = |events: u32| usize::try_from(events).unwrap_or(usize::MAX).max(1);
        let delivery = delivery.in_effect();
        let set = number(delivery.batch_events);
        Self {
            bytes_max: delivery.batch_bytes,
            set,
            found: None,
            growth: Growth::new(set, number(delivery.batch_events_max)),
            full_batches: 0,
            before: None,
        }
    }

    /// Takes up what an earlier process found.
    pub(crate) fn recall(&mut self, found: Option<u32>) {
        self.found = found
            .and_then(|found| usize::try_from(found).ok())
            .map(|found| found.max(1))
            .filter(|found| *found < self.set);
    }

    /// What the next process should know.
    pub(crate) fn memo(&self) -> Option<u32> {
        self.found.and_then(|found| u32::try_from(found).ok())
    }

    pub(crate) fn events(&self) -> usize {
        self.found.unwrap_or_else(|| self.growth.size())
    }

    /// The next batch, where it begins at `from`.
    pub(super) fn reading(&self, from: Seq) -> Reading {
        Reading {
            from,
            events_max: self.events(),
            bytes_max: self.bytes_max,
        }
    }

    /// A batch that ends at `last` was too large.
    pub(crate) fn shrink(&mut self, half: usize, last: Seq) {
        if self.before.is_none_or(|(end, _)| end < last) {
            self.before = Some((last, self.found));
        }
        self.halve(half);
    }

    /// Batches do not get through in time. No event is to blame for that.
    pub(crate) fn slow(&mut self, half: usize) {
        self.before = None;
        self.halve(half);
    }

    fn halve(&mut self, half: usize) {
        let is_enough = self.growth.shrink(half);
        self.found = Some(half.max(1)).filter(|_| !is_enough);
        self.full_batches = 0;
    }

    /// The event `seq` was too large alone.
    pub(crate) fn blame(&mut self, seq: Seq) {
        if let Some((end, found)) = self.before
            && seq <= end
        {
            self.found = found;
        }
        self.before = None;
    }

    /// A batch of so many events was taken, in this time.
    pub(crate) fn delivered(&mut self, events: usize, took: Duration) {
        let Some(found) = self.found else {
            return self.growth.delivered(events, took);
        };
        if events < found {
            return;
        }
        self.full_batches = self.full_batches.saturating_add(1);
        if self.full_batches >= GROW_AFTER {
            self.full_batches = 0;
            self.before = None;
            self.found = Some(found.saturating_mul(2)).filter(|found| *found < self.set);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(1);

    fn limit(batch_events: u32) -> BatchSize {
        BatchSize::new(&Delivery {
            batch_events,
            ..Delivery::default()
        })
    }

    #[test]
    fn what_has_grown_is_halved_first_and_a_size_that_is_set_alone_is_the_bound() {
        let slow = Duration::from_millis(100);
        let mut grown = limit(500);
        for _ in 0..8 {
            grown.delivered(grown.events(), slow);
        }
        assert_eq!((grown.events(), grown.memo()), (10_000, None));
        grown.shrink(5_000, 10_000);
        grown.slow(2_500);
        assert_eq!((grown.events(), grown.memo()), (2_500, None));
        grown.slow(250);
        assert_eq!((grown.events(), grown.memo()), (250, Some(250)));
        let mut set = limit(100);
        for _ in 0..8 {
            set.delivered(100, slow);
        }
        assert_eq!(set.events(), 100);
    }

    #[test]
    fn a_smaller_size_is_kept_and_grows_back() {
        let mut limit = limit(500);
        limit.shrink(250, 500);
        limit.shrink(125, 250);
        assert_eq!((limit.events(), limit.memo()), (125, Some(125)));
        for _ in 0..GROW_AFTER - 1 {
            limit.delivered(125, QUICK);
            limit.delivered(7, QUICK);
        }
        assert_eq!(limit.events(), 125, "small batches prove nothing");
        limit.delivered(125, QUICK);
        assert_eq!(limit.events(), 250);
        for _ in 0..GROW_AFTER {
            limit.delivered(250, QUICK);
        }
        assert_eq!((limit.events(), limit.memo()), (500, None));
    }

    #[test]
    fn one_giant_event_does_not_make_requests_small() {
        let mut limit = limit(500);
        for half in [250, 125, 63, 32, 16, 8, 4, 2, 1] {
            limit.shrink(half, 500);
        }
        limit.blame(17);
        assert_eq!(limit.events(), 500);
        limit.shrink(250, 900);
        limit.blame(901);
        assert_eq!(
            limit.events(),
            250,
            "an event of another batch explains nothing"
        );
    }

    #[test]
    fn what_was_found_is_checked_against_the_settings() {
        for (found, events) in [(None, 8), (Some(0), 1), (Some(3), 3), (Some(9), 8)] {
            let mut limit = limit(8);
            limit.recall(found);
            assert_eq!(limit.events(), events);
        }
        assert_eq!(limit(0).events(), 1);
    }
}
