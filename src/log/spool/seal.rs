//! Puts events on the shelf, as chunks.
//!
//! To compress a chunk takes the processor, to write and to sync it mostly waits. Several of them
//! are therefore compressed on a thread beside, one ahead of what is written; it ends with the last
//! of them.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use crate::error::Error;
use crate::event::StoredEvent;
use crate::log::codec;
use crate::log::segment::Encoded;
use crate::log::shelf::Shelf;

/// Puts consecutive events on the shelf, durably, in chunks of at most so many bytes.
pub(super) fn seal(
    shelf: &mut Shelf,
    events: &[StoredEvent],
    chunk_bytes: u64,
) -> Result<(), Error> {
    // What an earlier attempt put there and could not sync is there still.
    let there = shelf.last_seq().unwrap_or(0);
    let rest = events.partition_point(|stored| stored.seq <= there);
    let mut runs = Runs {
        events: events.get(rest..).unwrap_or_default(),
        chunk_bytes,
    };
    if let Some(first) = runs.next() {
        if runs.events.is_empty() {
            shelf.append(first)?;
        } else {
            put_all(shelf, first, runs)?;
        }
    }
    shelf.sync()
}

/// Puts several runs there, the first of them here and now.
fn put_all<'a>(shelf: &mut Shelf, first: &'a [StoredEvent], rest: Runs<'a>) -> Result<(), Error> {
    let (ready, chunks) = sync_channel(1);
    let mut slowly = rest;
    thread::scope(|scope| {
        let packing = thread::Builder::new().name("everpost-pack".into());
        let packing = packing.spawn_scoped(scope, move || pack(rest, &ready));
        shelf.append(first)?;
        if packing.is_err() {
            // The system has no thread to spare: the rest goes the slow way.
            return slowly.try_for_each(|run| shelf.append(run));
        }
        // An error ends the loop, and with it the other thread.
        chunks.into_iter().try_for_each(|chunk| match chunk {
            Some(chunk) => shelf.put(chunk),
            None => Err(shelf.out_of_order()),
        })
    })
}

/// Compresses run after run until there are no more, or nobody wants them.
fn pack(runs: Runs<'_>, ready: &SyncSender<Option<Encoded>>) {
    for run in runs {
        if ready.send(Encoded::new(run)).is_err() {
            return;
        }
    }
}

/// Divides events into runs of at most so many bytes, but of one event at least.
#[derive(Clone, Copy)]
struct Runs<'a> {
    events: &'a [StoredEvent],
    chunk_bytes: u64,
}

impl<'a> Iterator for Runs<'a> {
    type Item = &'a [StoredEvent];

    fn next(&mut self) -> Option<&'a [StoredEvent]> {
        let mut bytes = 0;
        let fits = |stored: &&StoredEvent| {
            bytes += codec::event_bytes(&stored.event);
            bytes <= self.chunk_bytes
        };
        let count = self.events.iter().take_while(fits).count().max(1);
        let (run, rest) = self.events.split_at_checked(count)?;
        self.events = rest;
        Some(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::contract::event;
    use crate::log::shelf::Shelved;
    use std::path::Path;
    use uuid::Uuid;

    const CHUNK_BYTES: u64 = 4 << 10;

    fn shelf(dir: &Path) -> Shelf {
        Shelf::open(dir, 1 << 20, Uuid::from_u128(7)).unwrap().0
    }

    fn events(seqs: impl IntoIterator<Item = u64>) -> Vec<StoredEvent> {
        let stored = |seq| StoredEvent {
            seq,
            event: event(seq, 500),
        };
        seqs.into_iter().map(stored).collect()
    }

    fn on(shelf: &mut Shelf) -> Vec<u64> {
        let mut seqs = Vec::new();
        let mut next = 1;
        while let Shelved::Chunk(chunk) = shelf.read(next).unwrap() {
            assert!(chunk.len() <= 7, "a chunk is within its bound");
            seqs.extend(chunk.iter().map(|stored| stored.seq));
            next = seqs.last().unwrap() + 1;
        }
        seqs
    }

    #[test]
    fn many_events_become_chunks_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut shelf = shelf(dir.path());
        seal(&mut shelf, &events(1..=3), CHUNK_BYTES).unwrap();
        // The first of these are there already.
        seal(&mut shelf, &events(1..=100), CHUNK_BYTES).unwrap();
        assert!(on(&mut shelf).into_iter().eq(1..=100));
        assert_eq!(shelf.synced_through(), 100);
    }

    /// Whoever seals lets go of the events afterwards.
    #[test]
    fn i3_what_does_not_become_a_chunk_is_an_error_and_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut shelf = shelf(dir.path());
        let gap = events((1..=20).chain(22..=40));
        seal(&mut shelf, &gap, CHUNK_BYTES).unwrap_err();
        assert!(shelf.last_seq().unwrap() < 22);
        // What was put there before the error is gone on from.
        seal(&mut shelf, &events(1..=40), CHUNK_BYTES).unwrap();
        assert!(on(&mut shelf).into_iter().eq(1..=40));
    }
}
