//! Any receiver that takes JSON over HTTP: webhooks, CloudEvents, OTLP, Loki, and whatever else a form,
//! a header and a table of answers describe.
//!
//! One request carries one batch in a [`Format`]. What the answer means is decided by a
//! [`Classifier`](super::Classifier): by default [`webhook`](super::Classifier::webhook),
//! [`otlp`](super::Classifier::otlp) or [`loki`](super::Classifier::loki), as the form has it. No
//! default takes for a delivery what does not say so.
//!
//! ```no_run
//! use everpost::http::{Auth, Format, Http, SecretSource};
//!
//! # fn main() -> Result<(), everpost::Error> {
//! let sink = Http::builder("https://hooks.example/readings")
//!     .format(Format::Lines)
//!     .auth(Auth::Bearer(SecretSource::file("/etc/readings.key")))
//!     .build()?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Receiver`] is the same as data, for settings that are kept.
//!
//! # What is the same for every receiver
//! Redirects are not followed, requests are not repeated here, loopback is not proxied. An answer
//! delivers only if all of its request had been written when it was read, and each request has a
//! connection of its own, so that no answer can be taken for that of another.
//!
//! Secrets are written nowhere: what an answer repeats of one, eight characters or more, as they are,
//! as base64, in hexadecimal or behind escapes, is struck out before anything is kept; so is the
//! query of the address. A secret in a file is read before each request, so that one that is renewed
//! there is used at once.

mod address;
mod auth;
mod body;
mod builder;
mod credential;
mod proxy;
mod receiver;
mod sent;
mod sign;
mod silence;
mod sink;
mod tls;
mod transport;
mod wire;

use std::time::Duration;

pub(super) use self::address::unusable;
pub use self::auth::{Auth, SecretRef};
pub use self::body::Compression;
pub(super) use self::body::Maker;
pub use self::builder::{Builder, Method};
pub(super) use self::credential::Credential;
pub use self::proxy::{Proxy, Route};
pub(super) use self::receiver::BOTANALYTICS;
pub use self::receiver::Receiver;
pub use self::sink::Http;
pub(super) use self::sink::Shared;
#[cfg(feature = "nats")]
pub(super) use self::tls::{Files, Renewed, tls_advice, tls_config};
pub(super) use self::transport::Transport;
pub use self::wire::Wire;
pub use super::format::Format;
pub use super::key::{SecretError, SecretHandle, SecretSource};

/// The time limits of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Of silence: nothing of the request was taken, and no answer came.
    pub(super) request: Duration,
    pub(super) connect: Duration,
    /// From a request that is out to the head of its answer, beside what buffers may hold.
    pub(super) read: Duration,
    /// Of everything together.
    pub(super) total: Option<Duration>,
}
