//! Whether the spool is still ours: the directory at its path, the lock in it, and the process.
//!
//! A lock file alone does not make an owner certain. If it is removed, a second owner makes and
//! locks another one; if the directory is moved or replaced, a second owner locks a different one;
//! and after a fork two processes hold the same lock. In each case both would acknowledge events,
//! and those of one would be gone. So the directory is locked as well, and before anything is
//! acknowledged, or made, renamed or removed by path, the owner looks whether all is as it was.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::disk::{Disk, DiskFile, open_to_lock, open_to_look};
use super::rights;
use crate::clock::{Clock as _, SystemClock};
use crate::error::Error;
use crate::observe;

/// The process that something was made in. Threads, and what they were about to do, do not follow
/// into a forked one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    /// This one.
    pub(crate) fn this() -> Self {
        Self(std::process::id())
    }

    /// One that is not this.
    #[cfg(test)]
    pub(crate) fn other() -> Self {
        Self(std::process::id() ^ 1)
    }

    /// Whether this is still the process. A system call, and no other: it is done for each append.
    pub(crate) fn is_this(self) -> bool {
        self == Self::this()
    }

    /// # Errors
    /// [`Error::NotOwner`] in a process that was forked from it.
    pub(crate) fn check(self, spool: &Path) -> Result<(), Error> {
        if self.is_this() {
            return Ok(());
        }
        Err(Error::NotOwner {
            path: spool.to_owned(),
            reason: format!(
                "process {} opened it, and process {} was forked from that one",
                self.0,
                std::process::id()
            ),
        })
    }
}

/// The process, for what is asked with each append: a system call would take a fifth of the time of
/// one that is only written.
#[derive(Debug)]
pub(crate) struct SameProcess {
    process: Process,
    /// When it was asked last, in nanoseconds of the monotonic clock.
    asked_ns: AtomicU64,
}

/// A fork takes longer than this, since the system copies the tables of the memory: what was so
/// before it is asked again behind it.
const FORK_NS: u64 = 10_000;

impl SameProcess {
    pub(crate) fn this() -> Self {
        Self::of(Process::this())
    }

    /// As in the process that is given.
    pub(crate) fn of(process: Process) -> Self {
        Self {
            process,
            asked_ns: AtomicU64::new(0),
        }
    }

    /// # Errors
    /// [`Error::NotOwner`] in a process that was forked from it.
    pub(crate) fn check(&self, spool: &Path) -> Result<(), Error> {
        let now = SystemClock.monotonic().as_nanos();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let asked = self.asked_ns.load(Ordering::Relaxed);
        if asked > 0 && now.saturating_sub(asked) < FORK_NS {
            return Ok(());
        }
        self.process.check(spool)?;
        self.asked_ns.store(now, Ordering::Relaxed);
        Ok(())
    }
}

/// A spool directory that is locked.
#[derive(Debug)]
pub(crate) struct Guard {
    /// Absolute: the working directory may change.
    path: PathBuf,
    lock_path: PathBuf,
    process: Process,
    dir: Id,
    lock: Id,
    /// What was found amiss. It stays so, even if the directory comes back: another owner may
    /// have been there meanwhile.
    lost: OnceLock<&'static str>,
    // The locks are given back when the files are closed.
    _files: (Option<File>, File),
}

impl Guard {
    /// Locks the directory, and the file `lock` in it, which then says the pid of this process.
    ///
    /// # Errors
    /// [`Error::InUse`]; [`Error::NotYours`] and [`Error::Unsafe`], as [`rights::check`];
    /// [`Error::Storage`]. Nothing was changed.
    pub(crate) fn lock(path: &Path) -> Result<Self, Error> {
        let failed = || Error::storage("lock the spool", path);
        let path = std::path::absolute(path).map_err(failed())?;
        let dir = lock_dir(&path)?;
        if let Err(refusal) = rights::check(&path) {
            // Another user's spool that is in use can be asked through its owner.
            return Err(if is_locked(&path) {
                in_use(&path)
            } else {
                refusal
            });
        }
        let lock_path = path.join("lock");
        let lock = lock_file(&path, &lock_path)?;
        let guard = Self {
            dir: Id::of(fs::metadata(&path)).map_err(failed())?,
            lock: Id::of(lock.metadata()).map_err(Error::storage("lock the spool", &lock_path))?,
            process: Process::this(),
            lost: OnceLock::new(),
            path,
            lock_path,
            _files: (dir, lock),
        };
        guard.check_handle()?;
        guard.check()?;
        Ok(guard)
    }

