//! When the fault cannot be the events'.

/// Counts different events that were refused in a row. Once there are so many, the fault is not
/// theirs: it is open.
#[derive(Debug)]
pub(super) struct Breaker {
    refusals_max: u32,
    refusals: u32,
}

impl Breaker {
    pub(super) fn new(refusals_max: u32) -> Self {
        Self {
            refusals_max,
            refusals: 0,
        }
    }

    /// Another event was refused alone. True if that completes the number.
    pub(super) fn refused(&mut self) -> bool {
        self.refusals = self.refusals.saturating_add(1);
        self.refusals >= self.refusals_max
    }

    /// An event was delivered, or a person thinks that the cause is gone.
    pub(super) fn reset(&mut self) {
        self.refusals = 0;
    }

    /// An earlier process had it open: the next refusal opens it again.
    pub(super) fn recall(&mut self) {
        self.refusals = self.refusals_max.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_at_its_number_of_refusals_in_a_row_and_stays_one_short() {
        let mut breaker = Breaker::new(3);
        assert!(!breaker.refused() && !breaker.refused());
        breaker.reset();
        assert!(!breaker.refused() && !breaker.refused());
        assert!(breaker.refused() && breaker.refused());
        breaker.recall();
        assert!(breaker.refused());
        breaker.recall();
        breaker.reset();
        assert!(!breaker.refused());
        assert!(Breaker::new(0).refused(), "each one opens it");
    }
}
