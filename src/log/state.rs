//! The state: dead letters and what the flusher asked to remember, in `state/`.
//!
//! One sled database with four spaces, made with the first letter or memo:
//!
//! ```text
//! space number       value
//! l     seq          a dead letter, as `letter.rs` lays it out
//! r     seq          letters of that number were removed: for each, length and CRC32C of its
//!                    value (4 + 4, little-endian)
//! m     generation   the memo: version (1), the memo (bincode); the greatest generation counts
//! q     0            the id of the queue, 16 bytes
//! ```
//!
//! Everything is durable before a call returns (I5). The marks in `r` exist because sled leaves
//! old bytes in its file: with them, a file that sled cannot open still tells which of the
//! letters in it are wanted.
//!
//! What a scan cannot know is how much there was: a file cut short exactly between two pieces
//! looks like one that was never longer, and a removed letter whose mark was cut off comes back.
//!
//! # Swapping
//!
//! sled files never shrink, so a file that is mostly air is copied. And a file that is damaged is
//! replaced by what can be read of it, since sled may cut off what it cannot read. Both go the
//! same way: `state.new/` is filled and synced, `state/` is moved aside (deleted later as
//! `state.old/`, or kept in `quarantine/`), `state.new/` becomes `state/`. So if there is no
//! `state/`, a `state.new/` is complete and takes its place; if there is one, the others are
//! leftovers and are deleted.

mod salvage;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::codec::{self, Memo};
use super::letter::{self, VERSION};
use super::piece::{Key, Layout, Scan, Whole};
use super::segment::{is_foreign, owner_key};
use super::shelf::quarantine;
use super::store::{Store, dir_bytes, sync_dir};
use crate::dead::DeadLetter;
use crate::error::Error;
use crate::event::Seq;
use salvage::Salvage;

const LETTERS: u8 = b'l';
const REMOVED: u8 = b'r';
const MEMO: u8 = b'm';
const OWNER: Key = owner_key(0);

/// Memos in a row that crashes may have cut off.
const MEMOS_TORN: u64 = 8;

/// Below this many log segments of sled a file is not worth copying.
const COMPACT_LOG_SEGMENTS: u64 = 16;

/// The same in a small store, where each of them counts.
const COMPACT_LOG_SEGMENTS_SMALL: u64 = 4;

/// Dead letters and memo.
#[derive(Debug)]
pub(crate) struct State {
    spool: PathBuf,
    /// None while it sleeps, and after a failure, until it was opened again.
    store: Option<Store>,
    /// That it was only read so far, and the value of the last memo if there is one.
    asleep: Option<Option<Vec<u8>>>,
    /// The letters, by sequence number, and the bytes of each.
    letters: BTreeMap<Seq, u64>,
    /// The layout it should have.
    layout: Layout,
    compact_bytes: u64,
    queue: Uuid,
    /// Whether there was nothing on disk, not even the name of the queue.
    was_empty: bool,
}

