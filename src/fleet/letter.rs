//! A dead letter as a message of the stream of dead letters.
//!
//! | header | value |
//! | --- | --- |
//! | `Everpost-Id`, `Everpost-Time` | as of the event |
//! | `Everpost-Seq` | the place in its spool; missing if it is no event of ours |
//! | `Everpost-Spool` | its spool, where that is known |
//! | `Everpost-Cause` | `refused`, `too_large`, `expired` |
//! | `Everpost-Answer` | the receiver's last word, JSON of at most 4 KiB |
//! | `Everpost-Attempts` | in how many requests it was sent |
//! | `Everpost-First`, `Everpost-Last` | when it was sent first and last, in milliseconds since 1970 |
//! | `Everpost-Cut` | how many bytes there were, where they did not fit |
//!
//! The message itself is the event's JSON, to the byte.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::HeaderMap;
use bytes::Bytes;
use uuid::Uuid;

use super::api::Entry;
use super::hold::Claim;
use super::text::clean;
use super::wire::Wanted;
use crate::dead::{Cause, DeadLetter};
use crate::error::Error;
use crate::event::Event;
use crate::id::{EventId, Seq};
use crate::millis::unix_ms;
use crate::nats::{Envelope, Names, Spool};
use crate::outcome::Answer;

/// Bytes of the receiver's last word that are kept.
const ANSWER_MAX: usize = 4 << 10;
/// What the headers of a letter may take of a message.
const HEADERS_MAX: usize = 8 << 10;

/// A dead letter of a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Letter {
    /// The partition that it stood in.
    pub partition: u16,
    /// The spool that it came from, where that is known: a message of another program has none.
    pub spool: Option<String>,
    /// Its place in that spool; `None` if it is no event that a spool delivered.
    pub spool_seq: Option<Seq>,
    /// The letter. Its `seq` is the place of the event in the stream of events, which is also its name
    /// among the dead letters of the fleet. Where the message was not JSON, the event is a JSON text of
    /// what it was.
    pub letter: DeadLetter,
}

/// What was read of the message that became a letter.
#[derive(Debug, Default)]
struct Origin {
    spool: Option<String>,
    spool_seq: Option<Seq>,
}

impl Origin {
    fn of(names: &Names, partition: u16, entry: &Entry) -> Self {
        let mut all = names.partition_subject(partition);
        all.pop();
        let name = entry.subject.strip_prefix(&all);
        let name = name.filter(|name| name.parse::<Spool>().is_ok());
        // Of one that was sent again, only its header says it.
        let name = name.or_else(|| entry.header("Everpost-Spool"));
        let name = name.filter(|name| name.parse::<Spool>().is_ok());
        let read = Envelope::read_headers(|name| entry.header(name));
        Self {
            spool: name.map(str::to_owned),
            spool_seq: read.ok().map(|(_, seq, _)| seq),
        }
    }
}

/// The letter of a message that is no event.
pub(super) fn unfit(stream: &str, seq: Seq, entry: &Entry, reason: &str) -> DeadLetter {
    /// Names the space the ids are made in; any fixed UUID would do.
    const SPACE: Uuid = Uuid::from_u128(0x6576_6572_706f_7374_8000_666f_7265_6967);
    let name = format!("{stream}/{}", entry.seq);
    let id = entry.header("Everpost-Id").and_then(|id| id.parse().ok());
    let id = id.unwrap_or_else(|| EventId::from_uuid(Uuid::new_v5(&SPACE, name.as_bytes())));
    let time = UNIX_EPOCH + Duration::from_millis(entry.stored_ms);
    DeadLetter {
        seq,
        event: Event::from_parts(id, entry.stored_ms, entry.payload.clone()),
        cause: Cause::Refused,
        answer: Answer::from_detail(format!("a message that is no event of everpost: {reason}")),
        attempts: 0,
        first_attempt: time,
        last_attempt: time,
    }
}

