//! The numbers of a queue, for whatever recorder the program has installed for the [`metrics`]
//! crate (feature `metrics`).
//!
//! [`follow`] publishes the books and the gauges whenever they change. What takes time, and what
//! is refused or retried, is recorded where it happens, with or without [`follow`]. Every number
//! has the label [`SPOOL`], the path the queue was opened with, so that several queues in one
//! process stay apart. [`METRICS`] lists them all, with what they mean.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let spool = dir.path().join("spool");
//! // Install a recorder first, such as that of `metrics-exporter-prometheus`.
//! let queue = everpost::Queue::builder(&spool).open().await?;
//! tokio::spawn(everpost::metrics::follow(&queue));
//! # Ok(()) }
//! ```
//!
//! `docs/grafana-dashboard.json` shows all of them.
//!
//! [`metrics`]: ::metrics

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use ::metrics::{Counter, Gauge, SharedString, Unit, counter, gauge, histogram};

use crate::observe::Place;
use crate::queue::Queue;
use crate::status::{FlusherState, Status};
use crate::watch::StatusWatch;

/// Label: the path of the spool, as it was given to [`Queue::builder`].
pub const SPOOL: &str = "spool";
/// Label of [`FLUSHER_STATE`]: one of [`STATES`].
pub const STATE: &str = "state";

/// Counter, events: all that were ever given a place in the queue, over the life of the spool.
pub const EVENTS_APPENDED: &str = "everpost_events_appended_total";
/// Counter, events: taken by the sink, over the life of the spool.
pub const EVENTS_DELIVERED: &str = "everpost_events_delivered_total";
/// Counter, events: refused by the receiver and buried, over the life of the spool.
pub const EVENTS_DEAD: &str = "everpost_events_dead_total";
/// Counter, events: buried because of their age, over the life of the spool.
pub const EVENTS_EXPIRED: &str = "everpost_events_expired_total";
/// Counter, events: given up for newer ones, over the life of the spool.
pub const EVENTS_EVICTED: &str = "everpost_events_evicted_total";
/// Counter, events: made unreadable by damage, over the life of the spool.
pub const EVENTS_LOST: &str = "everpost_events_lost_total";
/// Counter, events: offered and not acknowledged, since the process began. Recorded at once.
pub const EVENTS_REFUSED: &str = "everpost_events_refused_total";
/// Counter, batches: requests that failed and are repeated, since the process began. Recorded at
/// once.
pub const BATCHES_RETRIED: &str = "everpost_batches_retried_total";
/// Gauge, events: waiting for delivery.
pub const EVENTS_PENDING: &str = "everpost_events_pending";
/// Gauge, seconds since 1970: when the oldest pending event happened; 0 if nothing waits or it is
/// not known yet. Its age is `(time() - x) * (x > bool 0)`.
pub const OLDEST_PENDING: &str = "everpost_oldest_pending_timestamp_seconds";
/// Gauge, events: dead letters held at present.
pub const DEAD_LETTERS: &str = "everpost_dead_letters";
/// Gauge, bytes: used on disk, as counted against [`DISK_MAX`].
pub const DISK_USED: &str = "everpost_disk_used_bytes";
/// Gauge, bytes: the bound, `max_bytes` of the settings.
pub const DISK_MAX: &str = "everpost_disk_max_bytes";
/// Gauge: 1 while the disk refuses, 0 otherwise.
pub const STORAGE_FAULT: &str = "everpost_storage_fault";
/// Gauge: 1 for the state the flusher is in, 0 for the others, by the label [`STATE`].
pub const FLUSHER_STATE: &str = "everpost_flusher_state";
/// Histogram, seconds: one commit of appends, from the first byte written to the answer of the
/// disk. Recorded at once.
pub const COMMIT_TIME: &str = "everpost_commit_seconds";
/// Histogram, seconds: one request, from its beginning to the end of the answer, whatever the
/// answer. Recorded at once.
pub const REQUEST_TIME: &str = "everpost_request_seconds";

