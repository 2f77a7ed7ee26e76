//! Reading pending events: from the segments until the tail begins.

use super::SpoolLog;
use crate::error::Error;
use crate::event::{Event, Seq, StoredEvent};
use crate::log::Read;
use crate::log::shelf::Shelved;
use crate::status::SeqRange;

impl SpoolLog {
    /// Reads from the segments until the batch is full or the tail begins.
    pub(super) fn read_sealed(&mut self, from: Seq, limit: &mut Limit) -> Result<Read, Error> {
        let mut events: Vec<StoredEvent> = Vec::new();
        let mut next = from;
        while next < self.tail.first() && !limit.is_reached() {
            let gap_end = match self.shelf.read(next)? {
                Shelved::Chunk(chunk) => {
                    for stored in chunk.iter().skip_while(|stored| stored.seq < next) {
                        if !limit.take(&stored.event) {
                            break;
                        }
                        events.push(stored.clone());
                    }
                    match events.last() {
                        Some(stored) if stored.seq >= next => next = stored.seq + 1,
                        _ => break,
                    }
                    continue;
                }
                Shelved::Missing(range) => range.last.min(self.tail.first() - 1),
                Shelved::NotHere => self.tail.first() - 1,
            };
            if events.is_empty() {
                return Ok(Read::Missing(SeqRange {
                    first: next,
                    last: gap_end,
                }));
            }
            // What is before the gap first.
            limit.close();
        }
        Ok(if events.is_empty() {
            Read::End
        } else {
            Read::Events(events)
        })
    }

    pub(super) fn note_oldest(&mut self, read: &Read) {
        if let Read::Events(events) = read
            && let Some(stored) = events.first()
        {
            self.oldest = Some((stored.seq, stored.event.time_ms()));
        }
    }
}

/// How much one read may still take.
pub(super) struct Limit {
    pub(super) events: usize,
    pub(super) bytes: u64,
    pub(super) taken: bool,
}

impl Limit {
    pub(super) fn is_reached(&self) -> bool {
        self.events == 0
    }

    pub(super) fn close(&mut self) {
        self.events = 0;
    }

    /// Takes an event if it fits; the first always does.
    pub(super) fn take(&mut self, event: &Event) -> bool {
        let bytes = event.json_bytes().len() as u64;
        if self.events == 0 || (self.taken && bytes > self.bytes) {
            self.close();
            return false;
        }
        self.taken = true;
        self.events -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }
}