/// Stores a letter whose event stands at `place`, unless it is stored already: its subject takes one
/// message, so that it is there once however often this is tried.
pub(super) async fn put(claim: &Claim, place: u64, letter: &DeadLetter) -> Result<(), Error> {
    let names = &claim.names;
    let subject = names.partition_subject(claim.partition);
    let wanted = Wanted::From {
        seq: place,
        subject: &subject,
        max: 1,
        bytes_max: 1,
    };
    let page = claim.wire.fetch(names.stream(), &wanted).await?;
    let entry = page.entries.first().filter(|entry| entry.seq == place);
    // What was removed meanwhile is a letter all the same, of a spool that is not known.
    let origin = entry.map(|entry| Origin::of(names, claim.partition, entry));
    let mut headers = headers(letter, &origin.unwrap_or_default());
    let mut payload = letter.event.json_bytes().clone();
    let room = claim.wire.payload_max().saturating_sub(HEADERS_MAX);
    // Devices leave room for the headers; other programs may not.
    if payload.len() > room && room > 0 {
        headers.insert("Everpost-Cut", payload.len().to_string());
        payload.truncate(room);
    }
    let subject = names.dead_subject(claim.partition, place);
    // Stored now or before: it is there.
    let stream = names.dead_stream();
    let put = claim.wire.put(&stream, subject, 0, headers, payload);
    put.await.map(drop)
}

fn headers(letter: &DeadLetter, origin: &Origin) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Everpost-Id", letter.event.id().to_string());
    headers.insert("Everpost-Time", letter.event.time_ms().to_string());
    if let Some(seq) = origin.spool_seq {
        headers.insert("Everpost-Seq", seq.to_string());
    }
    if let Some(spool) = &origin.spool {
        headers.insert("Everpost-Spool", spool.clone());
    }
    headers.insert("Everpost-Cause", cause_name(letter.cause));
    headers.insert("Everpost-Answer", bounded(&letter.answer));
    headers.insert("Everpost-Attempts", letter.attempts.to_string());
    headers.insert("Everpost-First", unix_ms(letter.first_attempt).to_string());
    headers.insert("Everpost-Last", unix_ms(letter.last_attempt).to_string());
    headers
}

/// An answer as JSON on one line; what does not fit is left out, the longest lists first.
fn bounded(answer: &Answer) -> String {
    let mut answer = answer.clone();
    let json = |answer: &Answer| {
        // ASCII alone: a header is a line, and not every server takes others.
        let text = serde_json::to_string(answer).unwrap_or_default();
        let mut line = String::new();
        for sign in text.chars() {
            if sign.is_ascii() && !sign.is_control() {
                line.push(sign);
            } else {
                let mut pair = [0; 2];
                for unit in sign.encode_utf16(&mut pair) {
                    line.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
        line
    };
    let mut text = json(&answer);
    while text.len() > ANSWER_MAX {
        let is_shorter = answer.warnings.pop().is_some() || answer.errors.pop().is_some();
        if !is_shorter {
            answer.detail = answer.detail.map(|detail| clean(&detail));
            answer.request_id = None;
            return json(&answer);
        }
        text = json(&answer);
    }
    text
}

/// The name of a cause is what its JSON is.
fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Refused => "refused",
        Cause::TooLarge => "too_large",
        Cause::Expired => "expired",
    }
}

/// Reads a letter. `None` if the message is none.
pub(super) fn read(names: &Names, entry: &Entry) -> Option<Letter> {
    let mut all = names.dead_subjects();
    all.pop();
    let (partition, place) = entry.subject.strip_prefix(&all)?.split_once('.')?;
    let (partition, seq) = (partition.parse().ok()?, place.parse().ok()?);
    let number = |name| entry.header(name).and_then(|text| text.parse::<u64>().ok());
    let id: EventId = entry.header("Everpost-Id")?.parse().ok()?;
    let time = number("Everpost-Time").filter(|time| time >> 63 == 0)?;
    let answer = entry
        .header("Everpost-Answer")
        .filter(|text| text.len() <= 2 * ANSWER_MAX);
    let answer = answer.and_then(|text| serde_json::from_str(text).ok());
    let cause = match entry.header("Everpost-Cause") {
        Some("too_large") => Cause::TooLarge,
        Some("expired") => Cause::Expired,
        _ => Cause::Refused,
    };
    let spool = entry.header("Everpost-Spool");
    let spool = spool.filter(|name| name.parse::<Spool>().is_ok());
    let is_whole = entry.header("Everpost-Cut").is_none();
    let json = Event::json(entry.payload.clone()).ok().filter(|_| is_whole);
    Some(Letter {
        partition,
        spool: spool.map(str::to_owned),
        spool_seq: number("Everpost-Seq").filter(|_| json.is_some()),
        letter: DeadLetter {
            seq,
            event: Event::from_parts(
                id,
                time,
                json.map_or_else(
                    || as_text(&entry.payload),
                    |event| event.json_bytes().clone(),
                ),
            ),
            cause,
            answer: answer.unwrap_or_default(),
            attempts: number("Everpost-Attempts")
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(0),
            first_attempt: moment(number("Everpost-First")),
            last_attempt: moment(number("Everpost-Last")),
        },
    })
}

/// What is no JSON, as a JSON text.
fn as_text(payload: &[u8]) -> Bytes {
    let text = String::from_utf8_lossy(payload);
    serde_json::to_vec(&text).unwrap_or_default().into()
}

fn moment(ms: Option<u64>) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_millis(ms.unwrap_or(0)))
        .unwrap_or(UNIX_EPOCH)
}