/// The values of the label [`STATE`], as in the JSON of a [`Status`].
pub const STATES: [&str; 7] = [
    "absent",
    "idle",
    "sending",
    "backing_off",
    "paused",
    "failed",
    "closed",
];

/// Bounds of buckets, in seconds, that fit both histograms: from a fast disk to a request that
/// runs into its time limit.
pub const SECONDS_BUCKETS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0,
];

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Many values, of which the distribution counts.
    Histogram,
}

/// One metric, described.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Metric {
    /// Its name; one of the constants here.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// In what it is counted.
    pub unit: Unit,
    /// What it means, in one line.
    pub meaning: &'static str,
}

const fn metric(name: &'static str, kind: Kind, unit: Unit, meaning: &'static str) -> Metric {
    Metric {
        name,
        kind,
        unit,
        meaning,
    }
}

/// All metrics there are.
#[rustfmt::skip]
pub const METRICS: [Metric; 17] = [
    metric(EVENTS_APPENDED, Kind::Counter, Unit::Count, "events ever given a place in the queue"),
    metric(EVENTS_DELIVERED, Kind::Counter, Unit::Count, "events taken by the sink"),
    metric(EVENTS_DEAD, Kind::Counter, Unit::Count, "events refused by the receiver and buried"),
    metric(EVENTS_EXPIRED, Kind::Counter, Unit::Count, "events buried because of their age"),
    metric(EVENTS_EVICTED, Kind::Counter, Unit::Count, "events given up for newer ones"),
    metric(EVENTS_LOST, Kind::Counter, Unit::Count, "events made unreadable by damage"),
    metric(EVENTS_REFUSED, Kind::Counter, Unit::Count, "events offered and not acknowledged"),
    metric(BATCHES_RETRIED, Kind::Counter, Unit::Count, "requests that failed and are repeated"),
    metric(EVENTS_PENDING, Kind::Gauge, Unit::Count, "events waiting for delivery"),
    metric(OLDEST_PENDING, Kind::Gauge, Unit::Seconds, "time of the oldest pending event, since 1970; 0 if none"),
    metric(DEAD_LETTERS, Kind::Gauge, Unit::Count, "dead letters held at present"),
    metric(DISK_USED, Kind::Gauge, Unit::Bytes, "bytes used on disk"),
    metric(DISK_MAX, Kind::Gauge, Unit::Bytes, "bound on the bytes on disk"),
    metric(STORAGE_FAULT, Kind::Gauge, Unit::Count, "1 while the disk refuses"),
    metric(FLUSHER_STATE, Kind::Gauge, Unit::Count, "1 for the state the flusher is in"),
    metric(COMMIT_TIME, Kind::Histogram, Unit::Seconds, "time of one commit of appends"),
    metric(REQUEST_TIME, Kind::Histogram, Unit::Seconds, "time of one request"),
];

/// Tells the installed recorder the unit and the meaning of every metric. [`follow`] does so too.
pub fn describe() {
    for metric in METRICS {
        let Metric {
            name,
            unit,
            meaning,
            ..
        } = metric;
        match metric.kind {
            Kind::Counter => ::metrics::describe_counter!(name, unit, meaning),
            Kind::Gauge => ::metrics::describe_gauge!(name, unit, meaning),
            Kind::Histogram => ::metrics::describe_histogram!(name, unit, meaning),
        }
    }
}

/// Publishes what this queue is doing, now and whenever it changes, until the queue has ended.
///
/// Give the future to a runtime, or run it to its end on a thread of its own; it needs neither
/// timers nor I/O, and does nothing while nothing changes. It does not keep the queue open.
/// Install the recorder before this call: the one that is there now is the one that is told.
///
/// # Cancel safety
/// If the future is dropped, the numbers stay as they are.
pub fn follow(queue: &Queue) -> impl Future<Output = ()> + Send + 'static {
    describe();
    let numbers = Numbers::new(queue.place());
    let mut watch: StatusWatch = queue.watch();
    async move {
        // No status ends this; the end of the queue does, and its last status is published too.
        let on_change = |status: &Status| {
            numbers.publish(status);
            false
        };
        let _ = watch.wait_for(on_change).await;
        numbers.publish(&watch.current());
    }
}

