//! The journal on real files, in whole and damaged.

use super::files::{file_path, list};
use super::witness::NUMBERS_MAX;
use super::*;
use crate::event::Event;
use crate::log::disk::RealDisk;
use crate::log::frame::Entry;

const QUEUE: Uuid = Uuid::from_u128(7);
const BYTES: u64 = 16 << 10;

fn open(spool: &Path) -> (Journal, Seen) {
    open_with(spool, BYTES)
}

fn open_with(spool: &Path, file_bytes: u64) -> (Journal, Seen) {
    let mut seen = look(spool, QUEUE, false).unwrap();
    let letters = LetterNote::default();
    let disk = Arc::new(RealDisk);
    let journal = Journal::own(disk, spool, file_bytes, QUEUE, &seen, letters).unwrap();
    seen.read_runs(QUEUE, |_| true).unwrap();
    (journal, seen)
}

fn create(spool: &Path, file_bytes: u64) {
    std::fs::create_dir(spool.join(DIR)).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    Journal::create(&disk, spool, file_bytes, QUEUE).unwrap();
}

fn fresh() -> (tempfile::TempDir, Journal) {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), BYTES);
    let (mut journal, seen) = open(dir.path());
    assert!(seen.frames.is_empty() && odd(&seen).is_empty());
    journal.resume(Ledger::default(), 0).unwrap();
    (dir, journal)
}

/// What was found damaged, and what was odd.
fn odd(seen: &Seen) -> Vec<String> {
    let findings = seen.findings.iter().map(|finding| finding.what.clone());
    findings.chain(seen.notes.clone()).collect()
}

/// The file in which the journal goes on.
fn current(spool: &Path, journal: &Journal) -> std::path::PathBuf {
    file_path(
        &spool.join(DIR),
        journal.files.current().unwrap().known.number,
    )
}

fn append(journal: &mut Journal, seq: Seq) {
    journal.push_events(seq, &[Event::json(seq.to_string()).unwrap()]);
    journal.write().unwrap();
    journal.sync().unwrap();
}

fn seqs(found: &Seen) -> Vec<Seq> {
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
            journal.rotate(Ledger::default(), 0, true).unwrap();
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
    journal.rotate(Ledger::default(), 0, true).unwrap();
    journal.rotate(Ledger::default(), 0, true).unwrap();
    assert!(matches!(
        journal.rotate(Ledger::default(), 0, true),
        Err(Error::Full { .. })
    ));
    journal.rotate(Ledger::default(), 1, true).unwrap();
}

#[test]
fn a_file_begun_anew_forgets_its_earlier_use() {
    let (dir, mut journal) = fresh();
    append(&mut journal, 1);
    for _ in 0..FILES {
        journal.rotate(Ledger::default(), 1, true).unwrap();
    }
    append(&mut journal, 2);
    assert_eq!(seqs(&open(dir.path()).1), [2]);
}

#[test]
fn a_missing_or_overwritten_file_is_noticed_and_made_good() {
    let (dir, mut journal) = fresh();
    append(&mut journal, 1);
    let files = dir.path().join(DIR);
    std::fs::remove_file(file_path(&files, 1)).unwrap();
    std::fs::write(file_path(&files, 2), vec![7; 20_000]).unwrap();
    let (_, seen) = open(dir.path());
    assert_eq!(seen.findings.len(), 2, "{:?}", seen.findings);
    assert_eq!(list(&files).unwrap().len(), FILES);
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
    assert!(odd(&whole).is_empty(), "{:?}", odd(&whole));
    std::fs::write(current(dir.path(), &journal), vec![0; 16 << 10]).unwrap();
    let (mut next, seen) = open(dir.path());
    assert_eq!(odd(&seen).len(), 1, "{:?}", odd(&seen));
    assert_eq!((seen.end.closed, seen.end.numbers), (Some(books), None));
    // From the next generation on it is of the past.
    next.resume(books, 0).unwrap();
    append(&mut next, 10);
    let seen = open(dir.path()).1;
    assert!(odd(&seen).is_empty(), "{:?}", odd(&seen));
    assert_eq!((seqs(&seen), seen.end.closed), (vec![10], None));
}

