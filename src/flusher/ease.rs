//! What a receiver that is asked too much is spared.

use std::time::Duration;

use crate::settings::Delivery;

/// The gap is doubled when the receiver asks for less.
const SHRINK: u32 = 2;

/// So many delivered requests bring the rate from what it was cut to back to twice that, each by
/// the same part.
const GROW: u32 = 16;

/// After so many of the gaps it was cut to it is over, however few requests there were.
const OVER_AFTER: u32 = 64;

/// The first gap is as long as the first wait after a failure, but no longer than this, however
/// quickly the receiver refuses.
const GAP_MIN: Duration = Duration::from_secs(1);

/// Spaces requests out after the receiver has answered 429 or 503: additive growth, multiplicative
/// shrink.
///
/// What is shrunk and grown is the number of requests a second. It begins at the rate that was
/// reached, one request in the time the refused one took, and is halved: the gap between the
/// beginnings of two requests is twice that time, and at least `backoff_min` or a second. Each delivered request
/// adds a sixteenth of the halved rate. That is the same part each time, so that among many devices
/// the slow ones catch up with the fast. It is over once the gap is no longer than a request takes,
/// or after 64 gaps without another refusal. Refusals in a row count as one, since backoff already
/// spaces those.
#[derive(Debug)]
pub(super) struct Ease {
    level: Option<Level>,
    /// Nothing was delivered since the last refusal.
    is_refused: bool,
    gap_min: Duration,
    gap_max: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    /// What it was cut to.
    gap: Duration,
    /// When it was refused last.
    at: Duration,
    /// Requests delivered since.
    delivered: u32,
}

impl Level {
    fn gap(self) -> Duration {
        self.gap.saturating_mul(GROW) / GROW.saturating_add(self.delivered)
    }
}

impl Ease {
    pub(super) fn new(delivery: &Delivery) -> Self {
        Self {
            level: None,
            is_refused: false,
            gap_min: delivery.backoff_min.min(GAP_MIN),
            gap_max: delivery.backoff_max,
        }
    }

    /// The least time between the beginnings of two requests, if there is one.
    pub(super) fn gap(&self) -> Option<Duration> {
        self.level.map(Level::gap)
    }

    /// The receiver asks for less, in an answer to a request that took so long. True if that begins
    /// it.
    pub(super) fn refused(&mut self, took: Duration, mono: Duration) -> bool {
        if let Some(level) = &mut self.level
            && self.is_refused
        {
            level.at = mono;
            return false;
        }
        self.is_refused = true;
        let present = self.gap().unwrap_or(took).max(took);
        let gap = present.saturating_mul(SHRINK);
        let is_new = self.level.is_none();
        self.level = Some(Level {
            gap: gap.clamp(self.gap_min, self.gap_max),
            at: mono,
            delivered: 0,
        });
        is_new
    }

    /// A request was delivered, and took so long. True if that ends it.
    pub(super) fn delivered(&mut self, took: Duration, mono: Duration) -> bool {
        self.is_refused = false;
        let Some(level) = &mut self.level else {
            return false;
        };
        level.delivered = level.delivered.saturating_add(1);
        let is_over_at = level
            .at
            .saturating_add(level.gap.saturating_mul(OVER_AFTER));
        let is_over = level.gap() <= took || mono >= is_over_at;
        if is_over {
            self.level = None;
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flusher::script::{secs, steady};

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn ease() -> Ease {
        Ease::new(&steady())
    }

    #[test]
    fn the_rate_is_halved_and_comes_back_in_sixteen_equal_steps() {
        let mut ease = ease();
        assert_eq!(ease.gap(), None);
        assert!(ease.refused(ms(400), secs(1)));
        assert_eq!(ease.gap(), Some(ms(800)));
        let per_second = |ease: &Ease| 1.0 / ease.gap().unwrap().as_secs_f64();
        let mut before = per_second(&ease);
        for _ in 0..15 {
            assert!(!ease.delivered(ms(1), secs(2)));
            let now = per_second(&ease);
            assert!((now - before - 1.25 / 16.0).abs() < 1e-6, "{before} {now}");
            before = now;
        }
        assert!(!ease.delivered(ms(1), secs(2)));
        assert_eq!(ease.gap(), Some(ms(400)));
    }

    #[test]
    fn a_quick_refusal_is_no_reason_to_come_again_at_once_and_no_gap_is_without_end() {
        let mut ease = ease();
        ease.refused(ms(1), secs(1));
        assert_eq!(ease.gap(), Some(steady().backoff_min));
        for _ in 0..20 {
            ease.delivered(ms(1), secs(2));
            ease.refused(ms(1), secs(2));
        }
        assert_eq!(ease.gap(), Some(steady().backoff_max));
    }

    /// An outage of an hour in which each try is answered with 503 says no more than one of them.
    #[test]
    fn refusals_in_a_row_count_as_one() {
        let mut ease = ease();
        assert!(ease.refused(ms(300), secs(1)));
        for turn in 0..100 {
            assert!(!ease.refused(ms(300), secs(turn)));
        }
        assert_eq!(ease.gap(), Some(ms(600)));
        ease.delivered(ms(1), secs(110));
        assert!(!ease.refused(ms(1), secs(111)), "it is not new");
        assert!(ease.gap() > Some(ms(1_100)));
    }

    #[test]
    fn it_is_over_when_requests_take_longer_or_after_64_gaps() {
        let mut ease = ease();
        ease.refused(ms(300), secs(1));
        assert!(ease.delivered(ms(700), secs(2)));
        assert_eq!(ease.gap(), None);
        assert!(!ease.delivered(ms(700), secs(2)));
        ease.refused(ms(1), secs(10));
        assert!(!ease.delivered(ms(1), secs(10) + ms(31_999)));
        assert!(ease.delivered(ms(1), secs(10) + ms(32_000)));
        assert_eq!(ease.gap(), None);
    }
}
