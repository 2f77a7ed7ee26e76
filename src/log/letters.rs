//! Dead letters, in `letters/`: a row of volumes, each a store that one process wrote.
//!
//! ```text
//! letters/00000001/  a store with three spaces:
//!   l     seq        a dead letter, as `letter.rs` lays it out
//!   r     seq        letters of that number left: for each, length and CRC32C of its value
//!                    (4 + 4, little-endian)
//!   q     0          the id of the queue, 16 bytes
//! state/             the same of format 1, with the memo beside it: volume 0
//! ```
//!
//! What is there is what all volumes say together: a letter in any of them that no mark in any of
//! them takes back. So a volume can be written anew elsewhere, and a crash that leaves both changes
//! nothing. What an earlier process wrote is only read (I12): the first change after an opening
//! begins a volume, into which small and damaged ones are carried; damaged ones are then kept in
//! quarantine, and all when most of them is air.
//!
//! Everything is durable before a call returns (I5). How many letters there should be is known from
//! the books in the journal, so nothing here has to tell a torn write from damage.

mod volume;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::disk::create_private_dir;
use super::disk::sync_names;
use super::letter::{self, VERSION};
use super::piece::{Key, Layout, Scan, Whole};
use super::segment::owner_key;
use super::shelf::quarantine;
use super::store::Store;
use crate::dead::DeadLetter;
use crate::error::Error;
use crate::id::Seq;
use crate::incident::Finding;
use crate::observe;
use volume::Volume;

const LETTERS: u8 = b'l';
const REMOVED: u8 = b'r';
const OWNER: Key = owner_key(0);

/// Below this many log segments of sled the volumes are not worth copying.
const COMPACT_LOG_SEGMENTS: u64 = 16;

/// The same in a small store, where each of them counts.
const COMPACT_LOG_SEGMENTS_SMALL: u64 = 4;

/// Bytes that a value takes in a store beside its own, roughly.
const VALUE_OVERHEAD_BYTES: u64 = 64;

/// The name of a value that left: its length and checksum.
type Name = [u8; 8];

/// Where a letter is.
#[derive(Clone, Copy, Debug)]
struct Place {
    volume: u32,
    whole: Whole,
}

/// The marks of one number: what left under it.
#[derive(Clone, Debug, Default)]
struct Marks {
    names: Vec<Name>,
    /// The volume with the newest of them, which has all.
    volume: u32,
}

/// The dead letters of a spool.
#[derive(Debug)]
pub(crate) struct Letters {
    spool: PathBuf,
    queue: Uuid,
    /// The layout of new volumes.
    layout: Layout,
    /// Oldest first. The last is the one that `store` writes to, if there is one.
    volumes: Vec<Volume>,
    /// None until something changes, and after a failure.
    store: Option<Store>,
    held: BTreeMap<Seq, Place>,
    removed: BTreeMap<Seq, Marks>,
    /// The letter that left and whose mark could not be written yet.
    leaving: Option<(Seq, Name)>,
    /// The scan of the volume that was read last.
    scan: Option<(u32, Scan)>,
    compact_bytes: u64,
    leftovers: Vec<PathBuf>,
    /// The memo of format 1.
    pub(crate) old_memo: Option<Vec<u8>>,
    /// What was damaged.
    pub(crate) findings: Vec<Finding>,
}

impl Letters {
    /// Looks at the dead letters of a spool without changing a byte.
    pub(crate) fn look(spool: &Path, queue: Uuid) -> Result<Self, Error> {
        let (paths, leftovers) = volume::list(spool)?;
        let mut letters = Self {
            spool: spool.to_owned(),
            queue,
            layout: Layout::Large,
            volumes: Vec::new(),
            store: None,
            held: BTreeMap::new(),
            removed: BTreeMap::new(),
            leaving: None,
            scan: None,
            compact_bytes: compact_bytes(Layout::Large),
            leftovers,
            old_memo: None,
            findings: Vec::new(),
        };
        for (number, path) in paths {
            letters.take_in(number, path)?;
        }
        let removed = &letters.removed;
        letters.held.retain(|seq, place| {
            let marks = removed.get(seq);
            !marks.is_some_and(|marks| marks.names.contains(&place.whole.to_bytes()))
        });
        Ok(letters)
    }

