//! The spool directory: who owns it, what it is, and the ballast.
//!
//! ```text
//! lock             held by the owner for as long as it lives, as the directory itself is; its
//!                  text is the owner's pid
//! spool.json       what this directory is: format version and queue id
//! spool.copy.json  the same again, should the first be damaged
//! ballast          just under 1 MiB, given up when opening needs space on a full disk
//! journal/  segments/  state/  quarantine/
//! ```
//!
//! `spool.json` is written last when a spool is made, after the journal files are durable, so a
//! directory without it never held an acknowledged event.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::disk::{
    create_private_dir, make_own, open_own, open_to_look, read_to_look, sync_dir, take_back,
};
use super::guard::{Guard, in_use};
use crate::clock::Clock;
use crate::error::Error;

/// The newest format of the directory as a whole that this version reads.
pub(crate) const FORMAT: u32 = 1;

const MARKER: &str = "spool.json";
const COPY: &str = "spool.copy.json";

/// Both of them.
pub(super) const MARKERS: [&str; 2] = [MARKER, COPY];

/// What a file system has in its root, and is no obstacle to a spool there.
const FOUND: &str = "lost+found";

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
    guard: Arc<Guard>,
    /// What was made for it, until it is open.
    making: Option<Making>,
}

/// A spool that is being made where there was none.
#[derive(Debug)]
struct Making {
    /// The directory and those above it, as far as they were made.
    dirs: Vec<PathBuf>,
    /// Whether there was a directory `state`: of another making that was interrupted, perhaps.
    had_state: bool,
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
    /// [`Error::InUse`], [`Error::NotYours`], [`Error::Unsafe`], [`Error::NotASpool`],
    /// [`Error::FutureFormat`], [`Error::Damaged`]: nothing was changed. [`Error::Storage`]. What
    /// was made before an error is taken back.
    pub(crate) fn open(
        path: &Path,
        clock: &dyn Clock,
        ballast_bytes: u64,
        make: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        // The working directory may change while the spool is open.
        let path = &std::path::absolute(path).map_err(Error::storage("find the spool", path))?;
        let dirs = find_or_make(path)?;
        let guard = Guard::lock(path).inspect_err(|_| take_back(&dirs))?;
        let mut dir = Self {
            path: path.clone(),
            queue: Uuid::nil(),
            ballast_bytes,
            guard: Arc::new(guard),
            making: None,
        };
        // Only now: another owner may have made it a moment ago.
        if is_marked(path) {
            dir.queue = read_markers(path)?;
        } else {
            refuse_unmarked_data(path)?;
            let had_state = path.join("state").exists();
            dir.making = Some(Making { dirs, had_state });
            make(path)?;
            dir.queue = clock.queue_id();
            write_markers(path, dir.queue)?;
        }
        dir.restore_ballast();
        Ok(dir)
    }

    /// The spool is open: what was made for it stays from here on.
    pub(crate) fn keep(&mut self) {
        self.making = None;
    }

    /// Says whether the directory is still ours.
    pub(crate) fn guard(&self) -> &Arc<Guard> {
        &self.guard
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
        self.guard.check().is_ok() && std::fs::remove_file(self.join("ballast")).is_ok()
    }

    /// Takes the ballast on board again, if there is room for it.
    pub(crate) fn restore_ballast(&self) {
        let path = self.join("ballast");
        let there = std::fs::symlink_metadata(&path);
        let there = there.map_or(0, |meta| if meta.is_file() { meta.len() } else { 0 });
        if there == self.ballast_bytes || self.guard.check().is_err() {
            return;
        }
        if there > self.ballast_bytes && self.cut_ballast(&path) {
            return;
        }
        let made = make_own(&path).and_then(|mut file| {
            let bytes = usize::try_from(self.ballast_bytes).unwrap_or(0);
            file.write_all(&vec![0xba; bytes])
                .and_then(|()| file.sync_all())
        });
        if made.is_err() {
            // The disk is full: every byte is needed, and there is nothing to give up later. Or
            // it is a link, of which only the name goes.
            drop(std::fs::remove_file(&path));
        }
    }

    /// Shortens a ballast that was made for a larger spool. Written anew it might find no room.
    fn cut_ballast(&self, path: &Path) -> bool {
        open_own(path)
            .and_then(|file| file.set_len(self.ballast_bytes))
            .is_ok()
    }

