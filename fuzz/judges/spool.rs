//! Recovery of a whole spool that was damaged in several places.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use everpost::internals::Spool;
use everpost::{
    Error, Event, EventId, Incident, Ledger, Recovery, Seq, SeqRange, Settings, Settled,
    StoredEvent,
};
use uuid::Uuid;

/// Bytes of one edit.
const EDIT_BYTES: usize = 6;
/// Edits that are done at the most.
const EDITS_MAX: usize = 12;
/// Events in the spool of `tests/golden`.
const EVENTS: Seq = 60;
/// The one that is a dead letter.
const LETTER: Seq = 10;
/// Its books.
const LEDGER: Ledger = Ledger {
    appended: EVENTS,
    delivered: 10,
    dead: 1,
    expired: 0,
    evicted: 0,
    lost: 0,
};

/// The files of a spool, by their path in it.
pub(super) type Image = BTreeMap<PathBuf, Vec<u8>>;

/// Edits of the spool in `golden`, which is the one of `tests/golden/v1`. What they make of it is
/// put into `scratch`, opened, read, appended to, closed, drained and opened again.
///
/// An edit is six bytes: what is done, the file among the sorted ones, where (2, little-endian),
/// with what, and to how much.
pub fn spool(edits: &[u8], golden: &Path, scratch: &Path) {
    let whole = image(golden);
    let edited = edited(edits, &whole);
    let spool = scratch.join("spool");
    let _ = fs::remove_dir_all(&spool);
    write(&spool, golden, &edited);
    let knows = Knowledge::of(&whole, &edited);
    match open(&spool) {
        Ok((log, recovery)) => judge(log, &recovery, &spool, knows),
        Err(Error::Damaged { .. } | Error::FutureFormat { .. } | Error::NotASpool { .. }) => {
            let mut after = image(&spool);
            for name in ["lock", "ballast"] {
                after.remove(Path::new(name));
            }
            assert!(after == edited, "refused, but not left alone");
        }
        Err(error) => panic!("opening: {error:?}"),
    }
    let _ = fs::remove_dir_all(&spool);
}

/// What the edits make of a spool.
pub(super) fn edited(edits: &[u8], whole: &Image) -> Image {
    let mut edited = whole.clone();
    for edit in edits.chunks_exact(EDIT_BYTES).take(EDITS_MAX) {
        apply(edit, &mut edited);
    }
    edited
}

/// What is left that can tell of a loss.
#[derive(Clone, Copy, Debug)]
struct Knowledge {
    /// Either the journal or the mark of its end is as it was.
    end: bool,
    /// One of the two files that name the queue is as it was.
    queue: bool,
}

impl Knowledge {
    fn of(whole: &Image, edited: &Image) -> Self {
        let is_same = |file: &str| whole.get(Path::new(file)) == edited.get(Path::new(file));
        let journal = (1..=3).all(|n| is_same(&format!("journal/{n:08}.journal")));
        Self {
            end: journal || is_same("journal/end"),
            queue: is_same("spool.json") || is_same("spool.copy.json"),
        }
    }
}

/// Every file below a directory.
pub(super) fn image(dir: &Path) -> Image {
    let mut found = Image::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap_or(&path).to_owned();
                found.insert(name, fs::read(&path).unwrap_or_default());
            }
        }
    }
    assert!(!found.is_empty(), "no spool in {}", dir.display());
    found
}

/// Writes the files, and the directories also of those that are gone.
pub(super) fn write(spool: &Path, golden: &Path, edited: &Image) {
    for file in image(golden).keys() {
        let dir = spool.join(file);
        let made = dir.parent().map(fs::create_dir_all);
        assert!(
            made.is_some_and(|made| made.is_ok()),
            "no scratch directory"
        );
    }
    for (file, bytes) in edited {
        assert!(
            fs::write(spool.join(file), bytes).is_ok(),
            "no scratch file"
        );
    }
}

