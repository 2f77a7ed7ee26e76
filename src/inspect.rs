//! Looks at a spool that nobody owns, without changing a byte of it.
//!
//! Opening a queue mends what it finds, and sled writes whenever it opens. So this reads the
//! files themselves: every frame of the journal, every piece and chunk of the segments, every
//! dead letter, each held against its checksum and its range (I8), and then what they say
//! together, as an opening would understand it.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let spool = dir.path().join("spool");
//! use everpost::{Event, Queue, inspect};
//!
//! let queue = Queue::builder(&spool).open().await?;
//! queue.append(Event::json("1")?).await?;
//! queue.close(std::time::Duration::ZERO).await?;
//!
//! let report = inspect::verify(&spool)?;
//! assert!(report.is_sound());
//! assert_eq!((report.events, report.first, report.last), (1, 1, 1));
//! # Ok(()) }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use uuid::Uuid;

use crate::error::Error;
use crate::event::{Event, Seq};
use crate::ledger::Ledger;
use crate::log::codec::{self, Memo};
use crate::log::dir::{FORMAT, lock_to_look, look_at_markers};
use crate::log::journal::{FILES, scan_files};
use crate::log::piece::{Key, Scan};
use crate::log::recovery::{Recovered, recover};
use crate::log::segment::{Found, Segment};
use crate::sink::{Answer, PauseReason};
use crate::status::SeqRange;

/// What is in a spool, and what is wrong with it.
///
/// As JSON: an object with these field names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Pending events that can be read.
    pub events: u64,
    /// The first of them; 0 if there is none.
    pub first: Seq,
    /// The last of them; 0 if there is none.
    pub last: Seq,
    /// Bytes of JSON in them.
    pub bytes: u64,
    /// Pending events that cannot be read: the next owner of the spool will book them as lost.
    pub missing: Vec<SeqRange>,
    /// What does not check, though it had been written and synced.
    pub errors: Vec<Flaw>,
    /// What is odd and cost nothing: the end of a write that was cut off, say.
    pub notes: Vec<Flaw>,
    /// Dead letters that can be read.
    pub dead_letters: u64,
    /// The books.
    pub ledger: Ledger,
    /// When the first of the events happened, in milliseconds since 1970.
    pub oldest_ms: Option<u64>,
    /// Segments read.
    pub segments: u64,
    /// What was set aside in `quarantine/` by earlier openings.
    pub quarantine: Vec<String>,
    /// The pause that the next flusher will go on with.
    pub paused: Option<Paused>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Flaw {
    /// The file or directory, inside the spool.
    pub place: PathBuf,
    /// What is wrong with it. Never contains any of the content of an event.
    pub what: String,
}

/// A pause that outlives a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Paused {
    /// Why.
    pub reason: PauseReason,
    /// What the receiver said when it began.
    pub last_error: Answer,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
}

impl Paused {
    /// Since when.
    #[must_use]
    pub fn since(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.since_ms)
    }
}

impl Report {
    /// Whether everything checks and nothing is missing.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.errors.is_empty() && self.missing.is_empty()
    }

    fn error(&mut self, place: impl Into<PathBuf>, what: impl Into<String>) {
        let (place, what) = (place.into(), what.into());
        self.errors.push(Flaw { place, what });
    }

    fn note(&mut self, place: impl Into<PathBuf>, what: impl Into<String>) {
        let (place, what) = (place.into(), what.into());
        self.notes.push(Flaw { place, what });
    }

    /// Counts an event that can be read. They come in any order.
    fn count(&mut self, seq: Seq, event: &Event) {
        self.events += 1;
        self.bytes += event.json_bytes().len() as u64;
        if self.first == 0 || seq < self.first {
            self.first = seq;
            self.oldest_ms = Some(event.time_ms());
        }
        self.last = self.last.max(seq);
    }
}

/// Reads the whole spool and checks every checksum and range. It takes as long as reading all of
/// it does, in memory that does not grow with the backlog, and changes nothing. Meanwhile nobody
/// can own the spool.
///
/// # Errors
/// [`Error::InUse`]; [`Error::NotASpool`]; [`Error::FutureFormat`]; [`Error::Damaged`] if neither
/// of the two files is readable that say what the directory is, since nothing can be checked
/// then; [`Error::Storage`] if the disk refuses to be read. Other damage is in the report.
pub fn verify(spool: &Path) -> Result<Report, Error> {
    let _lock = lock(spool)?;
    let mut report = Report::default();
    let queue = check_markers(spool, &mut report)?;
    let mut frames = Vec::new();
    for (name, scan) in check_journal(spool, queue, &mut report)? {
        if scan.used && scan.frames.is_empty() {
            report.error(&name, "it holds nothing that checks");
        }
        for offset in &scan.damaged {
            let what = format!("it does not check at offset {offset}");
            // A file that was being begun anew when the power went looks like this too; if it was
            // damage, events are missing.
            if *offset == 0 {
                report.note(&name, what);
            } else {
                report.error(&name, what);
            }
        }
        frames.extend(scan.frames);
    }
    frames.sort_by_key(|frame| (frame.generation, frame.offset));
    let rows = segments(spool)?;
    let sealed = sealed_range(spool, queue, &rows)?;
    let found = recover(&frames, sealed);
    drop(frames);
    let cursor = found.ledger.settled();
    check_recovered(&found, &mut report);
    for (at, first) in rows.iter().enumerate() {
        let end = rows.get(at + 1).map(|next| next - 1);
        let segment = open_segment(spool, *first, queue)?;
        check_segment(segment, end, cursor, &mut report)?;
    }
    report.missing.sort();
    report.segments = rows.len() as u64;
    check_books(&mut report);
    check_state(spool, &mut report)?;
    report.quarantine = names(&spool.join("quarantine"))?;
    Ok(report)
}

