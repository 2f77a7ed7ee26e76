//! Workers that carry the events of many spools from a stream of NATS JetStream to a receiver.
//!
//! A [`Worker`] takes its share of the stream's partitions and delivers each as a queue delivers its
//! spool: with the same flusher, over another source. A [`Fleet`] is for people: it shows the
//! [`Books`] and lets them decide on dead letters.
//!
//! - `connect.rs` says where the servers are and who we are; `line.rs` keeps a connection, `wire.rs` makes
//!   requests, `api.rs` reads the answers, `text.rs` their texts.
//! - `record.rs` is the record of a partition, and `hold.rs` the one place that writes it; `lease.rs`
//!   decides who may have which. What a write that names the record it replaces proves, and what time
//!   alone can, stands there.
//! - `partition.rs` is a partition as a source of the flusher, `places.rs` its numbers, `hints.rs` when it
//!   looks for more, `fenced.rs` the receiver's sink as it may use it.
//! - `station.rs` is a partition that is delivered, `worker.rs` a worker, `builder.rs` what it is made of,
//!   `status.rs` what it shows.
//! - `letter.rs` is a dead letter as a message, `letters.rs` what people do with them; `books.rs` are the
//!   books, `fleet.rs` the way there, `watch.rs` reads them again and again for those who show them.
//! - `removal.rs` removes what every cursor has passed.
//! - `setup` makes and checks the streams; `rights.rs` says what a user of the servers has to be allowed.

mod api;
mod books;
mod builder;
mod connect;
mod fenced;
#[expect(clippy::module_inception, reason = "a fleet as people see it")]
mod fleet;
mod hints;
mod hold;
mod lease;
#[cfg(test)]
mod lease_tests;
mod letter;
mod letters;
mod line;
mod partition;
mod places;
mod record;
mod removal;
mod rights;
pub mod setup;
mod station;
mod status;
mod text;
mod watch;
mod wire;
mod worker;

/// A connection to the servers.
pub use async_nats::Client;
pub use books::{Books, PartitionBooks};
pub use builder::WorkerBuilder;
pub use connect::Access;
pub use fleet::Fleet;
pub use letter::Letter;
pub use letters::{LetterPages, Letters};
pub use rights::Rights;
pub use status::{Held, WorkerStatus};
pub use watch::{BooksWatch, KnownBooks, Unread};
pub use worker::Worker;
