//! What servers answer, read by their words and by nothing else: pure.

use std::collections::BTreeMap;

use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::text::{clean, time_ms};
use crate::error::Error;

/// `wrong last sequence`, with the number.
const WRONG_LAST: u64 = 10071;
/// The same where the message before it is not stored yet.
const WRONG_LAST_CONSTANT: u64 = 10164;
/// `no message found`.
const NO_MESSAGE: u64 = 10037;
/// `stream not found`.
const NO_STREAM: u64 = 10059;

/// Why a server did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Another message stands where this one was to stand: the guard held.
    Guarded,
    /// There is no such message.
    NoMessage,
    /// There is no such stream.
    NoStream,
    /// Anything else, in its words.
    Other(String),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let reason = match refusal {
            Refusal::Guarded => "another write was faster".to_owned(),
            Refusal::NoMessage => "there is no such message".to_owned(),
            Refusal::NoStream => "there is no such stream".to_owned(),
            Refusal::Other(said) => said,
        };
        Self::Fleet { reason }
    }
}

/// An answer of the API. `error` is looked at first: an answer that refuses has a sequence number too.
pub(super) fn answer<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Refusal> {
    let unread = |error: serde_json::Error| {
        Refusal::Other(format!("the server's answer is not understood: {error}"))
    };
    let value: Value = serde_json::from_slice(payload).map_err(unread)?;
    if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
        let code = error.get("err_code").and_then(Value::as_u64).unwrap_or(0);
        let said = error
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or("");
        return Err(match code {
            WRONG_LAST | WRONG_LAST_CONSTANT => Refusal::Guarded,
            NO_MESSAGE => Refusal::NoMessage,
            NO_STREAM => Refusal::NoStream,
            _ => Refusal::Other(format!("the server refuses: {} ({code})", clean(said))),
        });
    }
    serde_json::from_value(value).map_err(unread)
}

/// A message was stored.
#[derive(Debug, Deserialize)]
pub(super) struct Stored {
    pub(super) stream: String,
    pub(super) seq: u64,
}

/// What a stream holds.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    pub(super) state: State,
    #[serde(default)]
    pub(super) total: u64,
}

/// The counts of a stream.
#[derive(Debug, Deserialize)]
pub(super) struct State {
    pub(super) messages: u64,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    /// Messages of each subject that was asked for.
    #[serde(default)]
    pub(super) subjects: Option<BTreeMap<String, u64>>,
}

/// One message, as the leader of a stream gives it.
#[derive(Debug, Deserialize)]
pub(super) struct Got {
    pub(super) message: GotMessage,
}

/// The part of it that is read.
#[derive(Debug, Deserialize)]
pub(super) struct GotMessage {
    pub(super) seq: u64,
    #[serde(default)]
    pub(super) data: String,
    #[serde(default)]
    pub(super) time: String,
}

/// Messages were removed.
#[derive(Debug, Deserialize)]
pub(super) struct Purged {
    pub(super) purged: u64,
}

/// A message of a stream.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) seq: u64,
    pub(super) subject: String,
    /// When it was stored, in milliseconds since 1970; 0 if the server does not say.
    pub(super) stored_ms: u64,
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
    /// How many stand behind it, of those that were asked for.
    pub(super) behind: u64,
    /// The one that was sent before it.
    before: u64,
}

impl Entry {
    /// One as a server might send it.
    #[cfg(test)]
    pub(super) fn of(seq: u64, subject: &str, headers: HeaderMap, payload: Bytes) -> Self {
        Self {
            seq,
            subject: subject.to_owned(),
            stored_ms: 0,
            headers,
            payload,
            behind: 0,
            before: 0,
        }
    }

    /// The value of one of its headers.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(Some(&self.headers), name)
    }
}

/// One piece of what a server sends for a batch.
#[derive(Debug)]
pub(super) enum Piece {
    Entry(Box<Entry>),
    /// The end of what it sends at once; so many stand behind it.
    End(u64),
    /// Nothing there.
    Nothing,
}

/// What a server sends for a request of a batch.
pub(super) fn piece(message: Message) -> Result<Piece, Refusal> {
    let headers = message.headers;
    let number = |name| header(headers.as_ref(), name).and_then(|text| text.parse::<u64>().ok());
    match message.status.map(|status| status.as_u16()) {
        None => {}
        Some(204) => return Ok(Piece::End(number("Nats-Num-Pending").unwrap_or(0))),
        Some(404) => return Ok(Piece::Nothing),
        Some(status) => {
            let said = message.description.unwrap_or_default();
            let said = format!("the server refuses: {} ({status})", clean(&said));
            return Err(Refusal::Other(said));
        }
    }
    let unread = || Refusal::Other("the server sent a message without its place".to_owned());
    let seq = number("Nats-Sequence").ok_or_else(unread)?;
    let behind = number("Nats-Num-Pending").unwrap_or(0);
    let before = number("Nats-Last-Sequence").unwrap_or(0);
    let text = |name| header(headers.as_ref(), name).unwrap_or_default();
    Ok(Piece::Entry(Box::new(Entry {
        seq,
        subject: text("Nats-Subject").to_owned(),
        stored_ms: time_ms(text("Nats-Time-Stamp")).unwrap_or(0),
        behind,
        before,
        payload: message.payload,
        headers: headers.unwrap_or_default(),
    })))
}

/// What was read at once: messages in order, and how many stand behind them.
#[derive(Clone, Debug, Default)]
pub(super) struct Page {
    pub(super) entries: Vec<Entry>,
    pub(super) behind: u64,
}

impl Page {
    /// Takes in the next message. A server says with each which one it sent before, so none is missing
    /// between two.
    pub(super) fn take(&mut self, entry: Entry) -> Result<(), Refusal> {
        let before = self.entries.last().map_or(0, |last| last.seq);
        if entry.before != before || entry.seq <= before {
            return Err(Refusal::Other(
                "messages were lost on the way here".to_owned(),
            ));
        }
        self.behind = entry.behind;
        self.entries.push(entry);
        Ok(())
    }
}

fn header<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<&'a str> {
    headers?.get(name).map(|value| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_refuses_is_no_success_though_it_has_a_number() {
        let refusal = |code: u64| {
            let text = format!(
                r#"{{"error":{{"code":400,"err_code":{code},"description":"wrong\nlast"}},"stream":"E","seq":0}}"#
            );
            answer::<Stored>(text.as_bytes()).unwrap_err()
        };
        assert_eq!(refusal(10071), Refusal::Guarded);
        assert_eq!(refusal(10164), Refusal::Guarded);
        assert_eq!(refusal(10037), Refusal::NoMessage);
        let said = "the server refuses: wrong last (10077)".to_owned();
        assert_eq!(refusal(10077), Refusal::Other(said));
        let stored: Stored = answer(br#"{"stream":"E","seq":7,"duplicate":false}"#).unwrap();
        assert_eq!((stored.stream.as_str(), stored.seq), ("E", 7));
        for bad in ["", "{}", "[]", r#"{"seq":"7"}"#] {
            assert!(answer::<Stored>(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_message_that_is_missing_between_two_is_noticed() {
        let entry = |seq, before| Entry {
            behind: 9,
            before,
            ..Entry::of(seq, "", HeaderMap::new(), Bytes::new())
        };
        let mut page = Page::default();
        page.take(entry(3, 0)).unwrap();
        page.take(entry(7, 3)).unwrap();
        assert!(page.take(entry(11, 9)).is_err());
        assert!(page.take(entry(7, 7)).is_err());
        assert_eq!((page.entries.len(), page.behind), (2, 9));
    }
}
