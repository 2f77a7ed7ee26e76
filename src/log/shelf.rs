//! The shelf: the row of segments, oldest first, in `segments/`.
//!
//! A segment is named by the first sequence number it was made for, in 20 digits. Where the next
//! one begins, a segment ends, whatever else is in its file: so each event is in exactly one place
//! (I2), and what lies between the last readable chunk of one and the name of the next is missing,
//! with exact bounds (I8).
//!
//! # When writing fails
//!
//! A segment whose store failed gets no more chunks. Those it did not sync are still in memory,
//! compressed; the next append or sync writes them to a new segment that begins where the synced
//! part ends, and until then they are read from memory. Nothing is written over.
//!
//! # When a segment is damaged
//!
//! It stays in its place and is read around the damage until all of it is settled, since that
//! loses least; the ranges that are gone are reported as the reader comes to them. Then it is
//! moved to `quarantine/` beside `segments/` instead of being deleted. Reading changes nothing.
//!
//! # After a restart
//!
//! What an earlier process wrote is only read (I12). So that many short sessions do not leave many
//! small segments, a small last one is carried into the one that the next chunk begins: it is
//! filled as `<first>.new`, the old one becomes `<first>.old`, the new one takes its name, and the
//! old one is deleted. A crash in between leaves one of them, and each has every chunk (I2).

pub(crate) mod begun;
mod coming;
pub(crate) mod keeper;
mod removal;
mod row;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use uuid::Uuid;

use super::disk::{make_dir, sync_names};
use super::piece::Layout;
use super::run::Run;
use super::segment::{Encoded, Found, Segment};
use crate::observe;
use coming::Coming;

use crate::error::Error;
use crate::event::StoredEvent;
use crate::id::Seq;
use crate::id::SeqRange;
use crate::incident::Finding;
pub(crate) use removal::Removal;
use row::dir_of;
pub(crate) use row::{Row, place as segment_place};

/// A last segment is carried on while its chunks are less than this part of what a segment takes.
const CARRIED_PART: u64 = 4;

/// The row of segments. Only the one being written is open in sled; besides, only the one being
/// read is open, and the one behind it.
#[derive(Debug)]
pub(crate) struct Shelf {
    dir: PathBuf,
    segment_bytes: u64,
    queue: Uuid,
    /// Whether the last segment was written by an earlier process.
    inherited: bool,
    /// What was found while reading, until the log takes it, and whether there is any.
    findings: Vec<Finding>,
    has_found: Arc<AtomicBool>,
    /// Directories that belong elsewhere: they are not read.
    foreign: BTreeSet<Seq>,
    /// All segments but the last: first sequence number and bytes on disk.
    older: BTreeMap<Seq, u64>,
    last: Option<Segment>,
    reader: Option<Segment>,
    /// The one that is read after it.
    coming: Option<Coming>,
    /// Segments whose files are kept when they are settled.
    damaged: BTreeSet<Seq>,
    /// Chunks of a failed segment that wait to be written to a new one.
    homeless: Vec<Encoded>,
    /// The events of the chunk read last that no batch took.
    cached: VecDeque<StoredEvent>,
    /// Everything up to here was sealed and synced, or settled, before the last segment.
    synced_before: Seq,
}

/// What the shelf has at a sequence number.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Shelved<'a> {
    /// The events of its chunk, from that number on. A read takes them from the front, since
    /// each event that is shared instead costs more than all else that is done with it here; what
    /// is asked for again is read from disk again.
    Chunk(&'a mut VecDeque<StoredEvent>),
    /// These were damaged; the first is the number asked for.
    Missing(SeqRange),
    /// It lies behind everything on the shelf, or the shelf is empty.
    NotHere,
}

impl Shelf {
    /// The first sequence number on the shelf.
    #[cfg(test)]
    pub(crate) fn first_seq(&self) -> Option<Seq> {
        let last = self.last.as_ref().map(Segment::first_seq);
        self.older
            .first_key_value()
            .map(|(first, _)| *first)
            .or(last)
    }

    /// The last sealed sequence number; the one before the first if the only segment is empty.
    pub(crate) fn last_seq(&self) -> Option<Seq> {
        let last = self.last.as_ref().map(Segment::last_seq);
        self.homeless.last().map(|chunk| chunk.range.last).or(last)
    }

