//! A batch of CloudEvents 1.0 in JSON
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md#4-json-batch-format>).

use std::time::{Duration, SystemTime};

use humantime_serde::re::humantime::format_rfc3339_millis;

use super::quoted;
use crate::sink::Batch;

pub(super) fn body(source: &str, kind: &str, batch: &Batch) -> Vec<u8> {
    let mut head = br#"{"specversion":"1.0","source":"#.to_vec();
    quoted(source, &mut head);
    head.extend_from_slice(br#","type":"#);
    quoted(kind, &mut head);
    head.extend_from_slice(br#","datacontenttype":"application/json","id":""#);
    let mut body = Vec::new();
    for (index, stored) in batch.events().iter().enumerate() {
        body.push(if index == 0 { b'[' } else { b',' });
        body.extend_from_slice(&head);
        let (id, time) = (stored.event.id(), time(stored.event.time()));
        body.extend_from_slice(format!(r#"{id}","time":"{time}","data":"#).as_bytes());
        body.extend_from_slice(stored.event.json_bytes());
        body.push(b'}');
    }
    body.push(b']');
    body
}

/// As RFC 3339 writes it, which ends with the year 9999; a mad clock can reach beyond.
fn time(time: SystemTime) -> String {
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    format_rfc3339_millis(time.clamp(SystemTime::UNIX_EPOCH, last)).to_string()
}
