//! The judges of the fuzz targets: what they feed with bytes of any kind.
//!
//! Each function takes bytes and panics if a promise is broken: that nothing panics, that what is
//! believed says the same when it is written again, that no content is given that was not
//! written, and that every loss is said with its range. The targets are in
//! `fuzz/fuzz_targets`, and `tests/corpus/` runs the same functions over the committed corpus.

mod answer;
mod chunk;
mod crafted;
mod event_json;
mod journal;
mod letter;
mod nats;
mod spool;

pub use answer::answer;
pub use chunk::chunk;
pub use crafted::crafted;
pub use event_json::event_json;
pub use journal::journal;
pub use letter::letter;
pub use nats::nats;
pub use spool::spool;
