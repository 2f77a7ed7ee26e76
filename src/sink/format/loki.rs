//! A push request of Loki in JSON
//! (<https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs>).

use std::collections::BTreeMap;

use super::{object, quoted};
use crate::error::Error;
use crate::event::StoredEvent;
use crate::sink::Batch;

/// Nanoseconds in the millisecond that the time of an event is known to.
const NANOS: u64 = 1_000_000;

pub(super) fn body(labels: &BTreeMap<String, String>, batch: &Batch) -> Vec<u8> {
    let mut body = br#"{"streams":[{"stream":"#.to_vec();
    object(labels, &mut body);
    body.extend_from_slice(br#","values":["#);
    for (index, stored) in batch.events().iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(format!(r#"["{}","#, nanos(stored)).as_bytes());
        quoted(
            &String::from_utf8_lossy(stored.event.json_bytes()),
            &mut body,
        );
        body.push(b']');
    }
    body.extend_from_slice(b"]}]}");
    body
}

/// Its time, and below the millisecond the end of its sequence number.
///
/// Loki drops a line that has the time and the text of one that it has. For what is sent twice that
/// is right; but two events that say the same within a millisecond are two, and one of them would be
/// gone without a word. With this, their times differ, and they stand in the order of the queue.
fn nanos(stored: &StoredEvent) -> u64 {
    let time = stored.event.time_ms().saturating_mul(NANOS);
    // Loki reads a signed number.
    let last = i64::MAX.unsigned_abs() - NANOS;
    time.min(last) + stored.seq % NANOS
}

/// # Errors
/// [`Error::Sink`] if there is no label, or one that Loki does not take.
pub(super) fn check(labels: &BTreeMap<String, String>) -> Result<(), Error> {
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        let first = bytes.next().unwrap_or(b'0');
        (first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if labels.is_empty() {
        return Err(Error::Sink {
            reason: "Loki needs a label; give one, such as `job`".to_owned(),
        });
    }
    match labels.keys().find(|name| !is_name(name)) {
        Some(name) => Err(Error::Sink {
            reason: format!(
                "label has a name that Loki does not take; letters, digits and `_` are. \
                 label=`{}`",
                name.escape_debug()
            ),
        }),
        None => Ok(()),
    }
}
