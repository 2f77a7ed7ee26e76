//! What a status means: a pure table that users can change.

/// What each status means for a batch.
#[derive(Clone, Debug, Default)]
pub struct Classifier;
