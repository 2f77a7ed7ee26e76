//! The numbers of a queue: their names, and the two ways to them.
//!
//! Every number has the label [`SPOOL`], the path the queue was opened with, so that several queues
//! in one process stay apart. [`METRICS`] lists them all, with what they mean, and
//! `docs/grafana-dashboard.json` shows all of them.
//!
//! # As a page (feature `control`)
//!
//! `GET /metrics` of the control socket, and of [`control::listen`](crate::control::listen), gives
//! them in the text format of Prometheus. Nothing has to be installed for it.
//!
//! # For a recorder (feature `metrics`)
//!
//! `follow` publishes the books and the gauges whenever they change, for whatever recorder the
//! program has installed for the `metrics` crate. What takes time, and what is refused or retried,
//! is recorded where it happens, with or without `follow`.
//!
//! ```
//! # #[cfg(feature = "metrics")]
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let spool = dir.path().join("spool");
//! // Install a recorder first, such as that of `metrics-exporter-prometheus`.
//! let queue = everpost::Queue::builder(&spool).open().await?;
//! tokio::spawn(everpost::metrics::follow(&queue));
//! # Ok(()) }
//! # #[cfg(not(feature = "metrics"))] fn main() {}
//! ```

#[cfg(feature = "control")]
pub(crate) mod page;
#[cfg(feature = "metrics")]
mod recorder;

#[cfg(feature = "metrics")]
pub use recorder::{describe, follow};

pub use crate::observe::numbers::{
    BATCHES_RETRIED, COMMIT_TIME, DEAD_LETTERS, DISK_MAX, DISK_USED, EVENTS_APPENDED, EVENTS_DEAD,
    EVENTS_DELIVERED, EVENTS_EVICTED, EVENTS_EXPIRED, EVENTS_LOST, EVENTS_PENDING, EVENTS_REFUSED,
    FLUSHER_STATE, Kind, METRICS, Metric, OLDEST_PENDING, PACE_BYTES, PACE_EVENTS, PACE_GAP,
    REQUEST_TIME, SECONDS_BUCKETS, SPOOL, STATE, STATES, STORAGE_FAULT, Unit,
};
