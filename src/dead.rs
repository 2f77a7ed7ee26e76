//! Dead letters: events set aside with the reason.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::id::Seq;
use crate::outcome::Answer;

/// Why an event was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// The receiver refused this event alone.
    Refused,
    /// The event alone makes a request larger than the receiver takes.
    TooLarge,
    /// It outlived `max_age`.
    Expired,
}

/// An event set aside with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Where it stood in the queue; also its name among the dead letters.
    pub seq: Seq,
    /// The event, as it was appended.
    pub event: Event,
    /// Why.
    pub cause: Cause,
    /// The receiver's last word on it.
    pub answer: Answer,
    /// In how many requests it was sent.
    pub attempts: u32,
    /// When it was first sent.
    pub first_attempt: SystemTime,
    /// When it was last sent, or when it expired.
    pub last_attempt: SystemTime,
}