/// The pause that the next flusher of this spool will go on with, read without changing anything.
///
/// # Errors
/// [`Error::InUse`]; [`Error::NotASpool`]; [`Error::Storage`].
pub fn remembered_pause(spool: &Path) -> Result<Option<Paused>, Error> {
    let _lock = lock(spool)?;
    Ok(scan_state(spool)?.and_then(|(_, scan)| paused(&scan)))
}

fn lock(spool: &Path) -> Result<Option<std::fs::File>, Error> {
    let marked = look_at_markers(spool);
    let there = |name: &str| spool.join(name).exists();
    if !spool.is_dir() || !(marked.iter().any(|(name, _)| there(name)) || there("journal")) {
        return Err(Error::NotASpool {
            path: spool.to_owned(),
        });
    }
    lock_to_look(spool)
}

/// The id of the queue; damage to one of the two markers goes to the report.
fn check_markers(spool: &Path, report: &mut Report) -> Result<Uuid, Error> {
    let mut queue = None;
    let mut faults = Vec::new();
    for (name, marker) in look_at_markers(spool) {
        match marker {
            Ok(marker) if marker.everpost_format != FORMAT => {
                return Err(Error::FutureFormat {
                    path: spool.join(name),
                    found: marker.everpost_format,
                    supported: FORMAT,
                });
            }
            Ok(marker) => queue = queue.or(Some(marker.queue_id)),
            Err(what) => faults.push((name, what)),
        }
    }
    let Some(queue) = queue else {
        let (name, what) = faults.pop().unwrap_or(("spool.json", String::new()));
        return Err(Error::Damaged {
            what: format!("neither spool.json nor spool.copy.json can be read: {what}"),
            path: spool.join(name),
        });
    };
    for (name, what) in faults {
        report.error(name, format!("it cannot be read: {what}"));
    }
    Ok(queue)
}

type NamedScan = (PathBuf, crate::log::frame::Scan);

fn check_journal(spool: &Path, queue: Uuid, report: &mut Report) -> Result<Vec<NamedScan>, Error> {
    let dir = spool.join("journal");
    if !dir.is_dir() {
        report.error("journal", "it is missing");
        return Ok(Vec::new());
    }
    let scans = scan_files(&dir, queue)?;
    if scans.len() < FILES {
        let gone = FILES - scans.len();
        report.error("journal", format!("{gone} of {FILES} files are missing"));
    }
    let name = |path: &Path| path.strip_prefix(spool).unwrap_or(path).to_owned();
    Ok(scans
        .into_iter()
        .map(|(path, _, scan)| (name(&path), scan))
        .collect())
}

fn check_recovered(found: &Recovered, report: &mut Report) {
    report.ledger = found.ledger;
    report.missing.clone_from(&found.missing);
    for note in &found.notes {
        report.error("journal", note.clone());
    }
    for (event, seq) in found.tail.iter().zip(found.tail_first..) {
        report.count(seq, event);
    }
    for (first, events) in &found.islands {
        for (event, seq) in events.iter().zip(*first..) {
            report.count(seq, event);
        }
    }
}

/// The first sequence numbers of the segments, in order.
fn segments(spool: &Path) -> Result<Vec<Seq>, Error> {
    let names = names(&spool.join("segments"))?;
    let is_segment = |name: &&String| name.len() == 20 && name.bytes().all(|b| b.is_ascii_digit());
    Ok(names
        .iter()
        .filter(is_segment)
        .filter_map(|name| name.parse().ok())
        .collect())
}

fn open_segment(spool: &Path, first: Seq, queue: Uuid) -> Result<Segment, Error> {
    Segment::open_to_read(&spool.join(segment_place(first)), first, queue)
}

fn segment_place(first: Seq) -> PathBuf {
    Path::new("segments").join(format!("{first:020}"))
}

