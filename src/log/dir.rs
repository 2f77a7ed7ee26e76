//! The spool directory: who owns it, what it is, and the ballast.
//!
//! ```text
//! lock             held by the owner for as long as it lives; its text is the owner's pid
//! spool.json       what this directory is: format version and queue id
//! spool.copy.json  the same again, should the first be damaged
//! ballast          just under 1 MiB, given up when opening needs space on a full disk
//! journal/  segments/  state/  quarantine/
//! ```
//!
//! `spool.json` is written last when a spool is made, after the journal files are durable, so a
//! directory without it never held an acknowledged event.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::disk::{create_private_dir, private, sync_dir};
use crate::clock::Clock;
use crate::error::Error;

/// The newest format of the directory as a whole that this version reads.
pub(crate) const FORMAT: u32 = 1;

const MARKER: &str = "spool.json";
const COPY: &str = "spool.copy.json";

/// Names that may stand in a directory whose making was interrupted.
const OWN_NAMES: [&str; 9] = [
    "lock",
    MARKER,
    COPY,
    "spool.json.new",
    "spool.copy.json.new",
    "ballast",
    "journal",
    "segments",
    "state",
];

/// A spool directory that this process owns.
#[derive(Debug)]
pub(crate) struct SpoolDir {
    path: PathBuf,
    queue: Uuid,
    ballast_bytes: u64,
    // The lock is given back when the file is closed.
    _lock: File,
}

/// What `spool.json` says.
#[derive(Serialize, Deserialize)]
pub(crate) struct Marker {
    pub(crate) everpost_format: u32,
    pub(crate) queue_id: Uuid,
}

impl SpoolDir {
    /// Takes the lock and reads what the directory is; makes a new spool if it is empty or does
    /// not exist. `make` fills a new spool before it is marked as one.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::NotASpool`], [`Error::FutureFormat`], [`Error::Damaged`]:
    /// nothing was changed. [`Error::Storage`].
    pub(crate) fn open(
        path: &Path,
        clock: &dyn Clock,
        ballast_bytes: u64,
        make: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        if !path.is_dir() {
            if path.exists() {
                return Err(Error::NotASpool {
                    path: path.to_owned(),
                });
            }
            create_durably(path)?;
        }
        let marked = path.join(MARKER).exists() || path.join(COPY).exists();
        if !marked
            && names(path)?
                .iter()
                .any(|name| !OWN_NAMES.contains(&name.as_str()))
        {
            return Err(Error::NotASpool {
                path: path.to_owned(),
            });
        }
        let lock = lock(path)?;
        let queue = if marked {
            read_markers(path)?
        } else {
            refuse_unmarked_data(path)?;
            make(path)?;
            let queue = clock.queue_id();
            write_markers(path, queue)?;
            queue
        };
        let dir = Self {
            path: path.to_owned(),
            queue,
            ballast_bytes,
            _lock: lock,
        };
        dir.restore_ballast();
        Ok(dir)
    }

    pub(crate) fn queue(&self) -> Uuid {
        self.queue
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Gives the ballast up. True if there was any.
    pub(crate) fn drop_ballast(&self) -> bool {
        std::fs::remove_file(self.join("ballast")).is_ok()
    }

    /// Takes the ballast on board again, if there is room for it.
    pub(crate) fn restore_ballast(&self) {
        let path = self.join("ballast");
        let there = std::fs::metadata(&path).map_or(0, |meta| meta.len());
        if there == self.ballast_bytes || (there > self.ballast_bytes && self.cut_ballast(&path)) {
            return;
        }
        let made = private(OpenOptions::new().write(true).create(true).truncate(true))
            .open(&path)
            .and_then(|mut file| {
                let bytes = usize::try_from(self.ballast_bytes).unwrap_or(0);
                file.write_all(&vec![0xba; bytes])
                    .and_then(|()| file.sync_all())
            });
        if made.is_err() {
            // The disk is full: every byte is needed, and there is nothing to give up later.
            drop(std::fs::remove_file(&path));
        }
    }

    /// Shortens a ballast that was made for a larger spool. Written anew it might find no room.
    fn cut_ballast(&self, path: &Path) -> bool {
        let file = OpenOptions::new().write(true).open(path);
        file.and_then(|file| file.set_len(self.ballast_bytes))
            .is_ok()
    }

    /// Bytes of the ballast as counted against the bound.
    pub(crate) fn ballast_bytes(&self) -> u64 {
        self.ballast_bytes
    }
}

/// What each of the two markers says, under its name; or what is wrong with it. Mends nothing.
pub(crate) fn look_at_markers(dir: &Path) -> [(&'static str, Result<Marker, String>); 2] {
    [MARKER, COPY].map(|name| (name, read_marker(&dir.join(name))))
}

/// Shares the spool with others who only look at it, for as long as the file lives. Writes
/// nothing; none if there is no lock file, as in a copy that nobody ever opened.
///
/// # Errors
/// [`Error::InUse`] if somebody owns the spool. [`Error::Storage`].
pub(crate) fn lock_to_look(dir: &Path) -> Result<Option<File>, Error> {
    let path = dir.join("lock");
    let failed = || Error::storage("lock the spool", &path);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed()(source)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(in_use(dir, &mut file)),
        Err(TryLockError::Error(source)) => Err(failed()(source)),
    }
}

fn in_use(dir: &Path, lock: &mut File) -> Error {
    let mut text = String::new();
    // Best effort: some systems do not let a locked file be read.
    let pid = lock
        .read_to_string(&mut text)
        .ok()
        .and_then(|_| text.trim().parse().ok());
    Error::InUse {
        path: dir.to_owned(),
        pid,
    }
}

/// Makes the directory and those above it that are missing, and all their names durable.
fn create_durably(path: &Path) -> Result<(), Error> {
    let is_new = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
    let new: Vec<PathBuf> = path
        .ancestors()
        .take_while(is_new)
        .map(Path::to_owned)
        .collect();
    create_private_dir(path).map_err(Error::storage("make the spool directory", path))?;
    for dir in new {
        // The parent of a relative name of one part is the working directory.
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        sync_dir(parent).map_err(Error::storage("sync the directory above the spool", parent))?;
    }
    Ok(())
}

fn names(path: &Path) -> Result<Vec<String>, Error> {
    let failed = || Error::storage("list the spool directory", path);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed())? {
        names.push(
            entry
                .map_err(failed())?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    Ok(names)
}

/// Takes the lock and writes this process's pid into it.
fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let failed = || Error::storage("lock the spool", &path);
    // Opened without truncation: until the lock is ours, the pid in it is somebody else's.
    let mut options = OpenOptions::new();
    let mut file = private(options.read(true).write(true).create(true).truncate(false))
        .open(&path)
        .map_err(failed())?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use(dir, &mut file)),
        Err(TryLockError::Error(source)) => return Err(failed()(source)),
    }
    let pid = std::process::id().to_string();
    file.set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| file.write_all(pid.as_bytes()))
        .map_err(failed())?;
    Ok(file)
}

