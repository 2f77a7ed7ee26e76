//! A look at what is pending, which moves nothing.

use crate::error::Error;
use crate::event::StoredEvent;
use crate::id::Seq;
use crate::log::{Log, Read};

/// Bytes of JSON that one look at the queue gives at the most, beyond the first event.
const PEEK_BYTES: u64 = 8 << 20;

pub(super) fn peek(log: &mut dyn Log, after: Seq, max: usize) -> Result<Vec<StoredEvent>, Error> {
    let mut from = after.saturating_add(1);
    let mut found: Vec<StoredEvent> = Vec::new();
    let mut bytes = PEEK_BYTES;
    while found.len() < max {
        from = from.max(log.position().cursor + 1);
        match log.read(from, max - found.len(), bytes)? {
            Read::Events(events) => {
                let size: usize = events.iter().map(|e| e.event.json_bytes().len()).sum();
                from = events.last().map_or(from, |stored| stored.seq) + 1;
                found.extend(events);
                bytes = bytes.saturating_sub(size as u64);
                if bytes == 0 {
                    break;
                }
            }
            Read::Missing(range) => from = range.last + 1,
            Read::End => break,
        }
    }
    Ok(found)
}
