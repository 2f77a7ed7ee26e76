//! The JSON forms that the control socket and the command share. Field names are stable; fields
//! may be added, so readers ignore those they do not know.
//!
//! Lists are JSON lines: one object to a line, ended by a line feed, as `application/x-ndjson`.
//! Times are numbers of milliseconds since 1970 and their names end in `_ms`. The state of a
//! queue is a [`Status`], the answer to an append a [`Receipt`](crate::Receipt),
//! what opening found a [`Recovery`](crate::Recovery), each in the JSON form documented there.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::dead::{Cause, DeadLetter};
use crate::error::Error;
use crate::event::{Event, StoredEvent, json_fault};
use crate::fate::Fate;
use crate::id::{EventId, Seq};
use crate::millis::unix_ms;
use crate::observe::numbers::state_name;
use crate::outcome::{Answer, PauseReason};
use crate::status::{FlusherState, Status};

/// The JSON of an event inside a line: the same text, but without white space around it, and with
/// spaces for line breaks, which can only stand between two tokens. Every key, string and digit
/// is kept as it is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventJson(Box<RawValue>);

impl EventJson {
    /// The JSON of this event.
    ///
    /// # Errors
    /// [`Error::InvalidEvent`]; cannot happen with an event that was made by this crate.
    pub fn new(event: &Event) -> Result<Self, Error> {
        let invalid = |reason| Error::InvalidEvent { reason };
        let mut bytes = event.json_bytes().to_vec();
        for byte in &mut bytes {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        let text = String::from_utf8(bytes).map_err(|_| invalid("it is not UTF-8".to_owned()))?;
        RawValue::from_string(text)
            .map(Self)
            .map_err(|source| invalid(json_fault(&source)))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    fn into_bytes(self) -> Bytes {
        String::from(Box::<str>::from(self.0)).into()
    }
}

/// Prints the size, never the content: events are personal data.
impl fmt::Debug for EventJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventJson({} bytes)", self.as_str().len())
    }
}

/// A pending event, as `peek` and `export` give it.
///
/// ```json
/// {"seq":7,"id":"0199f3c2-7d5b-7000-8000-0000000000aa","time_ms":1764000000123,"event":{"text":"hi"}}
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EventLine {
    /// Its place in the queue it came from.
    pub seq: Seq,
    /// Its id.
    pub id: EventId,
    /// When it happened, in milliseconds since 1970.
    pub time_ms: u64,
    /// The event itself.
    pub event: EventJson,
}

impl EventLine {
    /// The line of this event.
    ///
    /// # Errors
    /// As [`EventJson::new`].
    pub fn new(stored: &StoredEvent) -> Result<Self, Error> {
        Ok(Self {
            seq: stored.seq,
            id: stored.event.id(),
            time_ms: stored.event.time_ms(),
            event: EventJson::new(&stored.event)?,
        })
    }
}

/// An event to be appended, as `import` and `POST /events?form=entries` take it: an [`EventLine`]
/// or a [`LetterLine`] is one too. Without `id` it gets a new one, without `time_ms` the present.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Entry {
    /// Its id, if it is to keep one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<EventId>,
    /// When it happened, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<u64>,
    /// The event itself.
    pub event: EventJson,
}

impl Entry {
    /// The entry that appends exactly this event.
    ///
    /// # Errors
    /// As [`EventJson::new`].
    pub fn new(event: &Event) -> Result<Self, Error> {
        Ok(Self {
            id: Some(event.id()),
            time_ms: Some(event.time_ms()),
            event: EventJson::new(event)?,
        })
    }

    /// Reads one line.
    ///
    /// # Errors
    /// [`Error::InvalidEvent`], without any of the content.
    pub fn parse(line: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(line).map_err(|source| Error::InvalidEvent {
            reason: format!(
                "not an object with `event` and, if given, a UUID as `id` and a number as \
                 `time_ms`: {}",
                json_fault(&source)
            ),
        })
    }

    /// The event to append.
    ///
    /// # Errors
    /// [`Error::InvalidEvent`], without any of the content.
    pub fn into_event(self) -> Result<Event, Error> {
        event(self.event.into_bytes(), self.id, self.time_ms)
    }
}

