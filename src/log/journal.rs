//! The journal: a few preallocated files that make appends durable at the speed of the disk.
//!
//! The files are written in full with zeroes when they are made and recycled afterwards, so a
//! commit overwrites blocks that are already allocated and its fdatasync has no metadata to
//! write. One file is current; frames are gathered in memory, written to it in one piece and
//! synced. When the next frame does not fit, the file with the oldest content is begun anew.
//!
//! The journal knows places, generations and what is synced. It does not know which events are
//! settled: its owner says up to where they are, and the journal refuses to recycle a file that
//! holds later ones (I3).
//!
//! After a failed write or fdatasync the current file is never trusted again: the system may
//! have dropped the pages and call the next sync a success. [`Journal::replace_current`] begins
//! a new file, into which the owner writes again what the failed one held.

mod gather;
mod handle;
mod look;
mod witness;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::disk::{Disk, create_private_dir};
use super::frame::{Frame, FrameWriter, Gone, HEADER_BYTES, Kind, LetterNote, Place, Scan};
use crate::error::Error;
use crate::id::Seq;
use crate::ledger::Ledger;
use handle::{Handle, failed_before};
pub(crate) use handle::{Later, Through};
pub(crate) use look::{Seen, look};
use witness::{Witness, WitnessFile};

/// Journal files a spool has: one that is written, one that was, one to go on with.
pub(crate) const FILES: usize = 3;

/// The directory of the files, in the spool.
const DIR: &str = "journal";

/// Beside the journal files in format 1: the books at the last orderly close.
const END: &str = "end";

/// Bytes a frame with the books takes.
const BOOKS_BYTES: u64 = (HEADER_BYTES + 6 * 8) as u64;

/// Room at the end of each file that only the books may use: for two frames, so that the older
/// can be overwritten while the newer is durable. See [`Journal::overwrite_ack`].
const RESERVE_BYTES: u64 = 2 * BOOKS_BYTES;

/// Bytes a frame with the books of dead letters takes: five numbers, and the letter that left.
pub(crate) const LETTERS_BYTES: u64 = (HEADER_BYTES + 5 * 8 + 1 + 4 + 8).next_multiple_of(8) as u64;

/// Numbers that are set aside at once at the least, and at the most.
const NUMBERS_MIN: u64 = 1 << 10;
const NUMBERS_MAX: u64 = 1 << 16;

/// One journal file.
#[derive(Debug)]
struct JournalFile {
    number: u32,
    path: PathBuf,
    handle: Arc<Handle>,
    len: u64,
    generation: u64,
    /// The first and last event in its present use; `None` if there is none.
    events: Option<(Seq, Seq)>,
}

/// The files, and where in the current one the next frame goes.
#[derive(Debug)]
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file_bytes: u64,
    /// The current file is the last.
    files: Vec<JournalFile>,
    writer: FrameWriter,
    /// The end of what is written to the current file.
    written: u64,
    /// The end of what is synced in it.
    synced: u64,
    generation_max: u64,
    /// The books of dead letters, as they follow the books at the beginning of a file, and the letter
    /// that is still to be removed.
    letters: LetterNote,
    witness: WitnessFile,
    /// Numbers that were set aside since the journal was opened.
    set_aside: u64,
}

