//! Streams of NATS JetStream: where the spools of many devices meet.
//!
//! - `names.rs` says what streams and subjects are called, and which partition a spool is in.
//! - `envelope.rs` is what a message of the stream holds of an event.

mod envelope;
mod names;

pub use envelope::Envelope;
pub use names::{Names, Spool};
