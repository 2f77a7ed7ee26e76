//! Settings files in a spool: how they are written, as a whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use everpost::exit;

use super::NAME;
use super::file::no_follow;
use crate::fault::Fault;

/// What is about to take the name.
const NEW: &str = "settings.toml.new";

/// The right to write the settings of one spool: no other `init` has it meanwhile.
#[derive(Debug)]
pub(crate) struct Pen {
    spool: PathBuf,
    /// The new file, empty until it is written, and locked.
    file: File,
    is_used: bool,
}

impl Pen {
    /// Takes the pen of this spool. Until it is used nothing but an empty file is new.
    ///
    /// # Errors
    /// A fault with [`exit::IN_USE`] if another `init` has it.
    pub(crate) fn take(spool: &Path) -> Result<Self, Fault> {
        let file = alone(&spool.join(NEW)).map_err(|source| failed(spool, &source))?;
        Ok(Self {
            spool: spool.to_owned(),
            file,
            is_used: false,
        })
    }

    /// Replaces the settings, durably: a crash leaves the old ones or the new ones. Only the owner
    /// of the spool can read them.
    pub(crate) fn write(mut self, text: &str) -> Result<(), Fault> {
        self.replace(text)
            .map_err(|source| failed(&self.spool, &source))
    }

    fn replace(&mut self, text: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all(text.as_bytes())?;
        self.file.sync_all()?;
        fs::rename(self.spool.join(NEW), self.spool.join(NAME))?;
        self.is_used = true;
        sync_dir(&self.spool)
    }
}

impl Drop for Pen {
    fn drop(&mut self) {
        let new = self.spool.join(NEW);
        if !self.is_used && is_at(&self.file, &new).unwrap_or(false) {
            let _ = fs::remove_file(new);
        }
    }
}

fn failed(spool: &Path, source: &io::Error) -> Fault {
    let (code, hint) = match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (exit::FULL, "the settings are as they were; make room")
        }
        io::ErrorKind::WouldBlock => (exit::IN_USE, "type it again once that one has ended"),
        _ => (exit::UNEXPECTED, "the settings are as they were; mend that"),
    };
    let path = spool.join(NEW);
    Fault::new(
        code,
        format!("failed to write {}: {source}", path.display()),
    )
    .hint(hint)
}

/// The new file, which no other `init` is writing.
fn alone(new: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = no_follow(&mut options).open(new)?;
    let busy = || io::Error::new(io::ErrorKind::WouldBlock, "another `init` is writing it");
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    file.try_lock().map_err(|_| busy())?;
    // Another one may have given it its name between the opening and the lock.
    if is_at(&file, new)? {
        Ok(file)
    } else {
        Err(busy())
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let id = |meta: fs::Metadata| (meta.dev(), meta.ino());
    let there = fs::symlink_metadata(path).map(id).ok();
    Ok(there == Some(id(file.metadata()?)))
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

#[cfg(unix)]
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(not(unix))]
fn sync_dir(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn write(spool: &Path, text: &str) -> Result<(), Fault> {
        Pen::take(spool)?.write(text)
    }

    #[test]
    fn settings_are_replaced_as_a_whole_and_only_for_their_owner() {
        let dir = tempfile::tempdir().unwrap();
        let (path, new) = (dir.path().join(NAME), dir.path().join(NEW));
        // What a crash left, longer than what is written now.
        fs::write(&new, "#".repeat(100)).unwrap();
        write(dir.path(), "a").unwrap();
        write(dir.path(), "b").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "b");
        assert!(!new.exists());
        fs::remove_file(&path).unwrap();
        write(dir.path(), "c").unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    /// Four of eight `init` at once said that they had made the spool, each with other settings.
    #[test]
    fn a_link_is_not_followed_and_two_writers_do_not_mix() {
        let dir = tempfile::tempdir().unwrap();
        let (new, other) = (dir.path().join(NEW), dir.path().join("other"));
        fs::write(&other, "other").unwrap();
        symlink(&other, &new).unwrap();
        assert_eq!(write(dir.path(), "a").unwrap_err().code, exit::UNEXPECTED);
        assert_eq!(fs::read_to_string(&other).unwrap(), "other");
        fs::remove_file(&new).unwrap();
        let first = Pen::take(dir.path()).unwrap();
        assert_eq!(write(dir.path(), "a").unwrap_err().code, exit::IN_USE);
        drop(first);
        assert!(!new.exists());
        write(dir.path(), "a").unwrap();
    }
}