impl Journal {
    /// Makes the files of a new spool, and the witness beside them.
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        spool: &Path,
        file_bytes: u64,
        queue: Uuid,
    ) -> Result<(), Error> {
        let dir = spool.join(DIR);
        for number in 1..=FILES {
            let path = file_path(&dir, u32::try_from(number).unwrap_or(0));
            let create = disk.create(&path, file_bytes);
            create.map_err(Error::storage("make a journal file", &path))?;
        }
        disk.sync_dir(&dir)
            .map_err(Error::storage("sync the journal's directory", &dir))?;
        let mut witness = WitnessFile::new(Arc::clone(disk), spool, queue)?;
        witness.say(Witness::default(), true)
    }

    /// Goes on with a journal that was looked at: opens its files, makes those that are missing, and
    /// makes durable what was read. Call [`resume`](Self::resume) before anything else.
    pub(crate) fn own(
        disk: Arc<dyn Disk>,
        spool: &Path,
        file_bytes: u64,
        queue: Uuid,
        seen: &Seen,
        letters: LetterNote,
    ) -> Result<Self, Error> {
        let dir = spool.join(DIR);
        if !dir.is_dir() {
            create_private_dir(&dir)
                .and_then(|_| disk.sync_dir(spool))
                .map_err(Error::storage("make the journal's directory", &dir))?;
        }
        let mut files = Vec::new();
        for seen in &seen.files {
            let file = disk.open(&seen.path);
            let file = file.map_err(Error::storage("open a journal file", &seen.path))?;
            files.push(JournalFile {
                number: seen.number,
                path: seen.path.clone(),
                handle: Handle::new(file),
                len: seen.len,
                generation: seen.generation,
                events: seen.events,
            });
        }
        files.sort_by_key(|file| file.generation);
        let current = files.last().map(|file| file.number);
        let current = seen.files.iter().find(|file| Some(file.number) == current);
        let mut witness = WitnessFile::new(Arc::clone(&disk), spool, queue)?;
        if !witness.is_there() {
            // As much as is known now: the end of format 1, say, is not asked again.
            let closed = seen.end.closed;
            witness.say(
                Witness {
                    generation: seen.generation_max,
                    numbers: closed
                        .map_or(0, |books| books.appended)
                        .max(seen.end.numbers.unwrap_or(0)),
                    closed,
                    ..Witness::default()
                },
                true,
            )?;
        }
        let mut journal = Self {
            disk,
            dir,
            file_bytes,
            files,
            writer: FrameWriter::new(queue),
            written: current.map_or(0, |file| file.end),
            synced: 0,
            generation_max: seen.generation_max,
            letters,
            witness,
            set_aside: 0,
        };
        while journal.files.len() < FILES {
            journal.add_file()?;
        }
        // What was read may only have been in the system's memory, left there by a process that
        // was killed. From here on it is believed, so it has to be durable.
        journal.sync()?;
        Ok(journal)
    }

    /// Goes on in the current file, or the next, under a new generation, beginning with the
    /// books, and syncs.
    pub(crate) fn resume(&mut self, ledger: Ledger, recyclable: Seq) -> Result<(), Error> {
        if !self.fits(LETTERS_BYTES) {
            match self.rotate(ledger, recyclable, true) {
                Ok(()) => return Ok(()),
                Err(Error::Full { .. }) => {
                    self.begin_generation();
                    self.overwrite_ack(ledger)?;
                    return self.testify(ledger, None, true);
                }
                Err(error) => return Err(error),
            }
        }
        self.begin_generation();
        self.push_books(ledger);
        self.write()?;
        self.sync()?;
        self.testify(ledger, None, true)
    }

    /// Gathers the books that a use of a file begins with.
    fn push_books(&mut self, ledger: Ledger) {
        self.writer.books(self.place(), Kind::Checkpoint, ledger);
        // The event of one that was retried is no longer just before the note.
        let gone = self.letters.gone.map(|gone| match gone {
            Gone::Retried(seq) | Gone::Discarded(seq) => Gone::Discarded(seq),
        });
        let letters = LetterNote {
            gone,
            ..self.letters
        };
        self.writer.letters(self.place(), &letters);
    }

    /// Says beside the journal where it stands. No number is taken back.
    fn testify(&mut self, ledger: Ledger, closed: Option<Ledger>, sync: bool) -> Result<(), Error> {
        let current = self.files.last();
        let given = self.witness.said().numbers.max(ledger.appended);
        // The first events after an opening find their numbers set aside.
        let given = if self.set_aside == 0 {
            self.set_aside = NUMBERS_MIN;
            given
                .max(ledger.appended.saturating_add(NUMBERS_MIN))
                .min(Seq::MAX - 1)
        } else {
            given
        };
        let witness = Witness {
            generation: self.generation_max,
            file: current.map_or(0, |file| file.number),
            file_bytes: current.map_or(0, |file| file.len),
            synced: sync,
            numbers: if closed.is_some() {
                ledger.appended
            } else {
                given
            },
            closed,
        };
        self.witness.say(witness, sync)
    }

    /// Sees to it that numbers up to `last` are set aside before they are given to events: should
    /// the newest file be lost, they are not given again. With `sync`, also after a power cut.
    pub(crate) fn set_numbers_aside(&mut self, last: Seq, sync: bool) -> Result<(), Error> {
        let said = self.witness.said();
        if last <= said.numbers && said.closed.is_none() {
            return Ok(());
        }
        // As many again as so far: few writes for many events, few numbers for few.
        let more = self.set_aside.clamp(NUMBERS_MIN, NUMBERS_MAX);
        let numbers = last.saturating_add(more).min(Seq::MAX - 1);
        self.set_aside = self
            .set_aside
            .saturating_add(numbers - said.numbers.min(numbers));
        let closed = None;
        let witness = Witness {
            numbers,
            closed,
            ..said
        };
        self.witness.say(witness, sync)
    }

    /// Whether a frame of so many bytes fits into the current file behind what is gathered.
    /// The reserve for the books is left out.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        self.room() >= bytes.saturating_add(BOOKS_BYTES + RESERVE_BYTES)
    }

    fn room(&self) -> u64 {
        let len = self.files.last().map_or(0, |file| file.len);
        len.saturating_sub(self.written)
            .saturating_sub(self.writer.bytes().len() as u64)
    }

    /// Writes the books, durably, when there is no room but the reserve and the next file cannot
    /// be begun: the cursor has to move on even then, since delivery is what makes room on a full
    /// disk.
    ///
    /// The reserve has two places, used in turn. When both are used the first is written over,
    /// under a new generation that makes the second stale; the second is durable by then. So a
    /// torn write costs the newest books at the most: some events are sent twice, none is lost.
    pub(crate) fn overwrite_ack(&mut self, ledger: Ledger) -> Result<(), Error> {
        self.write()?;
        self.sync()?;
        if self.room() < BOOKS_BYTES {
            self.begin_generation();
            self.written = self.written.saturating_sub(RESERVE_BYTES);
            self.synced = self.written;
        }
        self.push_ack(ledger);
        self.write()?;
        self.sync()
    }

    /// Says beside the journal that these books are its end, durably: the witness of an orderly
    /// close. Should the end of the journal be damaged as a whole, nothing in it would say so.
    pub(crate) fn write_end(&mut self, ledger: Ledger) -> Result<(), Error> {
        self.testify(ledger, Some(ledger), true)
    }

    /// Whether something written is not synced.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.synced < self.written
    }

    /// Whether the current file must be replaced before anything else.
    pub(crate) fn is_failed(&self) -> bool {
        self.files
            .last()
            .is_none_or(|file| file.handle.has_failed())
    }

    /// The error of a current file that failed.
    pub(crate) fn distrust(&mut self) -> Result<(), Error> {
        trusted(&mut self.files).map(|_| ())
    }

    /// Writes what is gathered to the file, in one piece.
    pub(crate) fn write(&mut self) -> Result<(), Error> {
        // Also with nothing gathered: what was gathered before may have gone with the failed file.
        let current = trusted(&mut self.files)?;
        if self.writer.bytes().is_empty() {
            return Ok(());
        }
        let result = current.handle.write_at(self.writer.bytes(), self.written);
        self.written += self.writer.bytes().len() as u64;
        self.writer.clear();
        // Only an error takes a copy of the path: this is done for every commit.
        result.map_err(|source| Error::storage("write to the journal", &current.path)(source))
    }

    /// Makes what is written durable.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        if !self.is_unsynced() {
            return Ok(());
        }
        let current = trusted(&mut self.files)?;
        let synced = current.handle.sync_data();
        synced.map_err(Error::storage("sync the journal", &current.path))?;
        self.synced = self.written;
        Ok(())
    }

    /// What makes durable, on any thread, what is written now; nothing if the file has failed.
    /// Its outcome is for [`note_synced`](Self::note_synced).
    pub(crate) fn sync_later(&mut self) -> Result<Later, Error> {
        let through = Through {
            generation: self.generation_max,
            offset: self.written,
        };
        trusted(&mut self.files).map(|current| Later {
            handle: Arc::clone(&current.handle),
            path: current.path.clone(),
            through,
        })
    }

    /// Takes note of a sync that was done on another thread. One of an earlier use of a file
    /// says nothing of the present one.
    pub(crate) fn note_synced(&mut self, Through { generation, offset }: Through) {
        if generation == self.generation_max {
            self.synced = self.synced.max(offset);
        }
    }

    /// Whether a file is longer than files are to be: it was made for a larger spool.
    pub(crate) fn is_too_long(&self) -> bool {
        self.files.iter().any(|file| file.len > self.file_bytes)
    }

    /// The last event of the file that would be recycled next; 0 if it holds none.
    pub(crate) fn oldest_last_seq(&self) -> Seq {
        self.files
            .first()
            .and_then(|file| file.events)
            .map_or(0, |(_, last)| last)
    }

    /// Writes and syncs the current file and begins the oldest anew, with the books as its first
    /// frames. With `sync` they are durable before the witness names the file, so that it is missed
    /// if it is lost.
    ///
    /// `recyclable` is the last event that is durably settled or sealed: a file with a later one
    /// is not begun anew (I3).
    pub(crate) fn rotate(
        &mut self,
        ledger: Ledger,
        recyclable: Seq,
        sync: bool,
    ) -> Result<(), Error> {
        self.write()?;
        self.sync()?;
        self.check_recyclable(recyclable)?;
        self.remove_surplus(recyclable)?;
        let len = self.files.first().map(|file| file.len);
        // Damaged, or made under other settings. The new one first: there are never too few.
        if len.is_some_and(|len| len != self.file_bytes) && self.replace_oldest()? {
            self.remove_surplus(recyclable)?;
        }
        self.files.rotate_left(1);
        self.written = 0;
        self.synced = 0;
        self.begin_generation();
        if let Some(file) = self.files.last_mut() {
            file.events = None;
        }
        self.push_books(ledger);
        self.write()?;
        if sync {
            self.sync()?;
        }
        self.testify(ledger, None, sync)
    }

    /// Removes files that are one too many: replaced, or left over from that.
    fn remove_surplus(&mut self, recyclable: Seq) -> Result<(), Error> {
        if self.files.len() > FILES {
            // The witness on the disk may still name a file that goes.
            self.witness.sync()?;
        }
        while self.files.len() > FILES {
            self.check_recyclable(recyclable)?;
            self.remove_oldest()?;
        }
        self.check_recyclable(recyclable)
    }

    /// Makes a file of the right length beside the oldest. False if the disk has no room: then the
    /// oldest is used as it is.
    fn replace_oldest(&mut self) -> Result<bool, Error> {
        match self.add_file() {
            Ok(()) => {
                // Behind the oldest, which goes.
                self.files.swap(0, 1);
                Ok(true)
            }
            Err(error) if error.is_out_of_room() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Begins a new file in place of the failed one, with the books as its first, gathered
    /// frame, and gives the first event that is in no other file: the owner gathers everything
    /// from there on again, writes and syncs, and then calls
    /// [`forget_failed`](Self::forget_failed).
    pub(crate) fn replace_current(&mut self, ledger: Ledger) -> Result<Option<Seq>, Error> {
        self.writer.clear();
        let failed = self.files.iter().filter(|file| file.handle.has_failed());
        let held = failed
            .filter_map(|file| file.events)
            .map(|(first, _)| first)
            .min();
        self.add_file()?;
        self.files.rotate_left(1);
        self.written = 0;
        self.synced = 0;
        self.begin_generation();
        self.push_books(ledger);
        Ok(held)
    }

    /// Removes the files that failed: everything they held is durable in the current one, which the
    /// witness names from here on.
    pub(crate) fn forget_failed(&mut self, ledger: Ledger) -> Result<(), Error> {
        self.testify(ledger, None, true)?;
        let (failed, good) = std::mem::take(&mut self.files)
            .into_iter()
            .partition(|file| file.handle.has_failed());
        self.files = good;
        let failed: Vec<JournalFile> = failed;
        for file in failed {
            // One that cannot be removed is found again at the next opening, as an old file
            // whose generation is lower than that of the new one.
            if let Err(error) = self.disk.remove(&file.path) {
                let path = file.path.display();
                tracing::warn!(%error, %path, "failed to remove a journal file that had failed");
            }
        }
        Ok(())
    }

    fn check_recyclable(&self, recyclable: Seq) -> Result<(), Error> {
        if self.oldest_last_seq() <= recyclable {
            return Ok(());
        }
        let what = "the journal cannot be recycled until its events are sealed or delivered";
        Err(Error::Full {
            what,
            used: self.bytes(),
            max: self.bytes(),
        })
    }

    fn remove_oldest(&mut self) -> Result<(), Error> {
        let oldest = self.files.remove(0);
        let removed = self.disk.remove(&oldest.path);
        removed.map_err(Error::storage("remove a journal file", &oldest.path))
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len).sum()
    }

    fn add_file(&mut self) -> Result<(), Error> {
        let number = self.files.iter().map(|file| file.number).max().unwrap_or(0) + 1;
        let path = file_path(&self.dir, number);
        // It has its name once it is whole: one that is shorter was cut.
        let new = path.with_extension("journal.new");
        let made = self.disk.create(&new, self.file_bytes).and_then(|file| {
            self.disk.rename(&new, &path)?;
            Ok(file)
        });
        let file = made.map_err(|source| {
            drop(self.disk.remove(&new));
            Error::storage("make a journal file", &path)(source)
        })?;
        let synced = self.disk.sync_dir(&self.dir);
        synced.map_err(Error::storage("sync the journal's directory", &self.dir))?;
        let len = self.file_bytes;
        let (generation, events) = (0, None);
        let file = JournalFile {
            number,
            path,
            handle: Handle::new(file),
            len,
            generation,
            events,
        };
        self.files.insert(0, file);
        Ok(())
    }

    fn begin_generation(&mut self) {
        self.generation_max += 1;
        if let Some(file) = self.files.last_mut() {
            file.generation = self.generation_max;
        }
    }

    fn place(&self) -> Place {
        // A file is at most 1 GiB, so its offsets fit.
        let offset = |at: u64| u32::try_from(at).unwrap_or(u32::MAX);
        Place {
            generation: self.generation_max,
            buffer_offset: offset(self.written),
            synced: offset(self.synced),
        }
    }
}

