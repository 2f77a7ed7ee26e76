//! What other receivers than the API are sent: each form of a body, taken apart into events.

use std::borrow::Cow;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::Value;

use super::record::Accepted;
use super::reply::Reply;
use super::shared::Shared;
use crate::webhook;

/// An event as it was found in a body.
struct FoundEvent {
    id: Option<String>,
    value: Value,
}

/// Who is spoken to, which decides what is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FormKind {
    Webhook,
    Otlp,
    Loki,
}

/// A status, and what is wrong.
type Wrong = (u16, String);

/// Takes a request in whatever form it is, and answers as its receiver would.
pub(super) fn take(shared: &Shared, number: u64, headers: &HeaderMap, body: &Bytes) -> Reply {
    let read = check_signature(shared, headers, body)
        .and_then(|()| inflated(headers, body, shared.rules.max_body_bytes))
        .and_then(|body| read(shared, headers, &body));
    let (kind, found) = match read {
        Ok(read) => read,
        Err((status, reason)) => {
            shared.refuse(number, reason.clone());
            return Reply::status(status).errors([reason]);
        }
    };
    let reject = shared.state().reject.clone();
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for FoundEvent { id, value } in found {
        match reject.as_ref().and_then(|rule| rule(&value)) {
            Some(text) => refused.push(text),
            None => {
                let json = shared.rules.keep_bodies.then(|| value.to_string().into());
                taken.push(Accepted::new(id.as_deref(), json, number));
            }
        }
    }
    if kind == FormKind::Webhook && !refused.is_empty() {
        shared.refuse(number, refused.join("; "));
        return Reply::status(400).errors(refused);
    }
    if let Err(error) = shared.accept(number, taken) {
        let reason = format!("it could not be stored: {error}");
        shared.refuse(number, reason.clone());
        return Reply::status(500).errors([reason]);
    }
    answer(kind, number, &refused)
}

fn answer(kind: FormKind, number: u64, refused: &[String]) -> Reply {
    let json = |body: Value| {
        let reply = Reply::status(200).header("content-type", "application/json");
        reply.body(body.to_string())
    };
    match (kind, refused.first()) {
        (FormKind::Otlp, Some(text)) => json(serde_json::json!({"partialSuccess": {
            "rejectedLogRecords": refused.len().to_string(), "errorMessage": text,
        }})),
        (FormKind::Otlp, None) => json(serde_json::json!({"partialSuccess": {}})),
        (FormKind::Loki, Some(text)) => Reply::status(400).body(text.as_str()),
        (FormKind::Loki, None) => Reply::status(204).body(""),
        (FormKind::Webhook, _) => json(serde_json::json!({"request_id": format!("r-{number}")})),
    }
}

/// That it is signed with one of the secrets, if there are any.
fn check_signature(shared: &Shared, headers: &HeaderMap, body: &[u8]) -> Result<(), Wrong> {
    if shared.rules.signing_keys.is_empty() {
        return Ok(());
    }
    let named = webhook::HEADERS.map(|name| headers.get(name)?.to_str().ok());
    let [Some(id), Some(timestamp), Some(signatures)] = named else {
        return Err((401, "the request is not signed".to_owned()));
    };
    let is_signed = shared.rules.signing_keys.iter().any(|key| {
        let expected = webhook::signature(key, id, timestamp, body);
        signatures
            .split(' ')
            .any(|one| expected.as_deref() == Some(one))
    });
    if is_signed {
        Ok(())
    } else {
        Err((401, "the signature is not that of the request".to_owned()))
    }
}

fn inflated<'a>(headers: &HeaderMap, body: &'a [u8], max: usize) -> Result<Cow<'a, [u8]>, Wrong> {
    let encoding = headers.get(CONTENT_ENCODING).map(|value| value.as_bytes());
    let inflated = match encoding {
        None | Some(b"identity") => return Ok(body.into()),
        Some(b"zstd") => crate::zip::decompress_up_to(body, max),
        #[cfg(feature = "gzip")]
        Some(b"gzip") => gunzip(body, max),
        Some(_) => return Err((415, "the Content-Encoding is not known here".to_owned())),
    };
    let inflated = inflated.map(Cow::from);
    inflated.ok_or((
        400,
        "the body is not compressed as it says, or is too large".into(),
    ))
}