/// Everything that is sealed, as an opening would see it.
fn sealed_range(spool: &Path, queue: Uuid, rows: &[Seq]) -> Result<Option<SeqRange>, Error> {
    let (Some(first), Some(newest)) = (rows.first(), rows.last()) else {
        return Ok(None);
    };
    let last = open_segment(spool, *newest, queue)?.last_seq();
    let range = SeqRange {
        first: *first,
        last,
    };
    Ok((*first <= last).then_some(range))
}

fn check_segment(
    mut segment: Segment,
    end: Option<Seq>,
    cursor: Seq,
    report: &mut Report,
) -> Result<(), Error> {
    let place = segment_place(segment.first_seq());
    if segment.is_foreign() {
        report.error(&place, "it is of another queue");
        return Ok(());
    }
    let mut next = segment.first_seq();
    let mut whole = true;
    while end.is_none_or(|end| next <= end) {
        match segment.read(next, end)? {
            Found::Chunk(events) => {
                for stored in events.iter().filter(|stored| stored.seq > cursor) {
                    report.count(stored.seq, &stored.event);
                }
                next = events
                    .last()
                    .map_or(next, |stored| stored.seq)
                    .saturating_add(1);
            }
            Found::Missing(range) => {
                whole = false;
                let what = format!("events {} to {} cannot be read", range.first, range.last);
                report.error(&place, what);
                if range.last > cursor {
                    let first = range.first.max(cursor + 1);
                    report.missing.push(SeqRange { first, ..range });
                }
                next = range.last.saturating_add(1);
            }
            Found::Behind => break,
        }
    }
    if whole && segment.is_damaged(next.saturating_sub(1)) {
        let what = "it ends with a chunk that was not written to its end, or a piece is damaged \
                    that is there a second time; every event is there";
        report.note(&place, what);
    }
    Ok(())
}

/// I7: what can be read and what is missing is all that waits.
fn check_books(report: &mut Report) {
    let counts = report.missing.iter().map(SeqRange::count);
    let found = counts.fold(report.events, u64::saturating_add);
    let pending = report.ledger.pending();
    if found != pending {
        let what = format!("the books say that {pending} events wait, but there are {found}");
        report.error("journal", what);
    }
}

/// The state's file, wherever a swap that was cut off has left it.
fn scan_state(spool: &Path) -> Result<Option<(PathBuf, Scan)>, Error> {
    for name in ["state", "state.new", "state.old"] {
        let path = spool.join(name).join("db");
        match Scan::of(&path) {
            Ok(scan) => return Ok(Some((name.into(), scan))),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::storage("read the state", path)(source)),
        }
    }
    Ok(None)
}

/// Reads every dead letter that was not removed.
fn check_state(spool: &Path, report: &mut Report) -> Result<(), Error> {
    let Some((place, scan)) = scan_state(spool)? else {
        // A spool without dead letters need not have one.
        if report.ledger.dead + report.ledger.expired > 0 {
            report.error("state", "it is missing, and the dead letters with it");
        }
        return Ok(());
    };
    if scan.damaged() > 0 {
        report.error(&place, "a piece of it is damaged");
    }
    let fail = |source| Error::storage("read the state", spool.join("state"))(source);
    let mut removed = BTreeSet::new();
    for (seq, whole, _) in scan.values(b'r') {
        let marks = scan.read(Key::new(b'r', seq), whole).map_err(fail)?;
        for mark in marks.unwrap_or_default().chunks_exact(8) {
            removed.insert((seq, mark.to_vec()));
        }
    }
    let mut letters = BTreeMap::new();
    for (seq, whole, _) in scan.values(b'l') {
        if !removed.contains(&(seq, whole.to_bytes().to_vec())) {
            let value = scan.read(Key::new(b'l', seq), whole).map_err(fail)?;
            *letters.entry(seq).or_insert(false) |= value.is_some();
        }
    }
    for (seq, readable) in letters {
        if readable {
            report.dead_letters += 1;
        } else {
            report.error(&place, format!("dead letter {seq} cannot be read"));
        }
    }
    report.paused = paused(&scan);
    Ok(())
}

/// What the newest memo says of a pause.
fn paused(scan: &Scan) -> Option<Paused> {
    let (number, whole, _) = scan.values(b'm').last()?;
    let value = scan.read(Key::new(b'm', number), whole).ok()??;
    let (version, body) = value.split_first()?;
    if *version != 1 {
        return None;
    }
    let memo: Memo = codec::decode(body, "memo").ok()?;
    memo.paused.map(|paused| Paused {
        reason: paused.reason,
        last_error: paused.answer,
        since_ms: paused.since_ms,
    })
}

/// The names in a directory, sorted; none if it does not exist.
fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let failed = || Error::storage("list a directory of the spool", dir);
    let mut names = Vec::new();
    match std::fs::read_dir(dir) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(failed()(source)),
        Ok(entries) => {
            for entry in entries {
                let name = entry.map_err(failed())?.file_name();
                names.push(name.to_string_lossy().into_owned());
            }
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests;
