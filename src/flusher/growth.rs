//! How many more events a request takes where each of them is waited for.

use std::time::Duration;

/// A request that takes less is quick: a larger one would save little.
const SLOW: Duration = Duration::from_millis(50);

/// A request that takes more is not made larger: the time limit of requests comes near, and what is
/// waited for is the bytes rather than the way.
const LONG: Duration = Duration::from_secs(1);

/// So many full requests in a row have to be slow before the first growth: a few may be chance.
const BEGINS_AFTER: u32 = 3;

/// So many full requests after a size was no good, a larger one is tried again.
const TRIED_AGAIN_AFTER: u32 = 64;

/// Lets requests grow with the round trip, from the size that is set up to a bound.
///
/// With one request under way at a time, a drain sends one of them in each round trip, so that only
/// a larger one makes it quicker. Full requests that take from 50 ms to a second are doubled, on
/// trial: where twice the events take less than one and a half times the time, the way was what took
/// the time, and they are doubled again. Where not, twice in a row, the bytes were, and the size
/// before is valid again. It knows only times and sizes.
#[derive(Debug)]
pub(super) struct Growth {
    set: usize,
    most: usize,
    size: usize,
    trial: Option<Trial>,
    /// Slow full requests in a row.
    slow: u32,
    /// Full requests to go before a larger size is tried.
    rest: u32,
}

/// A larger size that has to prove itself.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// The size before.
    from: usize,
    /// How long a request of that size took.
    took: Duration,
    /// One request took too long. That may be chance.
    is_missed: bool,
}

impl Growth {
    /// From `set` events to `most`.
    pub(super) fn new(set: usize, most: usize) -> Self {
        Self {
            set,
            most: most.max(set),
            size: set,
            trial: None,
            slow: 0,
            rest: 0,
        }
    }

    /// Events in a request.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// A request with so many events was delivered in this time.
    pub(super) fn delivered(&mut self, events: usize, took: Duration) {
        // One that is not full says nothing: less was waiting, or its bytes were the bound.
        if events < self.size {
            return;
        }
        if let Some(trial) = self.trial.take() {
            if took >= self.trial_max(trial) {
                self.missed(trial);
                return;
            }
        } else if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        if !(SLOW..=LONG).contains(&took) {
            self.slow = 0;
            return;
        }
        self.slow = self.slow.saturating_add(1);
        if self.slow >= BEGINS_AFTER && self.size < self.most {
            self.trial = Some(Trial {
                from: self.size,
                took,
                is_missed: false,
            });
            self.size = self.size.saturating_mul(2).min(self.most);
        }
    }

    /// What a request on trial has to take less than: the time before, and half of what the events
    /// that came to it would take in proportion.
    fn trial_max(&self, trial: Trial) -> Duration {
        let more = self.size.saturating_sub(trial.from);
        let share = f64::from(u32::try_from(more).unwrap_or(u32::MAX))
            / f64::from(u32::try_from(trial.from).unwrap_or(u32::MAX).max(1));
        trial.took.saturating_add(trial.took.mul_f64(share / 2.0))
    }

    fn missed(&mut self, trial: Trial) {
        if trial.is_missed {
            self.begin_anew(trial.from);
        } else {
            self.trial = Some(Trial {
                is_missed: true,
                ..trial
            });
        }
    }

    /// A request was too large, or did not get through, and half of it has so many events. True if
    /// that is no less than the size that is set.
    pub(super) fn shrink(&mut self, half: usize) -> bool {
        let is_enough = half >= self.set;
        self.begin_anew(half.clamp(self.set, self.most));
        is_enough
    }

    fn begin_anew(&mut self, size: usize) {
        self.size = size;
        self.trial = None;
        self.slow = 0;
        self.rest = TRIED_AGAIN_AFTER;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Full requests on a way with this round trip, in milliseconds, that takes so many events in
    /// one; gives the size of each.
    fn sizes(growth: &mut Growth, requests: usize, way: u64, per_ms: usize) -> Vec<usize> {
        let deliver = |_| {
            let size = growth.size();
            growth.delivered(size, ms(way + (size / per_ms) as u64));
            size
        };
        (0..requests).map(deliver).collect()
    }

    #[test]
    fn on_a_long_way_requests_double_until_the_bound() {
        let mut growth = Growth::new(500, 10_000);
        let sizes = sizes(&mut growth, 10, 100, 100);
        assert_eq!(
            sizes,
            [
                500, 500, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000
            ]
        );
    }

    #[test]
    fn on_a_quick_way_and_on_a_slow_link_they_stay_as_they_are() {
        let mut quick = Growth::new(500, 10_000);
        assert!(sizes(&mut quick, 1_000, 3, 100).iter().all(|s| *s == 500));
        // A request takes longer than a second.
        let mut narrow = Growth::new(1_500, 10_000);
        assert!(sizes(&mut narrow, 1_000, 1, 1).iter().all(|s| *s == 1_500));
    }

    /// A link of 1,000 events a second and hardly any way: twice the events take twice the time.
    #[test]
    fn a_larger_size_that_gains_nothing_is_given_up_and_tried_now_and_then() {
        let mut growth = Growth::new(500, 10_000);
        let sizes = sizes(&mut growth, 1_000, 10, 1);
        let larger = sizes.iter().filter(|size| **size > 500).count();
        assert_eq!(sizes.iter().max(), Some(&1_000));
        assert!((10..=60).contains(&larger), "{larger}");
    }

    #[test]
    fn one_slow_request_is_chance_and_one_that_is_not_full_says_nothing() {
        let mut growth = Growth::new(500, 10_000);
        for _ in 0..100 {
            growth.delivered(500, ms(100));
            growth.delivered(500, ms(100));
            growth.delivered(500, ms(3));
            growth.delivered(499, ms(100));
        }
        assert_eq!(growth.size(), 500);
        for _ in 0..3 {
            growth.delivered(500, ms(100));
        }
        assert_eq!(growth.size(), 1_000);
        growth.delivered(1_000, ms(900));
        growth.delivered(1_000, ms(101));
        assert_eq!(growth.size(), 2_000, "a second chance");
        growth.delivered(2_000, ms(900));
        growth.delivered(2_000, ms(900));
        assert_eq!(growth.size(), 1_000);
    }

    #[test]
    fn what_was_too_large_is_halved_and_not_below_what_is_set() {
        let mut growth = Growth::new(500, 10_000);
        sizes(&mut growth, 6, 100, 100);
        assert_eq!(growth.size(), 8_000);
        assert!(growth.shrink(4_000));
        assert_eq!(growth.size(), 4_000);
        let rested = sizes(&mut growth, 64, 100, 100);
        assert!(rested.iter().all(|size| *size == 4_000));
        assert!(!growth.shrink(250));
        assert_eq!(growth.size(), 500);
        let mut fixed = Growth::new(7, 7);
        assert!(sizes(&mut fixed, 99, 100, 1).iter().all(|size| *size == 7));
    }
}
