//! How many events go into one request.
//!
//! There is one number for both reasons to send less: the receiver says that it was too much, or a
//! batch does not get through in the time it has.

use super::step::Reading;
use crate::id::Seq;

/// Full batches delivered in a row after which a larger size is tried.
const GROW_AFTER: u32 = 64;

/// The most events in one request: what is set, or fewer once that was found to be too many.
///
/// A smaller size outlives a restart. It is doubled after 64 full batches were delivered in a
/// row, so that some large events in the past do not make requests small for ever; at worst this
/// costs one refused request in 65. If the culprit turns out to be a single event, too large even
/// alone, the size from before it was met is valid again.
#[derive(Debug)]
pub(crate) struct Limit {
    set: usize,
    bytes_max: u64,
    found: Option<usize>,
    full_batches: u32,
    /// The last event of the batch that is being divided, and what was valid before.
    before: Option<(Seq, Option<usize>)>,
}

impl Limit {
    /// At most `set` events and, beyond the first, `bytes_max` bytes.
    pub(crate) fn new(set: u32, bytes_max: u64) -> Self {
        Self {
            bytes_max,
            set: usize::try_from(set).unwrap_or(usize::MAX).max(1),
            found: None,
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
        self.found.unwrap_or(self.set)
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
        self.found = Some(half.max(1)).filter(|found| *found < self.set);
        self.full_batches = 0;
    }

    /// Batches do not get through in time. No event is to blame for that.
    pub(crate) fn slow(&mut self, half: usize) {
        self.before = None;
        self.found = Some(half.max(1)).filter(|found| *found < self.set);
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

    /// A batch of so many events was taken.
    pub(crate) fn delivered(&mut self, events: usize) {
        let Some(found) = self.found else {
            return;
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

    #[test]
    fn a_smaller_size_is_kept_and_grows_back() {
        let mut limit = Limit::new(500, 1);
        limit.shrink(250, 500);
        limit.shrink(125, 250);
        assert_eq!((limit.events(), limit.memo()), (125, Some(125)));
        for _ in 0..GROW_AFTER - 1 {
            limit.delivered(125);
            limit.delivered(7);
        }
        assert_eq!(limit.events(), 125, "small batches prove nothing");
        limit.delivered(125);
        assert_eq!(limit.events(), 250);
        for _ in 0..GROW_AFTER {
            limit.delivered(250);
        }
        assert_eq!((limit.events(), limit.memo()), (500, None));
    }

    #[test]
    fn one_giant_event_does_not_make_requests_small() {
        let mut limit = Limit::new(500, 1);
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
            let mut limit = Limit::new(8, 1);
            limit.recall(found);
            assert_eq!(limit.events(), events);
        }
        assert_eq!(Limit::new(0, 1).events(), 1);
    }
}
