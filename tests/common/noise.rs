//! Noise that is the same each time.

/// Numbers that follow from a seed other than 0, by Marsaglia's xorshift.
pub(crate) fn numbers(seed: u64) -> impl Iterator<Item = u64> {
    let step = |mut state: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^ state << 17
    };
    std::iter::successors(Some(step(seed)), move |state| Some(step(*state)))
}