/// An owner was killed and the newest file removed: the numbers of the events in it, all of them
/// acknowledged, were given again to others. The same if it is cut, or holds nothing any more.
#[test]
fn i8_without_the_newest_file_no_number_is_given_again_after_a_kill() {
    let harms: [fn(&Path); 3] = [
        |file| std::fs::remove_file(file).unwrap(),
        |file| std::fs::write(file, vec![0; 100]).unwrap(),
        |file| std::fs::write(file, vec![0; 16 << 10]).unwrap(),
    ];
    for (which, harm) in harms.into_iter().enumerate() {
        let (dir, mut journal) = fresh();
        for seq in 1..=100 {
            journal.set_numbers_aside(seq, true).unwrap();
            append(&mut journal, seq);
            if seq == 50 {
                journal.rotate(Ledger::default(), 50, true).unwrap();
            }
        }
        let file = current(dir.path(), &journal);
        drop(journal);
        assert!(odd(&open(dir.path()).1).is_empty());
        harm(&file);
        let (mut next, seen) = open(dir.path());
        assert!(!seen.findings.is_empty(), "{which}");
        let numbers = seen.end.numbers.unwrap();
        assert!((100..=NUMBERS_MAX).contains(&numbers), "{which}: {numbers}");
        // Once that is known and gone on from, it is of the past.
        let books = Ledger {
            appended: numbers,
            ..Ledger::default()
        };
        next.resume(books, 0).unwrap();
        drop(next);
        let seen = open(dir.path()).1;
        // A file that was cut is told until its turn comes.
        assert_eq!(
            (odd(&seen).len(), seen.end.numbers),
            (usize::from(which == 1), None)
        );
    }
}

#[test]
fn numbers_are_set_aside_in_steps_that_grow() {
    let (dir, mut journal) = fresh();
    let mut said = Vec::new();
    for seq in 1..=400_000 {
        journal.set_numbers_aside(seq, false).unwrap();
        let numbers = journal.witness.said().numbers;
        assert!(numbers >= seq);
        said.push(numbers);
    }
    said.dedup();
    assert!(said.len() < 20, "{said:?}");
    drop(journal);
    assert_eq!(open(dir.path()).1.end.numbers, None);
}

/// After `journal_bytes` was raised, the last of the shorter files was taken for cut: only one
/// other length is right, and nothing said which.
#[test]
fn files_of_other_settings_are_not_taken_for_cut_whatever_was_rotated() {
    for other in [4 * BYTES, BYTES] {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path(), 5 * BYTES - other);
        for _ in 0..2 * FILES {
            let (mut journal, seen) = open_with(dir.path(), other);
            assert!(odd(&seen).is_empty(), "{other}: {:?}", odd(&seen));
            journal.resume(Ledger::default(), 0).unwrap();
            append(&mut journal, 1);
            journal.rotate(Ledger::default(), 1, true).unwrap();
        }
        drop(open_with(dir.path(), other));
        let files = list(&dir.path().join(DIR)).unwrap();
        let lens = files
            .iter()
            .map(|(_, path)| std::fs::metadata(path).unwrap().len());
        assert!(lens.eq([other; FILES]));
    }
}

/// A crash while the spool of format 1 becomes one of this format forgets nothing of its end.
#[test]
fn the_end_that_format_1_wrote_is_taken_over() {
    let (dir, mut journal) = fresh();
    append(&mut journal, 1);
    drop(journal);
    std::fs::remove_file(dir.path().join("witness")).unwrap();
    let books = Ledger {
        appended: 3,
        ..Ledger::default()
    };
    let mut writer = FrameWriter::new(QUEUE);
    let place = Place {
        generation: 9,
        buffer_offset: 0,
        synced: 0,
    };
    writer.books(place, Kind::Ack, books);
    std::fs::write(dir.path().join(DIR).join(END), writer.bytes()).unwrap();
    let old = look(dir.path(), QUEUE, true).unwrap();
    assert_eq!((odd(&old).len(), old.end.closed), (1, Some(books)));
    // Owned, and cut off before anything else.
    let disk = Arc::new(RealDisk);
    Journal::own(disk, dir.path(), BYTES, QUEUE, &old, LetterNote::default()).unwrap();
    let again = look(dir.path(), QUEUE, false).unwrap();
    assert_eq!(again.end.closed, Some(books));
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

fn delivered(found: &Seen) -> u64 {
    crate::log::recovery::recover(&found.frames, None, found.end)
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
        let path = journal.files.current().unwrap().known.path.clone();
        let newest = usize::try_from(journal.room.written() - super::room::BOOKS_BYTES).unwrap();
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
    let end = journal.room.written();
    journal.push_events(2, &[Event::json("2").unwrap()]);
    journal.write().unwrap();
    let through = std::thread::spawn(|| later.sync()).join().unwrap().unwrap();
    journal.note_synced(through);
    // What was written after it was asked for does not count.
    assert_eq!(journal.room.synced(), end);
    assert!(journal.is_unsynced());
    journal.rotate(Ledger::default(), 2, false).unwrap();
    journal.note_synced(through);
    assert_eq!(journal.room.synced(), 0);
}
