//! A segment: one append-only row of chunks, in a directory of its own.
//!
//! Chunks are values of space `c`, numbered from 0 without gaps; inside a segment each begins
//! where the one before ends. Nothing is ever written twice or removed: a segment in doubt is
//! followed by a new one, and a settled segment is deleted as a directory.
//!
//! Opening a segment reads its whole file once ([`Scan`]) and so learns the range of every chunk.
//! That works on a full disk, cannot panic, and reads around any damage. A segment that an earlier
//! process wrote is only read: the next chunk begins a new one, into which a small one is carried.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

mod opening;

use super::chunk::{self, Fault, Head};
use super::disk::sync_file;
use super::piece::{Key, Layout, Scan, Whole};
use super::run::Run;
use super::store::{Store, dir_bytes};
use crate::error::Error;
use crate::event::StoredEvent;
use crate::id::Seq;
use crate::id::SeqRange;

pub(crate) use opening::Opening;

const SPACE: u8 = b'c';

/// The name of the value that holds the id of the queue, so that a file of another queue, or of
/// another place in this one, is not taken for what belongs here. The number is the place: a
/// segment's first sequence number, 0 for the state.
pub(crate) const fn owner_key(place: u64) -> Key {
    Key::new(b'q', place)
}

/// A row of chunks.
#[derive(Debug)]
pub(crate) struct Segment {
    dir: PathBuf,
    first: Seq,
    /// The last sequence number of its last complete chunk, even if that was lost since.
    last: Seq,
    /// The readable chunks, in order.
    chunks: Vec<Place>,
    /// Bytes of all chunks.
    bytes: u64,
    synced_through: Seq,
    /// Chunks whose sync is outstanding, so that they can be read, and written to another
    /// segment, whatever becomes of this one. Bounded by what a store may leave unsynced, and
    /// one chunk.
    unsynced: Vec<Encoded>,
    /// None if this segment is only read.
    store: Option<Store>,
    scan: Option<Scan>,
    /// Whether it takes no more chunks, although sled might.
    closed: bool,
    /// Whether a chunk could not be read although it was listed.
    damaged: bool,
    /// Whether it belongs to another queue, or to another place in this one.
    foreign: bool,
}

/// Where a chunk is and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    number: u64,
    whole: Whole,
    range: SeqRange,
}

/// A chunk, in memory as it is on disk.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    pub(crate) range: SeqRange,
    bytes: Vec<u8>,
}

impl Encoded {
    /// Encodes a run; [`None`] if it is not one.
    pub(crate) fn of_run(run: &Run) -> Option<Self> {
        let bytes = chunk::encode(run)?;
        let range = SeqRange {
            first: run.first,
            last: run.last(),
        };
        Some(Self { range, bytes })
    }

    /// The events again.
    pub(crate) fn events(&self) -> Option<Vec<StoredEvent>> {
        chunk::decode(&self.bytes, self.range.first).ok()
    }
}

/// What a segment has at a sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The chunk that holds it.
    Chunk(Vec<StoredEvent>),
    /// Damage: it and what follows up to the next readable chunk, or to the end of the segment
    /// if that is known, is gone.
    Missing(SeqRange),
    /// It lies behind the last chunk.
    Behind,
}

impl Segment {
    /// Makes an empty segment, durably. The directory must not exist.
    pub(crate) fn create(
        dir: &Path,
        layout: Layout,
        first: Seq,
        queue: Uuid,
    ) -> Result<Self, Error> {
        let mut segment = Self::empty(dir, first);
        let mut store = Store::create(dir, layout)?;
        // In front of the chunks, and so durable with the first of them.
        store.put(owner_key(first), queue.as_bytes())?;
        segment.store = Some(store);
        Ok(segment)
    }

    /// Opens a segment for reading only. It writes nothing. One of another queue has no chunks.
    pub(crate) fn open_to_read(dir: &Path, first: Seq, queue: Uuid) -> Result<Self, Error> {
        Opening::begin(dir, first, queue)?.finish()
    }

    fn empty(dir: &Path, first: Seq) -> Self {
        Self {
            dir: dir.to_path_buf(),
            first,
            last: first.saturating_sub(1),
            chunks: Vec::new(),
            bytes: 0,
            synced_through: first.saturating_sub(1),
            unsynced: Vec::new(),
            store: None,
            scan: None,
            closed: false,
            damaged: false,
            foreign: false,
        }
    }

    /// Lists the chunks a scan found. One that does not lie behind the one before is not this
    /// segment's, or not what it was: it is left out.
    fn list(&mut self, scan: &Scan) -> Result<(), Error> {
        for (number, whole, head) in scan.values(SPACE) {
            let head = match Head::parse(head) {
                Ok(head) => head,
                Err(fault) => {
                    self.fault(fault)?;
                    continue;
                }
            };
            if head.first > self.last {
                let range = SeqRange {
                    first: head.first,
                    last: head.last,
                };
                self.chunks.push(Place {
                    number,
                    whole,
                    range,
                });
                self.last = range.last;
                self.bytes += whole.bytes();
            }
        }
        Ok(())
    }