    /// Everything sealed up to here survives a power cut (I3).
    pub(crate) fn synced_through(&self) -> Seq {
        let last = self.last.as_ref().map(Segment::synced_through);
        last.unwrap_or(self.synced_before)
    }

    /// Takes a chunk, which must lie behind everything on the shelf. It is readable at once and durable
    /// after [`sync`](Self::sync).
    ///
    /// After an error its events are not on the shelf and can be put there again; what was there
    /// before is safe either way.
    pub(crate) fn put(&mut self, chunk: Encoded) -> Result<(), Error> {
        if chunk.range.first <= self.last_seq().unwrap_or(0) {
            return Err(self.out_of_order());
        }
        self.rehome()?;
        self.place(chunk)
    }

    /// Why events are not taken.
    pub(crate) fn out_of_order(&self) -> Error {
        let text = "the events of a chunk do not follow each other, or what is there";
        Error::Internal {
            what: format!("{text}. path=`{}`", self.dir.display()),
        }
    }

    /// Makes everything on the shelf durable.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        self.rehome()?;
        self.last.as_mut().map_or(Ok(()), Segment::sync)
    }

    /// Finds the chunk that holds `seq`.
    pub(crate) fn read(&mut self, seq: Seq) -> Result<Shelved<'_>, Error> {
        if !holds(&self.cached, seq) {
            match self.find(seq)? {
                Found::Chunk(events) => self.cached = events.into(),
                Found::Missing(range) => return Ok(Shelved::Missing(range)),
                Found::Behind => return Ok(Shelved::NotHere),
            }
        }
        let from = self.cached.partition_point(|event| event.seq < seq);
        self.cached.drain(..from);
        Ok(Shelved::Chunk(&mut self.cached))
    }

    fn find(&mut self, seq: Seq) -> Result<Found, Error> {
        let homeless = |c: &&Encoded| c.range.first <= seq && seq <= c.range.last;
        if let Some(chunk) = self.homeless.iter().find(homeless) {
            return Ok(chunk
                .events()
                .map_or(Found::Missing(chunk.range), Found::Chunk));
        }
        if let Some(last) = self.last.as_mut().filter(|last| last.first_seq() <= seq) {
            return last.read(seq, None);
        }
        let end = self.next_first(seq).map(|next| next - 1);
        let Some((&first, _)) = self.older.range(..=seq).next_back() else {
            let missing = |last| Found::Missing(SeqRange { first: seq, last });
            return Ok(end.map_or(Found::Behind, missing));
        };
        let open = self.reader.take().filter(|r| r.first_seq() == first);
        let mut reader = match open {
            Some(reader) => reader,
            None => self.open_to_read(first)?,
        };
        if reader.is_foreign() {
            self.find_out(row::foreign(first));
            self.foreign.insert(first);
            self.older.remove(&first);
            // What is here belongs to the segment before, if there is one.
            return self.find(seq);
        }
        if reader.is_altered() && self.damaged.insert(first) {
            self.find_out(row::altered(first));
        }
        let found = reader.read(seq, end);
        if end.is_some_and(|end| reader.is_damaged(end)) {
            self.damaged.insert(first);
        }
        self.reader = Some(reader);
        found
    }

    /// Where the segment after the one at `seq` begins.
    fn next_first(&self, seq: Seq) -> Option<Seq> {
        let behind = (Bound::Excluded(seq), Bound::Unbounded);
        let older = self.older.range(behind).next().map(|(first, _)| *first);
        let last = self.last.as_ref().map(Segment::first_seq);
        older.or(last.filter(|last| *last > seq))
    }

    /// Keeps the files of the last segment when it is settled. For the owner of the shelf, who
    /// alone knows that more was sealed and synced than [`last_seq`](Self::last_seq) says.
    pub(crate) fn keep_last(&mut self) {
        self.damaged
            .extend(self.last.as_ref().map(Segment::first_seq));
    }

    /// Keeps the files of segments that are on record as damaged, by the place that the record has,
    /// when they are settled: an earlier process found that, and this one may never read them.
    pub(crate) fn keep_named<'a>(&mut self, places: impl Iterator<Item = &'a str>) {
        for place in places {
            let name = place.strip_prefix("segments/");
            let first = name.and_then(|name| name.parse().ok());
            let is_here = |first: &Seq| {
                let is_last = self.last.as_ref().map(Segment::first_seq) == Some(*first);
                is_last || self.older.contains_key(first)
            };
            self.damaged.extend(first.filter(is_here));
        }
    }

    /// Bytes on disk, without what is in quarantine.
    pub(crate) fn bytes(&self) -> u64 {
        let last = self.last.as_ref().map_or(0, Segment::disk_bytes);
        self.older.values().sum::<u64>() + last
    }

    /// Writes the chunks of a failed segment to a new one.
    fn rehome(&mut self) -> Result<(), Error> {
        if let Some(last) = self.last.as_mut().filter(|last| !last.is_writable()) {
            let taken = last.take_unsynced();
            self.homeless.splice(0..0, taken);
        }
        while let Some(chunk) = self.homeless.first() {
            let chunk = chunk.clone();
            self.place(chunk)?;
            self.homeless.remove(0);
        }
        Ok(())
    }

    /// Appends a chunk to the last segment, or to a new one where that cannot take it.
    fn place(&mut self, chunk: Encoded) -> Result<(), Error> {
        let first = chunk.range.first;
        let takes = |last: &&mut Segment| {
            last.is_writable()
                && last.last_seq() + 1 == first
                && last.chunk_bytes() < self.segment_bytes
        };
        if let Some(last) = self.last.as_mut().filter(takes) {
            return last.append(chunk);
        }
        let mut segment = self.begin(first)?;
        let result = segment.append(chunk);
        self.last = Some(segment);
        result
    }

    /// Makes a new segment and puts the last one among the older.
    fn begin(&mut self, first: Seq) -> Result<Segment, Error> {
        if let Some(last) = self.last.as_mut().filter(|last| last.is_writable()) {
            last.sync()?;
            // sled keeps megabytes of memory for an open file: one at a time is enough.
            last.close();
        }
        if let Some(segment) = self.carry(first) {
            return Ok(segment);
        }
        if let Some(last) = self.last.take_if(|last| last.first_seq() == first) {
            // Nothing in it was ever synced: what it was given is in memory. Its name is needed.
            let damaged = self.damaged.remove(&first) || last.is_damaged(last.last_seq());
            drop(last);
            self.clear_away(first, damaged)?;
        }
        self.make_dir()?;
        let path = self.path(first);
        let segment =
            Segment::create(&path, self.layout(), first, self.queue).inspect_err(|_| {
                // Half made, it would be in the way of the next attempt.
                let _ = fs::remove_dir_all(&path);
            })?;
        if let Some(last) = self.last.take() {
            self.synced_before = self.synced_before.max(last.synced_through());
            self.older.insert(last.first_seq(), last.disk_bytes());
            if last.is_damaged(last.last_seq()) {
                self.damaged.insert(last.first_seq());
            }
        }
        Ok(segment)
    }

    /// Carries the last segment into a new one that goes on with `next`, if an earlier process left
    /// it small and whole. None if not, or if the disk refuses: then it stays as it is.
    fn carry(&mut self, next: Seq) -> Option<Segment> {
        let is_inherited = std::mem::take(&mut self.inherited);
        let is_small = |last: &Segment| last.chunk_bytes() < self.segment_bytes / CARRIED_PART;
        let follows = |last: &Segment| last.last_seq() + 1 == next && last.last_seq() > 0;
        let last = self.last.as_ref().filter(|_| is_inherited)?;
        let first = last.first_seq();
        let has_chunks = last.last_seq() >= first && last.is_whole();
        if !(has_chunks && is_small(last) && follows(last)) || self.damaged.contains(&first) {
            return None;
        }
        match self.carry_over(last) {
            Ok(segment) => {
                self.last = None;
                Some(segment)
            }
            Err(error) => {
                observe::not_carried_on(first, &error);
                None
            }
        }
    }

    /// The old one loses its name only once every chunk is durable in the new one (I2).
    fn carry_over(&self, last: &Segment) -> Result<Segment, Error> {
        let first = last.first_seq();
        let path = self.path(first);
        let [new, old] = ["new", "old"].map(|end| path.with_extension(end));
        remove_dir(&new)?;
        remove_dir(&old)?;
        let carry = || {
            let mut segment = Segment::create(&new, self.layout(), first, self.queue)?;
            last.carry_into(&mut segment)?;
            Ok::<_, Error>(segment)
        };
        let mut segment = carry().inspect_err(|_| drop(remove_dir(&new)))?;
        let failed = || Error::storage("carry a segment on", &path);
        fs::rename(&path, &old).map_err(failed())?;
        if let Err(source) = fs::rename(&new, &path) {
            // Each of the two has all, and either is found.
            drop(fs::rename(&old, &path));
            return Err(failed()(source));
        }
        sync_names(&self.dir)?;
        segment.renamed(&path);
        // What is left of it is deleted at the next opening.
        drop(remove_dir(&old));
        Ok(segment)
    }

    /// Keeps what was found until it is taken.
    pub(crate) fn find_out(&mut self, finding: Finding) {
        self.findings.push(finding);
        self.has_found.store(true, Ordering::Release);
    }

    /// Set while there is something to take.
    pub(crate) fn has_found(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.has_found)
    }

    /// What was found while reading, since this was asked last.
    pub(crate) fn take_findings(&mut self) -> Vec<Finding> {
        self.has_found.store(false, Ordering::Release);
        std::mem::take(&mut self.findings)
    }

    /// Moves directories that belong elsewhere to quarantine: nothing in them was ever read. The
    /// caller has put that on record.
    pub(crate) fn set_foreign_aside(&mut self) -> Result<(), Error> {
        while let Some(first) = self.foreign.pop_first() {
            self.clear_away(first, true)?;
        }
        Ok(())
    }

    fn make_dir(&self) -> Result<(), Error> {
        if self.dir.is_dir() {
            return Ok(());
        }
        make_dir(&self.dir)?;
        sync_names(self.dir.parent().unwrap_or(Path::new(".")))
    }

    /// How new segments are divided.
    fn layout(&self) -> Layout {
        Layout::of_segments(self.segment_bytes)
    }

    fn path(&self, first: Seq) -> PathBuf {
        row::path(&self.dir, first)
    }
}

