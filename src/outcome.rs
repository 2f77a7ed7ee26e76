//! What a receiver said of a batch, and what that means for it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the receiver said, kept for the log line, the status and the dead letter.
///
/// Texts come from outside: sinks cut them to a bounded length and remove control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Answer {
    /// The HTTP status, if an answer came at all.
    pub status: Option<u16>,
    /// The receiver's name for the request.
    pub request_id: Option<String>,
    /// The receiver's error texts.
    pub errors: Vec<String>,
    /// The receiver's warnings.
    pub warnings: Vec<String>,
    /// What else there is to say in one line: "connection refused", "HTML instead of JSON".
    pub detail: Option<String>,
}

impl Answer {
    /// An answer with only a status.
    #[must_use]
    pub fn from_status(status: u16) -> Self {
        Self {
            status: Some(status),
            ..Self::default()
        }
    }

    /// No answer, only a reason.
    #[must_use]
    pub fn from_detail(detail: impl Into<String>) -> Self {
        Self {
            detail: Some(detail.into()),
            ..Self::default()
        }
    }
}

/// What an answer means for the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What is to be done.
    pub verdict: Verdict,
    /// What was said.
    pub answer: Answer,
}

impl Outcome {
    /// Puts the two together.
    #[must_use]
    pub fn new(verdict: Verdict, answer: Answer) -> Self {
        Self { verdict, answer }
    }
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every event of it was taken.
    Delivered,
    /// Send the same batch again later; not before `not_before` from now, if given.
    Retry {
        /// The receiver's `Retry-After`.
        not_before: Option<Duration>,
    },
    /// A connection stood, but the request did not get through on it: its time was up, or it was
    /// cut while it was being sent. Send the same batch again later, and less at once if that goes
    /// on; no event is ever condemned for it.
    Stalled,
    /// The request was too large: send less at once. A single event is buried.
    Divide,
    /// An event in it is refused: find it, set it aside, deliver the others.
    Poison,
    /// The fault lies with the token or the address, not with the events: keep everything, wait.
    Pause(PauseReason),
}

/// Why delivery waits for a person, or for a probe to succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PauseReason {
    /// Somebody asked for it. Only `resume` ends it.
    Requested,
    /// The key is missing, wrong, expired or lacks a right (401, 402, 403).
    Credentials,
    /// The address is wrong or has moved (3xx, 404, 405, 410, 426, 451).
    Address,
    /// So many different events were refused in a row that the fault is not theirs.
    SystemicRejection,
}

/// Why nothing can be delivered at present, found without any request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hindrance {
    /// What kind of fault it is. [`PauseReason::Requested`] is none: only people request a pause.
    pub reason: PauseReason,
    /// What there is to say about it, for the status and the log.
    pub answer: Answer,
}