    /// Whether the scan found whole chunks and nothing else, so that the file is no longer needed
    /// once they are elsewhere.
    pub(crate) fn is_whole(&self) -> bool {
        let Some(scan) = &self.scan else {
            return false;
        };
        let numbered = |(number, place): (u64, &Place)| place.number == number;
        scan.damaged() == 0
            && !scan.is_altered()
            && !self.damaged
            && !self.foreign
            && scan.last(SPACE) == self.chunks.last().map(|place| place.number)
            && (0..).zip(&self.chunks).all(numbered)
            && self.hole().is_none()
    }

    /// Whether its file is not what it was when it was closed.
    pub(crate) fn is_altered(&self) -> bool {
        self.scan.as_ref().is_some_and(Scan::is_altered)
    }

    /// Writes all its chunks to another segment, durably.
    pub(crate) fn carry_into(&self, other: &mut Self) -> Result<(), Error> {
        let fail = |source| Error::storage("read a segment", &self.dir)(source);
        for place in &self.chunks {
            let key = Key::new(SPACE, place.number);
            let scan = self.scan.as_ref();
            let bytes = scan.map_or(Ok(None), |scan| scan.read(key, place.whole));
            let bytes = bytes.map_err(fail)?.ok_or_else(|| Error::Damaged {
                what: "a chunk is not there any more".into(),
                path: self.dir.clone(),
            })?;
            other.append(Encoded {
                range: place.range,
                bytes,
            })?;
        }
        other.sync()
    }

    /// Whether this is its directory.
    pub(crate) fn is_in(&self, dir: &Path) -> bool {
        self.dir == dir
    }

    /// Its directory has another name now.
    pub(crate) fn renamed(&mut self, dir: &Path) {
        self.dir = dir.to_path_buf();
        if let Some(store) = &mut self.store {
            store.renamed(dir);
        }
    }

    /// Ends it before `seq`: what is behind was never durable, and stands elsewhere.
    pub(crate) fn end_before(&mut self, seq: Seq) {
        self.chunks.retain(|place| place.range.last < seq);
        self.last = seq - 1;
        self.damaged = true;
    }

    /// The first events that are missing before its last chunk.
    pub(crate) fn hole(&self) -> Option<SeqRange> {
        self.holes().into_iter().next()
    }

    /// All that is missing before its last chunk.
    pub(crate) fn holes(&self) -> Vec<SeqRange> {
        let mut next = self.first;
        let mut holes = Vec::new();
        for Place { range, .. } in &self.chunks {
            if range.first > next {
                let last = range.first - 1;
                holes.push(SeqRange { first: next, last });
            }
            next = range.last.saturating_add(1);
        }
        holes
    }

    /// Makes durable what another process may have left in the page cache.
    pub(crate) fn sync_found(&mut self) -> Result<(), Error> {
        let path = self.dir.join("db");
        match OpenOptions::new().write(true).open(&path) {
            Ok(file) => sync_file(&file),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(source),
        }
        .map_err(Error::storage("sync a segment", path))?;
        self.synced_through = self.last;
        Ok(())
    }

    /// Whether it belongs to another queue, or to another place in this one.
    pub(crate) fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// The first sequence number it was made for.
    pub(crate) fn first_seq(&self) -> Seq {
        self.first
    }

    /// The last sequence number of its last complete chunk; the one before its first if it has
    /// none.
    pub(crate) fn last_seq(&self) -> Seq {
        self.last
    }

    /// Everything up to here survives a power cut.
    pub(crate) fn synced_through(&self) -> Seq {
        self.synced_through
    }

    /// Bytes of its chunks, as they were given to it.
    pub(crate) fn chunk_bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of its directory.
    pub(crate) fn disk_bytes(&self) -> u64 {
        dir_bytes(&self.dir)
    }

    /// Whether it takes more chunks: not if it is only read, nor after a write failed.
    pub(crate) fn is_writable(&self) -> bool {
        !self.closed && self.store.as_ref().is_some_and(|store| !store.is_stopped())
    }

    /// Appends a chunk that begins where the last one ends. It is durable after
    /// [`sync`](Self::sync). After an error nothing more can be appended.
    pub(crate) fn append(&mut self, chunk: Encoded) -> Result<(), Error> {
        if let Some(store) = &self.store
            && store.unsynced_bytes() + chunk.bytes.len() as u64 > store.layout().unsynced_bytes()
        {
            self.sync()?;
        }
        let number = self.chunks.last().map_or(0, |place| place.number + 1);
        let (dir, fits) = (
            &self.dir,
            chunk.range.first == self.last + 1 && !self.closed,
        );
        let Some(store) = self.store.as_mut().filter(|_| fits) else {
            let text = "it is only read, or the chunk does not follow";
            return Err(Error::storage("append to a segment", dir)(
                io::Error::other(text),
            ));
        };
        store.put_last(Key::new(SPACE, number), &chunk.bytes)?;
        self.chunks.push(Place {
            number,
            whole: Whole::of(&chunk.bytes),
            range: chunk.range,
        });
        self.last = chunk.range.last;
        self.bytes += chunk.bytes.len() as u64;
        self.unsynced.push(chunk);
        Ok(())
    }