/// The metrics of one queue, looked up once.
struct Numbers {
    ledger: [Counter; 6],
    pending: Gauge,
    oldest: Gauge,
    letters: Gauge,
    used: Gauge,
    max: Gauge,
    fault: Gauge,
    states: [Gauge; 7],
}

impl Numbers {
    fn new(place: &Place) -> Self {
        let spool = label(place);
        let counter = |name: &'static str| counter!(name, SPOOL => spool.clone());
        let gauge = |name: &'static str| gauge!(name, SPOOL => spool.clone());
        Self {
            ledger: [
                counter(EVENTS_APPENDED),
                counter(EVENTS_DELIVERED),
                counter(EVENTS_DEAD),
                counter(EVENTS_EXPIRED),
                counter(EVENTS_EVICTED),
                counter(EVENTS_LOST),
            ],
            pending: gauge(EVENTS_PENDING),
            oldest: gauge(OLDEST_PENDING),
            letters: gauge(DEAD_LETTERS),
            used: gauge(DISK_USED),
            max: gauge(DISK_MAX),
            fault: gauge(STORAGE_FAULT),
            states: STATES
                .map(|state| gauge!(FLUSHER_STATE, SPOOL => spool.clone(), STATE => state)),
        }
    }

    fn publish(&self, status: &Status) {
        let books = status.ledger;
        let accounts = [
            books.appended,
            books.delivered,
            books.dead,
            books.expired,
            books.evicted,
            books.lost,
        ];
        for (counter, value) in self.ledger.iter().zip(accounts) {
            counter.absolute(value);
        }
        let oldest = status.oldest_pending.unwrap_or(UNIX_EPOCH);
        let oldest = oldest.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.oldest.set(oldest.as_secs_f64());
        self.pending.set(real(status.pending));
        self.letters.set(real(status.dead_letters));
        self.used.set(real(status.disk_bytes));
        self.max.set(real(status.max_bytes));
        self.fault
            .set(f64::from(u8::from(status.storage_fault.is_some())));
        let present = state_name(&status.flusher);
        for (gauge, name) in self.states.iter().zip(STATES) {
            gauge.set(f64::from(u8::from(name == present)));
        }
    }
}

fn state_name(state: &FlusherState) -> &'static str {
    match state {
        FlusherState::Absent => "absent",
        FlusherState::Idle => "idle",
        FlusherState::Sending => "sending",
        FlusherState::BackingOff { .. } => "backing_off",
        FlusherState::Paused { .. } => "paused",
        FlusherState::Failed { .. } => "failed",
        FlusherState::Closed => "closed",
    }
}

/// Exact up to 2^53, which no count of events or bytes here reaches.
fn real(count: u64) -> f64 {
    count as f64
}

fn label(place: &Place) -> SharedString {
    SharedString::from(place.name())
}

/// The queue whose work this thread does.
fn here() -> SharedString {
    Place::current().map_or_else(|| SharedString::from(Arc::from("")), |place| label(&place))
}

pub(crate) fn commit_took(time: Duration) {
    histogram!(COMMIT_TIME, SPOOL => here()).record(time);
}

pub(crate) fn request_took(time: Duration) {
    histogram!(REQUEST_TIME, SPOOL => here()).record(time);
}

pub(crate) fn batch_retried() {
    counter!(BATCHES_RETRIED, SPOOL => here()).increment(1);
}

pub(crate) fn events_refused(place: &Place, events: usize) {
    let events = u64::try_from(events).unwrap_or(u64::MAX);
    counter!(EVENTS_REFUSED, SPOOL => label(place)).increment(events);
}
