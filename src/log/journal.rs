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
mod runs;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::disk::{Disk, read_to_look};
use super::frame::{self, Frame, FrameWriter, HEADER_BYTES, Kind, Place, Scan, Window};
use crate::error::Error;
use crate::event::Seq;
use crate::ledger::Ledger;
use handle::{Handle, failed_before};
pub(crate) use handle::{Later, Through};

/// Journal files a spool has: one that is written, one that was, one to go on with.
pub(crate) const FILES: usize = 3;

/// Beside the journal files: the books at the last orderly close.
const END: &str = "end";

/// Bytes a frame with the books takes.
const BOOKS_BYTES: u64 = (HEADER_BYTES + 6 * 8) as u64;

/// Room at the end of each file that only the books may use: for two frames, so that the older
/// can be overwritten while the newer is durable. See [`Journal::overwrite_ack`].
const RESERVE_BYTES: u64 = 2 * BOOKS_BYTES;

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
}

/// What opening the journal found, for recovery to understand.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// All frames to believe, of all files, in the order they were written; of runs of events only
    /// the heads, until [`Journal::read_runs`].
    pub(crate) frames: Vec<Frame>,
    /// What was odd, for people.
    pub(crate) notes: Vec<String>,
    /// Whether bytes that may have held acknowledged events do not check.
    pub(crate) suspicious: bool,
}

impl Journal {
    /// Makes the files of a new spool.
    pub(crate) fn create(disk: &dyn Disk, dir: &Path, file_bytes: u64) -> Result<(), Error> {
        for number in 1..=FILES {
            let path = file_path(dir, u32::try_from(number).unwrap_or(0));
            let create = disk.create(&path, file_bytes);
            create.map_err(Error::storage("make a journal file", &path))?;
        }
        disk.sync_dir(dir)
            .map_err(Error::storage("sync the journal's directory", dir))
    }