    /// The directory, as an absolute path.
    #[cfg(test)]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks whether the spool is still ours. Once it was not, it never is again.
    ///
    /// # Errors
    /// [`Error::NotOwner`]. [`Error::Storage`] if the system does not say: then nothing may be
    /// acknowledged now, but perhaps later.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.process.check(&self.path)?;
        let lost = match self.lost.get() {
            Some(reason) => Some(*reason),
            None => self
                .find_loss()?
                .map(|reason| *self.lost.get_or_init(|| reason)),
        };
        match lost {
            None => Ok(()),
            Some(reason) => Err(Error::NotOwner {
                path: self.path.clone(),
                reason: reason.to_owned(),
            }),
        }
    }

    /// As [`check`](Self::check), after something was written and before it is acknowledged. If the
    /// system does not say, that is for ever too: what was written and not acknowledged would be
    /// written again, under the same numbers, and be there twice.
    ///
    /// # Errors
    /// [`Error::NotOwner`].
    pub(crate) fn check_written(&self) -> Result<(), Error> {
        self.check().or_else(|error| {
            if !matches!(error, Error::NotOwner { .. }) {
                observe::owner_in_doubt(&error);
                let _ = self
                    .lost
                    .set("the system does not say whether it is still there");
            }
            self.check()
        })
    }

    /// Whether it was found once that the spool is not ours. Costs nothing.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.get().is_some()
    }

    fn find_loss(&self) -> Result<Option<&'static str>, Error> {
        // In another directory there would be another lock file, so that one look is enough. This
        // is done for each commit that syncs.
        let found = fs::symlink_metadata(&self.lock_path);
        if found.as_ref().is_ok_and(has_one_name) && Id::of(found).is_ok_and(|id| id == self.lock) {
            return Ok(None);
        }
        let dir = "its directory was moved or removed";
        let other = "another directory is in its place";
        let lost = self.differs(fs::metadata(&self.path), self.dir, dir, other)?;
        if lost.is_some() {
            return Ok(lost);
        }
        let lock = "its lock file was removed";
        let other = "its lock file was replaced";
        self.differs(
            fs::symlink_metadata(&self.lock_path),
            self.lock,
            lock,
            other,
        )
    }

    /// What is wrong with what was found, if anything is.
    fn differs(
        &self,
        found: io::Result<fs::Metadata>,
        expected: Id,
        gone: &'static str,
        other: &'static str,
    ) -> Result<Option<&'static str>, Error> {
        match Id::of(found) {
            Ok(id) if id == expected => Ok(None),
            Ok(_) => Ok(Some(other)),
            Err(source) => match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(Some(gone)),
                _ => Err(Error::storage(
                    "see whether the spool is still ours",
                    &self.path,
                )(source)),
            },
        }
    }

    /// The directory that was locked is the one at the path: in between it may have been replaced.
    fn check_handle(&self) -> Result<(), Error> {
        let Some(dir) = &self._files.0 else {
            return Ok(());
        };
        let locked =
            Id::of(dir.metadata()).map_err(Error::storage("lock the spool", &self.path))?;
        if locked != self.dir {
            let _ = self.lost.set("another directory is in its place");
        }
        Ok(())
    }
}

/// Whether a file has no second name, under which it could be in another directory too.
#[cfg(unix)]
fn has_one_name(meta: &fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(meta) == 1
}

#[cfg(not(unix))]
fn has_one_name(_: &fs::Metadata) -> bool {
    true
}

/// What a file is, whatever its name: device and inode. Where there is no such thing, open files
/// keep their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Id(u64, u64);

impl Id {
    #[cfg(unix)]
    fn of(found: io::Result<fs::Metadata>) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        found.map(|meta| Self(meta.dev(), meta.ino()))
    }

    #[cfg(not(unix))]
    fn of(found: io::Result<fs::Metadata>) -> io::Result<Self> {
        found.map(|_| Self(0, 0))
    }
}

/// Locks the directory itself. None where the system cannot: then the lock file has to do.
fn lock_dir(path: &Path) -> Result<Option<File>, Error> {
    if cfg!(not(unix)) {
        return Ok(None);
    }
    let dir = File::open(path).map_err(Error::storage("lock the spool", path))?;
    match dir.try_lock() {
        Err(TryLockError::WouldBlock) => Err(in_use(path)),
        // Such as a network file system that locks only what is open for writing.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(dir)),
    }
}

/// Takes the lock and writes this process's pid into it.
fn lock_file(dir: &Path, path: &Path) -> Result<File, Error> {
    let failed = || Error::storage("lock the spool", path);
    // Opened without truncation: until the lock is ours, the pid in it is another owner's.
    let mut file = open_to_lock(path).map_err(failed())?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use(dir)),
        Err(TryLockError::Error(source)) => return Err(failed()(source)),
    }
    let is_new = file.metadata().map_err(failed())?.len() == 0;
    let pid = std::process::id().to_string();
    let written = file
        .set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| file.write_all(pid.as_bytes()));
    if written.is_err() && is_new {
        // Still under the lock: nothing stays of a spool that a full disk did not let begin.
        let _ = fs::remove_file(path);
    }
    written.map_err(failed())?;
    Ok(file)
}

