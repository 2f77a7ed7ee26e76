//! What is said to the API, as it is documented and as its official clients say it: for those who
//! take it in.

use std::fmt;

use hyper::HeaderMap;
use hyper::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The channel whose messages are documented field by field.
pub(crate) const UNIVERSAL: &str = "universal";

/// The channels that the documentation names.
pub const CHANNELS: [&str; 5] = [
    UNIVERSAL,
    "facebook-messenger",
    "amazon-alexa",
    "microsoft-bot-framework",
    "rasa",
];

/// What a body must be.
pub(crate) const NOT_A_LIST: &str = "messages must be a list of objects with a message each";

/// Why a body is no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    NoJson { line: usize, column: usize },
    NoList,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoJson { line, column } => {
                write!(f, "not JSON at line {line}, column {column}")
            }
            Self::NoList => f.write_str(NOT_A_LIST),
        }
    }
}

/// The items of a batch, as they stand in its body.
pub(crate) fn messages(body: &[u8]) -> Result<Vec<&RawValue>, Unread> {
    let batch: Messages<'_> = serde_json::from_slice(body).map_err(|error| {
        if error.is_data() {
            Unread::NoList
        } else {
            Unread::NoJson {
                line: error.line(),
                column: error.column(),
            }
        }
    })?;
    Ok(batch.messages)
}

/// The wrapper of a batch. Fields beside the documented ones are accepted.
#[derive(Deserialize)]
struct Messages<'a> {
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
}

/// The wrapper of a message, or a Universal message that has none.
#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    thread: Option<&'a RawValue>,
    #[serde(borrow)]
    conversation: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
}

/// The message in an item of the list. The official Python client sends Universal messages without
/// the wrapper that is documented, so that an item with a field of the message itself is one. The
/// clients of the other documented channels always wrap.
pub(crate) fn message_in<'a>(channel: &str, raw: &'a RawValue) -> Option<&'a RawValue> {
    let item: Item<'_> = serde_json::from_str(raw.get()).ok()?;
    let is_bare = [item.id, item.thread, item.conversation, item.timestamp]
        .iter()
        .any(Option::is_some);
    match item.message {
        Some(message) if !(is_bare && channel == UNIVERSAL) => Some(message),
        None if !(is_bare && may_be_bare(channel)) => None,
        _ => Some(raw),
    }
}

fn may_be_bare(channel: &str) -> bool {
    let wraps = CHANNELS.contains(&channel) && channel != UNIVERSAL;
    !wraps
}

/// Whether the headers say that the body is JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    is_of_kind(headers, "application/json")
}

/// Whether the headers say that the body is text, as those of `navigator.sendBeacon` do.
#[cfg(feature = "relay")]
pub(crate) fn is_text(headers: &HeaderMap) -> bool {
    is_of_kind(headers, "text/plain")
}

fn is_of_kind(headers: &HeaderMap, wanted: &str) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case(wanted))
}