    /// Opens the files and reads their frames. Nothing is written: call
    /// [`resume`](Self::resume) before anything else.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        file_bytes: u64,
        queue: Uuid,
    ) -> Result<(Self, Found), Error> {
        let mut found = Found::default();
        let mut files: Vec<JournalFile> = Vec::new();
        let mut generation_max = 0;
        let mut end = 0;
        let mut last_generation = 0;
        for (number, path) in list(dir)? {
            let file = disk
                .open(&path)
                .map_err(Error::storage("open a journal file", &path))?;
            let failed = || Error::storage("read a journal file", &path);
            let len = file.len().map_err(failed())?;
            let mut scan =
                frame::scan_source(&mut Window::new(&*file, len), queue).map_err(failed())?;
            scan.frames.iter_mut().for_each(|frame| frame.file = number);
            note_oddities(&path, &scan, &mut found);
            generation_max = generation_max.max(scan.generation_max);
            let generation = scan.generation();
            if generation >= last_generation {
                last_generation = generation;
                end = u64::from(scan.end());
            }
            let events = events_of(&scan);
            found.frames.extend(scan.frames);
            files.push(JournalFile {
                number,
                path,
                handle: Handle::new(file),
                len,
                generation,
                events,
            });
        }
        if files.len() < FILES {
            found.suspicious = true;
            found.notes.push(format!(
                "{} of {FILES} journal files are missing; what was appended last may have been in them",
                FILES - files.len()
            ));
        }
        note_cut_files(&files, file_bytes, &mut found);
        found
            .frames
            .sort_by_key(|frame| (frame.generation, frame.offset));
        if let Some(end) = read_end(&dir.join(END), queue)
            && end.generation >= generation_max
        {
            generation_max = end.generation;
            if found.frames.last().is_none_or(|last| last.body != end.body) {
                found.suspicious = true;
                found
                    .notes
                    .push("the journal does not reach the end it had when it was closed".into());
                found.frames.push(end);
            }
        }
        files.sort_by_key(|file| file.generation);
        let mut journal = Self {
            disk,
            dir: dir.to_owned(),
            file_bytes,
            files,
            writer: FrameWriter::new(queue),
            written: end,
            synced: 0,
            generation_max,
        };
        while journal.files.len() < FILES {
            journal.add_file()?;
        }
        // What was read may only have been in the system's memory, left there by a process that
        // was killed. From here on it is believed, so it has to be durable.
        journal.written = end;
        journal.sync()?;
        Ok((journal, found))
    }

    /// Goes on in the current file, or the next, under a new generation, beginning with the
    /// books, and syncs.
    pub(crate) fn resume(&mut self, ledger: Ledger, recyclable: Seq) -> Result<(), Error> {
        if !self.fits(0) {
            match self.rotate(ledger, recyclable) {
                Ok(()) => {}
                Err(Error::Full { .. }) => {
                    self.begin_generation();
                    return self.overwrite_ack(ledger);
                }
                Err(error) => return Err(error),
            }
        } else {
            self.begin_generation();
            self.writer.books(self.place(), Kind::Checkpoint, ledger);
        }
        self.write()?;
        self.sync()
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

    /// Keeps the books in a file of their own as well, durably: the witness of an orderly close.
    /// Should the end of the journal be damaged as a whole, nothing in it would say so, and the
    /// numbers of the events there would be given again.
    ///
    /// It is good for the generation it was written in; the next opening begins another. So it
    /// may be old, torn or missing at any time and is then not believed.
    pub(crate) fn write_end(&self, ledger: Ledger) -> Result<(), Error> {
        let path = self.dir.join(END);
        let mut writer = self.writer.empty();
        let place = Place {
            buffer_offset: 0,
            synced: 0,
            ..self.place()
        };
        writer.books(place, Kind::Ack, ledger);
        let write = || {
            let file = match self.disk.open(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    let file = self.disk.create(&path, BOOKS_BYTES)?;
                    self.disk.sync_dir(&self.dir)?;
                    file
                }
                file => file?,
            };
            file.write_at(writer.bytes(), 0)?;
            file.sync_data()
        };
        write().map_err(Error::storage("write the end of the journal", &path))
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
    /// frame, which is only gathered: the next write takes it along.
    ///
    /// `recyclable` is the last event that is durably settled or sealed: a file with a later one
    /// is not begun anew (I3).
    pub(crate) fn rotate(&mut self, ledger: Ledger, recyclable: Seq) -> Result<(), Error> {
        self.write()?;
        self.sync()?;
        self.check_recyclable(recyclable)?;
        // A file that was replaced and could not be removed is one too many.
        while self.files.len() > FILES {
            self.remove_oldest()?;
            self.check_recyclable(recyclable)?;
        }
        // Damaged, or made under other settings.
        if self
            .files
            .first()
            .is_some_and(|file| file.len != self.file_bytes)
        {
            self.remove_oldest()?;
            self.add_file()?;
        }
        self.files.rotate_left(1);
        self.written = 0;
        self.synced = 0;
        self.begin_generation();
        if let Some(file) = self.files.last_mut() {
            file.events = None;
        }
        self.writer.books(self.place(), Kind::Checkpoint, ledger);
        Ok(())
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
        self.writer.books(self.place(), Kind::Checkpoint, ledger);
        Ok(held)
    }

    /// Removes the files that failed: everything they held is durable in the current one.
    pub(crate) fn forget_failed(&mut self) {
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
        let made = self.disk.create(&path, self.file_bytes);
        let file = made.map_err(Error::storage("make a journal file", &path))?;
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

/// Reads what every journal file holds, without opening one for writing: for looking at a spool
/// that nobody owns. In order of their numbers, with the bytes of each.
pub(crate) fn scan_files(dir: &Path, queue: Uuid) -> Result<Vec<(PathBuf, u64, Scan)>, Error> {
    let mut scans = Vec::new();
    for (_, path) in list(dir)? {
        let bytes = std::fs::read(&path).map_err(Error::storage("read a journal file", &path))?;
        let len = bytes.len() as u64;
        scans.push((path, len, frame::scan(&Bytes::from(bytes), queue)));
    }
    Ok(scans)
}

fn note_oddities(path: &Path, scan: &Scan, found: &mut Found) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if scan.used && scan.frames.is_empty() {
        found.suspicious = true;
        found
            .notes
            .push(format!("journal file {name} holds nothing that checks"));
    }
    for offset in &scan.damaged {
        found.notes.push(format!(
            "journal file {name} does not check at offset {offset}"
        ));
    }
}

/// The frame of the file `end`, if it checks. One that cannot be read bears no witness.
fn read_end(path: &Path, queue: Uuid) -> Option<Frame> {
    let bytes = read_to_look(path).ok()?;
    let frame = frame::scan(&Bytes::from(bytes), queue)
        .frames
        .into_iter()
        .next()?;
    (frame.kind == Kind::Ack && frame.offset == 0).then_some(frame)
}

/// Whether any journal file holds a frame of this queue.
pub(crate) fn is_of(dir: &Path, queue: Uuid) -> Result<bool, Error> {
    for (_, path) in list(dir)? {
        let bytes = read_to_look(&path).map_err(Error::storage("read a journal file", &path))?;
        if !frame::scan(&Bytes::from(bytes), queue).frames.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Files are made in full and never cut. One whose length is neither that of the settings nor
/// that of another file was cut short, unless it is the last of those made under other settings.
fn note_cut_files(files: &[JournalFile], file_bytes: u64, found: &mut Found) {
    // Of one that holds something and nothing that checks, that is said already.
    let readable = |file: &&JournalFile| file.generation > 0 || file.len == 0;
    for file in files
        .iter()
        .filter(readable)
        .filter(|file| file.len < file_bytes)
    {
        if files.iter().filter(|other| other.len == file.len).count() == 1 {
            found.suspicious = true;
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            found.notes.push(format!(
                "journal file {name} has {} bytes, unlike the others; what was appended last may have been in what is missing",
                file.len
            ));
        }
    }
}

#[cfg(test)]
mod tests;
