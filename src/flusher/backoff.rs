//! How long to wait before the next try.

use std::time::Duration;

use backoff::backoff::Backoff as _;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};

use crate::settings::Delivery;

/// Growing waits with jitter, and the number of failures in a row.
///
/// The policy is the one of the `backoff` crate, without its limit: left alone it gives up after
/// 15 minutes (backoff 0.4.0 `src/default.rs`), and an outage may last longer. The crate applies
/// jitter after its own bound, so the longest wait is `max * (1 + jitter)`.
#[derive(Debug)]
pub(crate) struct Backoff {
    policy: ExponentialBackoff,
    longest: Duration,
    attempts: u32,
}

impl Backoff {
    /// Waits from `min`, growing by `multiplier` to `max`, each up to `jitter` of itself shorter
    /// or longer.
    pub(crate) fn new(min: Duration, max: Duration, multiplier: f64, jitter: f64) -> Self {
        let policy = ExponentialBackoffBuilder::new()
            .with_initial_interval(min)
            .with_max_interval(max)
            .with_multiplier(multiplier)
            .with_randomization_factor(jitter)
            .with_max_elapsed_time(None)
            .build();
        let longest =
            Duration::try_from_secs_f64(max.as_secs_f64() * (1.0 + jitter)).unwrap_or(max);
        Self {
            policy,
            longest,
            attempts: 0,
        }
    }

    /// As the settings say for what fails.
    pub(super) fn of(delivery: &Delivery) -> Self {
        Self::new(
            delivery.backoff_min,
            delivery.backoff_max,
            delivery.backoff_multiplier,
            delivery.backoff_jitter,
        )
    }

    /// Counts a failure and gives the wait after it, never shorter than `floor`.
    pub(crate) fn fail(&mut self, floor: Option<Duration>) -> Duration {
        self.attempts = self.attempts.saturating_add(1);
        let wait = self.policy.next_backoff().unwrap_or(self.longest);
        wait.min(self.longest).max(floor.unwrap_or_default())
    }

    /// Failures since the last reset.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Begins anew after a success.
    pub(crate) fn reset(&mut self) {
        self.policy.reset();
        self.attempts = 0;
    }
}

/// A random wait, none being longer than this, and each as likely as the other.
pub(crate) fn random_up_to(longest: Duration) -> Duration {
    // Jitter of all of it makes anything from nothing to twice the wait.
    let wait = Backoff::new(longest / 2, longest / 2, 1.0, 1.0).fail(None);
    wait.min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(500);
    const MAX: Duration = Duration::from_secs(60);

    #[test]
    fn waits_double_up_to_the_bound_and_stay_there_for_ever() {
        let mut backoff = Backoff::new(MIN, MAX, 2.0, 0.0);
        let waits: Vec<_> = (0..9).map(|_| backoff.fail(None).as_millis()).collect();
        assert_eq!(
            waits,
            [
                500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000
            ]
        );
        for _ in 0..10_000 {
            assert_eq!(backoff.fail(None), MAX);
        }
        assert_eq!(backoff.attempts(), 10_009);
        backoff.reset();
        assert_eq!((backoff.attempts(), backoff.fail(None)), (0, MIN));
    }

    #[test]
    fn jitter_stays_within_its_part_of_the_wait() {
        let mut backoff = Backoff::new(MIN, MAX, 2.0, 0.5);
        let first = backoff.fail(None);
        assert!(
            first >= MIN / 2 && first <= MIN * 3 / 2 + Duration::from_nanos(1),
            "{first:?}"
        );
        for _ in 0..1_000 {
            assert!(backoff.fail(None) <= MAX * 3 / 2);
        }
    }

    #[test]
    fn a_floor_lengthens_a_wait_and_never_shortens_it() {
        let mut backoff = Backoff::new(MIN, MAX, 2.0, 0.0);
        let hour = Duration::from_secs(3600);
        assert_eq!(backoff.fail(Some(hour)), hour);
        assert_eq!(backoff.fail(Some(Duration::ZERO)), MIN * 2);
    }

    #[test]
    fn the_ends_of_the_ranges_do_not_overflow() {
        let week = Duration::from_secs(7 * 24 * 3600);
        let mut backoff = Backoff::new(week, week, 100.0, 1.0);
        for _ in 0..100 {
            assert!(backoff.fail(None) <= week * 2);
        }
    }
}