/// What a letter is published as when it is sent again: the event with its id and where it came from.
pub(super) fn again(letter: &Letter) -> Option<(HeaderMap, Bytes)> {
    let envelope = Envelope {
        seq: letter.spool_seq?,
        event: letter.letter.event.clone(),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in envelope.headers() {
        headers.insert(name, value);
    }
    if let Some(spool) = &letter.spool {
        headers.insert("Everpost-Spool", spool.clone());
    }
    Some((headers, envelope.event.json_bytes().clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(subject: &str, headers: HeaderMap, payload: Bytes) -> Entry {
        Entry::of(7, subject, headers, payload)
    }

    fn dead(answer: Answer) -> DeadLetter {
        DeadLetter {
            seq: 3,
            event: Event::json(r#"{"a" : 1}"#).unwrap(),
            cause: Cause::TooLarge,
            answer,
            attempts: 4,
            first_attempt: UNIX_EPOCH + Duration::from_millis(5),
            last_attempt: UNIX_EPOCH + Duration::from_millis(6),
        }
    }

    #[test]
    fn a_letter_comes_back_as_it_was_under_the_place_of_its_event() {
        let names = Names::new("EVENTS", 4).unwrap();
        let mut answer = Answer::from_status(422);
        answer.errors = vec!["text is \u{201c}missing\u{201d}\r\nX: y".to_owned()];
        let letter = dead(answer);
        let origin = Origin {
            spool: Some("s1".to_owned()),
            spool_seq: Some(9),
        };
        let headers = headers(&letter, &origin);
        let subject = names.dead_subject(2, 70);
        let payload = letter.event.json_bytes().clone();
        let read = read(&names, &entry(&subject, headers, payload)).unwrap();
        assert_eq!(
            (read.partition, read.spool.as_deref(), read.spool_seq),
            (2, Some("s1"), Some(9))
        );
        assert_eq!(read.letter, DeadLetter { seq: 70, ..letter });
        let (headers, _) = again(&read).unwrap();
        let envelope = Envelope::read(
            |name| headers.get(name).map(|v| v.as_str()),
            read.letter.event.json_bytes().clone(),
        );
        assert_eq!(envelope.unwrap().event.id(), read.letter.event.id());
    }

    #[test]
    fn an_answer_without_end_is_cut_and_still_an_answer() {
        let mut answer = Answer::from_detail("\u{1f600}".repeat(5000));
        answer.errors = vec!["x".repeat(500); 50];
        let text = bounded(&answer);
        assert!(
            text.len() <= ANSWER_MAX && text.is_ascii(),
            "{}",
            text.len()
        );
        assert!(
            serde_json::from_str::<Answer>(&text)
                .unwrap()
                .detail
                .is_some()
        );
    }

    #[test]
    fn what_is_no_event_is_shown_as_a_text_and_is_not_sent_again() {
        let names = Names::new("EVENTS", 4).unwrap();
        let foreign = entry(
            "events.2.s1",
            HeaderMap::new(),
            Bytes::from_static(b"\xffhello"),
        );
        let letter = unfit("EVENTS", 1, &foreign, "it has no header `Everpost-Id`");
        assert_eq!(
            letter,
            unfit("EVENTS", 1, &foreign, "it has no header `Everpost-Id`")
        );
        let origin = Origin::of(&names, 2, &foreign);
        let message = entry(
            &names.dead_subject(2, 7),
            headers(&letter, &origin),
            foreign.payload.clone(),
        );
        let read = read(&names, &message).unwrap();
        assert_eq!(read.spool.as_deref(), Some("s1"));
        assert_eq!(
            read.letter.event.json_bytes(),
            "\"\u{fffd}hello\"".as_bytes()
        );
        assert_eq!(again(&read), None);
    }
}
