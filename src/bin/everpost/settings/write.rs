//! Settings files in a spool: how they are written, as a whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use everpost::exit;

use super::NAME;
use super::file::no_follow;
use crate::fault::Fault;

/// What is about to take the name.
const NEW: &str = "settings.toml.new";

/// Replaces the settings of a spool, durably: a crash leaves the old ones or the new ones. Only
/// the owner of the spool can read them.
pub(crate) fn write(spool: &Path, text: &str) -> Result<(), Fault> {
    let new = spool.join(NEW);
    let failed = |source: io::Error| {
        let code = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => exit::FULL,
            io::ErrorKind::WouldBlock => exit::IN_USE,
            _ => exit::UNEXPECTED,
        };
        let text = format!("failed to write {}: {source}", new.display());
        Fault::new(code, text).hint("the settings are as they were; mend that and type it again")
    };
    let mut file = alone(&new).map_err(failed)?;
    let written = file
        .set_len(0)
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&new, spool.join(NAME)));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written.and_then(|()| sync_dir(spool)).map_err(failed)
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

    #[test]
    fn a_link_is_not_followed_and_two_writers_do_not_mix() {
        let dir = tempfile::tempdir().unwrap();
        let (new, other) = (dir.path().join(NEW), dir.path().join("other"));
        fs::write(&other, "other").unwrap();
        symlink(&other, &new).unwrap();
        assert_eq!(write(dir.path(), "a").unwrap_err().code, exit::UNEXPECTED);
        assert_eq!(fs::read_to_string(&other).unwrap(), "other");
        fs::remove_file(&new).unwrap();
        let first = alone(&new).unwrap();
        assert_eq!(write(dir.path(), "a").unwrap_err().code, exit::IN_USE);
        drop(first);
        write(dir.path(), "a").unwrap();
    }
}
