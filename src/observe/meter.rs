//! What a queue counts of itself where it happens, for the page of its numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::observe::numbers::SECONDS_BUCKETS;

/// The counts of one queue since the process opened it.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Events offered and not acknowledged.
    pub(crate) refused: Count,
    /// Requests that failed and are repeated.
    pub(crate) retried: Count,
    /// How long commits of appends took.
    pub(crate) commits: Times,
    /// How long requests took.
    pub(crate) requests: Times,
}

/// A count that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many times lay within each of [`SECONDS_BUCKETS`], and beyond the last.
#[derive(Debug, Default)]
pub(crate) struct Times {
    buckets: [Count; SECONDS_BUCKETS.len() + 1],
    sum_ns: Count,
}

impl Times {
    pub(crate) fn add(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let within = SECONDS_BUCKETS.partition_point(|bound| *bound < seconds);
        if let Some(bucket) = self.buckets.get(within) {
            bucket.add(1);
        }
        self.sum_ns
            .add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// For each bound, how many took no longer; the last number counts all.
    pub(crate) fn cumulative(&self) -> [u64; SECONDS_BUCKETS.len() + 1] {
        let mut total = 0;
        self.buckets.each_ref().map(|bucket| {
            total += bucket.get();
            total
        })
    }

    /// All of them together.
    pub(crate) fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_lies_in_the_first_bucket_that_is_not_shorter() {
        let times = Times::default();
        for ms in [0, 1, 1, 2, 31_000] {
            times.add(Duration::from_millis(ms));
        }
        let counts = times.cumulative();
        let within = |seconds: f64| {
            let at = SECONDS_BUCKETS.iter().position(|bound| *bound == seconds);
            counts[at.unwrap()]
        };
        assert_eq!((within(0.0001), within(0.0005)), (1, 1));
        assert_eq!((within(0.001), within(0.0025), within(30.0)), (3, 4, 4));
        assert_eq!(counts.last(), Some(&5));
        assert_eq!(times.sum(), Duration::from_millis(31_004));
    }
}
