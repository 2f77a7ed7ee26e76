//! What can be seen of a queue from outside.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::id::{Seq, SeqRange};
use crate::incident::Incident;
use crate::ledger::{Ledger, LetterLedger};
use crate::outcome::{Answer, PauseReason};

/// What the flusher is doing.
///
/// As JSON: an object whose `state` is the name in lower case (`backing_off`), with the fields of
/// that state beside it; times are numbers of milliseconds since 1970 and end in `_ms`
/// (`since_ms`, `until_ms`, `next_probe_ms`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FlusherState {
    /// There is no flusher: the queue was opened without a sink.
    Absent,
    /// Nothing waits to be sent.
    Idle,
    /// A request is under way.
    Sending,
    /// Waiting for a time before the same batch is tried again.
    BackingOff {
        /// When the first of the failed attempts in a row had failed, by the wall clock.
        #[serde(rename = "since_ms", with = "crate::millis::time")]
        since: SystemTime,
        /// When it will be tried again, by the wall clock.
        #[serde(rename = "until_ms", with = "crate::millis::time")]
        until: SystemTime,
        /// How many attempts have failed in a row.
        attempt: u32,
        /// What the last of them met.
        last_error: Answer,
    },
    /// Waiting for a person, or for a probe to succeed.
    Paused {
        /// Why.
        reason: PauseReason,
        /// What the receiver said when it began.
        last_error: Answer,
        /// Since when, by the wall clock.
        #[serde(rename = "since_ms", with = "crate::millis::time")]
        since: SystemTime,
        /// When the next probe goes out; none while paused on request.
        #[serde(rename = "next_probe_ms", with = "crate::millis::optional_time")]
        next_probe: Option<SystemTime>,
    },
    /// It ended by a panic. Appends are still safe; open the queue again to deliver.
    Failed {
        /// The text of the panic.
        message: String,
    },
    /// The queue is closed.
    Closed,
}

/// How much may go out in a second. Each is [`Delivery`](crate::Delivery)'s setting of its name;
/// none of them bounds anything by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Events at the most, those that are sent again included. 0 counts as 1.
    pub rate_events: Option<u32>,
    /// Bytes of event JSON at the most. 0 counts as 1.
    pub rate_bytes: Option<u64>,
}

/// How fast delivery may go at this moment.
///
/// As JSON: an object with these field names, but `request_gap_ms` in milliseconds for
/// `request_gap`, and `next_ms` in milliseconds since 1970 for `next`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PaceStatus {
    /// Events in a second at the most, if that is bounded.
    pub rate_events: Option<u32>,
    /// Bytes of event JSON in a second at the most, if that is bounded.
    pub rate_bytes: Option<u64>,
    /// The least time between the beginnings of two requests, since the receiver answered 429 or
    /// 503. It shrinks with each delivered request, until it is gone.
    #[serde(rename = "request_gap_ms", with = "crate::millis::optional_span")]
    pub request_gap: Option<Duration>,
    /// When the next request goes out, by the wall clock, if it waits for its turn: for one of
    /// these, or after an outage.
    #[serde(rename = "next_ms", with = "crate::millis::optional_time")]
    pub next: Option<SystemTime>,
}

impl PaceStatus {
    /// The part of it that can be [set](crate::Queue::set_pace).
    #[must_use]
    pub fn pace(&self) -> Pace {
        Pace {
            rate_events: self.rate_events,
            rate_bytes: self.rate_bytes,
        }
    }
}

/// The whole state of a queue at one moment.
///
/// As JSON: an object with these field names, but `oldest_pending_ms` in milliseconds since 1970
/// for `oldest_pending`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Status {
    /// What the flusher is doing, and why.
    pub flusher: FlusherState,
    /// The books.
    pub ledger: Ledger,
    /// Events that wait; also `ledger.pending()`.
    pub pending: u64,
    /// The last settled sequence number.
    pub cursor: Seq,
    /// The last sequence number given out.
    pub last_seq: Seq,
    /// When the oldest pending event happened; none if nothing waits or it is not known yet.
    #[serde(rename = "oldest_pending_ms", with = "crate::millis::optional_time")]
    pub oldest_pending: Option<SystemTime>,
    /// Dead letters held at present.
    pub dead_letters: u64,
    /// The books of dead letters.
    #[serde(default)]
    pub letters: LetterLedger,
    /// Bytes on disk, as counted against `max_bytes`.
    pub disk_bytes: u64,
    /// The bound on them.
    pub max_bytes: u64,
    /// Ranges that damage made unreadable and that the cursor has not passed yet.
    pub missing: Vec<SeqRange>,
    /// What was found wrong with the spool and no person has acknowledged yet.
    #[serde(default)]
    pub incidents: Vec<Incident>,
    /// What the disk refused last, if it has not worked again since.
    pub storage_fault: Option<String>,
    /// The last answer of the receiver.
    pub last_answer: Option<Answer>,
    /// Requests sent since the queue was opened.
    pub requests: u64,
    /// How fast delivery may go.
    #[serde(default)]
    pub pace: PaceStatus,
}

/// What opening the spool found and mended. Empty after an orderly close, but for the note on a
/// segment whose end a power cut tore: it stands until a new segment is begun.
///
/// As JSON: an object with these field names, but `took_ms` in milliseconds for `took`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Recovery {
    /// Events found in the journal that wait.
    pub replayed: u64,
    /// Ranges that were acknowledged once and cannot be read any more. They are counted under
    /// `lost` when the cursor passes them.
    pub missing: Vec<SeqRange>,
    /// What was found damaged and put on record, in order. What was on record before is not here.
    #[serde(default)]
    pub incidents: Vec<Incident>,
    /// What else was odd and cost nothing, one sentence each, for people.
    pub notes: Vec<String>,
    /// How long opening took.
    #[serde(rename = "took_ms", with = "crate::millis::span")]
    pub took: Duration,
}

/// How a queue ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Closed {
    /// The last status: what remains is in `pending`.
    pub status: Status,
    /// Whether everything was delivered before the deadline.
    pub drained: bool,
}
