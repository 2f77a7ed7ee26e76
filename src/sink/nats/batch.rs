//! One atomic batch: what is written, and what its answers say.
//!
//! ADR-50 of <https://github.com/nats-io/nats-architecture-and-design> describes atomic batches: all
//! messages of one are stored, one behind the other, or none is.

use std::fmt::Write as _;

use bytes::{BufMut as _, BytesMut};
use serde::Deserialize;

use super::envelope::Envelope;
use super::protocol::Message;
use super::trouble::Trouble;
use crate::event::StoredEvent;
use crate::id::{EventId, Seq};

/// Messages of a batch that every server takes.
pub(super) const EVENTS_MAX: usize = 1000;
/// Bytes of a batch: what the device and a server hold at once.
pub(super) const BYTES_MAX: usize = 32 << 20;
/// Bytes of a message that are left to what a dead letter says of it beside the event.
const LETTER_BYTES: usize = 8 * 1024;
/// The headers of a message beside those of its event, at the most.
const STEERING_BYTES: usize = 256;

/// Events as one batch, to be sent behind the message `last` of the subject.
#[derive(Debug)]
pub(super) struct AtomicBatch<'a> {
    pub(super) subject: &'a str,
    pub(super) id: &'a str,
    /// Never empty.
    pub(super) events: &'a [StoredEvent],
    /// The place in the stream of the last message of the subject, 0 if there is none. A server takes
    /// the batch only if that is so when it takes it: this is what makes each event stand there once.
    pub(super) last: u64,
    /// Where the answer to the first message and to the last one goes to.
    pub(super) replies: [&'a str; 2],
}

impl AtomicBatch<'_> {
    /// Writes the messages.
    pub(super) fn write(&self, out: &mut BytesMut) {
        let bytes = self
            .events
            .iter()
            .map(|stored| message_bytes(stored) + self.subject.len());
        out.reserve(bytes.sum());
        let count = self.events.len();
        let mut headers = String::new();
        for (number, stored) in (1_usize..).zip(self.events) {
            headers.clear();
            self.steer(&mut headers, number, count);
            let envelope = Envelope {
                seq: stored.seq,
                event: stored.event.clone(),
            };
            for (name, value) in envelope.headers() {
                let _ = write!(headers, "{name}: {value}\r\n");
            }
            headers.push_str("\r\n");
            let [first, last] = self.replies;
            let reply = match number {
                _ if number == count => last,
                1 => first,
                _ => "",
            };
            let payload = stored.event.json_bytes();
            let _ = write!(out, "HPUB {}", self.subject);
            if !reply.is_empty() {
                let _ = write!(out, " {reply}");
            }
            let total = headers.len() + payload.len();
            let _ = write!(out, " {} {total}\r\n", headers.len());
            out.put_slice(headers.as_bytes());
            out.put_slice(payload);
            out.put_slice(b"\r\n");
        }
    }

    /// The headers that steer the server.
    fn steer(&self, headers: &mut String, number: usize, count: usize) {
        let _ = write!(
            headers,
            "NATS/1.0\r\nNats-Batch-Id: {}\r\nNats-Batch-Sequence: {number}\r\n",
            self.id
        );
        if number == 1 {
            let last = self.last;
            let _ = write!(headers, "Nats-Expected-Last-Subject-Sequence: {last}\r\n");
        }
        if number == count {
            headers.push_str("Nats-Batch-Commit: 1\r\n");
        }
    }
}

/// Bytes of the message of an event, headers and all, at the most.
pub(super) fn message_bytes(stored: &StoredEvent) -> usize {
    stored.event.json_bytes().len() + STEERING_BYTES
}

/// Why these events cannot be sent at once to a server that takes messages of so many bytes.
pub(super) fn too_large(events: &[StoredEvent], payload_max: usize) -> Option<&'static str> {
    let message_max = payload_max.saturating_sub(LETTER_BYTES);
    if events
        .iter()
        .any(|stored| message_bytes(stored) > message_max)
    {
        return Some("an event is larger than a message may be, less the 8 KiB of a dead letter");
    }
    let total: usize = events.iter().map(message_bytes).sum();
    let is_many = events.len() > EVENTS_MAX || (total > BYTES_MAX && events.len() > 1);
    is_many.then_some("the batch is larger than 1,000 events or 32 MiB")
}

