//! Streams of NATS JetStream: where the spools of many devices meet.
//!
//! [`JetStream`] is a sink that delivers a spool into a stream; [`Target`] is the same as data, for
//! settings that are kept.
//!
//! ```no_run
//! use everpost::Queue;
//! use everpost::http::SecretSource;
//! use everpost::nats::{Credentials, JetStream, Names};
//!
//! # async fn open() -> Result<(), Box<dyn std::error::Error>> {
//! let servers = "tls://one.example,two.example,three.example".parse()?;
//! let sink = JetStream::builder(servers, Names::default(), "sensor-7".parse()?)
//!     .credentials(Credentials::Creds(SecretSource::file("/etc/sensor-7.creds")))
//!     .build()?;
//! let queue = Queue::builder("/var/lib/sensor-7/spool").sink(sink).open().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # The promise
//! Every event of the spool stands in the stream exactly once, in the order of the spool, however often
//! a connection is cut, a server dies or this process does; no deduplication window is relied upon. Two
//! things make that so:
//!
//! - Each batch is an atomic batch with a guard on its first message: the server takes all of it or
//!   nothing, and only if the last message of the spool's subject is still the one that this sink
//!   knows. A batch that arrives late, after its answer was given up, is refused or is found.
//! - Whatever is unclear is looked up before anything is sent again, and at every start. The place and
//!   the id of the last message say which events are in. A look-up that is stale does no harm, since
//!   the guard is checked by the leader of the stream.
//!
//! | what happens | what comes of it |
//! | --- | --- |
//! | a connection is cut, a server dies, no majority | nothing is lost, nothing comes twice |
//! | this process is killed, power is cut | the same: the next one looks up |
//! | the spool goes back to an older copy, a backup say | nothing is lost; events may come twice, under the same ids |
//! | the messages of the spool are purged from the stream while a batch is unclear | that batch may come twice |
//! | two processes write under one name | nothing is lost; events come twice until delivery of one pauses |
//! | the stream is full | events wait in the spool |
//!
//! # Limits
//! At most 1,000 events and 32 MiB are sent at once. An event whose message would be larger than the
//! server's `max_payload` less 8 KiB is divided off, and alone it becomes a dead letter of the spool.
//! Servers of 2.12 or newer know atomic batches. Proxies and client certificates are not spoken to, nor
//! servers that expect TLS before their greeting.
//!
//! A device needs few rights: to publish to its subject ([`JetStream::subject`]) and to
//! `$JS.API.DIRECT.GET.<stream>.<subject>`, and to subscribe to `_INBOX_<spool>.>`.
//!
//! # In the sources
//! - `names.rs` says what streams and subjects are called, and which partition a spool is in.
//! - `envelope.rs` is what a message of the stream holds of an event.
//! - `target.rs` is where a spool's events go, as data; `servers.rs` and `credentials.rs` are its parts.
//! - `protocol.rs` reads what a server says, `connection.rs` with `secure.rs` is one connection.
//! - `batch.rs` is what is written and what is answered, `trouble.rs` what can go wrong and what it
//!   means, `standing.rs` what a look-up means; `jet_stream.rs` puts them together.

mod batch;
mod builder;
mod connection;
mod credentials;
mod envelope;
mod jet_stream;
mod names;
mod protocol;
mod secure;
mod servers;
mod standing;
mod target;
mod trouble;

pub use self::builder::Builder;
pub use self::credentials::Credentials;
pub use self::envelope::Envelope;
pub use self::jet_stream::JetStream;
pub use self::names::{Names, Spool};
pub use self::servers::Servers;
pub use self::target::Target;
