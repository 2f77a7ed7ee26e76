//! The pending events of a picture, read as an owner would read them.

use crate::error::Error;
use crate::event::{Event, StoredEvent};
use crate::id::Seq;
use crate::id::SeqRange;
use crate::incident::Finding;
use crate::log::Read;
use crate::log::recovery::Recovered;
use crate::log::shelf::{Row, Shelf, Shelved};

/// What waits: in segments, in the journal, and in pieces of it beyond a gap.
#[derive(Debug)]
pub(crate) struct Pending {
    cursor: Seq,
    appended: Seq,
    /// Runs of events from the journal, in order.
    runs: Vec<(Seq, Vec<Event>)>,
    shelf: Shelf,
}

impl Pending {
    pub(crate) fn new(recovered: Recovered, row: Row) -> Self {
        let mut runs = recovered.islands;
        runs.push((recovered.tail_first, recovered.tail));
        runs.retain(|(_, run)| !run.is_empty());
        Self {
            cursor: recovered.ledger.settled(),
            appended: recovered.ledger.appended,
            runs,
            // Nothing is written to it.
            shelf: row.into_shelf(u64::MAX),
        }
    }

    /// Bytes of the segments.
    pub(crate) fn shelf_bytes(&self) -> u64 {
        self.shelf.bytes()
    }

    /// What was found while reading, since this was asked last.
    pub(crate) fn take_findings(&mut self) -> Vec<Finding> {
        self.shelf.take_findings()
    }

    /// The next pending events from `from` on, at most so many.
    pub(crate) fn read(&mut self, from: Seq, events_max: usize) -> Result<Read, Error> {
        let from = from.max(self.cursor.saturating_add(1));
        if from > self.appended {
            return Ok(Read::End);
        }
        let end_of = |(first, run): &(Seq, Vec<Event>)| first + run.len() as u64;
        let at = self.runs.partition_point(|run| end_of(run) <= from);
        let run = self.runs.get(at);
        if let Some((first, run)) = run.filter(|(first, _)| *first <= from) {
            let skipped = usize::try_from(from - first).unwrap_or(usize::MAX);
            let events = run.iter().skip(skipped).take(events_max);
            let stored = events.cloned().zip(from..);
            let stored = stored.map(|(event, seq)| StoredEvent { seq, event });
            return Ok(Read::Events(stored.collect()));
        }
        // Where a run of the journal begins, the segment before it ends.
        let end = run.map_or(self.appended, |(first, _)| first - 1);
        Ok(match self.shelf.read(from)? {
            Shelved::Chunk(chunk) => {
                let events = chunk.iter().take_while(|stored| stored.seq <= end);
                Read::Events(events.take(events_max).cloned().collect())
            }
            Shelved::Missing(range) => Read::Missing(SeqRange {
                first: from,
                last: range.last.min(end),
            }),
            Shelved::NotHere => Read::Missing(SeqRange {
                first: from,
                last: end,
            }),
        })
    }
}