impl State {
    /// Opens the state of a spool. The notes say, for people, what was found damaged and what
    /// became of it.
    ///
    /// A state without dead letters is only read, without sled, and one that is not there is not
    /// made: most spools never need more, and sled takes room on the disk, memory and threads.
    ///
    /// [`Error::FutureFormat`] comes from the calls that read, not from here: what this build
    /// does not know is kept, never deleted.
    pub(crate) fn open(
        spool: &Path,
        layout: Layout,
        queue: Uuid,
    ) -> Result<(Self, Vec<String>), Error> {
        let mut state = Self {
            spool: spool.to_path_buf(),
            store: None,
            asleep: None,
            letters: BTreeMap::new(),
            layout,
            compact_bytes: compact_bytes(layout),
            queue,
            was_empty: true,
        };
        state.finish_swap()?;
        let path = state.path("state");
        if !path.exists() {
            state.asleep = Some(None);
            return Ok((state, Vec::new()));
        }
        let fail = || Error::storage("read the state", &path);
        match Scan::of(&path.join("db")) {
            Ok(scan) if state.may_sleep(&scan) => {
                // What a killed process left in the system's memory is believed from here on.
                sync_file(&path.join("db")).map_err(fail())?;
                state.was_empty = scan.is_empty();
                state.asleep = Some(last_memo(&scan).map_err(fail())?);
                Ok((state, Vec::new()))
            }
            Ok(scan) => state.wake(Some(&scan)).map(|notes| (state, notes)),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                state.wake(None).map(|notes| (state, notes))
            }
            Err(source) => Err(fail()(source)),
        }
    }

    /// Whether what the scan found can be left as it is: ours, whole, and without a trace of a
    /// letter.
    fn may_sleep(&self, scan: &Scan) -> bool {
        let is_whole = scan.damaged() == 0 && scan.values(OWNER.space).next().is_some();
        is_whole && scan.last(LETTERS).is_none() && !is_foreign(scan, 0, self.queue)
    }

    /// Hands the state to sled, or makes an empty one.
    fn wake(&mut self, scan: Option<&Scan>) -> Result<Vec<String>, Error> {
        let path = self.path("state");
        let mut notes = Vec::new();
        match scan {
            Some(scan) => notes.extend(self.open_scanned(scan)?),
            None if !path.exists() => self.store = Some(Store::create(&path, self.layout)?),
            // Its creation was cut off, or its main file was taken away.
            None => match Store::open(&path, self.layout) {
                Ok(store) => self.store = Some(store),
                Err(Error::Damaged { what, .. }) => {
                    let kept = quarantine(&path, &self.spool)?;
                    notes.push(format!(
                        "the state had no file and was damaged ({what}); what there was is kept \
                         in quarantine/{kept}"
                    ));
                    self.store = Some(Store::create(&path, self.layout)?);
                }
                Err(error) => return Err(error),
            },
        }
        self.asleep = None;
        self.sign()?;
        self.list_letters()?;
        Ok(notes)
    }

    /// Whether there was nothing on disk when it was opened. Whether that is as it should be,
    /// the books know.
    pub(crate) fn was_empty(&self) -> bool {
        self.was_empty
    }

    /// Writes into it whose it is, unless that is there.
    fn sign(&mut self) -> Result<(), Error> {
        let queue = self.queue;
        let store = self.ready()?;
        match store.read(OWNER) {
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(Error::Damaged { .. }) => {
                store.put(OWNER, queue.as_bytes())?;
                store.sync()
            }
            Err(error) => Err(error),
        }
    }

    fn open_scanned(&mut self, scan: &Scan) -> Result<Option<String>, Error> {
        if is_foreign(scan, 0, self.queue) {
            let kept = quarantine(&self.path("state"), &self.spool)?;
            self.store = Some(Store::create(&self.path("state"), self.layout)?);
            return Ok(Some(format!(
                "the state belongs elsewhere and is kept in quarantine/{kept}; the dead letters \
                 of this one are gone"
            )));
        }
        self.was_empty = scan.is_empty();
        let found = Salvage::of(scan, &self.path("state"))?;
        let reason = if scan.damaged() > 0 {
            "a piece of it is damaged".into()
        } else {
            match Store::open(&self.path("state"), self.layout) {
                Ok(mut store) if found.is_in(&store)? => {
                    found.remove_torn(&mut store)?;
                    self.store = Some(store);
                    return Ok(None);
                }
                Ok(_) => "sled does not see all of it".into(),
                Err(Error::Damaged { what, .. }) => what,
                Err(error) => return Err(error),
            }
        };
        let mut store = self.begin_new()?;
        // When it opens, sled zeroes what lies behind the end it sees: older copies of the same
        // letters may stand in front of it.
        let path = self.path("state");
        let left = Scan::of(&path.join("db")).map_err(Error::storage("read the state", &path))?;
        let salvaged = found.copy(&[scan, &left], &mut store, &path)?;
        drop(store);
        let kept = quarantine(&self.path("state"), &self.spool)?;
        self.finish_swap()?;
        self.store = Some(Store::open(&self.path("state"), self.layout)?);
        Ok(Some(format!(
            "the state was damaged ({reason}); its files are kept in quarantine/{kept}. dead \
             letters saved from it: {salvaged}"
        )))
    }

    /// Finishes or forgets a swap that was cut off.
    fn finish_swap(&self) -> Result<(), Error> {
        let [state, new, old] = ["state", "state.new", "state.old"].map(|name| self.path(name));
        let fail = || Error::storage("swap the state", &state);
        if !state.exists() {
            let complete = [&new, &old].into_iter().find(|path| path.exists());
            if let Some(complete) = complete {
                fs::rename(complete, &state).map_err(fail())?;
                sync_dir(&self.spool)?;
            }
        }
        for leftover in [new, old].iter().filter(|path| path.exists()) {
            fs::remove_dir_all(leftover).map_err(fail())?;
            sync_dir(&self.spool)?;
        }
        Ok(())
    }

    fn begin_new(&self) -> Result<Store, Error> {
        let path = self.path("state.new");
        if path.exists() {
            fs::remove_dir_all(&path).map_err(Error::storage("swap the state", &path))?;
        }
        Store::create(&path, self.layout)
    }

    fn list_letters(&mut self) -> Result<(), Error> {
        let store = self.ready()?;
        let mut letters = BTreeMap::new();
        let mut from = 0;
        while let Some((seq, bytes)) = store.next(LETTERS, from)? {
            letters.insert(seq, bytes);
            from = seq.saturating_add(1);
        }
        self.letters = letters;
        Ok(())
    }

    /// The store; opened again if it failed. What was durable is still there.
    fn ready(&mut self) -> Result<&mut Store, Error> {
        if self.store.as_ref().is_some_and(Store::is_stopped) {
            self.store = None;
        }
        if self.asleep.is_some() {
            let path = self.path("state");
            let scan = match Scan::of(&path.join("db")) {
                Ok(scan) => Some(scan),
                Err(source) if source.kind() == io::ErrorKind::NotFound => None,
                Err(source) => return Err(Error::storage("read the state", path)(source)),
            };
            for note in self.wake(scan.as_ref())? {
                tracing::warn!(note, "the state was damaged since the spool was opened");
            }
        }
        match &mut self.store {
            Some(store) => Ok(store),
            empty => Ok(empty.insert(Store::open(&self.spool.join("state"), self.layout)?)),
        }
    }

    /// As if the disk had refused a write, and refused to open the store again.
    #[cfg(test)]
    pub(crate) fn fail_for_test(&mut self) {
        self.ready().unwrap().fail_for_test();
        let path = self.path("state");
        fs::rename(&path, self.path("away")).unwrap();
        fs::write(path, "").unwrap();
    }

    /// How many dead letters there are.
    pub(crate) fn count(&self) -> u64 {
        self.letters.len() as u64
    }

    /// Keeps a dead letter: it is durable when this returns. One of the same number is replaced;
    /// a crash in between leaves neither, so the cursor must not have passed it yet.
    pub(crate) fn put_letter(&mut self, letter: &DeadLetter) -> Result<(), Error> {
        let too_large = self.not_encoded();
        let store = self.ready()?;
        let mut copy = removed_before(store, letter.seq)?;
        match store.read(Key::new(LETTERS, letter.seq)) {
            Ok(None) => {}
            Ok(Some(old)) if Some(&old) == letter::encode(letter, copy).as_ref() => {
                return store.sync();
            }
            Ok(Some(old)) => {
                erase(store, letter.seq, Some(&old))?;
                copy += 1;
            }
            // What an attempt that failed left behind.
            Err(Error::Damaged { .. }) => erase(store, letter.seq, None)?,
            Err(error) => return Err(error),
        }
        let value = letter::encode(letter, copy).ok_or(too_large)?;
        store.put(Key::new(LETTERS, letter.seq), &value)?;
        store.sync()?;
        self.letters.insert(letter.seq, value.len() as u64);
        Ok(())
    }

    /// The dead letters after `after` by sequence number, at most `max`.
    pub(crate) fn letters(&mut self, after: Seq, max: usize) -> Result<Vec<DeadLetter>, Error> {
        let from = after.saturating_add(1);
        let seqs: Vec<Seq> = self
            .letters
            .range(from..)
            .map(|(seq, _)| *seq)
            .take(max)
            .collect();
        let mut letters = Vec::with_capacity(seqs.len());
        for seq in seqs {
            letters.extend(self.letter(seq)?);
        }
        Ok(letters)
    }

    /// The dead letter that stood at `seq`.
    pub(crate) fn letter(&mut self, seq: Seq) -> Result<Option<DeadLetter>, Error> {
        if !self.letters.contains_key(&seq) {
            return Ok(None);
        }
        let value = self.letter_value(seq)?;
        let found = letter::decode(seq, self.body(&value)?);
        found.map(Some).ok_or_else(|| self.unreadable(seq))
    }

    /// The bytes of a letter; where sled does not give them, what the file still has.
    fn letter_value(&mut self, seq: Seq) -> Result<Vec<u8>, Error> {
        let key = Key::new(LETTERS, seq);
        match self.ready()?.read(key) {
            Ok(Some(value)) => return Ok(value),
            Ok(None) | Err(Error::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
        let path = self.path("state");
        let fail = || Error::storage("read the state", &path);
        let scan = Scan::of(&path.join("db")).map_err(fail())?;
        let found = Salvage::of(&scan, &path)?;
        let mut letters = found.letters.iter();
        let value = match letters.find(|(number, _)| *number == seq) {
            Some((_, whole)) => scan.read(key, *whole).map_err(fail())?,
            None => None,
        };
        value.ok_or_else(|| self.unreadable(seq))
    }

    /// Removes a dead letter, durably. Gives whether there was one.
    pub(crate) fn remove_letter(&mut self, seq: Seq) -> Result<bool, Error> {
        if !self.letters.contains_key(&seq) {
            return Ok(false);
        }
        let value = match self.letter_value(seq) {
            Ok(value) => Some(value),
            Err(Error::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        let store = self.ready()?;
        erase(store, seq, value.as_deref())?;
        store.sync()?;
        self.letters.remove(&seq);
        Ok(true)
    }

    /// What the flusher asked to remember.
    pub(crate) fn memo(&mut self) -> Result<Memo, Error> {
        if let Some(value) = &self.asleep {
            return value
                .as_ref()
                .map_or(Ok(Memo::default()), |value| self.decode_memo(value));
        }
        let Some(last) = self.ready()?.last(MEMO)? else {
            return Ok(Memo::default());
        };
        // A crash may have cut off the writing of the last ones: the one before them counts.
        for generation in (last.saturating_sub(MEMOS_TORN)..=last).rev() {
            let value = match self.ready()?.read(Key::new(MEMO, generation)) {
                Ok(None) | Err(Error::Damaged { .. }) => continue,
                Ok(Some(value)) => value,
                Err(error) => return Err(error),
            };
            return self.decode_memo(&value);
        }
        Ok(Memo::default())
    }

    fn decode_memo(&self, value: &[u8]) -> Result<Memo, Error> {
        let memo = codec::decode(self.body(value)?, "the memo");
        memo.map_err(|error| Error::Damaged {
            what: error.to_string(),
            path: self.path("state"),
        })
    }

    /// Remembers for the flusher: durable when this returns, and the old memo until then.
    pub(crate) fn set_memo(&mut self, memo: &Memo) -> Result<(), Error> {
        let mut value = vec![VERSION];
        value.extend(codec::encode(memo).ok_or_else(|| self.not_encoded())?);
        let store = self.ready()?;
        let last = store.last(MEMO)?;
        let generation = last.map_or(0, |last| last + 1);
        store.put(Key::new(MEMO, generation), &value)?;
        store.sync()?;
        if let Some(last) = last {
            store.remove(Key::new(MEMO, last))?;
        }
        Ok(())
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        dir_bytes(&self.path("state"))
    }

    /// Copies the state into a smaller file if it is mostly air, and into one that takes larger
    /// letters if the spool has grown. Gives whether it did.
    pub(crate) fn tidy(&mut self) -> Result<bool, Error> {
        let bytes = self.bytes();
        let live: u64 = self.letters.values().sum();
        let is_air = bytes > self.compact_bytes && live < bytes / 4;
        let store = self.store.as_ref();
        let has_grown = store.is_some_and(|store| store.layout() < self.layout);
        if !is_air && !has_grown {
            return Ok(false);
        }
        match self.fill_new() {
            Ok(()) => {}
            // A copy would leave out what cannot be read; the files stay as they are.
            Err(Error::Damaged { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        // Nothing is written to the old files any more.
        self.store = None;
        let [state, new, old] = ["state", "state.new", "state.old"].map(|name| self.path(name));
        fs::rename(&state, old).map_err(Error::storage("swap the state", &state))?;
        sync_dir(&self.spool)?;
        fs::rename(&new, &state).map_err(Error::storage("swap the state", &new))?;
        sync_dir(&self.spool)?;
        self.finish_swap()?;
        self.ready()?;
        // A copy is not all letters either: it is not copied again before it has doubled.
        self.compact_bytes = compact_bytes(self.layout).max(2 * self.bytes());
        Ok(true)
    }

    /// Copies what counts into `state.new/`, durably. Values are copied as they are: what a newer
    /// version wrote stays what it is.
    fn fill_new(&mut self) -> Result<(), Error> {
        let mut new = self.begin_new()?;
        new.put(OWNER, self.queue.as_bytes())?;
        let seqs: Vec<Seq> = self.letters.keys().copied().collect();
        for seq in seqs {
            new.put(Key::new(LETTERS, seq), &self.letter_value(seq)?)?;
        }
        if let Some(last) = self.ready()?.last(MEMO)? {
            for generation in last.saturating_sub(MEMOS_TORN)..=last {
                let key = Key::new(MEMO, generation);
                if let Ok(Some(value)) = self.ready()?.read(key) {
                    new.put(key, &value)?;
                }
            }
        }
        new.sync()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.spool.join(name)
    }

    /// What follows the version of a value, if this build knows that version.
    fn body<'a>(&self, value: &'a [u8]) -> Result<&'a [u8], Error> {
        match value.split_first() {
            Some((&VERSION, body)) => Ok(body),
            found => Err(Error::FutureFormat {
                path: self.path("state"),
                found: found.map_or(0, |(version, _)| u32::from(*version)),
                supported: VERSION.into(),
            }),
        }
    }

    fn unreadable(&self, seq: Seq) -> Error {
        Error::Damaged {
            what: format!("dead letter {seq} cannot be read"),
            path: self.path("state"),
        }
    }

    fn not_encoded(&self) -> Error {
        let text = "it is larger than an envelope may be";
        Error::storage("write to the state", self.path("state"))(io::Error::other(text))
    }
}

/// The value of the newest memo that is complete.
fn last_memo(scan: &Scan) -> io::Result<Option<Vec<u8>>> {
    let last = scan.values(MEMO).last();
    last.map_or(Ok(None), |(generation, whole, _)| {
        scan.read(Key::new(MEMO, generation), whole)
    })
}

fn sync_file(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.sync_all()
}

fn compact_bytes(layout: Layout) -> u64 {
    let segments = match layout {
        Layout::Small => COMPACT_LOG_SEGMENTS_SMALL,
        Layout::Large => COMPACT_LOG_SEGMENTS,
    };
    segments * layout.log_segment_bytes() as u64
}

/// Removes a letter, and marks the content it had as removed.
fn erase(store: &mut Store, seq: Seq, value: Option<&[u8]>) -> Result<(), Error> {
    if let Some(value) = value {
        let mut names = removed_names(store, seq)?;
        names.extend(Whole::of(value).to_bytes());
        store.put(Key::new(REMOVED, seq), &names)?;
    }
    store.remove(Key::new(LETTERS, seq))
}

/// The names of the removed letters of that number, eight bytes each.
fn removed_names(store: &Store, seq: Seq) -> Result<Vec<u8>, Error> {
    match store.read(Key::new(REMOVED, seq)) {
        // It was cut off by a crash; the removal it stood for is done again or was never told.
        Err(Error::Damaged { .. }) => Ok(Vec::new()),
        names => names.map(Option::unwrap_or_default),
    }
}

fn removed_before(store: &Store, seq: Seq) -> Result<u32, Error> {
    let names = removed_names(store, seq)?;
    Ok(u32::try_from(names.len() / 8).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