/// An event under its old id and time, as far as it has any.
pub(super) fn event(
    json: Bytes,
    id: Option<EventId>,
    time_ms: Option<u64>,
) -> Result<Event, Error> {
    let new = Event::json(json)?;
    let (id, time_ms) = (id.unwrap_or(new.id()), time_ms.unwrap_or(new.time_ms()));
    Ok(Event::from_parts(id, time_ms, new.json_bytes().clone()))
}

/// A dead letter, as `dead list`, `dead show` and `export --dead` give it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LetterLine {
    /// Where it stood in the queue; also its name among the dead letters.
    pub seq: Seq,
    /// Its id.
    pub id: EventId,
    /// When it happened, in milliseconds since 1970.
    pub time_ms: u64,
    /// Why it was set aside: `refused`, `too_large`, `expired`.
    pub cause: Cause,
    /// The receiver's last word on it.
    pub answer: Answer,
    /// In how many requests it was sent.
    pub attempts: u32,
    /// When it was first sent, in milliseconds since 1970.
    pub first_attempt_ms: u64,
    /// When it was last sent, or when it expired, in milliseconds since 1970.
    pub last_attempt_ms: u64,
    /// The event itself.
    pub event: EventJson,
}

impl LetterLine {
    /// The line of this letter.
    ///
    /// # Errors
    /// As [`EventJson::new`].
    pub fn new(letter: &DeadLetter) -> Result<Self, Error> {
        Ok(Self {
            seq: letter.seq,
            id: letter.event.id(),
            time_ms: letter.event.time_ms(),
            cause: letter.cause,
            answer: letter.answer.clone(),
            attempts: letter.attempts,
            first_attempt_ms: unix_ms(letter.first_attempt),
            last_attempt_ms: unix_ms(letter.last_attempt),
            event: EventJson::new(&letter.event)?,
        })
    }
}

/// What became of an event, as `fate` gives it.
///
/// ```json
/// {"seq":17,"id":null,"fate":"delivered","request_id":"req_1"}
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FateLine {
    /// Its number; none if it was asked for by an id that is neither pending nor a dead letter's.
    pub seq: Option<Seq>,
    /// Its id, if it was asked for by that.
    pub id: Option<EventId>,
    /// What became of it.
    #[serde(flatten)]
    pub fate: Fate,
}

impl FateLine {
    /// Of the event with this number.
    #[must_use]
    pub fn new(seq: Seq, fate: Fate) -> Self {
        let (seq, id) = (Some(seq), None);
        Self { seq, id, fate }
    }

    /// Of the event with this id, if it was found.
    #[must_use]
    pub fn found(id: EventId, found: Option<(Seq, Fate)>) -> Self {
        let (seq, fate) = found.unzip();
        let (id, fate) = (Some(id), fate.unwrap_or(Fate::Unknown));
        Self { seq, id, fate }
    }
}

/// How many incidents were acknowledged that had not been before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Acknowledged {
    /// The number.
    pub acknowledged: u64,
}

/// One line of the answer to `POST /drain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DrainLine {
    /// Whether this is the last line.
    pub done: bool,
    /// Whether everything that was pending at the time of the request has left the queue.
    pub drained: bool,
    /// The state at this moment.
    pub status: Status,
}

impl DrainLine {
    pub(super) fn new(done: bool, drained: bool, status: Status) -> Self {
        Self {
            done,
            drained,
            status,
        }
    }
}

/// The answer to `GET /livez`: with 200 if it is alive, with 503 if not.
///
/// ```json
/// {"live":true,"kind":null,"reason":null,"hint":null}
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Liveness {
    /// Whether the log's thread answers.
    pub live: bool,
    /// If not, why, for programs: `no_answer`, or a kind of the [module](super).
    pub kind: Option<String>,
    /// If not, why, in one line.
    pub reason: Option<String>,
    /// If not, what to do about it, in one line.
    pub hint: Option<String>,
}

