//! The pieces that the micro-benchmarks measure.