/// What a server says of a write. Its `seq` is there with an error too, so that is looked at first.
#[derive(Deserialize)]
struct Ack {
    error: Option<Refusal>,
    seq: Option<u64>,
    batch: Option<String>,
    count: Option<u64>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

/// What an answer to a message of the batch says: the place of its last event in the stream; none if
/// it only says that the batch has begun.
///
/// # Errors
/// What went wrong.
pub(super) fn stored(answer: &Message, id: &str, count: usize) -> Result<Option<u64>, Trouble> {
    if let Some((status, _)) = answer.headers.status {
        return Err(match status {
            503 => Trouble::NoResponders,
            _ => Trouble::Odd("a status that no write has"),
        });
    }
    if !answer.is_whole {
        return Err(Trouble::Odd("it is longer than any answer to a write"));
    }
    if answer.payload.is_empty() {
        return Ok(None);
    }
    let Ok(ack) = serde_json::from_slice::<Ack>(&answer.payload) else {
        return Err(Trouble::Odd("it is not the JSON of an answer to a write"));
    };
    if let Some(refusal) = ack.error {
        let Refusal {
            code,
            err_code,
            description,
        } = refusal;
        return Err(Trouble::refused(code, err_code, &description));
    }
    let is_ours = ack.batch.as_deref() == Some(id);
    let is_all = ack
        .count
        .is_some_and(|stored| usize::try_from(stored) == Ok(count));
    match ack.seq {
        Some(seq) if seq > 0 && is_ours && is_all => Ok(Some(seq)),
        _ => Err(Trouble::Odd(
            "it is not about this batch, or not about all of it",
        )),
    }
}

/// The last message of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Last {
    /// Its place in the stream; 0 if there is none.
    pub(super) seq: u64,
    /// Which event it is, by its place in the spool and its id; none if there is no message, or it is
    /// no event.
    pub(super) event: Option<(Seq, EventId)>,
}

/// Reads the answer to a look-up.
///
/// # Errors
/// What went wrong.
pub(super) fn last(answer: &Message) -> Result<Last, Trouble> {
    match answer.headers.status {
        Some((404, _)) => {
            return Ok(Last {
                seq: 0,
                event: None,
            });
        }
        Some((503, _)) => return Err(Trouble::NoResponders),
        Some(_) => return Err(Trouble::Odd("a status that no look-up has")),
        None => {}
    }
    let header = |name: &str| answer.headers.get(name);
    let seq = header("Nats-Sequence").and_then(|text| text.parse().ok());
    let Some(seq) = seq.filter(|seq| *seq > 0) else {
        return Err(Trouble::Odd("it is not the last message of a subject"));
    };
    let event = Envelope::read_headers(header).ok();
    Ok(Last {
        seq,
        event: event.map(|(id, place, _)| (place, id)),
    })
}

#[cfg(test)]
mod tests {
    use super::super::protocol::{Frame, Parser};
    use super::*;
    use crate::clock::Clock as _;
    use crate::event::Event;