/// Whether the lock file of a spool is locked.
pub(super) fn is_locked(dir: &Path) -> bool {
    let locked = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    open_to_look(&dir.join("lock")).is_ok_and(locked)
}

/// The spool is in use, by the process that its lock file names, if that can be read.
pub(super) fn in_use(dir: &Path) -> Error {
    let mut text = String::new();
    // Best effort: some systems do not let a locked file be read, and it may have been removed.
    let read =
        open_to_look(&dir.join("lock")).and_then(|file| file.take(32).read_to_string(&mut text));
    Error::InUse {
        path: dir.to_owned(),
        pid: read.ok().and_then(|_| text.trim().parse().ok()),
    }
}

/// A disk on which only the owner of the spool makes and removes files.
#[derive(Debug)]
pub(crate) struct Guarded {
    disk: Arc<dyn Disk>,
    guard: Arc<Guard>,
}

impl Guarded {
    /// This disk, under this guard.
    pub(crate) fn new(disk: Arc<dyn Disk>, guard: Arc<Guard>) -> Arc<Self> {
        Arc::new(Self { disk, guard })
    }

    /// As an error of the system; [`Error::storage`] makes of it again what it is.
    fn check(&self) -> io::Result<()> {
        self.guard.check().map_err(io::Error::other)
    }
}

impl Disk for Guarded {
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check()?;
        self.disk.rename(from, to)
    }

    fn create(&self, path: &Path, len: u64) -> io::Result<Box<dyn DiskFile>> {
        self.check()?;
        self.disk.create(path, len)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.check()?;
        self.disk.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    fn spool() -> (tempfile::TempDir, PathBuf, Guard) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        fs::create_dir(&path).unwrap();
        let guard = Guard::lock(&path).unwrap();
        guard.check().unwrap();
        (dir, path, guard)
    }

    fn reason(guard: &Guard) -> String {
        match guard.check().unwrap_err() {
            Error::NotOwner { path, reason } => {
                assert_eq!(path, guard.path());
                reason
            }
            other => panic!("{other}"),
        }
    }

    // An owner whose lock file was removed went on, and a second one locked a new file beside it:
    // what either acknowledged, the other wrote over.
    #[test]
    fn i14_without_its_lock_file_there_is_neither_the_owner_nor_a_second_one() {
        let (_dir, path, guard) = spool();
        fs::remove_file(path.join("lock")).unwrap();
        let error = Guard::lock(&path).unwrap_err();
        assert!(matches!(error, Error::InUse { pid: None, .. }), "{error}");
        assert_eq!(reason(&guard), "its lock file was removed");
        fs::write(path.join("lock"), "1").unwrap();
        assert_eq!(reason(&guard), "its lock file was removed", "it stays lost");
        drop(guard);
        Guard::lock(&path).unwrap();
    }

    #[test]
    fn i14_a_lock_file_or_directory_that_was_replaced_is_found() {
        let (_dir, path, guard) = spool();
        fs::write(path.join("new"), "1").unwrap();
        fs::rename(path.join("new"), path.join("lock")).unwrap();
        assert_eq!(reason(&guard), "its lock file was replaced");
        let (dir, path, guard) = spool();
        fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(reason(&guard), "another directory is in its place");
        // Coming back does not help: a second owner may have been there.
        fs::remove_dir(&path).unwrap();
        fs::rename(dir.path().join("elsewhere"), &path).unwrap();
        assert_eq!(reason(&guard), "another directory is in its place");
    }

    #[test]
    fn i14_a_directory_that_is_gone_is_found_and_nothing_is_made_in_another() {
        let (dir, path, guard) = spool();
        fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        assert_eq!(reason(&guard), "its directory was moved or removed");
        fs::create_dir(&path).unwrap();
        let guarded = Guarded::new(Arc::new(super::super::disk::RealDisk), Arc::new(guard));
        let file = path.join("1");
        let made = guarded
            .create(&file, 1)
            .map(drop)
            .map_err(Error::storage("make", &file));
        assert!(matches!(made, Err(Error::NotOwner { .. })), "{made:?}");
        fs::write(&file, "theirs").unwrap();
        guarded.remove(&file).unwrap_err();
        assert!(file.exists());
    }

    #[test]
    fn i14_a_process_that_did_not_open_the_spool_is_no_owner() {
        let (_dir, path, mut guard) = spool();
        guard.process = Process::other();
        assert!(reason(&guard).contains("was forked from"));
        assert!(path.join("lock").exists());
    }

    #[test]
    fn a_second_owner_is_told_the_pid_of_the_first() {
        let (_dir, path, _guard) = spool();
        let Error::InUse { pid, .. } = Guard::lock(&path).unwrap_err() else {
            panic!("locked twice")
        };
        assert_eq!(pid, Some(std::process::id()));
    }
}