/// What the log asks of the shelf beside reading and writing.
impl Shelf {
    /// The last sequence number of the oldest segment.
    pub(crate) fn first_segment_last(&self) -> Option<Seq> {
        match self.older.first_key_value() {
            Some((&first, _)) => self.next_first(first).map(|next| next - 1),
            None => self.last_seq(),
        }
    }

    /// Puts consecutive runs of events that recovery found outside the covered range into a segment,
    /// a chunk for each, and makes it durable.
    pub(crate) fn adopt(&mut self, runs: &[Run]) -> Result<(), Error> {
        let Some(first) = runs.first().map(|run| run.first) else {
            return Ok(());
        };
        let chunks: Option<Vec<_>> = runs.iter().map(Encoded::of_run).collect();
        let chunks = chunks.ok_or_else(|| self.out_of_order())?;
        if self.last_seq().is_none_or(|last| first > last) {
            chunks.into_iter().try_for_each(|chunk| self.put(chunk))?;
            return self.sync();
        }
        self.make_dir()?;
        let path = self.path(first);
        let mut segment = Segment::create(&path, self.layout(), first, self.queue)?;
        for chunk in chunks {
            segment.append(chunk)?;
        }
        segment.sync()?;
        self.older.insert(first, segment.disk_bytes());
        Ok(())
    }
}

/// Whether an event is among these, which follow each other.
fn holds(events: &VecDeque<StoredEvent>, seq: Seq) -> bool {
    let (first, last) = (events.front(), events.back());
    first.is_some_and(|e| e.seq <= seq) && last.is_some_and(|e| seq <= e.seq)
}

/// Moves a directory of the spool to `quarantine/` in it, under the first free name, durably.
/// Gives that name.
pub(crate) fn quarantine(path: &Path, spool: &Path) -> Result<String, Error> {
    let dir = spool.join("quarantine");
    if !dir.is_dir() {
        make_dir(&dir)?;
        sync_names(spool)?;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let free = (1..u32::MAX)
        .map(|n| format!("{name}-{n}"))
        .find(|free| !dir.join(free).exists());
    let free = free.unwrap_or_default();
    fs::rename(path, dir.join(&free)).map_err(Error::storage("move to quarantine", path))?;
    sync_names(&dir)?;
    sync_names(path.parent().unwrap_or(spool))?;
    Ok(free)
}

/// Removes a directory with all that is in it, if it is there.
fn remove_dir(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::storage(
            "remove a directory of the spool",
            path,
        )(source)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
