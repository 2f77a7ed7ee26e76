//! What the caller appends: an id, a time and opaque JSON bytes.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::{Clock, SystemClock};
use crate::error::Error;
use crate::id::{EventId, Seq};
use crate::millis::unix_ms;

/// One event: an id, the time it happened, and its JSON bytes, which are stored and delivered
/// exactly as given.
///
/// Cloning is cheap: the bytes are shared.
#[derive(Clone)]
pub struct Event {
    id: EventId,
    /// Milliseconds since 1970, and [`SENT_AGAIN`].
    stamp: u64,
    json: Bytes,
}

/// The bit of a stamp that says that a person took the event out of the dead letters to send it
/// again: no limit on its age applies any more. No time reaches so far.
const SENT_AGAIN: u64 = 1 << 63;

/// An event that was sent again is the same event.
impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        let of = |event: &Self| (event.id, event.time_ms());
        of(self) == of(other) && self.json == other.json
    }
}

impl Eq for Event {}

impl Event {
    /// An event from JSON text, with a new id and the present time.
    ///
    /// The text is checked to be one JSON value and otherwise left alone: neither white space nor
    /// the order of keys nor the digits of a number change on the way.
    ///
    /// # Errors
    /// [`Error::InvalidEvent`] with the line and column if it is not one JSON value. The text
    /// itself is not repeated in the error.
    pub fn json(json: impl Into<Bytes>) -> Result<Self, Error> {
        Self::json_with_clock(json, &SystemClock)
    }

    /// As [`Event::json`], with the caller's clock.
    ///
    /// # Errors
    /// As [`Event::json`].
    pub fn json_with_clock(json: impl Into<Bytes>, clock: &dyn Clock) -> Result<Self, Error> {
        let json = json.into();
        check_json(&json)?;
        let time_ms = unix_ms(clock.wall());
        Ok(Self {
            id: clock.event_id(time_ms),
            stamp: time_ms,
            json,
        })
    }

    /// An event from anything that serialises to JSON, with a new id and the present time.
    ///
    /// # Errors
    /// [`Error::InvalidEvent`] if the value cannot be written as JSON.
    pub fn from_serialize<T: Serialize + ?Sized>(value: &T) -> Result<Self, Error> {
        let json = serde_json::to_vec(value).map_err(|source| Error::InvalidEvent {
            reason: format!("the value does not serialise: {}", json_fault(&source)),
        })?;
        Self::json(json)
    }

    /// The same event under an id of the caller's, so that a repeated append can be recognised.
    #[must_use]
    pub fn with_id(mut self, id: EventId) -> Self {
        self.id = id;
        self
    }

    /// The same event at another time. Times before 1970 count as 1970; the resolution is one
    /// millisecond.
    #[must_use]
    pub fn with_time(mut self, time: SystemTime) -> Self {
        self.stamp = unix_ms(time) | self.stamp & SENT_AGAIN;
        self
    }

    /// Puts an event together again from what was stored.
    pub(crate) fn from_parts(id: EventId, stamp: u64, json: Bytes) -> Self {
        Self { id, stamp, json }
    }

    /// What is stored of its time.
    pub(crate) fn stamp(&self) -> u64 {
        self.stamp
    }

    /// The same event, sent again by a person.
    pub(crate) fn sent_again(&self) -> Self {
        Self {
            stamp: self.stamp | SENT_AGAIN,
            ..self.clone()
        }
    }

    /// Whether a person sent it again.
    pub(crate) fn is_sent_again(&self) -> bool {
        self.stamp & SENT_AGAIN != 0
    }

    /// The identity, the same on every attempt.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }

    /// When it happened.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.time_ms())
    }

    /// When it happened, in milliseconds since 1970.
    #[must_use]
    pub fn time_ms(&self) -> u64 {
        stamp_ms(self.stamp)
    }

    /// The JSON bytes, as given.
    #[must_use]
    pub fn json_bytes(&self) -> &Bytes {
        &self.json
    }
}

/// Prints the id, the time and the size, never the content: events are personal data.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.id)
            .field("time_ms", &self.time_ms())
            .field("bytes", &self.json.len())
            .finish()
    }
}

/// An event with its place in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its position.
    pub seq: Seq,
    /// The event.
    pub event: Event,
}

/// What an append gives back: from here on the event is the queue's responsibility. What becomes of
/// it, [`Queue::settled`](crate::Queue::settled) says by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Receipt {
    /// Where the event stands in the queue.
    pub seq: Seq,
    /// The id it is stored and sent under.
    pub id: EventId,
}

impl Receipt {
    pub(crate) fn new(seq: Seq, id: EventId) -> Self {
        Self { seq, id }
    }
}

fn check_json(json: &[u8]) -> Result<(), Error> {
    serde_json::from_slice::<serde::de::IgnoredAny>(json).map_err(|source| {
        Error::InvalidEvent {
            reason: format!("not one JSON value: {}", json_fault(&source)),
        }
    })?;
    // A JSON text is UTF-8 throughout; the parser above does not look inside ignored strings.
    match std::str::from_utf8(json) {
        Ok(_) => Ok(()),
        Err(source) => Err(Error::InvalidEvent {
            reason: format!("not UTF-8 after byte {}", source.valid_up_to()),
        }),
    }
}

/// Says where JSON is wrong without repeating any of it.
pub(crate) fn json_fault(source: &serde_json::Error) -> String {
    let kind = match source.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Syntax => "it breaks the syntax",
        serde_json::error::Category::Data => "it has a value of the wrong type",
        serde_json::error::Category::Io => "it could not be written",
    };
    format!(
        "{kind} at line {} column {}",
        source.line(),
        source.column()
    )
}

/// The milliseconds in what is stored of a time.
pub(crate) fn stamp_ms(stamp: u64) -> u64 {
    stamp & !SENT_AGAIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_kept_to_the_byte() {
        let text = br#" {"a" : 1.00, "a":2} "#;
        let event = Event::json(&text[..]).unwrap();
        assert_eq!(&event.json_bytes()[..], &text[..]);
    }

    #[test]
    fn what_is_not_one_json_value_is_refused_without_being_repeated() {
        for bad in ["", "{", "{} {}", "secret", "{\"a\":}", "[1,]", "\u{feff}{}"] {
            let error = Event::json(bad.as_bytes().to_vec()).unwrap_err();
            assert!(
                matches!(error, Error::InvalidEvent { .. }),
                "{bad:?}: {error:?}"
            );
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert!(Event::json(&b"\"\xff\""[..]).is_err(), "not UTF-8");
    }

    #[test]
    fn depth_has_no_limit_and_costs_no_stack() {
        assert!(Event::json("[".repeat(100_000) + &"]".repeat(100_000)).is_ok());
        assert!(Event::json("[".repeat(100_000)).is_err());
    }

    #[test]
    fn debug_never_shows_the_content() {
        let event = Event::json(&br#"{"password":"hunter2"}"#[..]).unwrap();
        assert!(!format!("{event:?}").contains("hunter2"));
    }
}
