//! Tests of the row of segments, on real files.

use super::*;
use crate::event::Event;
use crate::id::EventId;
use crate::log::codec;
use crate::log::tail::Tail;
use uuid::Uuid;

const QUEUE: Uuid = Uuid::from_u128(7);

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// The one event that belongs at `seq`.
fn event(seq: Seq) -> StoredEvent {
    let mut rng = Rng(seq * 2 + 1);
    let len = 100 + rng.below(400);
    let body: Vec<u8> = (0..len).map(|_| (rng.next() >> 32) as u8).collect();
    let id = EventId::from_uuid(Uuid::from_u128(u128::from(seq)));
    let event = Event::from_parts(id, seq, body.into());
    StoredEvent { seq, event }
}

fn events(first: Seq, last: Seq) -> Vec<StoredEvent> {
    (first..=last).map(event).collect()
}

impl Shelf {
    /// Puts consecutive events there as one chunk.
    fn append(&mut self, events: &[StoredEvent]) -> Result<(), Error> {
        self.put(
            Run::of(events)
                .and_then(|run| Encoded::of_run(&run))
                .unwrap(),
        )
    }
}

/// Runs of at most so many bytes.
fn runs(events: Vec<StoredEvent>, bytes_max: u64) -> Vec<Run> {
    let mut tail = Tail::new(events.first().map_or(1, |stored| stored.seq), bytes_max);
    tail.extend(events.into_iter().map(|stored| stored.event));
    tail.into_runs()
}

pub(super) fn fill(shelf: &mut Shelf, first: Seq, last: Seq) {
    let mut next = first;
    while next <= last {
        let end = (next + 19).min(last);
        shelf.append(&events(next, end)).unwrap();
        next = end + 1;
    }
    shelf.sync().unwrap();
}

/// Reads everything from `seq` on; checks every event; gives the missing ranges and the end.
pub(super) fn drain(shelf: &mut Shelf, mut seq: Seq) -> (Vec<(Seq, Seq)>, Seq) {
    let mut gone = Vec::new();
    loop {
        match shelf.read(seq).unwrap() {
            Shelved::Chunk(read) => {
                assert_eq!(*read, events(seq, seq + read.len() as u64 - 1));
                seq += read.len() as u64;
            }
            Shelved::Missing(range) => {
                assert!(range.first == seq && range.last >= seq, "{range:?}");
                gone.push((range.first, range.last));
                seq = range.last + 1;
            }
            Shelved::NotHere => return (gone, seq),
        }
    }
}

pub(super) fn open(spool: &Path, segment_bytes: u64) -> Shelf {
    let (shelf, odd) = open_odd(spool, segment_bytes, QUEUE);
    assert!(odd.is_empty(), "{odd:?}");
    shelf
}

/// As an owner opens it, with what it finds.
fn open_odd(spool: &Path, segment_bytes: u64, queue: Uuid) -> (Shelf, Vec<String>) {
    let mut row = Row::look(spool, queue).unwrap();
    let findings = row.findings.iter().map(|finding| finding.place.clone());
    let odd = findings.chain(row.notes.clone()).collect();
    row.put_in_order().unwrap();
    (row.into_shelf(segment_bytes), odd)
}

