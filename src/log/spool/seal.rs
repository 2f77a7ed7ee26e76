//! Puts events on the shelf, as chunks.
//!
//! To compress a chunk takes the processor, to write and to sync it mostly waits. Several of them
//! are therefore compressed on a thread beside, one ahead of what is written; it ends with the last
//! of them.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use crate::error::Error;
use crate::log::run::Run;
use crate::log::segment::Encoded;
use crate::log::shelf::Shelf;

/// Puts consecutive events on the shelf, durably, a chunk for each run.
pub(super) fn seal(shelf: &mut Shelf, runs: &[Run]) -> Result<(), Error> {
    // What an earlier attempt put there and could not sync is there still: whole runs, since a
    // block of the tail keeps its end.
    let there = shelf.last_seq().unwrap_or(0);
    let rest = runs.partition_point(|run| run.last() <= there);
    match runs.get(rest..).unwrap_or_default() {
        [] => {}
        [run] => put(shelf, run)?,
        [first, rest @ ..] => put_all(shelf, first, rest)?,
    }
    shelf.sync()
}

fn put(shelf: &mut Shelf, run: &Run) -> Result<(), Error> {
    put_chunk(shelf, Encoded::of_run(run))
}

/// An error if there is no chunk: the sealer lets go of the events afterwards (I3).
fn put_chunk(shelf: &mut Shelf, chunk: Option<Encoded>) -> Result<(), Error> {
    match chunk {
        Some(chunk) => shelf.put(chunk),
        None => Err(shelf.out_of_order()),
    }
}

/// Puts several runs there, the first of them here and now.
fn put_all(shelf: &mut Shelf, first: &Run, rest: &[Run]) -> Result<(), Error> {
    let (ready, chunks) = sync_channel(1);
    thread::scope(|scope| {
        let packing = thread::Builder::new().name("everpost-pack".into());
        let packing = packing.spawn_scoped(scope, move || pack(rest, &ready));
        put(shelf, first)?;
        if packing.is_err() {
            // The system has no thread to spare: the rest goes the slow way.
            return rest.iter().try_for_each(|run| put(shelf, run));
        }
        // An error ends the loop, and with it the other thread.
        chunks
            .into_iter()
            .try_for_each(|chunk| put_chunk(shelf, chunk))
    })
}

/// Compresses run after run until there are no more, or the receiver is gone.
fn pack(runs: &[Run], ready: &SyncSender<Option<Encoded>>) {
    for run in runs {
        if ready.send(Encoded::of_run(run)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::contract::event;
    use crate::log::shelf::Shelved;
    use crate::log::tail::Tail;
    use std::path::Path;
    use uuid::Uuid;

    const CHUNK_BYTES: u64 = 4 << 10;

    fn shelf(dir: &Path) -> Shelf {
        let row = crate::log::shelf::Row::look(dir, Uuid::from_u128(7)).unwrap();
        row.into_shelf(1 << 20)
    }

    /// Events of 528 bytes, seven to a run.
    fn runs(first: u64, last: u64) -> Vec<Run> {
        let mut tail = Tail::new(first, CHUNK_BYTES);
        tail.extend((first..=last).map(|seq| event(seq, 500)));
        let mut runs = Vec::new();
        while tail.first() <= last {
            runs.extend(tail.oldest(CHUNK_BYTES));
            tail.release(runs.last().unwrap().last());
        }
        runs
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
        seal(&mut shelf, &runs(1, 14)).unwrap();
        // The first of these are there already.
        seal(&mut shelf, &runs(1, 100)).unwrap();
        assert!(on(&mut shelf).into_iter().eq(1..=100));
        assert_eq!(shelf.synced_through(), 100);
        seal(&mut shelf, &runs(1, 100)).unwrap();
        seal(&mut shelf, &runs(101, 103)).unwrap();
        assert!(on(&mut shelf).into_iter().eq(1..=103));
    }

    /// The sealer lets go of the events afterwards.
    #[test]
    fn i3_what_does_not_become_a_chunk_is_an_error_and_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut shelf = shelf(dir.path());
        for wrong in [0, 3] {
            let mut runs = runs(1, 40);
            runs[wrong].count += 1;
            seal(&mut shelf, &runs).unwrap_err();
            assert!(shelf.last_seq().unwrap_or(0) < runs[wrong].first);
        }
        // What was put there before the error is gone on from.
        seal(&mut shelf, &runs(1, 40)).unwrap();
        assert!(on(&mut shelf).into_iter().eq(1..=40));
    }
}
