//! What a message of the stream holds of an event: its bytes as they are, and four headers.

use std::fmt;

use bytes::Bytes;

use crate::event::Event;
use crate::id::{EventId, Seq};

const ID: &str = "Everpost-Id";
const SEQ: &str = "Everpost-Seq";
const TIME: &str = "Everpost-Time";

/// An event as it travels in a stream: its JSON is the message, to the byte; its id, its place in its
/// spool and its time in milliseconds since 1970 are headers. No other header is read, and none is
/// ever copied to another message, since a server keeps those that steer it.
///
/// | header | value |
/// | --- | --- |
/// | `Everpost-Id` | the id, a UUID |
/// | `Everpost-Seq` | the place in the spool, from 1 |
/// | `Everpost-Time` | milliseconds since 1970 |
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The place of the event in its spool.
    pub seq: Seq,
    /// The event.
    pub event: Event,
}

/// Prints nothing of the content.
impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("seq", &self.seq)
            .field("event", &self.event)
            .finish()
    }
}

impl Envelope {
    /// The headers, by name and value. The message itself is [`Event::json_bytes`].
    #[must_use]
    pub fn headers(&self) -> [(&'static str, String); 3] {
        [
            (ID, self.event.id().to_string()),
            (SEQ, self.seq.to_string()),
            (TIME, self.event.time_ms().to_string()),
        ]
    }

    /// Reads a message; `header` gives the value of a header by its name. The message may come from
    /// elsewhere: what is not such an event is told, not guessed.
    ///
    /// # Errors
    /// What is wrong with it, in words without any of its content.
    pub fn read<'a>(
        header: impl Fn(&str) -> Option<&'a str>,
        payload: Bytes,
    ) -> Result<Self, &'static str> {
        let (id, seq, time) = Self::read_headers(header)?;
        let event = Event::json(payload).map_err(|_| "it is not one JSON value")?;
        let event = Event::from_parts(id, time, event.json_bytes().clone());
        Ok(Self { seq, event })
    }

    /// As [`read`](Self::read), the headers alone: id, place and milliseconds since 1970.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_headers<'a>(
        header: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<(EventId, Seq, u64), &'static str> {
        let id = header(ID).ok_or("it has no header `Everpost-Id`")?;
        let id = id.parse().map_err(|_| "its `Everpost-Id` is no UUID")?;
        let number = |name| header(name).and_then(|value| value.parse::<u64>().ok());
        let seq = number(SEQ).ok_or("its `Everpost-Seq` is no number")?;
        let time = number(TIME).ok_or("its `Everpost-Time` is no number")?;
        // More is no time; see `Event`.
        if time >> 63 != 0 {
            return Err("its `Everpost-Time` is no time");
        }
        Ok((id, seq, time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_comes_back_to_the_byte_and_anything_else_is_told() {
        let event = Event::json(r#" {"a" : 1.00} "#).unwrap();
        let sent = Envelope { seq: 7, event };
        let headers = sent.headers();
        let read = |without: &str, payload: &Bytes| {
            let header = |name: &str| {
                let found = headers
                    .iter()
                    .find(|(known, _)| *known == name && name != without);
                found.map(|(_, value)| value.as_str())
            };
            Envelope::read(header, payload.clone())
        };
        assert_eq!(read("", sent.event.json_bytes()), Ok(sent.clone()));
        for (name, _) in &headers {
            assert!(read(name, sent.event.json_bytes()).is_err(), "{name}");
        }
        assert!(read("", &Bytes::from_static(b"{")).is_err());
    }
}
