//! Reading pending events: from the segments until the tail begins.

use super::SpoolLog;
use crate::error::Error;
use crate::event::{Event, StoredEvent};
use crate::id::Seq;
use crate::id::SeqRange;
use crate::incident::Finding;
use crate::log::Read;
use crate::log::shelf::{Shelf, Shelved};

impl SpoolLog {
    /// Reads what is in memory; otherwise gives what is to be read from the shelf.
    pub(super) fn read_tail(&self, from: Seq, limit: &mut Limit) -> Result<Read, Sealed> {
        let from = from.max(self.cursor() + 1);
        if from > self.progress.last() {
            return Ok(Read::End);
        }
        if from < self.tail.first() {
            return Err(Sealed {
                from,
                tail_first: self.tail.first(),
            });
        }
        let events: Vec<_> = self
            .tail
            .from(from)
            .take_while(|s| limit.take(&s.event))
            .collect();
        Ok(if events.is_empty() {
            // Numbers were given out whose events are gone.
            Read::Missing(SeqRange {
                first: from,
                last: self.progress.last(),
            })
        } else {
            Read::Events(events)
        })
    }
}

/// A read of events that are on the shelf. They stay there as long as they are pending: what is
/// settled meanwhile is deleted only after this, since the shelf does one thing after the other.
#[derive(Debug)]
pub(super) struct Sealed {
    from: Seq,
    /// The tail began here when the read was asked for.
    tail_first: Seq,
}

impl Sealed {
    /// Reads from the segments until the batch is full or the tail begins. What cannot be read goes
    /// on record.
    pub(super) fn read(self, shelf: &mut Shelf, limit: &mut Limit) -> Result<Read, Error> {
        // Without the limit's word for it, no room is made for more than a usual batch.
        let mut events: Vec<StoredEvent> = Vec::with_capacity(limit.events.min(512));
        let mut next = self.from;
        while next < self.tail_first && !limit.is_reached() {
            let gap_end = match shelf.read(next)? {
                Shelved::Chunk(chunk) => {
                    let taken = chunk.iter().take_while(|s| limit.take(&s.event)).count();
                    events.extend(chunk.drain(..taken));
                    match events.last() {
                        Some(stored) if stored.seq >= next => next = stored.seq + 1,
                        _ => break,
                    }
                    continue;
                }
                Shelved::Missing(range) => range.last.min(self.tail_first - 1),
                Shelved::NotHere => self.tail_first - 1,
            };
            if events.is_empty() {
                let missing = SeqRange {
                    first: next,
                    last: gap_end,
                };
                shelf.find_out(Finding::events("segments", missing, ""));
                return Ok(Read::Missing(missing));
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
}

/// How much one read may still take.
pub(super) struct Limit {
    events: usize,
    bytes: u64,
    taken: bool,
}

impl Limit {
    pub(super) fn new(events_max: usize, bytes_max: u64) -> Self {
        Self {
            events: events_max.max(1),
            bytes: bytes_max,
            taken: false,
        }
    }

    fn is_reached(&self) -> bool {
        self.events == 0
    }

    fn close(&mut self) {
        self.events = 0;
    }

    /// Takes an event if it fits; the first always does.
    fn take(&mut self, event: &Event) -> bool {
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