fn apply(edit: &[u8], image: &mut Image) {
    let [what, file, low, high, value, len] = *edit else {
        return;
    };
    let files: Vec<PathBuf> = image.keys().cloned().collect();
    let Some(name) = files.get(usize::from(file) % files.len().max(1)) else {
        return;
    };
    let other = &files[usize::from(value) % files.len()];
    let theirs = image.get(other).cloned().unwrap_or_default();
    let bytes = image.entry(name.clone()).or_default();
    let at = usize::from(u16::from_le_bytes([low, high])).min(bytes.len());
    let end = (at + usize::from(len) + 1).min(bytes.len());
    match what % 8 {
        0 if at < end => bytes[at] ^= value.max(1),
        1 => bytes[at..end].fill(value),
        // Up to four pages of nothing.
        2 => {
            let end = (at + 64 * (usize::from(len) + 1)).min(bytes.len());
            bytes[at..end].fill(0);
        }
        3 => bytes.truncate(at),
        4 => bytes.extend(std::iter::repeat_n(value, usize::from(len) + 1)),
        // What another file has in the same place.
        5 => {
            let end = (at + 64 * (usize::from(len) + 1)).min(bytes.len().min(theirs.len()));
            if at < end {
                bytes[at..end].copy_from_slice(&theirs[at..end]);
            }
        }
        6 => {
            let ours = std::mem::replace(bytes, theirs);
            image.insert(other.clone(), ours);
        }
        7 => drop(image.remove(name)),
        _ => {}
    }
}

pub(super) fn open(spool: &Path) -> Result<(Spool, Recovery), Error> {
    let settings = Settings {
        journal_bytes: 16 << 10,
        max_event_bytes: 4 << 10,
        tail_bytes: 4 << 10,
        chunk_bytes: 4 << 10,
        segment_bytes: 64 << 10,
        ..Settings::default()
    };
    Spool::open(spool, settings)
}

/// What was written under this number, here and by `tests/golden.rs`.
fn written(seq: Seq) -> Event {
    let id = EventId::from_uuid(Uuid::from_u128(u128::from(seq)));
    let json = format!("{{\"n\":{seq},\"text\":\"{}\"}}", "golden ".repeat(30));
    event(id, seq, &json)
}

fn event(id: EventId, time_ms: u64, json: &str) -> Event {
    let Ok(event) = Event::json(json.to_owned()) else {
        panic!("no JSON: {json}");
    };
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(time_ms);
    event.with_id(id).with_time(time)
}

fn judge(mut log: Spool, recovery: &Recovery, spool: &Path, knows: Knowledge) {
    let ledger = log.ledger();
    let (events, missing) = read_all(&mut log, None);
    check_loss(ledger, &events, recovery, knows);
    check_letter(&mut log, recovery);
    // It goes on from where it is.
    let next = ledger.appended + 1;
    let added = event(EventId::from_uuid(Uuid::max()), next, "\"new\"");
    assert!(log.append(&added).is_ok_and(|seq| seq == next));
    assert!(log.close().is_ok());

    let (mut log, again) = reopen(spool);
    assert_eq!(log.ledger().appended, next);
    assert_eq!(log.cursor(), ledger.settled());
    let added = StoredEvent {
        seq: next,
        event: added,
    };
    let mut expected = events;
    expected.push(added.clone());
    let (events, still_missing) = read_all(&mut log, Some(&added));
    // What a file that is now in quarantine hid, the journal may still have.
    let there = expected.iter().all(|stored| events.contains(stored));
    assert!(there, "what was read is gone: {recovery:?} {again:?}");
    let settled = drain(&mut log);
    let lost: u64 = still_missing.iter().map(SeqRange::count).sum();
    assert!(lost <= missing.iter().map(SeqRange::count).sum());
    assert_eq!(settled.lost, ledger.lost + lost);
    assert_eq!((settled.pending(), settled.appended), (0, next));
    assert!(log.close().is_ok());

    let (log, last) = reopen(spool);
    assert_eq!(log.ledger(), settled);
    assert!(last.missing.is_empty(), "{last:?}");
    assert!(log.close().is_ok());
}