    /// Makes all chunks durable.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        if self.unsynced.is_empty() {
            return Ok(());
        }
        if let Some(store) = &mut self.store {
            store.sync()?;
        }
        self.unsynced.clear();
        self.synced_through = self.last;
        Ok(())
    }

    /// Ends it: it is only read from here on. The caller has synced it.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        if let Some(store) = self.store.take() {
            store.close();
        }
    }

    /// Gives up the chunks whose sync is outstanding, to be written to another segment. From
    /// here on this one ends with what is synced.
    pub(crate) fn take_unsynced(&mut self) -> Vec<Encoded> {
        let synced = self.synced_through;
        self.chunks.retain(|place| place.range.last <= synced);
        self.last = synced;
        std::mem::take(&mut self.unsynced)
    }

    /// Finds the chunk that holds `seq`. `end` is the last sequence number this segment can
    /// hold, if that is known: where the next segment begins, this one ends.
    pub(crate) fn read(&mut self, seq: Seq, end: Option<Seq>) -> Result<Found, Error> {
        let end = end.or((seq <= self.last).then_some(self.last));
        loop {
            let at = self.chunks.partition_point(|p| p.range.last < seq);
            let place = self.chunks.get(at).copied();
            let place = place.filter(|p| end.is_none_or(|end| p.range.first <= end));
            let last = match (place, end) {
                (Some(place), _) if place.range.first <= seq => {
                    if let Some(mut events) = self.load(place)? {
                        events.retain(|event| end.is_none_or(|end| event.seq <= end));
                        return Ok(Found::Chunk(events));
                    }
                    // It is not there any more, whatever the list says. Nothing is appended to
                    // a file that loses what it had.
                    self.chunks.remove(at);
                    self.closed = true;
                    self.damaged = true;
                    continue;
                }
                (Some(place), _) => place.range.first - 1,
                (None, Some(end)) if end >= seq => end,
                _ => return Ok(Found::Behind),
            };
            return Ok(Found::Missing(SeqRange { first: seq, last }));
        }
    }

    /// Loads a chunk, one way or another; `None` if it is damaged.
    fn load(&mut self, place: Place) -> Result<Option<Vec<StoredEvent>>, Error> {
        if let Some(chunk) = self.unsynced.iter().find(|c| c.range == place.range) {
            return Ok(chunk.events());
        }
        let key = Key::new(SPACE, place.number);
        let fail = |source| Error::storage("read a segment", &self.dir)(source);
        // While sled writes to the file, it moves what is in it.
        let looks = if self.store.is_some() { 3 } else { 1 };
        for look in 1..=looks {
            let mut scan = match self.scan.take().filter(|_| look < 3) {
                Some(scan) => scan,
                None => Scan::of(&self.dir.join("db")).map_err(fail)?,
            };
            if look == 2 {
                scan.look_on().map_err(fail)?;
            }
            let bytes = scan.read(key, place.whole).map_err(fail)?;
            self.scan = Some(scan);
            if let Some(bytes) = bytes {
                return self.decode(&bytes, place);
            }
        }
        Ok(None)
    }

    fn decode(&self, bytes: &[u8], place: Place) -> Result<Option<Vec<StoredEvent>>, Error> {
        match chunk::decode(bytes, place.range.first) {
            Ok(events) if events.last().map(|e| e.seq) == Some(place.range.last) => {
                Ok(Some(events))
            }
            Ok(_) => Ok(None),
            Err(fault) => self.fault(fault).map(|()| None),
        }
    }

    /// Makes every further write fail, as on a full disk.
    #[cfg(test)]
    pub(crate) fn fail_for_test(&mut self) {
        self.store.as_mut().unwrap().fail_for_test();
    }

    /// Damage is read around; a chunk of a newer version is not damage, and stops the reading.
    fn fault(&self, fault: Fault) -> Result<(), Error> {
        match fault {
            Fault::Damaged(_) => Ok(()),
            Fault::Future(found) => Err(Error::FutureFormat {
                path: self.dir.clone(),
                found: found.into(),
                supported: chunk::VERSION.into(),
            }),
        }
    }

    /// Whether something up to `end` could not be read, so that its files are worth keeping when
    /// it is settled. What a crash or a full disk cut off behind its last chunk is not damage.
    pub(crate) fn is_damaged(&self, end: Seq) -> bool {
        let none = self.first.saturating_sub(1);
        let covered = self.chunks.last().map_or(none, |place| place.range.last);
        self.damaged || self.hole().is_some_and(|hole| hole.first <= end) || covered < end
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // Whatever it was given is synced, or in the journal.
        if self.unsynced.is_empty() {
            self.close();
        }
    }
}

/// Whether a file names another queue or another place as its own, and not this one.
pub(crate) fn is_foreign(scan: &Scan, place: u64, queue: Uuid) -> bool {
    let ours = Whole::of(queue.as_bytes());
    let mut owners = scan.values(owner_key(place).space).peekable();
    owners.peek().is_some() && owners.all(|(at, whole, _)| (at, whole) != (place, ours))
}

#[cfg(test)]
mod tests;
