//! Append an event, be told truthfully that it is safe on disk, and forget about it.
//!
//! A [`Queue`] keeps events in a directory, the spool, and delivers them in order to a [`Sink`]
//! when the network allows. When [`append`](Queue::append) returns, the event survives a power
//! cut. It is delivered at least once, under an id that never changes; an outage costs nothing but
//! time; and whatever leaves the queue was delivered, is a [dead letter](DeadLetters), or is
//! counted under a named reason in the [`Ledger`].
//!
//! That costs one write and one fdatasync for each commit (shared by all appends that wait at the
//! same moment), 13 MiB of disk from the beginning with the default [`Settings`], two threads, and
//! one request in flight at a time.
//!
//! Programs and threads without an async runtime have the same queue in [`blocking`].
//!
//! It is not a broker (one spool, one process, one receiver), not exactly-once, not parallel, and
//! not encrypted at rest.
//!
//! ```
//! use everpost::{Event, Queue};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let home = tempfile::tempdir()?;
//! # let spool = home.path().join("spool");
//! let queue = Queue::open(&spool).await?;
//! let receipt = queue.append(Event::json(r#"{"text":"hello"}"#)?).await?;
//! assert_eq!(receipt.seq, 1); // From here on a power cut cannot take it.
//! assert_eq!(queue.status().pending, 1);
//! queue.close(std::time::Duration::from_secs(5)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! To deliver, give the builder a sink: [`http::Http`] for any receiver of JSON over HTTP (webhooks,
//! CloudEvents, OTLP, Loki), [`botanalytics::Botanalytics`], or a [`Sink`] of your own. What
//! each answer of the receiver means is in [`classify`]; what happens when the disk, the
//! network or the process fails is in `docs/design.md`, and the bytes on disk in
//! `docs/format.md`, both in the repository.
//!
//! # Features
//!
//! - `rustls` (default) or `native-tls`: TLS for the Botanalytics sink.
//! - `zstd` (default): the C library compresses chunks; without it a pure-Rust codec does, on the
//!   same files.
//! - `control`: a socket through which another process looks at a running queue and steers it.
//! - `gzip`: request bodies compressed with gzip, where a receiver takes that.
//! - `signatures`: requests signed as Standard Webhooks has it.
//! - `relay`: the API's own door in front of queues, for programs in any language.
//! - `sandbox`: a local stand-in for the API, for integration tests.
//! - `layer`: a tracing layer whose events go into a queue, without waiting.
//! - `nats`: a sink that delivers a spool into a stream of NATS JetStream, which many devices share.
//! - `fleet`: workers that carry the events of such a stream to a receiver.
//! - `metrics`: the numbers of a queue, for the recorder of the `metrics` crate.

#[cfg(feature = "relay")]
pub mod admin;
pub mod clock;
#[cfg(feature = "control")]
pub mod control;
mod dead;
mod ending;
mod error;
mod event;
#[cfg(feature = "cli")]
pub mod exit;
mod fate;
#[cfg(feature = "fleet")]
pub mod fleet;
mod flusher;
#[cfg(any(feature = "control", feature = "relay"))]
mod hosts;
mod id;
mod incident;
mod incidents;
pub mod inspect;
#[cfg(feature = "sandbox")]
mod intake;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
#[cfg(feature = "layer")]
pub mod layer;
mod ledger;
mod letters;
mod log;
#[cfg(any(feature = "control", feature = "metrics"))]
pub mod metrics;
mod millis;
#[cfg(all(unix, any(feature = "control", feature = "relay")))]
mod near;
mod observe;
mod outcome;
mod pages;
mod queue;
#[cfg(feature = "relay")]
pub mod relay;
#[cfg(feature = "control")]
mod room;
#[cfg(feature = "sandbox")]
pub mod sandbox;
#[cfg(all(unix, any(feature = "control", feature = "relay")))]
mod seat;
#[cfg(any(feature = "control", feature = "relay"))]
mod serving;
mod settings;
mod settlements;
mod sink;
mod size;
mod status;
mod watch;
mod webhook;
mod zip;

pub use bytes::Bytes;
pub use dead::{Cause, DeadLetter};
pub use error::{AppendError, Error, ErrorKind, OpenError};
pub use event::{Event, Receipt, StoredEvent};
pub use fate::{Fate, Settlement};
pub use id::{EventId, Seq, SeqRange};
pub use incident::{Incident, IncidentKind};
pub use incidents::Incidents;
pub use ledger::{Ledger, LetterLedger, Settled};
pub use letters::{DeadLetters, LetterProgress, NotAll};
pub use outcome::{Answer, Hindrance, Outcome, PauseReason, Verdict};
pub use pages::Pages;
pub use queue::{Pending, Queue, QueueBuilder, blocking};
pub use settings::{Delivery, Durability, OnFull, Settings};
pub use settlements::Settlements;
#[cfg(feature = "nats")]
pub use sink::nats;
pub use sink::{Batch, BoxSink, Request, Sink};
pub use sink::{botanalytics, classify, http};
pub use status::{Closed, FlusherState, Pace, PaceStatus, Recovery, Status};
pub use watch::StatusWatch;

/// Runs the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