#[cfg(feature = "gzip")]
fn gunzip(body: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    use std::io::Read as _;

    let mut bytes = Vec::new();
    let most = u64::try_from(bytes_max)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let decoder = flate2::read::GzDecoder::new(body);
    decoder.take(most).read_to_end(&mut bytes).ok()?;
    (bytes.len() <= bytes_max).then_some(bytes)
}

fn read(
    shared: &Shared,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(FormKind, Vec<FoundEvent>), Wrong> {
    let mime = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let mime = mime
        .and_then(|mime| mime.split(';').next())
        .unwrap_or_default();
    let no_json = |_| (400, "the body is not JSON".to_owned());
    let pointer = shared.rules.id_pointer.as_str();
    let own = |value: Value| {
        let id = value.pointer(pointer).and_then(Value::as_str);
        let id = id.map(str::to_owned);
        FoundEvent { id, value }
    };
    match mime.trim().to_ascii_lowercase().as_str() {
        "application/x-ndjson" => {
            let lines = body.split(|byte| *byte == b'\n');
            let lines = lines.filter(|line| !line.is_empty());
            let values = lines.map(serde_json::from_slice);
            let values = values.collect::<Result<Vec<Value>, _>>().map_err(no_json)?;
            Ok((FormKind::Webhook, values.into_iter().map(own).collect()))
        }
        "application/cloudevents-batch+json" => {
            let list: Vec<Value> = serde_json::from_slice(body).map_err(no_json)?;
            let found = list.iter().map(cloud_event).collect::<Option<_>>();
            let found = found.ok_or((400, "not each is a CloudEvent 1.0".to_owned()))?;
            Ok((FormKind::Webhook, found))
        }
        "application/json" => {
            let value: Value = serde_json::from_slice(body).map_err(no_json)?;
            if value.get("resourceLogs").is_some() {
                return Ok((FormKind::Otlp, log_records(&value)));
            }
            if value.get("streams").is_some() {
                return Ok((FormKind::Loki, lines(&value)));
            }
            let values = match value {
                Value::Array(list) => list,
                Value::Object(fields) => wrapped(fields),
                other => vec![other],
            };
            Ok((FormKind::Webhook, values.into_iter().map(own).collect()))
        }
        _ => Err((415, "the Content-Type is not known here".to_owned())),
    }
}

fn cloud_event(event: &Value) -> Option<FoundEvent> {
    let text = |name| event.get(name).and_then(Value::as_str);
    let is_one = text("specversion") == Some("1.0")
        && ["source", "type"]
            .iter()
            .all(|name| text(name).is_some_and(|text| !text.is_empty()));
    let found = FoundEvent {
        id: Some(text("id")?.to_owned()),
        value: event.get("data").cloned().unwrap_or_default(),
    };
    is_one.then_some(found)
}

/// The items of the one list that an object has; else the object is an event itself. Each item stands
/// as it is, or is what its one field `message` holds.
fn wrapped(fields: serde_json::Map<String, Value>) -> Vec<Value> {
    let mut values: Vec<Value> = fields.values().cloned().collect();
    match values.pop() {
        Some(Value::Array(list)) if values.is_empty() => {
            let bare = |item: Value| match item.get("message") {
                Some(message) if item.as_object().is_some_and(|item| item.len() == 1) => {
                    message.clone()
                }
                _ => item,
            };
            list.into_iter().map(bare).collect()
        }
        _ => vec![Value::Object(fields)],
    }
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn log_records(value: &Value) -> Vec<FoundEvent> {
    list(value, "resourceLogs")
        .flat_map(|resource| list(resource, "scopeLogs"))
        .flat_map(|scope| list(scope, "logRecords"))
        .map(|record| {
            let mut attributes = list(record, "attributes");
            let uid = attributes.find(|attribute| attribute["key"] == "log.record.uid");
            let id = uid.and_then(|uid| uid.pointer("/value/stringValue")?.as_str());
            FoundEvent {
                id: id.map(str::to_owned),
                value: record.clone(),
            }
        })
        .collect()
}

fn lines(value: &Value) -> Vec<FoundEvent> {
    list(value, "streams")
        .flat_map(|stream| list(stream, "values"))
        .map(|line| {
            let text = |index: usize| line.get(index).and_then(Value::as_str).unwrap_or_default();
            let value = serde_json::from_str(text(1)).unwrap_or_else(|_| text(1).into());
            // Its time tells a line from others that say the same.
            let id = Some(text(0).to_owned());
            FoundEvent { id, value }
        })
        .collect()
}