/// The answer to `GET /readyz`: with 200 if an append would be taken, with 503 if not.
///
/// Delivery is told beside it and does not count: while it is paused or backs off, appends are
/// taken. What the receiver said is not here; see `GET /status` on the control socket.
///
/// ```json
/// {"ready":true,"kind":null,"reason":null,"hint":null,"delivery":"paused","paused":"credentials","pending":7}
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Readiness {
    /// Whether an append would be taken.
    pub ready: bool,
    /// If not, why, for programs: `no_answer`, `storage`, `full`, `not_owner`, `closed`, or
    /// another kind of the [module](super).
    pub kind: Option<String>,
    /// If not, why, in one line.
    pub reason: Option<String>,
    /// If not, what to do about it, in one line.
    pub hint: Option<String>,
    /// What the flusher is doing: `state` of a [`FlusherState`].
    pub delivery: String,
    /// Why delivery is paused, if it is.
    pub paused: Option<PauseReason>,
    /// Events that wait.
    pub pending: u64,
}

impl Liveness {
    pub(super) fn new(fault: Option<ErrorBody>) -> Self {
        let (live, [kind, reason, hint]) = (fault.is_none(), parts(fault));
        Self {
            live,
            kind,
            reason,
            hint,
        }
    }
}

impl Readiness {
    pub(super) fn new(fault: Option<ErrorBody>, status: &Status) -> Self {
        let (ready, [kind, reason, hint]) = (fault.is_none(), parts(fault));
        Self {
            ready,
            kind,
            reason,
            hint,
            delivery: state_name(&status.flusher).to_owned(),
            paused: match status.flusher {
                FlusherState::Paused { reason, .. } => Some(reason),
                _ => None,
            },
            pending: status.pending,
        }
    }
}

/// Kind, reason and hint.
fn parts(fault: Option<ErrorBody>) -> [Option<String>; 3] {
    let Some(ErrorBody { error, hint, kind }) = fault else {
        return [None, None, None];
    };
    [Some(kind), Some(error), Some(hint)]
}

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ErrorBody {
    /// What went wrong, in one line. Never contains a key or the content of an event. An answer
    /// that says that a queue is not alive or not ready calls it `reason`.
    #[serde(alias = "reason")]
    pub error: String,
    /// What to do about it, in one line.
    pub hint: String,
    /// What went wrong, for programs: see the table of the [module](super).
    pub kind: String,
}

impl ErrorBody {
    pub(super) fn new(
        kind: impl Into<String>,
        error: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            error: error.into(),
            hint: hint.into(),
            kind: kind.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_keeps_digits_order_and_strings() {
        let text = "\n {\"b\" : 1.00,\r\n \"a\":\"x\\ny\", \"b\":2}\n";
        let event = Event::json(text).unwrap();
        let line = serde_json::to_string(&Entry::new(&event).unwrap()).unwrap();
        assert!(!line.contains('\n'), "{line}");
        let back = Entry::parse(line.as_bytes()).unwrap().into_event().unwrap();
        assert_eq!((back.id(), back.time_ms()), (event.id(), event.time_ms()));
        assert_eq!(
            &back.json_bytes()[..],
            br#"{"b" : 1.00,   "a":"x\ny", "b":2}"#
        );
    }

    #[test]
    fn depth_costs_no_stack_on_the_way_out_and_in() {
        let event = Event::json("[".repeat(50_000) + &"]".repeat(50_000)).unwrap();
        let line = serde_json::to_string(&Entry::new(&event).unwrap()).unwrap();
        let back = Entry::parse(line.as_bytes()).unwrap().into_event().unwrap();
        assert_eq!(back, event);
    }

    #[test]
    fn a_bad_entry_is_refused_without_being_repeated() {
        for bad in [
            "",
            "{}",
            "secret",
            r#"{"event":1,"id":"secret"}"#,
            r#"{"event":1,"time_ms":"secret"}"#,
            r#"{"event":secret}"#,
            r#"{"event":1} secret"#,
        ] {
            let error = Entry::parse(bad.as_bytes()).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn debug_prints_no_content() {
        let event = Event::json("\"secret\"").unwrap();
        let line = EventLine::new(&StoredEvent { seq: 1, event }).unwrap();
        assert!(!format!("{line:?}").contains("secret"));
    }
}
