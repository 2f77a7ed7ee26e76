//! A request for logs of OTLP/HTTP in JSON
//! (<https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>,
//! <https://opentelemetry.io/docs/specs/otel/logs/data-model/>).
//!
//! What the tracing layer wrote is told by its five fields. Its target is the name of the scope, as
//! the data model has it for the name of a logger; events that follow each other with the same target
//! share a scope, so that the order stays.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{any, quoted};
use crate::event::StoredEvent;
use crate::sink::Batch;

/// The attribute by which a receiver can tell what it was sent twice
/// (<https://opentelemetry.io/docs/specs/semconv/registry/attributes/log/>).
const UID: &str = "log.record.uid";

/// The attribute with the spans that a record of the layer happened in.
const SPANS: &str = "spans";

/// What the tracing layer writes if no other format was chosen.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Logged<'a> {
    #[serde(borrow)]
    level: Cow<'a, str>,
    #[serde(borrow)]
    target: Cow<'a, str>,
    #[serde(borrow)]
    message: &'a RawValue,
    #[serde(borrow)]
    fields: &'a RawValue,
    #[serde(borrow)]
    spans: &'a RawValue,
}

/// The same, once it is known to be that.
struct LogRecord<'a> {
    severity: u8,
    level: Cow<'a, str>,
    target: Cow<'a, str>,
    message: &'a str,
    fields: Vec<(String, &'a RawValue)>,
    spans: &'a str,
}

impl<'a> LogRecord<'a> {
    fn read(json: &'a str) -> Option<Self> {
        let logged: Logged<'a> = serde_json::from_str(json).ok()?;
        let severity = match &*logged.level {
            "TRACE" => 1,
            "DEBUG" => 5,
            "INFO" => 9,
            "WARN" => 13,
            "ERROR" => 17,
            _ => return None,
        };
        let (message, spans) = (logged.message.get(), logged.spans.get());
        let is_logged = message.starts_with('"') && spans.starts_with('[');
        Some(Self {
            severity,
            level: logged.level,
            target: logged.target,
            message,
            fields: any::entries(logged.fields.get())?,
            spans,
        })
        .filter(|_| is_logged)
    }
}

pub(super) fn body(resource: &BTreeMap<String, String>, batch: &Batch) -> Vec<u8> {
    let mut body = br#"{"resourceLogs":[{"resource":{"attributes":["#.to_vec();
    for (index, (name, value)) in resource.iter().enumerate() {
        any::comma(index, &mut body);
        any::pair(name, |out| any::text(value, out), &mut body);
    }
    body.extend_from_slice(br#"]},"scopeLogs":["#);
    let mut scope: Option<String> = None;
    for stored in batch.events() {
        let json = String::from_utf8_lossy(stored.event.json_bytes());
        let record = LogRecord::read(&json);
        let target = record.as_ref().map_or("", |record| &record.target);
        match &scope {
            Some(of) if of == target => body.push(b','),
            before => {
                if before.is_some() {
                    body.extend_from_slice(b"]},");
                }
                begin_scope(target, &mut body);
                scope = Some(target.to_owned());
            }
        }
        log_record(stored, &json, record, &mut body);
    }
    body.extend_from_slice(b"]}]}]}");
    body
}

fn begin_scope(target: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"scope":{"#);
    if !target.is_empty() {
        out.extend_from_slice(br#""name":"#);
        quoted(target, out);
    }
    out.extend_from_slice(br#"},"logRecords":["#);
}

fn log_record(stored: &StoredEvent, json: &str, record: Option<LogRecord<'_>>, out: &mut Vec<u8>) {
    // Times beyond the year 2554 do not fit.
    let nanos = stored.event.time_ms().saturating_mul(1_000_000);
    let times = format!(r#"{{"timeUnixNano":"{nanos}","observedTimeUnixNano":"{nanos}""#);
    out.extend_from_slice(times.as_bytes());
    let (mut fields, mut spans) = (Vec::new(), None);
    match record {
        Some(record) => {
            let severity = format!(r#","severityNumber":{},"severityText":"#, record.severity);
            out.extend_from_slice(severity.as_bytes());
            quoted(&record.level, out);
            out.extend_from_slice(br#","body":"#);
            any::value(record.message, out);
            fields = record.fields;
            spans = Some(record.spans).filter(|spans| *spans != "[]");
        }
        None => {
            out.extend_from_slice(br#","body":"#);
            any::value(json, out);
        }
    }
    out.extend_from_slice(br#","attributes":["#);
    let has = |name: &str| fields.iter().any(|(field, _)| field == name);
    // A name stands once; that of a field of the program's comes first.
    let (has_uid, has_spans) = (has(UID), has(SPANS));
    let mut written = 0;
    for (name, value) in fields {
        any::comma(written, out);
        any::pair(&name, |out| any::value(value.get(), out), out);
        written += 1;
    }
    if let Some(spans) = spans.filter(|_| !has_spans) {
        any::comma(written, out);
        any::pair(SPANS, |out| any::value(spans, out), out);
        written += 1;
    }
    if !has_uid {
        any::comma(written, out);
        let id = stored.event.id().to_string();
        any::pair(UID, |out| any::text(&id, out), out);
    }
    out.extend_from_slice(b"]}");
}