    fn take_in(&mut self, number: u32, path: PathBuf) -> Result<(), Error> {
        let (volume, scan) = Volume::look(&self.spool, number, path, self.queue)?;
        self.findings.extend(volume.finding.clone());
        if let Some(scan) = scan.filter(|_| !volume.is_foreign) {
            let fail = || Error::storage("read the dead letters", &volume.path);
            for (seq, whole, _) in scan.values(REMOVED) {
                let value = scan.read(Key::new(REMOVED, seq), whole).map_err(fail())?;
                let marks = self.removed.entry(seq).or_default();
                marks.volume = number;
                for name in value.unwrap_or_default().as_chunks().0 {
                    if !marks.names.contains(name) {
                        marks.names.push(*name);
                    }
                }
            }
            // Of several under one number all but one have left.
            for (seq, whole, _) in scan.values(LETTERS) {
                let name = whole.to_bytes();
                let place = Place {
                    volume: number,
                    whole,
                };
                let has_left = |marks: &Marks| marks.names.contains(&name);
                if !self.removed.get(&seq).is_some_and(has_left) {
                    self.held.insert(seq, place);
                }
            }
            if number == 0 {
                self.old_memo = volume::old_memo(&scan).map_err(fail())?;
            }
        }
        self.volumes.push(volume);
        Ok(())
    }

    /// Goes on as the owner: removes what a swap of format 1 left behind, moves what belongs
    /// elsewhere to quarantine, and makes durable what was read. The caller has put on record what
    /// was found.
    pub(crate) fn own(&mut self, layout: Layout) -> Result<(), Error> {
        self.layout = layout;
        self.compact_bytes = compact_bytes(layout);
        for leftover in self.leftovers.drain(..) {
            volume::remove(&leftover)?;
        }
        let foreign = self.volumes.extract_if(.., |volume| volume.is_foreign);
        for volume in foreign {
            quarantine(&volume.path, &self.spool)?;
        }
        self.volumes.iter().try_for_each(Volume::sync)
    }

    /// How many dead letters there are.
    pub(crate) fn count(&self) -> u64 {
        self.held.len() as u64
    }

    /// How many numbers have marks and no letter: what had left a spool of format 1, as far as its
    /// files tell.
    pub(crate) fn marked(&self) -> u64 {
        let gone = |seq: &&Seq| !self.held.contains_key(seq);
        self.removed.keys().filter(gone).count() as u64
    }

    /// Their numbers after `after`, at most `max`.
    pub(crate) fn seqs(&self, after: Seq, max: usize) -> Vec<Seq> {
        let from = after.saturating_add(1);
        self.held
            .range(from..)
            .map(|(seq, _)| *seq)
            .take(max)
            .collect()
    }

    /// The dead letters after `after` by sequence number, at most `max`.
    pub(crate) fn letters(&mut self, after: Seq, max: usize) -> Result<Vec<DeadLetter>, Error> {
        let mut letters = Vec::new();
        for seq in self.seqs(after, max) {
            letters.extend(self.letter(seq)?);
        }
        Ok(letters)
    }

    /// The dead letter that stood at `seq`.
    pub(crate) fn letter(&mut self, seq: Seq) -> Result<Option<DeadLetter>, Error> {
        let Some(place) = self.held.get(&seq).copied() else {
            return Ok(None);
        };
        let value = self.value(seq, place)?;
        let Some((&VERSION, body)) = value.split_first() else {
            return Err(Error::FutureFormat {
                path: self.path(place.volume),
                found: value.first().copied().map_or(0, u32::from),
                supported: VERSION.into(),
            });
        };
        let found = letter::decode(seq, body);
        found.map(Some).ok_or_else(|| self.unreadable(seq, place))
    }

    /// The bytes of a letter. A volume that is being written moves what is in it.
    fn value(&mut self, seq: Seq, place: Place) -> Result<Vec<u8>, Error> {
        let path = self.path(place.volume).join("db");
        let fail = || Error::storage("read the dead letters", &path);
        for look in 1..=3 {
            let cached = self.scan.take();
            let mut scan = match cached.filter(|(volume, _)| *volume == place.volume && look < 3) {
                Some((_, scan)) => scan,
                None => Scan::of(&path).map_err(fail())?,
            };
            if look == 2 {
                scan.look_on().map_err(fail())?;
            }
            let value = scan
                .read(Key::new(LETTERS, seq), place.whole)
                .map_err(fail())?;
            self.scan = Some((place.volume, scan));
            if let Some(value) = value {
                return Ok(value);
            }
        }
        Err(self.unreadable(seq, place))
    }