/// Reads what the directory is from its two markers, and mends the one that cannot be read.
///
/// A flipped bit can leave a marker readable and wrong. With a wrong queue id nothing in the spool
/// would check, and all of it would look damaged, so where the two differ, the frames of the
/// journal say which one is right.
fn read_markers(dir: &Path) -> Result<Uuid, Error> {
    let both = [MARKER, COPY].map(|name| read_marker(&dir.join(name)));
    for marker in both.iter().flatten() {
        if marker.everpost_format != FORMAT {
            return Err(Error::FutureFormat {
                path: dir.to_owned(),
                found: marker.everpost_format,
                supported: FORMAT,
            });
        }
    }
    let damaged = |what: String| Error::Damaged {
        what,
        path: dir.to_owned(),
    };
    let queue = match &both {
        [Ok(first), Ok(copy)] if first.queue_id == copy.queue_id => return Ok(first.queue_id),
        [Ok(first), Ok(copy)] => {
            let known = |queue| super::journal::is_of(&dir.join("journal"), queue);
            match (known(first.queue_id)?, known(copy.queue_id)?) {
                (true, false) => first.queue_id,
                (false, true) => copy.queue_id,
                _ => {
                    let what = format!("{MARKER} and {COPY} name different queues");
                    return Err(damaged(what));
                }
            }
        }
        [Ok(good), Err(_)] | [Err(_), Ok(good)] => good.queue_id,
        [Err(what), Err(_)] => {
            let what = format!("neither {MARKER} nor {COPY} can be read: {what}");
            return Err(damaged(what));
        }
    };
    tracing::warn!(path = %dir.display(), "one of the two spool markers was damaged or missing; written again");
    write_markers(dir, queue)?;
    Ok(queue)
}

fn read_marker(path: &Path) -> Result<Marker, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

fn write_markers(dir: &Path, queue_id: Uuid) -> Result<(), Error> {
    let marker = Marker {
        everpost_format: FORMAT,
        queue_id,
    };
    let text = serde_json::to_string_pretty(&marker).unwrap_or_default() + "\n";
    // The copy first: once the marker itself is there, both are.
    for name in [COPY, MARKER] {
        let (new, path) = (dir.join(format!("{name}.new")), dir.join(name));
        let mut options = OpenOptions::new();
        private(options.write(true).create(true).truncate(true))
            .open(&new)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())
                    .and_then(|()| file.sync_all())
            })
            .and_then(|()| std::fs::rename(&new, &path))
            .and_then(|()| sync_dir(dir))
            .map_err(Error::storage("mark the spool", &path))?;
    }
    Ok(())
}

/// Without a marker there can be no acknowledged event, unless somebody removed the markers.
/// Data is then left untouched: without the queue id nothing in it can be checked.
fn refuse_unmarked_data(dir: &Path) -> Result<(), Error> {
    let failed = |path: &PathBuf| Error::storage("look into an unfinished spool", path.clone());
    let journal = dir.join("journal");
    let mut with_data = dir
        .join("segments")
        .read_dir()
        .is_ok_and(|mut dir| dir.next().is_some());
    if journal.is_dir() {
        for entry in std::fs::read_dir(&journal).map_err(failed(&journal))? {
            let path = entry.map_err(failed(&journal))?.path();
            let bytes = std::fs::read(&path).map_err(failed(&path))?;
            with_data |= bytes.iter().any(|byte| *byte != 0);
        }
    }
    if with_data {
        let what = format!("there is data but neither {MARKER} nor {COPY}");
        return Err(Error::Damaged {
            what,
            path: dir.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
