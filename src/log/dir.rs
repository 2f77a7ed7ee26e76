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

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::disk::{create_private_dir, make_own, open_own, sync_dir, sync_file, take_back};
use super::guard::{Guard, in_use, is_locked};
use super::marker::{self, COPY, FORMAT, Identity, MARKER, Marker};
use crate::clock::Clock;
use crate::error::Error;

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
        make: impl FnOnce(&Path, Uuid) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        // The working directory may change while the spool is open.
        let path = &std::path::absolute(path).map_err(Error::storage("find the spool", path))?;
        let dirs = find_or_make(path)?;
        let guard = Guard::lock(path).inspect_err(|error| {
            // Another process has it already.
            if !matches!(error, Error::InUse { .. }) {
                take_back(&dirs);
            }
        })?;
        let mut dir = Self {
            path: path.clone(),
            queue: Uuid::nil(),
            ballast_bytes,
            guard: Arc::new(guard),
            making: None,
        };
        // Only now: another owner may have made it a moment ago.
        if let Some(identity) = marker::identify(path)? {
            dir.queue = identity.queue;
        } else {
            let had_state = path.join("state").exists();
            dir.making = Some(Making { dirs, had_state });
            dir.queue = crate::clock::queue_id(clock);
            make(path, dir.queue)?;
            write_markers(path, dir.queue)?;
        }
        dir.restore_ballast();
        Ok(dir)
    }

    /// Writes both markers anew, if they are not as this version writes them. The caller has put on
    /// record what was wrong with one.
    pub(crate) fn mend_markers(&self, identity: &Identity) -> Result<(), Error> {
        if identity.is_current() {
            return Ok(());
        }
        self.guard.check()?;
        write_markers(&self.path, self.queue)
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

    /// Does something that needs a little room on the disk; if there is none, the ballast is given
    /// up and it is tried once more.
    pub(crate) fn with_ballast<T>(
        &self,
        mut work: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        match work() {
            Err(error) if error.is_out_of_room() && self.drop_ballast() => work(),
            other => other,
        }
    }

    /// Gives the ballast up. True if there was any.
    fn drop_ballast(&self) -> bool {
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
                .and_then(|()| sync_file(&file))
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
            "witness",
            "witness.new",
            "settings",
            "settings.new",
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

/// The user that the spool belongs to: the owner of its marker, or of the directory if it has none.
#[cfg(all(unix, feature = "control"))]
pub(crate) fn belongs_to(dir: &Path) -> std::io::Result<u32> {
    use std::os::unix::fs::MetadataExt;
    let mut markers = [MARKER, COPY].iter().map(|name| dir.join(name));
    let of_marker = markers.find_map(|path| std::fs::symlink_metadata(path).ok());
    let meta = of_marker.map_or_else(|| std::fs::metadata(dir), Ok)?;
    Ok(meta.uid())
}

/// Makes the directory and those above it that are missing, and all their names durable. Gives
/// those that were made. One that is there must be a spool, or hold nothing but what the making
/// of one leaves when it is interrupted.
fn find_or_make(path: &Path) -> Result<Vec<PathBuf>, Error> {
    if path.exists() {
        // Another process may be making it, and have come further by the second look.
        let identity = marker::identify(path).or_else(|_| match is_locked(path) {
            true => Err(in_use(path)),
            false => marker::identify(path),
        });
        return identity.map(|_| Vec::new());
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
                    .and_then(|()| sync_file(&file))
            })
            .and_then(|()| std::fs::rename(&new, &path))
            .and_then(|()| sync_dir(dir))
            .map_err(Error::storage("mark the spool", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
