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

mod files;
mod gather;
mod handle;
mod look;
mod room;
mod witness;

use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use super::disk::Disk;
use super::fates::{Fates, Stated};
use super::frame::{Frame, FrameWriter, Gone, Kind, LetterNote, Place, Scan};
use crate::error::Error;
use crate::id::Seq;
use crate::ledger::Ledger;
pub(crate) use files::FILES;
use files::{DIR, Files};
pub(crate) use handle::{Later, Through};
pub(crate) use look::{Seen, look};
pub(crate) use room::LETTERS_BYTES;
use room::Room;
use witness::{Witness, WitnessFile};

/// Beside the journal files in format 1: the books at the last orderly close.
const END: &str = "end";

/// The files, and where in the current one the next frame goes.
#[derive(Debug)]
pub(crate) struct Journal {
    files: Files,
    room: Room,
    writer: FrameWriter,
    generation_max: u64,
    /// The books of dead letters, as they follow the books at the beginning of a file, and the letter
    /// that is still to be removed.
    letters: LetterNote,
    /// How events left that were not delivered, as a file begins with it behind the books.
    fates: Arc<Fates>,
    witness: WitnessFile,
}

impl Journal {
    /// Makes the files of a new spool, and the witness beside them.
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        spool: &Path,
        file_bytes: u64,
        queue: Uuid,
    ) -> Result<(), Error> {
        Files::create(&**disk, spool, file_bytes)?;
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
        let there = seen.files.iter().map(|file| file.known.clone());
        let files = Files::own(Arc::clone(&disk), spool, file_bytes, there)?;
        let current = files.current();
        let seen_file = |number| seen.files.iter().find(|file| file.known.number == number);
        let end = current.and_then(|file| seen_file(file.known.number));
        let room = Room::new(
            current.map_or(0, |file| file.known.len),
            end.map_or(0, |file| file.end),
        );
        let mut witness = WitnessFile::new(disk, spool, queue)?;
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
            files,
            room,
            writer: FrameWriter::new(queue),
            generation_max: seen.generation_max,
            letters,
            fates: Arc::default(),
            witness,
        };
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

    /// Gathers what a use of a file begins with: the books, and what has to be known beside them of
    /// the events that left, since the frames that say it in other files may be given up.
    fn begin_file(&mut self, ledger: Ledger) {
        self.push_books(ledger);
        if !self.fates.is_empty() {
            let stated = Stated::new(ledger, Fates::clone(&self.fates));
            self.writer.fates(self.place(), &stated);
        }
    }

    /// Gathers the books that a use of a file and a generation begin with.
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
        let current = self.files.current();
        let stands = Witness {
            generation: self.generation_max,
            file: current.map_or(0, |file| file.known.number),
            file_bytes: current.map_or(0, |file| file.known.len),
            closed,
            ..Witness::default()
        };
        self.witness.testify(stands, ledger.appended, sync)
    }

    /// As [`WitnessFile::set_aside`].
    pub(crate) fn set_numbers_aside(&mut self, last: Seq, sync: bool) -> Result<(), Error> {
        self.witness.set_aside(last, sync)
    }

    /// Whether a frame of so many bytes fits into the current file behind what is gathered.
    /// The reserve for the books is left out.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        self.room.fits(self.writer.bytes().len(), bytes)
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
        if !self.room.fits_books() {
            self.begin_generation();
            self.room.reuse_reserve();
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
        self.room.is_unsynced()
    }

    /// Whether the current file must be replaced before anything else.
    pub(crate) fn is_failed(&self) -> bool {
        self.files.is_failed()
    }

    /// The error of a current file that failed.
    pub(crate) fn distrust(&self) -> Result<(), Error> {
        self.files.trusted().map(|_| ())
    }

    /// Writes what is gathered to the file, in one piece.
    pub(crate) fn write(&mut self) -> Result<(), Error> {
        // Also with nothing gathered: what was gathered before may have gone with the failed file.
        let current = self.files.trusted()?;
        let bytes = self.writer.bytes();
        if bytes.is_empty() {
            return Ok(());
        }
        let result = current.handle.write_at(bytes, self.room.written());
        self.room.note_written(bytes.len());
        self.writer.clear();
        // Only an error takes a copy of the path: this is done for every commit.
        result.map_err(|source| Error::storage("write to the journal", &current.known.path)(source))
    }

    /// Makes what is written durable.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        if !self.is_unsynced() {
            return Ok(());
        }
        let current = self.files.trusted()?;
        let synced = current.handle.sync();
        synced.map_err(Error::storage("sync the journal", &current.known.path))?;
        self.room.note_synced(self.room.written());
        Ok(())
    }

    /// What makes durable, on any thread, what is written now; nothing if the file has failed.
    /// Its outcome is for [`note_synced`](Self::note_synced).
    pub(crate) fn sync_later(&self) -> Result<Later, Error> {
        let through = Through {
            generation: self.generation_max,
            offset: self.room.written(),
        };
        self.files.trusted().map(|current| Later {
            handle: Arc::clone(&current.handle),
            path: current.known.path.clone(),
            through,
        })
    }

    /// Takes note of a sync that was done on another thread. One of an earlier use of a file
    /// says nothing of the present one.
    pub(crate) fn note_synced(&mut self, Through { generation, offset }: Through) {
        if generation == self.generation_max {
            self.room.note_synced(offset);
        }
    }

    /// Whether a file is longer than files are to be: it was made for a larger spool.
    pub(crate) fn is_too_long(&self) -> bool {
        self.files.is_too_long()
    }

    /// The last event of the file that would be recycled next; 0 if it holds none.
    pub(crate) fn oldest_last_seq(&self) -> Seq {
        self.files.oldest_last_seq()
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
        if self.files.replace_oldest()? {
            self.remove_surplus(recyclable)?;
        }
        self.turn();
        self.begin_file(ledger);
        self.write()?;
        if sync {
            self.sync()?;
        }
        self.testify(ledger, None, sync)
    }

    /// Removes files that are one too many: replaced, or left over from that.
    fn remove_surplus(&mut self, recyclable: Seq) -> Result<(), Error> {
        if self.files.has_surplus() {
            // The witness on the disk may still name a file that goes.
            self.witness.sync()?;
        }
        while self.files.has_surplus() {
            self.check_recyclable(recyclable)?;
            self.files.remove_oldest()?;
        }
        self.check_recyclable(recyclable)
    }

    /// Begins a new file in place of the failed one, with the books as its first, gathered
    /// frame, and gives the first event that is in no other file: the owner gathers everything
    /// from there on again, writes and syncs, and then calls
    /// [`forget_failed`](Self::forget_failed).
    pub(crate) fn replace_current(&mut self, ledger: Ledger) -> Result<Option<Seq>, Error> {
        self.writer.clear();
        let held = self.files.first_of_failed();
        self.files.add()?;
        self.turn();
        self.begin_file(ledger);
        Ok(held)
    }

    /// Removes the files that failed: everything they held is durable in the current one, which the
    /// witness names from here on.
    pub(crate) fn forget_failed(&mut self, ledger: Ledger) -> Result<(), Error> {
        self.testify(ledger, None, true)?;
        self.files.remove_failed();
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

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.bytes()
    }

    /// Makes the oldest file the current one.
    fn turn(&mut self) {
        self.generation_max += 1;
        self.files.turn(self.generation_max);
        let len = self.files.current().map_or(0, |file| file.known.len);
        self.room = Room::new(len, 0);
    }

    fn begin_generation(&mut self) {
        self.generation_max += 1;
        self.files.begin(self.generation_max);
    }

    fn place(&self) -> Place {
        // A file is at most 1 GiB, so its offsets fit.
        let offset = |at: u64| u32::try_from(at).unwrap_or(u32::MAX);
        Place {
            generation: self.generation_max,
            buffer_offset: offset(self.room.written()),
            synced: offset(self.room.synced()),
        }
    }
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