    /// Bytes of the ballast as counted against the bound.
    pub(crate) fn ballast_bytes(&self) -> u64 {
        self.ballast_bytes
    }
}

impl Drop for SpoolDir {
    /// Opening it failed: what was made for it is taken back. Nothing in it was acknowledged.
    fn drop(&mut self) {
        let Some(making) = self.making.take() else {
            return;
        };
        if self.guard.check().is_err() {
            return;
        }
        // The markers first: with one of them left it would be a spool without its files.
        let files = [
            MARKER,
            COPY,
            "spool.json.new",
            "spool.copy.json.new",
            "ballast",
        ];
        for name in files {
            drop(std::fs::remove_file(self.join(name)));
        }
        drop(sync_dir(&self.path));
        let state = (!making.had_state).then_some("state");
        for name in ["journal", "segments"].into_iter().chain(state) {
            drop(std::fs::remove_dir_all(self.join(name)));
        }
        drop(std::fs::remove_file(self.join("lock")));
        take_back(&making.dirs);
    }
}

/// What each of the two markers says, under its name; or what is wrong with it. Mends nothing.
pub(crate) fn look_at_markers(dir: &Path) -> [(&'static str, Result<Marker, String>); 2] {
    MARKERS.map(|name| (name, read_marker(&dir.join(name))))
}

/// The user that the spool belongs to: the owner of its marker, or of the directory if it has none.
#[cfg(all(unix, feature = "control"))]
pub(crate) fn belongs_to(dir: &Path) -> std::io::Result<u32> {
    use std::os::unix::fs::MetadataExt;
    let mut markers = MARKERS.iter().map(|name| dir.join(name));
    let of_marker = markers.find_map(|path| std::fs::symlink_metadata(path).ok());
    let meta = of_marker.map_or_else(|| std::fs::metadata(dir), Ok)?;
    Ok(meta.uid())
}

/// Shares the spool with others who only look at it, for as long as the file lives. Writes
/// nothing; none if there is no lock file, as in a copy that nobody ever opened.
///
/// # Errors
/// [`Error::InUse`] if somebody owns the spool. [`Error::Storage`].
pub(crate) fn lock_to_look(dir: &Path) -> Result<Option<File>, Error> {
    let path = dir.join("lock");
    let failed = || Error::storage("lock the spool", &path);
    let file = match open_to_look(&path) {
        Ok(file) => file,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed()(source)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(in_use(dir)),
        Err(TryLockError::Error(source)) => Err(failed()(source)),
    }
}

/// Makes the directory and those above it that are missing, and all their names durable. Gives
/// those that were made. One that is there must be a spool, or hold nothing but what the making
/// of one leaves when it is interrupted.
fn find_or_make(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let is_odd = |name: &String| !OWN_NAMES.contains(&name.as_str()) && name != FOUND;
    let exists = path.exists();
    if exists && (!path.is_dir() || !is_marked(path) && names(path)?.iter().any(is_odd)) {
        return Err(Error::NotASpool {
            path: path.to_owned(),
        });
    }
    if exists {
        return Ok(Vec::new());
    }
    let made =
        create_private_dir(path).map_err(Error::storage("make the spool directory", path))?;
    for dir in &made {
        let parent = dir.parent().unwrap_or(dir);
        sync_dir(parent)
            .map_err(Error::storage("sync the directory above the spool", parent))
            .inspect_err(|_| take_back(&made))?;
    }
    Ok(made)
}

/// Whether there is a marker, or something in its place.
fn is_marked(path: &Path) -> bool {
    let is_there = |name: &&str| std::fs::symlink_metadata(path.join(name)).is_ok();
    MARKERS.iter().any(is_there)
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

/// Reads what the directory is from its two markers, and mends the one that cannot be read.
///
/// A flipped bit can leave a marker readable and wrong. With a wrong queue id nothing in the spool
/// would check, and all of it would look damaged, so where the two differ, the frames of the
/// journal say which one is right.
fn read_markers(dir: &Path) -> Result<Uuid, Error> {
    let both = MARKERS.map(|name| read_marker(&dir.join(name)));
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
    let text = read_to_look(path).map_err(|error| error.to_string())?;
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
        make_own(&new)
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
            let bytes = read_to_look(&path).map_err(failed(&path))?;
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
