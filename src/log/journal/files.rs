//! The files of a journal: the one that is written, the one that was, and the one to go on with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::handle::{Handle, failed_before};
use crate::error::Error;
use crate::id::Seq;
use crate::log::disk::{Disk, create_private_dir};
use crate::observe;

/// Journal files a spool has: one that is written, one that was, one to go on with.
pub(crate) const FILES: usize = 3;

/// The directory of the files, in the spool.
pub(super) const DIR: &str = "journal";

/// What is known of a journal file.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) number: u32,
    pub(super) path: PathBuf,
    pub(super) len: u64,
    /// Of the last frame that is believed; 0 if there is none.
    pub(super) generation: u64,
    /// The first and last event in its present use; `None` if there is none.
    pub(super) events: Option<(Seq, Seq)>,
}

/// An open journal file.
#[derive(Debug)]
pub(super) struct JournalFile {
    pub(super) known: Known,
    pub(super) handle: Arc<Handle>,
}

/// The files, in the order of their use.
#[derive(Debug)]
pub(super) struct Files {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file_bytes: u64,
    /// The current file is the last.
    files: Vec<JournalFile>,
}

impl Files {
    /// Makes those of a new spool, durably.
    pub(super) fn create(disk: &dyn Disk, spool: &Path, file_bytes: u64) -> Result<(), Error> {
        let dir = spool.join(DIR);
        for number in 1..=FILES {
            let path = file_path(&dir, u32::try_from(number).unwrap_or(0));
            let create = disk.create(&path, file_bytes);
            create.map_err(Error::storage("make a journal file", &path))?;
        }
        disk.sync_dir(&dir)
            .map_err(Error::storage("sync the journal's directory", &dir))
    }

    /// Opens the files that are there, and makes those that are missing.
    pub(super) fn own(
        disk: Arc<dyn Disk>,
        spool: &Path,
        file_bytes: u64,
        there: impl Iterator<Item = Known>,
    ) -> Result<Self, Error> {
        let dir = spool.join(DIR);
        if !dir.is_dir() {
            create_private_dir(&dir)
                .and_then(|_| disk.sync_dir(spool))
                .map_err(Error::storage("make the journal's directory", &dir))?;
        }
        let mut files = Vec::new();
        for known in there {
            let file = disk.open(&known.path);
            let file = file.map_err(Error::storage("open a journal file", &known.path))?;
            let handle = Handle::new(file);
            files.push(JournalFile { known, handle });
        }
        files.sort_by_key(|file| file.known.generation);
        let mut files = Self {
            disk,
            dir,
            file_bytes,
            files,
        };
        while files.files.len() < FILES {
            files.add()?;
        }
        Ok(files)
    }

    /// The file that is written.
    pub(super) fn current(&self) -> Option<&JournalFile> {
        self.files.last()
    }

    /// The same, if it has not failed.
    pub(super) fn trusted(&self) -> Result<&JournalFile, Error> {
        match self.current() {
            Some(file) if !file.handle.has_failed() => Ok(file),
            failed => Err(Error::Storage {
                action: "write to the journal",
                path: failed.map_or_else(PathBuf::new, |file| file.known.path.clone()),
                source: failed_before(),
            }),
        }
    }

    /// Whether the current file must be replaced before anything else.
    pub(super) fn is_failed(&self) -> bool {
        self.current().is_none_or(|file| file.handle.has_failed())
    }

    /// Notes that the current file holds these events.
    pub(super) fn note_events(&mut self, first: Seq, last: Seq) {
        if let Some(file) = self.files.last_mut() {
            let (begin, end) = file.known.events.unwrap_or((first, last));
            file.known.events = Some((begin.min(first), end.max(last)));
        }
    }

    /// The last event of the file that would be recycled next; 0 if it holds none.
    pub(super) fn oldest_last_seq(&self) -> Seq {
        let events = self.files.first().and_then(|file| file.known.events);
        events.map_or(0, |(_, last)| last)
    }

    /// Whether a file is longer than files are to be: it was made for a larger spool.
    pub(super) fn is_too_long(&self) -> bool {
        self.files
            .iter()
            .any(|file| file.known.len > self.file_bytes)
    }

    /// Whether there is one too many: replaced, or left over from that.
    pub(super) fn has_surplus(&self) -> bool {
        self.files.len() > FILES
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.known.len).sum()
    }

    /// Makes the oldest file the current one, under this generation.
    pub(super) fn turn(&mut self, generation: u64) {
        self.files.rotate_left(1);
        if let Some(file) = self.files.last_mut() {
            file.known.events = None;
        }
        self.begin(generation);
    }

    /// The current file goes on under this generation.
    pub(super) fn begin(&mut self, generation: u64) {
        if let Some(file) = self.files.last_mut() {
            file.known.generation = generation;
        }
    }

    /// Makes a file of the right length in place of the oldest, if that was damaged, or made under
    /// other settings, and puts it behind the oldest, which goes: there are never too few. False if
    /// there is no need, or if the disk has no room: then the oldest is used as it is.
    pub(super) fn replace_oldest(&mut self) -> Result<bool, Error> {
        let len = self.files.first().map(|file| file.known.len);
        if len.is_none_or(|len| len == self.file_bytes) {
            return Ok(false);
        }
        match self.add() {
            Ok(()) => {
                self.files.swap(0, 1);
                Ok(true)
            }
            Err(error) if error.is_out_of_room() => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn remove_oldest(&mut self) -> Result<(), Error> {
        let oldest = self.files.remove(0);
        let removed = self.disk.remove(&oldest.known.path);
        removed.map_err(Error::storage("remove a journal file", &oldest.known.path))
    }

    /// The first event that is only in files that failed.
    pub(super) fn first_of_failed(&self) -> Option<Seq> {
        let failed = self.files.iter().filter(|file| file.handle.has_failed());
        let events = failed.filter_map(|file| file.known.events);
        events.map(|(first, _)| first).min()
    }

    /// Removes the files that failed.
    pub(super) fn remove_failed(&mut self) {
        for file in self.files.extract_if(.., |file| file.handle.has_failed()) {
            // One that cannot be removed is found again at the next opening, as an old file
            // whose generation is lower than that of the new one.
            if let Err(error) = self.disk.remove(&file.known.path) {
                observe::failed_file_left(&file.known.path, &error);
            }
        }
    }

    /// Makes a file, durably, as the oldest.
    pub(super) fn add(&mut self) -> Result<(), Error> {
        let number = self
            .files
            .iter()
            .map(|file| file.known.number)
            .max()
            .unwrap_or(0)
            + 1;
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
        let known = Known {
            number,
            path,
            len: self.file_bytes,
            generation: 0,
            events: None,
        };
        let handle = Handle::new(file);
        self.files.insert(0, JournalFile { known, handle });
        Ok(())
    }
}

pub(super) fn file_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08}.journal"))
}

/// The journal files in a directory, by number. Other names are left alone.
pub(super) fn list(dir: &Path) -> Result<Vec<(u32, PathBuf)>, Error> {
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
