//! The numbers of a queue: their names, what they mean, and their values in a status.

use std::time::UNIX_EPOCH;

use crate::ledger::Ledger;
use crate::status::{FlusherState, Status};

/// Label: the path of the spool, as it was given to
/// [`Queue::builder`](crate::Queue::builder).
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
/// Gauge, events a second: what delivery is held to, by the settings or by a person; 0 if nothing is
/// set.
pub const PACE_EVENTS: &str = "everpost_pace_events_per_second";
/// Gauge, bytes of event JSON a second: the same.
pub const PACE_BYTES: &str = "everpost_pace_bytes_per_second";
/// Gauge, seconds: the least time between the beginnings of two requests, since the receiver has
/// answered 429 or 503; 0 if they may follow each other at once.
pub const PACE_GAP: &str = "everpost_pace_gap_seconds";
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

/// In what a metric is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// Things: events, batches.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
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
pub const METRICS: [Metric; 20] = [
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
    metric(PACE_EVENTS, Kind::Gauge, Unit::Count, "events a second that delivery is held to; 0 if none"),
    metric(PACE_BYTES, Kind::Gauge, Unit::Bytes, "bytes a second that delivery is held to; 0 if none"),
    metric(PACE_GAP, Kind::Gauge, Unit::Seconds, "least time between two requests, asked for by 429 or 503; 0 if none"),
    metric(COMMIT_TIME, Kind::Histogram, Unit::Seconds, "time of one commit of appends"),
    metric(REQUEST_TIME, Kind::Histogram, Unit::Seconds, "time of one request"),
];

/// The accounts of the books under their names.
pub(crate) fn accounts(books: &Ledger) -> [(&'static str, u64); 6] {
    [
        (EVENTS_APPENDED, books.appended),
        (EVENTS_DELIVERED, books.delivered),
        (EVENTS_DEAD, books.dead),
        (EVENTS_EXPIRED, books.expired),
        (EVENTS_EVICTED, books.evicted),
        (EVENTS_LOST, books.lost),
    ]
}

/// What goes up and down, under its name.
pub(crate) fn levels(status: &Status) -> [(&'static str, f64); 9] {
    let oldest = status.oldest_pending.unwrap_or(UNIX_EPOCH);
    let oldest = oldest.duration_since(UNIX_EPOCH).unwrap_or_default();
    let pace = &status.pace;
    [
        (EVENTS_PENDING, real(status.pending)),
        (OLDEST_PENDING, oldest.as_secs_f64()),
        (DEAD_LETTERS, real(status.dead_letters)),
        (DISK_USED, real(status.disk_bytes)),
        (DISK_MAX, real(status.max_bytes)),
        (STORAGE_FAULT, flag(status.storage_fault.is_some())),
        (PACE_EVENTS, pace.rate_events.map_or(0.0, f64::from)),
        (PACE_BYTES, pace.rate_bytes.map_or(0.0, real)),
        (PACE_GAP, pace.request_gap.unwrap_or_default().as_secs_f64()),
    ]
}

/// 1 for the state the flusher is in, 0 for the others, in the order of [`STATES`].
pub(crate) fn states(state: &FlusherState) -> [f64; STATES.len()] {
    let present = state_name(state);
    STATES.map(|name| flag(name == present))
}

/// The state's name in [`STATES`].
pub(crate) fn state_name(state: &FlusherState) -> &'static str {
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
pub(crate) fn real(count: u64) -> f64 {
    count as f64
}

fn flag(is_set: bool) -> f64 {
    f64::from(u8::from(is_set))
}
