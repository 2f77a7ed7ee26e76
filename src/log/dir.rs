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

use uuid::Uuid;

use super::disk::{create_private_dir, private, sync_dir};
use super::marker::{self, COPY, FORMAT, Identity, MARKER, Marker};
use crate::clock::Clock;
use crate::error::Error;

/// A spool directory that this process owns.
#[derive(Debug)]
pub(crate) struct SpoolDir {
    path: PathBuf,
    queue: Uuid,
    ballast_bytes: u64,
    // The lock is given back when the file is closed.
    _lock: File,
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
        make: impl FnOnce(&Path, Uuid) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        if !path.is_dir() {
            if path.exists() {
                return Err(Error::NotASpool {
                    path: path.to_owned(),
                });
            }
            create_durably(path)?;
        }
        marker::identify(path)?;
        let lock = lock(path)?;
        let queue = match marker::identify(path)? {
            Some(identity) => identity.queue,
            None => {
                let queue = clock.queue_id();
                make(path, queue)?;
                write_markers(path, queue)?;
                queue
            }
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

    /// Writes both markers anew, if they are not as this version writes them. The caller has put on
    /// record what was wrong with one.
    pub(crate) fn mend_markers(&self, identity: &Identity) -> Result<(), Error> {
        if identity.is_current() {
            return Ok(());
        }
        write_markers(&self.path, self.queue)
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

#[cfg(test)]
mod tests;
