//! JSON values as the `AnyValue` of OTLP
//! (<https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/common/v1/common.proto>),
//! written in the JSON of protobuf.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::quoted;

/// Levels of lists and objects that are kept as such. Each costs up to three levels of messages, and
/// readers of protobuf's JSON stop at about a hundred. What lies deeper is kept as a text of JSON.
const DEPTH_MAX: usize = 16;

/// Writes a JSON value as an `AnyValue`. Digits are never changed: an integer beyond 64 bits and a
/// number beyond a double become texts. What cannot be taken apart becomes a text of JSON.
pub(super) fn value(json: &str, out: &mut Vec<u8>) {
    write(json.trim(), DEPTH_MAX, out);
}

fn write(json: &str, depth: usize, out: &mut Vec<u8>) {
    match json.as_bytes().first() {
        Some(b'"') => field("stringValue", json, out),
        Some(b't' | b'f') => field("boolValue", json, out),
        Some(b'n') => out.extend_from_slice(b"{}"),
        Some(b'[') if depth > 0 => match serde_json::from_str::<Vec<&RawValue>>(json) {
            Ok(list) => {
                out.extend_from_slice(br#"{"arrayValue":{"values":["#);
                for (index, item) in list.into_iter().enumerate() {
                    comma(index, out);
                    write(item.get(), depth - 1, out);
                }
                out.extend_from_slice(b"]}}");
            }
            Err(_) => text(json, out),
        },
        Some(b'{') if depth > 0 => match entries(json) {
            Some(entries) => {
                out.extend_from_slice(br#"{"kvlistValue":{"values":["#);
                for (index, (key, value)) in entries.iter().enumerate() {
                    comma(index, out);
                    pair(key, |out| write(value.get(), depth - 1, out), out);
                }
                out.extend_from_slice(b"]}}");
            }
            None => text(json, out),
        },
        Some(b'-' | b'0'..=b'9') => number(json, out),
        _ => text(json, out),
    }
}

fn number(json: &str, out: &mut Vec<u8>) {
    let is_integer = !json.contains(['.', 'e', 'E']);
    if is_integer && let Ok(number) = json.parse::<i64>() {
        // As a text, which is how protobuf's JSON has 64 bits.
        out.extend_from_slice(format!(r#"{{"intValue":"{number}"}}"#).as_bytes());
    } else if !is_integer && json.parse::<f64>().is_ok_and(f64::is_finite) {
        field("doubleValue", json, out);
    } else {
        text(json, out);
    }
}

/// The entries of an object, in order; none if a name in it is no text.
pub(super) fn entries(json: &str) -> Option<Vec<(String, &RawValue)>> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = map.next_entry()? {
                entries.push(entry);
            }
            Ok(entries)
        }
    }

    serde_json::Deserializer::from_str(json)
        .deserialize_map(Entries)
        .ok()
}

/// `{"key":<key>,"value":<value>}`.
pub(super) fn pair(key: &str, value: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"key":"#);
    quoted(key, out);
    out.extend_from_slice(br#","value":"#);
    value(out);
    out.push(b'}');
}

/// This text as an `AnyValue`.
pub(super) fn text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"stringValue":"#);
    quoted(text, out);
    out.push(b'}');
}

fn field(name: &str, json: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!(r#"{{"{name}":"#).as_bytes());
    out.extend_from_slice(json.as_bytes());
    out.push(b'}');
}

pub(super) fn comma(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.push(b',');
    }
}