    fn events(jsons: &[&'static str]) -> Vec<StoredEvent> {
        let event = |(seq, json): (Seq, &&'static str)| StoredEvent {
            seq,
            event: Event::json(*json).unwrap(),
        };
        (7..).zip(jsons).map(event).collect()
    }

    fn message(spoken: &str) -> Message {
        let mut parser = Parser::default();
        parser.room().extend_from_slice(spoken.as_bytes());
        match parser.next().unwrap() {
            Some(Frame::Message(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    fn answer(payload: &str) -> Message {
        message(&format!("MSG in.1 1 {}\r\n{payload}\r\n", payload.len()))
    }

    #[test]
    fn the_guard_is_on_the_first_message_and_the_commit_on_the_last() {
        let events = events(&["1", "{}", r#"{"a":"\n"}"#]);
        let written = |events: &[StoredEvent]| {
            let mut out = BytesMut::new();
            let batch = AtomicBatch {
                subject: "events.1.s",
                id: "b1",
                events,
                last: 41,
                replies: ["in.1", "in.2"],
            };
            batch.write(&mut out);
            // A subscriber reads the same with a number behind the subject.
            let text = String::from_utf8(out.to_vec()).unwrap();
            let text = text.replace("HPUB events.1.s", "HMSG events.1.s 1");
            let mut parser = Parser::default();
            parser.room().extend_from_slice(text.as_bytes());
            let mut messages = Vec::new();
            while let Some(Frame::Message(message)) = parser.next().unwrap() {
                messages.push(message);
            }
            (text, messages)
        };
        let (text, messages) = written(&events);
        assert_eq!(messages.len(), 3);
        for (message, (number, stored)) in messages.iter().zip((1..).zip(&events)) {
            let header = |name: &str| message.headers.get(name);
            assert_eq!(&message.payload, stored.event.json_bytes());
            let headers = Envelope::read_headers(header).unwrap();
            assert_eq!(
                headers,
                (stored.event.id(), stored.seq, stored.event.time_ms())
            );
            assert_eq!(header("Nats-Batch-Id"), Some("b1"));
            assert_eq!(
                header("Nats-Batch-Sequence"),
                Some(number.to_string().as_str())
            );
            let guard = header("Nats-Expected-Last-Subject-Sequence");
            assert_eq!(guard, (number == 1).then_some("41"));
            assert_eq!(header("Nats-Batch-Commit"), (number == 3).then_some("1"));
            assert_eq!(header("Nats-Msg-Id"), None);
        }
        let replies: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("HMSG"))
            .collect();
        assert!(
            replies[0].contains(" in.1 ") && replies[2].contains(" in.2 "),
            "{replies:?}"
        );
        assert!(!replies[1].contains("in."), "{replies:?}");
        let (text, alone) = written(&events[..1]);
        assert_eq!(alone[0].headers.get("Nats-Batch-Commit"), Some("1"));
        assert!(
            alone[0]
                .headers
                .get("Nats-Expected-Last-Subject-Sequence")
                .is_some()
        );
        assert!(text.contains(" in.2 "), "its answer is that of the commit");
        let most = Event::json("1")
            .unwrap()
            .with_time(crate::clock::SystemClock.wall());
        let most = [StoredEvent {
            seq: u64::MAX,
            event: most,
        }];
        let (text, _) = written(&most);
        assert!(text.len() < message_bytes(&most[0]) + 64, "{}", text.len());
    }

    #[test]
    fn an_error_is_seen_before_the_number_beside_it() {
        let refused = r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 8"},"stream":"EV","seq":0}"#;
        let expected = Trouble::refused(400, 10071, "wrong last sequence: 8");
        assert_eq!(stored(&answer(refused), "b1", 3), Err(expected));
        let refused = r#"{"error":{"code":503},"seq":9,"batch":"b1","count":3}"#;
        assert!(matches!(
            stored(&answer(refused), "b1", 3),
            Err(Trouble::Refused { .. })
        ));
    }

    #[test]
    fn only_an_answer_about_all_of_this_batch_delivers() {
        let good = r#"{"stream":"EV","seq":500,"batch":"b1","count":3}"#;
        assert_eq!(stored(&answer(good), "b1", 3), Ok(Some(500)));
        assert_eq!(stored(&answer(""), "b1", 3), Ok(None));
        for odd in [
            r#"{"stream":"EV","seq":500}"#,
            r#"{"stream":"EV","seq":500,"batch":"b2","count":3}"#,
            r#"{"stream":"EV","seq":500,"batch":"b1","count":2}"#,
            r#"{"stream":"EV","seq":0,"batch":"b1","count":3}"#,
            r#"{"batch":"b1","count":3}"#,
            "{}",
            "[]",
            "+OK",
        ] {
            assert!(
                matches!(stored(&answer(odd), "b1", 3), Err(Trouble::Odd(_))),
                "{odd}"
            );
        }
        let status = message("HMSG in.1 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n");
        assert_eq!(stored(&status, "b1", 3), Err(Trouble::NoResponders));
    }

    #[test]
    fn a_look_up_finds_an_event_something_else_or_nothing() {
        let of = |headers: &str| {
            let headers = format!("NATS/1.0{headers}\r\n\r\n");
            let total = headers.len() + 2;
            last(&message(&format!(
                "HMSG in.1 1 {} {total}\r\n{headers}{{}}\r\n",
                headers.len()
            )))
        };
        let nothing = Last {
            seq: 0,
            event: None,
        };
        assert_eq!(of(" 404 Message Not Found"), Ok(nothing));
        assert_eq!(of(" 503"), Err(Trouble::NoResponders));
        assert!(matches!(of(" 408 Request Timeout"), Err(Trouble::Odd(_))));
        assert!(matches!(of("\r\nNats-Sequence: x"), Err(Trouble::Odd(_))));
        let foreign = Last {
            seq: 9,
            event: None,
        };
        assert_eq!(of("\r\nNats-Sequence: 9"), Ok(foreign));
        let event = events(&["1"]).remove(0);
        let id = event.event.id();
        let found = of(&format!(
            "\r\nNats-Sequence: 9\r\nEverpost-Id: {id}\r\nEverpost-Seq: 7\r\nEverpost-Time: 1"
        ));
        assert_eq!(found.unwrap().event, Some((7, id)));
    }

    #[test]
    fn what_a_dead_letter_could_not_hold_is_divided() {
        let events = events(&["1", "2"]);
        assert_eq!(too_large(&events, 1 << 20), None);
        assert!(too_large(&events, LETTER_BYTES + 100).is_some());
        let many: Vec<StoredEvent> = std::iter::repeat_n(events[0].clone(), 1001).collect();
        assert!(too_large(&many, 1 << 20).is_some());
        assert_eq!(too_large(&many[1..], 1 << 20), None);
    }
}
