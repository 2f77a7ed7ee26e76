//! Doors to the inside, for the fuzz targets and the micro-benchmarks of this repository. Not part
//! of the API: it may change in any release, and no build has it unless the feature `internals` is
//! on.

pub mod bench;
pub mod fuzz;