fn reopen(spool: &Path) -> (Spool, Recovery) {
    match open(spool) {
        Ok(opened) => opened,
        Err(error) => panic!("it opened once, and then not again: {error:?}"),
    }
}

/// Everything above the cursor: the events, and the ranges that are said to be missing. Together
/// they leave nothing out (I2, I8).
fn read_all(log: &mut Spool, added: Option<&StoredEvent>) -> (Vec<StoredEvent>, Vec<SeqRange>) {
    let (mut events, mut missing) = (Vec::new(), Vec::new());
    let Ledger { appended, .. } = log.ledger();
    let mut next = log.cursor() + 1;
    while next <= appended {
        match log.read(next, 7, 4096) {
            Ok(Some(Ok(read))) => {
                for stored in read {
                    assert_eq!(stored.seq, next, "out of order");
                    let right = match added {
                        Some(added) if added.seq == next => stored == *added,
                        _ => next <= EVENTS && stored.event == written(next),
                    };
                    assert!(right, "{next} is not what was written");
                    events.push(stored);
                    next += 1;
                }
            }
            Ok(Some(Err(range))) => {
                assert!(range.first == next && range.last <= appended, "{range:?}");
                next = range.last + 1;
                missing.push(range);
            }
            other => panic!("{next} of {appended} is neither there nor missing: {other:?}"),
        }
    }
    assert!(matches!(log.read(next, 7, 4096), Ok(None)));
    (events, missing)
}

/// No event is gone without a word. Those that are missing are within the books, so what is left
/// to look at is the books themselves.
fn check_loss(ledger: Ledger, events: &[StoredEvent], recovery: &Recovery, knows: Knowledge) {
    let remarked = !recovery.notes.is_empty() || !recovery.incidents.is_empty();
    if knows.end && knows.queue {
        assert_eq!(ledger.appended, EVENTS, "silently gone: {recovery:?}");
        let booked = ledger == LEDGER || remarked;
        assert!(booked, "the books changed silently: {ledger:?}");
        return;
    }
    // A journal whose end is gone, and with it the only other witness of where that was: a crash
    // in the midst of a write leaves the same.
    assert!(ledger.appended <= EVENTS, "{ledger:?}");
    let cursor = ledger.settled();
    assert!(cursor <= LEDGER.settled() || remarked, "{ledger:?}");
    assert!(events.iter().all(|stored| stored.seq <= EVENTS));
}

/// The dead letter is as it was, or it is said that it is not.
fn check_letter(log: &mut Spool, recovery: &Recovery) {
    match log.letter(LETTER) {
        Ok(Some(letter)) => {
            assert_eq!(letter.event, written(LETTER));
            assert_eq!(letter.answer.errors, ["golden error"]);
        }
        Ok(None) => {
            let pending = log.cursor() < LETTER;
            let about = |i: &Incident| i.place.contains("state") || i.place == "letters";
            let said = recovery.incidents.iter().any(about);
            assert!(pending || said, "the letter is silently gone: {recovery:?}");
        }
        Err(Error::Damaged { .. } | Error::FutureFormat { .. }) => {}
        Err(error) => panic!("the letter: {error:?}"),
    }
}

/// Does what the flusher does: books what can be read as delivered, and the rest as lost.
fn drain(log: &mut Spool) -> Ledger {
    loop {
        let cursor = log.cursor();
        let (through, how) = match log.read(cursor + 1, 7, 4096) {
            Ok(Some(Ok(events))) => (cursor + events.len() as u64, Settled::Delivered),
            Ok(Some(Err(range))) => (range.last, Settled::Lost),
            Ok(None) => return log.ledger(),
            Err(error) => panic!("draining: {error:?}"),
        };
        assert!(log.settle(through, how).is_ok());
    }
}