    /// Keeps a dead letter: it is durable when this returns. One of the same number is replaced;
    /// the cursor must not have passed it yet.
    pub(crate) fn put(&mut self, letter: &DeadLetter) -> Result<(), Error> {
        let seq = letter.seq;
        // Its mark must not name the new one.
        self.finish_leaving()?;
        let mut copy = self.copies(seq);
        if let Some(place) = self.held.get(&seq) {
            if Some(place.whole) == letter::encode(letter, copy).as_deref().map(Whole::of) {
                return Ok(());
            }
            self.remove(seq)?;
            copy = self.copies(seq);
        }
        let value = letter::encode(letter, copy).ok_or_else(|| {
            let text = "it is larger than an envelope may be";
            Error::storage("keep a dead letter", &self.spool)(io::Error::other(text))
        })?;
        let whole = Whole::of(&value);
        let volume = self.write(Key::new(LETTERS, seq), &value)?;
        self.held.insert(seq, Place { volume, whole });
        Ok(())
    }

    /// How many letters of that number left before: no two have the same bytes.
    fn copies(&self, seq: Seq) -> u32 {
        let names = self.removed.get(&seq).map_or(0, |marks| marks.names.len());
        u32::try_from(names).unwrap_or(u32::MAX)
    }

    /// Removes a dead letter, durably. Gives whether there was one.
    ///
    /// If this fails for that letter, it is not shown any more, and
    /// [`finish_leaving`](Self::finish_leaving) goes on.
    pub(crate) fn remove(&mut self, seq: Seq) -> Result<bool, Error> {
        self.finish_leaving()?;
        let Some(place) = self.held.remove(&seq) else {
            return Ok(false);
        };
        self.leaving = Some((seq, place.whole.to_bytes()));
        self.finish_leaving()?;
        Ok(true)
    }

    /// Whether a letter left whose mark could not be written.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Writes the mark of the letter that left, durably, if it could not be written before.
    pub(crate) fn finish_leaving(&mut self) -> Result<(), Error> {
        let Some((seq, name)) = self.leaving else {
            return Ok(());
        };
        let mut names = self.removed.get(&seq).cloned().unwrap_or_default().names;
        names.push(name);
        let volume = self.write(Key::new(REMOVED, seq), &names.concat())?;
        self.removed.insert(seq, Marks { names, volume });
        self.leaving = None;
        Ok(())
    }

    /// Writes a value, durably. Gives the volume it is in.
    fn write(&mut self, key: Key, value: &[u8]) -> Result<u32, Error> {
        let store = self.ready()?;
        store.put(key, value)?;
        store.sync()?;
        let Some(volume) = self.volumes.last_mut() else {
            return Ok(0);
        };
        volume.weight += value.len() as u64 + VALUE_OVERHEAD_BYTES;
        Ok(volume.number)
    }

    /// The store; a new one if there is none, or if it failed. What was durable is still there.
    fn ready(&mut self) -> Result<&mut Store, Error> {
        if self.store.as_ref().is_some_and(Store::is_stopped) {
            self.store = None;
        }
        if self.store.is_none() {
            let small = self.layout.log_segment_bytes() as u64;
            let carried = |volume: &&Volume| volume.weight < small || volume.is_damaged();
            let carried = self
                .volumes
                .iter()
                .filter(carried)
                .map(|v| v.number)
                .collect();
            self.begin(carried)?;
        }
        match &mut self.store {
            Some(store) => Ok(store),
            // It was just begun.
            None => Err(Error::Closed),
        }
    }