/// The current file, if it has not failed.
fn trusted(files: &mut [JournalFile]) -> Result<&mut JournalFile, Error> {
    let failed = |path: PathBuf| Error::Storage {
        action: "write to the journal",
        path,
        source: failed_before(),
    };
    match files.last_mut() {
        Some(file) if !file.handle.has_failed() => Ok(file),
        Some(file) => Err(failed(file.path.clone())),
        None => Err(failed(PathBuf::new())),
    }
}

fn file_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08}.journal"))
}

/// The journal files in a directory, by number. Other names are left alone.
fn list(dir: &Path) -> Result<Vec<(u32, PathBuf)>, Error> {
    let failed = || Error::storage("list the journal", dir);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if let Some(number) = name.strip_suffix(".journal").and_then(|n| n.parse().ok()) {
            files.push((number, path));
        }
    }
    files.sort_by_key(|(number, _)| *number);
    Ok(files)
}

/// The first and last event among the frames of a file.
fn events_of(scan: &Scan) -> Option<(Seq, Seq)> {
    let ranges = scan.frames.iter().filter_map(Frame::range);
    let ranges = ranges.map(|range| (range.first, range.last));
    ranges.reduce(|(first, last), range| (first.min(range.0), last.max(range.1)))
}

/// Whether any journal file of a spool holds a frame of this queue.
pub(crate) fn is_of(spool: &Path, queue: Uuid) -> Result<bool, Error> {
    if !spool.join(DIR).is_dir() {
        return Ok(false);
    }
    Ok(!look(spool, queue, true)?.frames.is_empty())
}

#[cfg(test)]
mod tests;
