//! The journal on real files, in whole and damaged.

use super::*;
use crate::event::Event;
use crate::log::disk::RealDisk;
use crate::log::frame::Entry;

const QUEUE: Uuid = Uuid::from_u128(7);
const BYTES: u64 = 16 << 10;

fn open(dir: &Path) -> (Journal, Found) {
    let (journal, mut found) = Journal::open(Arc::new(RealDisk), dir, BYTES, QUEUE).unwrap();
    journal
        .read_runs(&mut found.frames, QUEUE, |_| true)
        .unwrap();
    (journal, found)
}

fn fresh() -> (tempfile::TempDir, Journal) {
    let dir = tempfile::tempdir().unwrap();
    Journal::create(&RealDisk, dir.path(), BYTES).unwrap();
    let (mut journal, found) = open(dir.path());
    assert!(found.frames.is_empty() && found.notes.is_empty() && !found.suspicious);
    journal.resume(Ledger::default(), 0).unwrap();
    (dir, journal)
}

fn append(journal: &mut Journal, seq: Seq) {
    journal.push_events(seq, &[Event::json(seq.to_string()).unwrap()]);
    journal.write().unwrap();
    journal.sync().unwrap();
}

fn seqs(found: &Found) -> Vec<Seq> {
    let entries = found.frames.iter().map(|frame| frame.entry().unwrap());
    entries
        .flat_map(|entry| match entry {
            Entry::Events(events) => events.iter().map(|e| e.seq).collect(),
            _ => Vec::new(),
        })
        .collect()
}

#[test]
fn what_is_written_is_found_again_in_order_across_rotations_and_reopenings() {
    let (dir, mut journal) = fresh();
    for seq in 1..=20 {
        append(&mut journal, seq);
        if seq % 4 == 0 && seq < 12 {
            journal.rotate(Ledger::default(), 0).unwrap();
        }
        if seq % 5 == 0 {
            journal = open(dir.path()).0;
            journal.resume(Ledger::default(), 0).unwrap();
        }
    }
    assert_eq!(seqs(&open(dir.path()).1), (1..=20).collect::<Vec<_>>());
}

#[test]
fn i3_a_file_with_an_event_that_is_neither_settled_nor_sealed_is_not_recycled() {
    let (_dir, mut journal) = fresh();
    append(&mut journal, 1);
    journal.rotate(Ledger::default(), 0).unwrap();
    journal.rotate(Ledger::default(), 0).unwrap();
    assert!(matches!(
        journal.rotate(Ledger::default(), 0),
        Err(Error::Full { .. })
    ));
    journal.rotate(Ledger::default(), 1).unwrap();
}

#[test]
fn a_file_begun_anew_forgets_its_earlier_use() {
    let (dir, mut journal) = fresh();
    append(&mut journal, 1);
    for _ in 0..FILES {
        journal.rotate(Ledger::default(), 1).unwrap();
    }
    append(&mut journal, 2);
    assert_eq!(seqs(&open(dir.path()).1), [2]);
}

#[test]
fn a_missing_or_overwritten_file_is_noticed_and_made_good() {
    let (dir, mut journal) = fresh();
    append(&mut journal, 1);
    let path = file_path(dir.path(), 1);
    std::fs::remove_file(path).unwrap();
    std::fs::write(file_path(dir.path(), 2), vec![7; 100]).unwrap();
    let (journal, found) = open(dir.path());
    assert!(found.suspicious);
    assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
    assert_eq!(journal.files.len(), FILES);
}