fn names(spool: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(spool.join("segments")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn quarantined(spool: &Path) -> usize {
    fs::read_dir(spool.join("quarantine")).map_or(0, Iterator::count)
}

#[test]
fn segments_roll_survive_a_reopen_and_give_their_space_back() {
    let spool = tempfile::tempdir().unwrap();
    let mut shelf = open(spool.path(), 100_000);
    assert_eq!((shelf.first_seq(), shelf.last_seq()), (None, None));
    assert_eq!(shelf.read(1).unwrap(), Shelved::NotHere);
    assert_eq!(shelf.bytes(), 0);
    fill(&mut shelf, 1, 2000);
    assert!(shelf.older.len() >= 4, "{}", shelf.older.len());
    assert_eq!(drain(&mut shelf, 1), (vec![], 2001));
    drop(shelf);
    let mut shelf = open(spool.path(), 100_000);
    assert_eq!((shelf.first_seq(), shelf.last_seq()), (Some(1), Some(2000)));
    assert_eq!(shelf.synced_through(), 2000);
    fill(&mut shelf, 2001, 2100);
    assert_eq!(drain(&mut shelf, 5), (vec![], 2101));
    let before = shelf.bytes();
    let count = shelf.older.len();
    assert_eq!(shelf.remove_settled(1).unwrap(), 0);
    assert_eq!(shelf.remove_settled(2099).unwrap(), count);
    assert!(shelf.bytes() < before / 2);
    assert_eq!(drain(&mut shelf, 2100), (vec![], 2101));
    assert_eq!(shelf.remove_settled(2100).unwrap(), 1);
    assert_eq!((shelf.bytes(), shelf.synced_through()), (0, 2100));
    assert_eq!((shelf.last_seq(), quarantined(spool.path())), (None, 0));
    assert_eq!(names(spool.path()).len(), 0);
    fill(&mut shelf, 2101, 2110);
    assert_eq!(drain(&mut shelf, 2101), (vec![], 2111));
}

#[test]
fn a_gap_between_segments_is_missing_with_exact_bounds() {
    let spool = tempfile::tempdir().unwrap();
    let mut shelf = open(spool.path(), 1 << 20);
    fill(&mut shelf, 11, 30);
    fill(&mut shelf, 51, 60);
    for _ in 0..2 {
        assert_eq!(drain(&mut shelf, 5), (vec![(5, 10), (31, 50)], 61));
        shelf = {
            drop(shelf);
            open(spool.path(), 1 << 20)
        };
    }
    assert!(
        shelf.append(&events(60, 61)).is_err(),
        "60 is there already"
    );
}

#[test]
fn strange_names_are_left_alone_with_a_note() {
    let spool = tempfile::tempdir().unwrap();
    let dir = spool.path().join("segments");
    fill(&mut open(spool.path(), 1 << 20), 1, 10);
    fs::write(dir.join(".DS_Store"), b"x").unwrap();
    fs::create_dir(dir.join("00000000000000000000")).unwrap();
    fs::create_dir(dir.join("7")).unwrap();
    let (mut shelf, notes) = open_odd(spool.path(), 1 << 20, QUEUE);
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert_eq!(drain(&mut shelf, 1), (vec![], 11));
    assert!(dir.join(".DS_Store").exists());
}

#[test]
fn a_creation_that_was_cut_off_is_finished_or_replaced() {
    let spool = tempfile::tempdir().unwrap();
    let dir = spool.path().join("segments");
    fill(&mut open(spool.path(), 1 << 20), 1, 10);
    fs::create_dir(dir.join(format!("{:020}", 11))).unwrap();
    let mut shelf = open(spool.path(), 1 << 20);
    assert_eq!(shelf.last_seq(), Some(10));
    fill(&mut shelf, 11, 20);
    assert_eq!(drain(&mut shelf, 1), (vec![], 21));
    drop(shelf);
    // The same with a database that has nothing in it yet.
    drop(Segment::create(&dir.join(format!("{:020}", 21)), Layout::Large, 21, QUEUE).unwrap());
    let mut shelf = open(spool.path(), 1 << 20);
    fill(&mut shelf, 21, 30);
    assert_eq!((drain(&mut shelf, 1), shelf.older.len()), ((vec![], 31), 2));
    assert_eq!(quarantined(spool.path()), 0);
}

/// The store of the last segment fails, as on a full disk.
fn fail(shelf: &mut Shelf) {
    shelf.last.as_mut().unwrap().fail_for_test();
}

#[test]
fn after_a_failure_unsynced_chunks_stay_readable_and_go_to_a_new_segment() {
    let spool = tempfile::tempdir().unwrap();
    let mut shelf = open(spool.path(), 1 << 20);
    fill(&mut shelf, 1, 20);
    shelf.append(&events(21, 30)).unwrap();
    shelf.append(&events(31, 40)).unwrap();
    fail(&mut shelf);
    assert_eq!((shelf.synced_through(), shelf.last_seq()), (20, Some(40)));
    assert_eq!(drain(&mut shelf, 1), (vec![], 41));
    // While nothing can be written, everything stays as it is.
    let dir = spool.path().join("segments");
    let aside = spool.path().join("aside");
    fs::rename(&dir, &aside).unwrap();
    fs::write(&dir, b"in the way").unwrap();
    for _ in 0..2 {
        assert!(shelf.append(&events(41, 50)).is_err() && shelf.sync().is_err());
        assert_eq!((shelf.synced_through(), shelf.last_seq()), (20, Some(40)));
    }
    fs::remove_file(&dir).unwrap();
    fs::rename(&aside, &dir).unwrap();
    assert_eq!(drain(&mut shelf, 21), (vec![], 41));
    shelf.append(&events(41, 50)).unwrap();
    // The new segment fails as well, before it was ever synced.
    fail(&mut shelf);
    fill(&mut shelf, 51, 60);
    assert_eq!((shelf.synced_through(), shelf.last_seq()), (60, Some(60)));
    assert_eq!(shelf.older.keys().copied().collect::<Vec<_>>(), [1]);
    assert_eq!(drain(&mut shelf, 1), (vec![], 61));
    drop(shelf);
    let mut shelf = open(spool.path(), 1 << 20);
    assert_eq!(drain(&mut shelf, 1), (vec![], 61));
    assert_eq!(shelf.remove_settled(60).unwrap(), 2);
    assert_eq!((shelf.bytes(), quarantined(spool.path())), (0, 0));
}

#[test]
fn a_last_segment_known_to_have_held_more_is_kept_aside() {
    let spool = tempfile::tempdir().unwrap();
    let mut shelf = open(spool.path(), 1 << 20);
    fill(&mut shelf, 1, 10);
    shelf.keep_last();
    assert_eq!(shelf.remove_settled(10).unwrap(), 1);
    assert_eq!((shelf.bytes(), quarantined(spool.path())), (0, 1));
}

#[test]
fn segments_under_each_others_names_give_no_wrong_event() {
    let spool = tempfile::tempdir().unwrap();
    let mut shelf = open(spool.path(), 5000);
    fill(&mut shelf, 1, 60);
    drop(shelf);
    let dir = spool.path().join("segments");
    let name = |first: Seq| dir.join(format!("{first:020}"));
    let aside = dir.join("aside");
    fs::rename(name(1), &aside).unwrap();
    fs::rename(name(21), name(1)).unwrap();
    fs::rename(&aside, name(21)).unwrap();
    let mut shelf = open(spool.path(), 5000);
    assert_eq!(drain(&mut shelf, 1), (vec![(1, 20), (21, 40)], 61));
    // Reading changes nothing, and says what it found.
    assert_eq!(quarantined(spool.path()), 0);
    assert_eq!(shelf.take_findings().len(), 2);
    shelf.set_foreign_aside().unwrap();
    assert_eq!(quarantined(spool.path()), 2);
}

#[test]
fn settled_chunks_of_a_failed_segment_are_forgotten() {
    let spool = tempfile::tempdir().unwrap();
    let mut shelf = open(spool.path(), 1 << 20);
    shelf.append(&events(1, 10)).unwrap();
    fail(&mut shelf);
    assert_eq!(shelf.remove_settled(10).unwrap(), 1);
    shelf.sync().unwrap();
    assert_eq!((shelf.last_seq(), shelf.bytes()), (None, 0));
}

/// Random damage to closed segments, from a fixed seed: never a panic, never a wrong event,
/// and each event is either read or in a missing range.
#[test]
fn i8_random_damage_never_gives_a_wrong_event_nor_an_inexact_range() {
    let seed = 0x5EED_0001;
    println!("seed {seed:#x}");
    let mut rng = Rng(seed);
    let model = tempfile::tempdir().unwrap();
    fill(&mut open(model.path(), 60_000), 1, 600);
    let names = names(model.path());
    assert!(names.len() >= 3);
    let mut lost = 0;
    for trial in 0..90 {
        let spool = tempfile::tempdir().unwrap();
        let dir = spool.path().join("segments");
        fs::create_dir(&dir).unwrap();
        for name in &names {
            copy(name, &dir.join(name.file_name().unwrap()));
        }
        let victim = &names[rng.below(names.len() as u64) as usize];
        let files = ["db", "db", "db", "conf"];
        let file = files[rng.below(4) as usize];
        let path = dir.join(victim.file_name().unwrap()).join(file);
        let mut bytes = fs::read(&path).unwrap();
        let at = rng.below(bytes.len() as u64) as usize;
        match trial % 3 {
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes.iter_mut().skip(at).take(4096).for_each(|b| *b = 0),
            _ => bytes.truncate(at),
        }
        fs::write(&path, bytes).unwrap();
        let (mut shelf, _) = open_odd(spool.path(), 60_000, QUEUE);
        let (mut gone, end) = drain(&mut shelf, 1);
        // What was cut off at the very end is for the owner of the shelf to notice: it
        // knows how far events were sealed, and goes on behind that.
        fill(&mut shelf, 601, 620);
        let (tail, end_now) = drain(&mut shelf, end);
        gone.extend(tail);
        assert_eq!(end_now, 621, "trial {trial}");
        lost += gone.iter().map(|(a, b)| b - a + 1).sum::<u64>();
        shelf.remove_settled(620).unwrap();
        assert_eq!(shelf.bytes(), 0, "trial {trial}");
        if !gone.is_empty() {
            assert_eq!(quarantined(spool.path()), 1, "trial {trial}: {gone:?}");
        }
    }
    println!("{lost} of 54000 events were damaged");
    assert!((1..10_000).contains(&lost), "{lost}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

// A segment carried nothing of the queue it belonged to: one of another spool, put in the place of
// ours, was delivered under our numbers.
#[test]
fn a_segment_of_another_queue_or_place_is_put_aside_and_never_read() {
    let spool = tempfile::tempdir().unwrap();
    let dir = spool.path().join("segments");
    let other = tempfile::tempdir().unwrap();
    let theirs = other.path().join("segments");
    for (dir, queue) in [(&dir, QUEUE), (&theirs, Uuid::from_u128(8))] {
        let (mut shelf, _) = open_odd(dir.parent().unwrap(), 1, queue);
        fill(&mut shelf, 1, 60);
        shelf.sync().unwrap();
    }
    let name = |first: Seq| format!("{first:020}");
    let replace = |from: &Path, to: &Path| {
        for file in ["db", "conf"] {
            fs::copy(from.join(file), to.join(file)).unwrap();
        }
    };
    // The first is another queue's, the last is the one before it again.
    replace(&theirs.join(name(1)), &dir.join(name(1)));
    replace(&dir.join(name(21)), &dir.join(name(41)));
    let row = Row::look(spool.path(), QUEUE).unwrap();
    assert_eq!(row.range(), Some(SeqRange { first: 1, last: 40 }));
    let (mut shelf, odd) = open_odd(spool.path(), 1, QUEUE);
    assert_eq!(odd, [segment_place(41)]);
    let missing = Shelved::Missing(SeqRange { first: 1, last: 20 });
    assert_eq!(shelf.read(1).unwrap(), missing);
    assert_eq!(
        shelf.read(21).unwrap(),
        Shelved::Chunk(&mut events(21, 40).into())
    );
    shelf.set_foreign_aside().unwrap();
    assert_eq!(quarantined(spool.path()), 2);
}

/// A thousand short sessions with a backlog would leave a thousand segments with little in them.
#[test]
fn a_small_segment_of_an_earlier_process_is_carried_on() {
    let spool = tempfile::tempdir().unwrap();
    for session in 0..30 {
        let mut shelf = open(spool.path(), 200_000);
        fill(&mut shelf, session * 20 + 1, session * 20 + 20);
        assert_eq!(drain(&mut shelf, 1), (vec![], session * 20 + 21));
    }
    assert!(
        (2..=5).contains(&names(spool.path()).len()),
        "{:?}",
        names(spool.path())
    );
    assert_eq!(quarantined(spool.path()), 0);
}

/// Every state the names can be in when the process dies while a segment is carried on.
#[test]
fn i2_a_carrying_that_was_cut_off_anywhere_leaves_every_chunk_in_one_place() {
    for crash in 0..5 {
        let spool = tempfile::tempdir().unwrap();
        let dir = spool.path().join("segments");
        fill(&mut open(spool.path(), 1 << 20), 1, 40);
        let [plain, new, old] = ["", ".new", ".old"].map(|end| dir.join(format!("{:020}{end}", 1)));
        let last = Segment::open_to_read(&plain, 1, QUEUE).unwrap();
        let mut carried = Segment::create(&new, Layout::Large, 1, QUEUE).unwrap();
        if crash > 0 {
            last.carry_into(&mut carried).unwrap();
        }
        drop((last, carried));
        if crash > 1 {
            fs::rename(&plain, &old).unwrap();
        }
        if crash > 2 {
            fs::rename(&new, &plain).unwrap();
        }
        if crash > 3 {
            fs::remove_file(old.join("conf")).unwrap();
        }
        // A look finds it wherever it is, and changes nothing.
        let before = names(spool.path());
        let mut look = Row::look(spool.path(), QUEUE).unwrap().into_shelf(1 << 20);
        assert_eq!(drain(&mut look, 1), (vec![], 41), "crash {crash}");
        assert_eq!(names(spool.path()), before);
        let mut shelf = open(spool.path(), 1 << 20);
        assert_eq!(names(spool.path()), [plain]);
        fill(&mut shelf, 41, 60);
        assert_eq!(drain(&mut shelf, 1), (vec![], 61), "crash {crash}");
    }
}

#[test]
fn what_is_left_of_a_chunk_is_given_from_memory_also_after_others_are_deleted() {
    let spool = tempfile::tempdir().unwrap();
    let mut shelf = open(spool.path(), 10_000);
    fill(&mut shelf, 1, 200);
    drop(shelf);
    let mut shelf = open(spool.path(), 10_000);
    let file = shelf.path(*shelf.older.range(..=61).next_back().unwrap().0);
    assert_eq!(
        shelf.read(61).unwrap(),
        Shelved::Chunk(&mut events(61, 80).into()),
        "a chunk of its own"
    );
    shelf.remove_settled(65).unwrap();
    shelf.reader = None;
    fs::write(file.join("db"), b"gone").unwrap();
    assert_eq!(
        shelf.read(70).unwrap(),
        Shelved::Chunk(&mut events(70, 80).into())
    );
    // What was not kept is not there any more.
    shelf.cached.clear();
    assert!(matches!(shelf.read(70).unwrap(), Shelved::Missing(_)));
}

#[test]
fn what_was_taken_of_a_chunk_is_read_again_when_it_is_asked_for_again() {
    let spool = tempfile::tempdir().unwrap();
    let mut shelf = open(spool.path(), 10_000);
    fill(&mut shelf, 1, 60);
    for from in [1, 8, 1, 21, 20, 60, 1] {
        let Shelved::Chunk(chunk) = shelf.read(from).unwrap() else {
            panic!("there is a chunk at {from}");
        };
        let end = from.div_ceil(20) * 20;
        assert_eq!(*chunk, events(from, end));
        chunk.drain(..chunk.len().min(7));
    }
}

/// An island of the journal became one chunk, however long it was, and a chunk of several events is
/// not believed beyond 16 MiB.
#[test]
fn what_recovery_puts_on_the_shelf_is_divided_into_chunks() {
    let spool = tempfile::tempdir().unwrap();
    let mut shelf = open(spool.path(), 100_000);
    // Behind what is there, and before it.
    for (first, last) in [(100, 199), (1, 99)] {
        shelf.adopt(&runs(events(first, last), 4096)).unwrap();
        let Shelved::Chunk(chunk) = shelf.read(first).unwrap() else {
            panic!("{first} is not there");
        };
        let bytes = chunk.iter().map(|s| codec::event_bytes(&s.event));
        assert!(bytes.sum::<u64>() <= 4096 && chunk.len() > 3);
    }
    assert_eq!(drain(&mut shelf, 1), (vec![], 200));
    assert!(runs(events(1, 5), 1).iter().map(|run| run.count).eq([1; 5]));
    shelf.adopt(&runs(Vec::new(), 1)).unwrap();
}