    /// Begins a volume, with what counts in those that are carried into it. They go once all of it
    /// is durable here (I5).
    fn begin(&mut self, carried: Vec<u32>) -> Result<(), Error> {
        let number = self.volumes.last().map_or(1, |last| last.number + 1);
        let dir = self.spool.join(volume::DIR);
        if !dir.is_dir() {
            create_private_dir(&dir).map_err(Error::storage(
                "make the directory of the dead letters",
                &dir,
            ))?;
            sync_names(&self.spool)?;
        }
        let path = volume::path(&self.spool, number);
        volume::remove(&path)?;
        let filled = Store::create(&path, self.layout)
            .and_then(|store| self.fill(store, &carried))
            .inspect_err(|_| drop(volume::remove(&path)));
        let (store, weight) = filled?;
        let is_carried = |number: u32| carried.contains(&number);
        for place in self
            .held
            .values_mut()
            .filter(|place| is_carried(place.volume))
        {
            place.volume = number;
        }
        let leaves_some = self.volumes.len() > carried.len();
        self.removed
            .retain(|_, marks| leaves_some || !is_carried(marks.volume));
        for marks in self.removed.values_mut().filter(|m| is_carried(m.volume)) {
            marks.volume = number;
        }
        self.scan = None;
        self.store = Some(store);
        let gone = self
            .volumes
            .extract_if(.., |volume| is_carried(volume.number));
        for volume in gone.collect::<Vec<_>>() {
            if let Err(error) = volume.retire(&self.spool) {
                // Whatever it says, the new volume says as well.
                observe::letters_left(&volume.path, &error);
            }
        }
        self.volumes.push(Volume::begun(number, path, weight));
        Ok(())
    }

    /// Copies what counts of some volumes into a new store, durably. Values are copied as they
    /// are: what a newer version wrote stays what it is.
    fn fill(&mut self, mut store: Store, carried: &[u32]) -> Result<(Store, u64), Error> {
        store.put(OWNER, self.queue.as_bytes())?;
        let mut weight = 0;
        let mut put = |store: &mut Store, key: Key, value: &[u8]| {
            weight += value.len() as u64 + VALUE_OVERHEAD_BYTES;
            store.put(key, value)
        };
        let is_carried = |number: u32| carried.contains(&number);
        let held = self.held.iter().map(|(seq, place)| (*seq, *place));
        let held: Vec<_> = held.filter(|(_, place)| is_carried(place.volume)).collect();
        for (seq, place) in held {
            let value = self.value(seq, place)?;
            put(&mut store, Key::new(LETTERS, seq), &value)?;
        }
        // If nothing else stays, there is nothing that a mark could take back.
        if self.volumes.iter().any(|volume| !is_carried(volume.number)) {
            let removed = self.removed.iter();
            for (seq, marks) in removed.filter(|(_, marks)| is_carried(marks.volume)) {
                put(&mut store, Key::new(REMOVED, *seq), &marks.names.concat())?;
            }
        }
        store.sync()?;
        Ok((store, weight))
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.volumes.iter().map(Volume::bytes).sum()
    }

    /// Copies what counts into one new volume if most of what is there is air. Gives whether it
    /// did.
    pub(crate) fn tidy(&mut self) -> Result<bool, Error> {
        let bytes = self.bytes();
        let live: u64 = self.held.values().map(|place| place.whole.bytes()).sum();
        if bytes <= self.compact_bytes || live >= bytes / 4 {
            return Ok(false);
        }
        self.store = None;
        let all = self.volumes.iter().map(|volume| volume.number).collect();
        match self.begin(all) {
            Ok(()) => {}
            // A copy would leave out what cannot be read; the files stay as they are.
            Err(Error::Damaged { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        // A copy is not all letters either: it is not copied again before it has doubled.
        self.compact_bytes = compact_bytes(self.layout).max(2 * self.bytes());
        Ok(true)
    }

    fn path(&self, number: u32) -> PathBuf {
        let volume = self.volumes.iter().find(|volume| volume.number == number);
        volume.map_or_else(|| volume::path(&self.spool, number), |v| v.path.clone())
    }

    fn unreadable(&self, seq: Seq, place: Place) -> Error {
        Error::Damaged {
            what: format!("dead letter {seq} cannot be read"),
            path: self.path(place.volume),
        }
    }

    /// As if the disk had refused a write, and refuses to make another store.
    #[cfg(test)]
    pub(crate) fn fail_for_test(&mut self) {
        self.ready().unwrap().fail_for_test();
        let dir = self.spool.join(volume::DIR);
        std::fs::rename(&dir, self.spool.join("away")).unwrap();
        std::fs::write(dir, "").unwrap();
    }
}

/// The store is closed in an orderly way, and gets its sum.
impl Drop for Letters {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            store.close();
        }
    }
}

fn compact_bytes(layout: Layout) -> u64 {
    let segments = match layout {
        Layout::Small => COMPACT_LOG_SEGMENTS_SMALL,
        Layout::Large => COMPACT_LOG_SEGMENTS,
    };
    segments * layout.log_segment_bytes() as u64
}

#[cfg(test)]
mod tests;