// When the current file was lost as a whole, nothing said how far it had gone, and the numbers
// of its events were given again.
#[test]
fn i8_the_books_of_an_orderly_close_say_what_was_lost_with_the_end() {
    let (dir, mut journal) = fresh();
    let books = Ledger {
        appended: 9,
        delivered: 2,
        ..Ledger::default()
    };
    journal.push_ack(books);
    journal.write().unwrap();
    journal.sync().unwrap();
    journal.write_end(books).unwrap();
    let whole = open(dir.path()).1;
    assert!(whole.notes.is_empty(), "{:?}", whole.notes);
    let file = file_path(dir.path(), journal.files.last().unwrap().number);
    std::fs::write(&file, vec![0; usize::try_from(BYTES).unwrap()]).unwrap();
    let (mut next, found) = open(dir.path());
    assert_eq!(found.notes.len(), 1, "{:?}", found.notes);
    let last = found.frames.last().unwrap().entry().unwrap();
    assert!(matches!(last, Entry::Ack(ledger) if ledger == books));
    // From the next generation on it is of the past.
    next.resume(books, 0).unwrap();
    append(&mut next, 10);
    let found = open(dir.path()).1;
    assert!(found.notes.is_empty(), "{:?}", found.notes);
    assert_eq!(seqs(&found), [10]);
}

#[test]
fn a_file_that_was_cut_short_is_noticed_and_one_of_other_settings_is_not() {
    let (dir, mut journal) = fresh();
    append(&mut journal, 1);
    let (_, found) = Journal::open(Arc::new(RealDisk), dir.path(), 2 * BYTES, QUEUE).unwrap();
    assert!(found.notes.is_empty(), "{:?}", found.notes);
    let file = file_path(dir.path(), journal.files.last().unwrap().number);
    let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    file.set_len(90).unwrap();
    assert_eq!(open(dir.path()).1.notes.len(), 1);
}

/// Fills the current file up to the reserve.
fn full() -> (tempfile::TempDir, Journal) {
    let (dir, mut journal) = fresh();
    for seq in 1.. {
        if !journal.fits(100) {
            break;
        }
        append(&mut journal, seq);
    }
    while journal.fits(0) {
        journal.push_ack(Ledger::default());
        journal.write().unwrap();
    }
    (dir, journal)
}

fn delivered(found: &Found) -> u64 {
    crate::log::recovery::recover(&found.frames, None)
        .ledger
        .delivered
}

#[test]
fn i6_the_cursor_moves_on_in_a_full_journal_and_survives_a_torn_write() {
    let (dir, mut journal) = full();
    for delivered_now in 1..=9 {
        let ledger = Ledger {
            appended: 90,
            delivered: delivered_now,
            ..Ledger::default()
        };
        journal.overwrite_ack(ledger).unwrap();
        let path = journal.files.last().unwrap().path.clone();
        let newest = usize::try_from(journal.written - BOOKS_BYTES).unwrap();
        assert_eq!(delivered(&open(dir.path()).1), delivered_now);

        let whole = std::fs::read(&path).unwrap();
        let mut torn = whole.clone();
        torn[newest + 40] ^= 1;
        std::fs::write(&path, torn).unwrap();
        assert_eq!(delivered(&open(dir.path()).1), delivered_now - 1);
        std::fs::write(&path, whole).unwrap();
        if delivered_now % 3 == 0 {
            journal = open(dir.path()).0;
            journal.resume(ledger, 0).unwrap();
        }
    }
}

#[test]
fn a_sync_on_another_thread_counts_for_the_use_of_the_file_it_was_asked_for() {
    let (_dir, mut journal) = fresh();
    journal.push_events(1, &[Event::json("1").unwrap()]);
    journal.write().unwrap();
    let later = journal.sync_later().unwrap();
    let end = journal.written;
    journal.push_events(2, &[Event::json("2").unwrap()]);
    journal.write().unwrap();
    let through = std::thread::spawn(|| later.sync()).join().unwrap().unwrap();
    journal.note_synced(through);
    // What was written after it was asked for does not count.
    assert_eq!(journal.synced, end);
    assert!(journal.is_unsynced());
    journal.rotate(Ledger::default(), 2).unwrap();
    journal.note_synced(through);
    assert_eq!(journal.synced, 0);
}
