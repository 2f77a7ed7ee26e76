//! A segment: one append-only row of chunks, in a directory of its own.
//!
//! Chunks are values of space `c`, numbered from 0 without gaps; inside a segment each begins
//! where the one before ends. Nothing is ever written twice or removed: a segment in doubt is
//! followed by a new one, and a settled segment is deleted as a directory.
//!
//! Opening a segment reads its whole file once, without sled ([`Scan`]), and so learns the range
//! of every chunk before sled can touch anything: sled writes when it opens, and where it meets
//! damage it may cut off what lies behind (sled 0.34.7 `src/pagecache/iterator.rs:129`). Only the
//! last segment, if the scan found it whole, is handed to sled to be continued. All others are
//! read by scan alone: that works on a full disk, cannot panic, and reads around any damage.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use super::chunk::{self, Fault, Head};
use super::piece::{Key, Scan, Whole};
use super::store::{Store, UNSYNCED_BYTES, dir_bytes};
use crate::error::Error;
use crate::event::{Seq, StoredEvent};
use crate::status::SeqRange;

const SPACE: u8 = b'c';

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
    /// Whether damage was seen in its file.
    damaged: bool,
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
    /// Encodes consecutive events; [`None`] if they are not, or none at all.
    pub(crate) fn new(events: &[StoredEvent]) -> Option<Self> {
        let range = SeqRange {
            first: events.first()?.seq,
            last: events.last()?.seq,
        };
        let bytes = chunk::encode(events)?;
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
    pub(crate) fn create(dir: &Path, first: Seq) -> Result<Self, Error> {
        let mut segment = Self::empty(dir, first);
        segment.store = Some(Store::create(dir)?);
        Ok(segment)
    }

    /// Opens a segment for reading only. It writes nothing.
    pub(crate) fn open_to_read(dir: &Path, first: Seq) -> Result<Self, Error> {
        let mut segment = Self::empty(dir, first);
        let scan = match Scan::of(&dir.join("db")) {
            Ok(scan) => scan,
            // Its creation was cut off, or it was deleted in part.
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(segment),
            Err(source) => return Err(Error::storage("read a segment", dir)(source)),
        };
        segment.list(&scan)?;
        segment.damaged = scan.damaged() > 0;
        segment.scan = Some(scan);
        Ok(segment)
    }

    /// Opens the last segment to read it and, if nothing speaks against it, to append to it.
    /// What does, is the note.
    pub(crate) fn open_to_append(dir: &Path, first: Seq) -> Result<(Self, Option<String>), Error> {
        let mut segment = Self::open_to_read(dir, first)?;
        segment.sync_found()?;
        let doubt = match &segment.scan {
            None => Some("it has no file"),
            Some(scan) => segment.doubt(scan),
        };
        if let Some(doubt) = doubt {
            segment.closed = true;
            return Ok((segment, Some(doubt.into())));
        }
        let opened = Store::open(dir).and_then(|store| Ok((store.last(SPACE)?, store)));
        let doubt = match opened {
            Ok((last, store)) if last == segment.chunks.last().map(|place| place.number) => {
                segment.store = Some(store);
                segment.scan = None;
                return Ok((segment, None));
            }
            Ok(_) => "sled does not see all of it".into(),
            Err(Error::Damaged { what, .. }) => what,
            // Reading needs no room, and makes some in time.
            Err(error) if error.is_out_of_room() => error.to_string(),
            Err(error) => return Err(error),
        };
        segment.closed = true;
        Ok((segment, Some(doubt)))
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

    /// Why nothing should be appended to what the scan found.
    fn doubt(&self, scan: &Scan) -> Option<&'static str> {
        let whole = (0..)
            .zip(&self.chunks)
            .all(|(number, place)| place.number == number)
            && self.hole().is_none();
        if scan.damaged() > 0 {
            Some("a piece of it is damaged")
        } else if scan.last(SPACE) != self.chunks.last().map(|place| place.number) {
            Some("its last chunk is not complete")
        } else if !whole {
            Some("a chunk of it is missing")
        } else {
            None
        }
    }

    /// Whether chunks are missing before its last one.
    fn hole(&self) -> Option<SeqRange> {
        let mut next = self.first;
        for Place { range, .. } in &self.chunks {
            if range.first != next {
                let last = range.first - 1;
                return Some(SeqRange { first: next, last });
            }
            next = range.last + 1;
        }
        None
    }

    /// Makes durable what another process may have left in the page cache.
    fn sync_found(&mut self) -> Result<(), Error> {
        let path = self.dir.join("db");
        match OpenOptions::new().write(true).open(&path) {
            Ok(file) => file.sync_all(),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(source),
        }
        .map_err(Error::storage("sync a segment", path))?;
        self.synced_through = self.last;
        Ok(())
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
        let waits = self.store.as_ref().map_or(0, Store::unsynced_bytes);
        if waits + chunk.bytes.len() as u64 > UNSYNCED_BYTES {
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
        store.put(Key::new(SPACE, number), &chunk.bytes)?;
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
        if let Some(store) = &self.store {
            // Whatever sled says, the file may still have it.
            if let Ok(Some(bytes)) = store.read(key)
                && let Some(events) = self.decode(&bytes, place)?
            {
                return Ok(Some(events));
            }
            self.scan = None;
        }
        let fail = |source| Error::storage("read a segment", &self.dir)(source);
        let scan = match self.scan.take() {
            Some(scan) => scan,
            None => Scan::of(&self.dir.join("db")).map_err(fail)?,
        };
        let bytes = scan.read(key, place.whole).map_err(fail)?;
        self.scan = Some(scan);
        match bytes {
            Some(bytes) => self.decode(&bytes, place),
            None => Ok(None),
        }
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

    /// Whether its files are worth keeping when it is settled: damage was seen, or something up
    /// to `end` could not be read. The rest of a chunk that a crash cut off is neither.
    pub(crate) fn is_damaged(&self, end: Seq) -> bool {
        let none = self.first.saturating_sub(1);
        let covered = self.chunks.last().map_or(none, |place| place.range.last);
        self.damaged || self.hole().is_some_and(|hole| hole.first <= end) || covered < end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, EventId};
    use std::fs;
    use uuid::Uuid;

    fn events(first: Seq, count: u64, bytes: usize) -> Vec<StoredEvent> {
        (first..first + count)
            .map(|seq| {
                let id = EventId::from_uuid(Uuid::from_u128(u128::from(seq)));
                let mut x = seq * 2 + 1;
                let body: Vec<u8> = (0..bytes)
                    .map(|_| {
                        x ^= x << 13;
                        x ^= x >> 7;
                        x ^= x << 17;
                        (x >> 32) as u8
                    })
                    .collect();
                let event = Event::from_parts(id, seq, body.into());
                StoredEvent { seq, event }
            })
            .collect()
    }

    fn chunk(first: Seq, count: u64) -> Encoded {
        Encoded::new(&events(first, count, 500)).unwrap()
    }

    /// Ten chunks of ten events from 101 on, synced.
    fn filled(dir: &Path) -> Segment {
        let mut segment = Segment::create(dir, 101).unwrap();
        for n in 0..10 {
            segment.append(chunk(101 + n * 10, 10)).unwrap();
        }
        segment.sync().unwrap();
        segment
    }

    fn missing(first: Seq, last: Seq) -> Found {
        Found::Missing(SeqRange { first, last })
    }

    #[test]
    fn every_event_is_found_in_its_chunk_before_and_after_a_reopen() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("s");
        let mut segment = filled(&dir);
        for reopen in 0..3 {
            for seq in 101..=200 {
                let first = (seq - 1) / 10 * 10 + 1;
                let found = segment.read(seq, None).unwrap();
                assert_eq!(found, Found::Chunk(events(first, 10, 500)), "{seq}");
            }
            assert_eq!(segment.read(201, None).unwrap(), Found::Behind);
            assert_eq!(segment.last_seq(), 200);
            drop(segment);
            if reopen == 1 {
                segment = Segment::open_to_read(&dir, 101).unwrap();
            } else {
                let (opened, doubt) = Segment::open_to_append(&dir, 101).unwrap();
                assert_eq!(doubt, None);
                segment = opened;
            }
        }
        segment.append(chunk(201, 3)).unwrap();
        assert_eq!(
            segment.read(203, None).unwrap(),
            Found::Chunk(events(201, 3, 500))
        );
        assert!(segment.append(chunk(205, 1)).is_err(), "it does not follow");
    }

    #[test]
    fn a_chunk_that_was_cut_off_ends_the_segment_without_being_damage() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("s");
        drop(filled(&dir));
        let mut store = Store::open(&dir).unwrap();
        // All pieces of an eleventh chunk but the last.
        store.put_part(Key::new(SPACE, 10), &chunk(201, 20).bytes, 1);
        drop(store);
        let (mut segment, doubt) = Segment::open_to_append(&dir, 101).unwrap();
        let doubt = doubt.unwrap();
        assert!(doubt.contains("not complete"), "{doubt}");
        assert_eq!(segment.last_seq(), 200);
        let found = segment.read(200, None).unwrap();
        assert_eq!(found, Found::Chunk(events(191, 10, 500)));
        assert!(!segment.is_damaged(200));
        assert!(segment.append(chunk(201, 1)).is_err());
    }

    #[test]
    fn i8_damage_is_read_around_and_its_range_is_exact() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("s");
        drop(filled(&dir));
        // Every copy of a piece of chunk 4 (141 to 150) is spoilt.
        let (_, piece) = super::super::piece::split(Key::new(SPACE, 4), &chunk(141, 10).bytes)
            .next()
            .unwrap();
        let mut bytes = fs::read(dir.join("db")).unwrap();
        let places: Vec<usize> = (0..bytes.len() - piece.len())
            .filter(|at| bytes[*at] == piece[0] && bytes[*at..].starts_with(&piece))
            .collect();
        assert!(!places.is_empty());
        for at in places {
            bytes[at + 500] ^= 1;
        }
        fs::write(dir.join("db"), bytes).unwrap();
        let (mut segment, doubt) = Segment::open_to_append(&dir, 101).unwrap();
        assert!(doubt.is_some() && !segment.is_writable());
        assert_eq!(
            segment.read(140, None).unwrap(),
            Found::Chunk(events(131, 10, 500))
        );
        assert_eq!(segment.read(141, None).unwrap(), missing(141, 150));
        assert_eq!(segment.read(145, None).unwrap(), missing(145, 150));
        assert_eq!(
            segment.read(151, None).unwrap(),
            Found::Chunk(events(151, 10, 500))
        );
        assert!(segment.is_damaged(200) && segment.last_seq() == 200);
    }

    #[test]
    fn where_the_next_segment_begins_this_one_ends() {
        let temp = tempfile::tempdir().unwrap();
        let mut segment = filled(&temp.path().join("s"));
        assert_eq!(
            segment.read(191, Some(195)).unwrap(),
            Found::Chunk(events(191, 5, 500))
        );
        assert_eq!(segment.read(201, Some(300)).unwrap(), missing(201, 300));
    }

    #[test]
    fn what_was_not_synced_can_be_taken_elsewhere() {
        let temp = tempfile::tempdir().unwrap();
        let mut segment = filled(&temp.path().join("s"));
        segment.append(chunk(201, 2)).unwrap();
        segment.append(chunk(203, 2)).unwrap();
        let taken = segment.take_unsynced();
        let ranges: Vec<_> = taken
            .iter()
            .map(|c| (c.range.first, c.range.last))
            .collect();
        assert_eq!(ranges, [(201, 202), (203, 204)]);
        assert_eq!(taken[1].events().unwrap(), events(203, 2, 500));
        assert_eq!((segment.last_seq(), segment.synced_through()), (200, 200));
        assert_eq!(segment.read(201, None).unwrap(), Found::Behind);
    }

    #[test]
    fn a_chunk_of_a_newer_version_stops_the_opening_and_nothing_is_touched() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("s");
        let mut store = Store::create(&dir).unwrap();
        let mut newer = chunk(1, 1);
        newer.bytes[0] = 2;
        store.put(Key::new(SPACE, 0), &newer.bytes).unwrap();
        store.sync().unwrap();
        drop(store);
        let before = fs::read(dir.join("db")).unwrap();
        let error = Segment::open_to_append(&dir, 1).unwrap_err();
        assert!(
            matches!(error, Error::FutureFormat { found: 2, .. }),
            "{error}"
        );
        assert_eq!(fs::read(dir.join("db")).unwrap(), before);
    }
}
