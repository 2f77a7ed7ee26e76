//! The file system as the journal sees it, so that tests can make it fail below the logic.
//!
//! sled opens its files itself and is not behind this.

use std::fmt::Debug;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;

#[cfg(unix)]
use std::fs::Permissions;

/// Makes, opens and removes files, and makes names durable.
pub(crate) trait Disk: Send + Sync + Debug {
    /// Makes a file of `len` zero bytes, all of them written, so that overwriting them later
    /// changes no metadata. The content is durable afterwards; the name is only after
    /// [`sync_dir`](Disk::sync_dir).
    fn create(&self, path: &Path, len: u64) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, in place of whatever has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// One open file.
pub(crate) trait DiskFile: Send + Sync + Debug {
    /// How many bytes it has.
    fn len(&self) -> io::Result<u64>;

    /// Fills `bytes` with what is at `offset`; an error if there is not so much.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the content durable. After an error nothing is known, and no later success of the
    /// same file proves anything: the system may have dropped the pages.
    fn sync(&self) -> io::Result<()>;
}

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path, len: u64) -> io::Result<Box<dyn DiskFile>> {
        let file = make_own(path)?;
        const BLOCK: usize = 1 << 16;
        let zeroes = [0; BLOCK];
        let mut at = 0;
        while at < len {
            let n = (len - at).min(BLOCK as u64);
            write_all_at(
                &file,
                zeroes
                    .get(..usize::try_from(n).unwrap_or(BLOCK))
                    .unwrap_or(&zeroes),
                at,
            )?;
            at += n;
        }
        sync_file(&file)?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(open_own(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        sync_dir(path)
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        read_exact_at(self, bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        write_all_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        sync_data(self)
    }
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(not(unix))]
fn write_all_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(not(unix))]
fn read_exact_at(mut file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(bytes)
}

/// Opens a file of a spool for its owner, for reading and writing, if it is a regular file of ours
/// under one name. A link is not followed: a user who planted it would have what it leads to written
/// over. Nothing in the file changes.
pub(crate) fn open_own(path: &Path) -> io::Result<File> {
    let file = no_follow(OpenOptions::new().read(true).write(true)).open(path);
    let file = file.map_err(in_words)?;
    check_own(&file)?;
    Ok(file)
}

/// As [`open_own`], making the file if there is none. What is in it stays.
pub(crate) fn open_to_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    let file = no_follow(options).open(path).map_err(in_words)?;
    check_own(&file)?;
    keep_private(&file)?;
    Ok(file)
}

/// As [`open_own`], making the file if there is none, and empty if there is.
pub(crate) fn make_own(path: &Path) -> io::Result<File> {
    let file = open_to_lock(path)?;
    // Only now: opened with truncation, what it should not be would be empty already.
    if file.metadata()?.len() > 0 {
        file.set_len(0)?;
    }
    Ok(file)
}

/// Opens a file of a spool for any user who has the right to read it, if it is a regular file. A
/// link is not followed, and a pipe is not waited for.
pub(crate) fn open_to_look(path: &Path) -> io::Result<File> {
    let file = no_follow(OpenOptions::new().read(true)).open(path);
    let file = file.map_err(in_words)?;
    check_regular(&file.metadata()?)?;
    Ok(file)
}

fn no_follow(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        // Without the last, opening a pipe waits for its other end.
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let bits = i32::try_from(flags.bits()).unwrap_or_default();
        std::os::unix::fs::OpenOptionsExt::custom_flags(options, bits);
    }
    options
}

fn refused(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, text.into())
}

/// "Too many levels of symbolic links" and "no such device" are no words for what was found.
#[cfg(unix)]
fn in_words(error: io::Error) -> io::Error {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::LOOP) => refused("it is a symbolic link, which is not followed"),
        Some(Errno::NXIO) => refused(NOT_REGULAR),
        _ => error,
    }
}

#[cfg(not(unix))]
fn in_words(error: io::Error) -> io::Error {
    error
}

const NOT_REGULAR: &str = "it is no regular file";

fn check_regular(meta: &Metadata) -> io::Result<()> {
    if meta.is_file() {
        Ok(())
    } else {
        Err(refused(NOT_REGULAR))
    }
}

#[cfg(unix)]
fn check_own(file: &File) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let meta = file.metadata()?;
    check_regular(&meta)?;
    if meta.nlink() != 1 {
        let text = "it has names elsewhere (hard links), or none: put a copy in its place";
        return Err(refused(text));
    }
    let (owner, us) = (meta.uid(), rustix::process::geteuid().as_raw());
    if owner != us {
        return Err(refused(format!(
            "it belongs to user {owner}, and this is user {us}"
        )));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_own(file: &File) -> io::Result<()> {
    check_regular(&file.metadata()?)
}

/// Events are personal data: files are for their owner alone, whatever the umask says.
#[cfg(unix)]
fn keep_private(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if file.metadata()?.permissions().mode() & 0o777 != 0o600 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn keep_private(_: &File) -> io::Result<()> {
    Ok(())
}

/// Makes a directory, and those above it, for its owner alone, whatever the umask says. Gives
/// those that were made, the outermost first.
pub(crate) fn create_private_dir(path: &Path) -> io::Result<Vec<PathBuf>> {
    let missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
    let missing: Vec<&Path> = path.ancestors().take_while(missing).collect();
    let mut made = Vec::new();
    for dir in missing.into_iter().rev() {
        match std::fs::create_dir(dir) {
            Ok(()) => made.push(dir.to_owned()),
            // Another process was quicker.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => continue,
            Err(error) => {
                take_back(&made);
                return Err(error);
            }
        }
        #[cfg(unix)]
        std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    }
    Ok(made)
}

/// Removes directories that were made and are empty, the innermost first.
pub(crate) fn take_back(made: &[PathBuf]) {
    for dir in made.iter().rev() {
        if std::fs::remove_dir(dir).is_err() {
            break;
        }
    }
}

/// Makes what was written to a file durable.
pub(crate) fn sync_data(file: &File) -> io::Result<()> {
    file.sync_data()
}

/// Makes a file durable, with its length.
pub(crate) fn sync_file(file: &File) -> io::Result<()> {
    file.sync_all()
}

/// Makes the names in a directory durable. Windows has no such call and needs none.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        sync_file(&File::open(path)?)
    } else {
        Ok(())
    }
}

/// As [`sync_dir`], with the directory in the error.
pub(crate) fn sync_names(path: &Path) -> Result<(), Error> {
    sync_dir(path).map_err(Error::storage("sync a directory", path))
}

/// Makes a directory that only its owner may enter.
pub(crate) fn make_dir(path: &Path) -> Result<(), Error> {
    std::fs::create_dir(path).map_err(Error::storage("make a directory", path))?;
    keep_path_private(path, 0o700)
}

/// Takes all rights but these from a file or directory, and sees that its owner has them.
#[cfg(unix)]
pub(crate) fn keep_path_private(path: &Path, mode: u32) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    let is_so = |meta: std::fs::Metadata| meta.permissions().mode() & 0o777 == mode;
    if std::fs::symlink_metadata(path).is_ok_and(is_so) {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(Error::storage("set the permissions", path))
}

#[cfg(not(unix))]
pub(crate) fn keep_path_private(_: &Path, _: u32) -> Result<(), Error> {
    Ok(())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    type Door = fn(&Path) -> io::Result<File>;

    const DOORS: [Door; 4] = [open_own, open_to_lock, make_own, open_to_look];

    // `lock -> target` once had root empty the target and write a pid into it.
    #[test]
    fn no_door_follows_a_link_nor_takes_anything_but_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let (target, path) = (dir.path().join("target"), dir.path().join("lock"));
        fs::write(&target, "precious").unwrap();
        let fifo = || {
            let made = std::process::Command::new("mkfifo").arg(&path).status();
            assert!(made.unwrap().success());
        };
        let plants: [&dyn Fn(); 4] = [
            &|| symlink(&target, &path).unwrap(),
            &|| symlink("/nowhere/at/all", &path).unwrap(),
            &fifo,
            &|| drop(std::os::unix::net::UnixListener::bind(&path).unwrap()),
        ];
        for (n, plant) in plants.iter().enumerate() {
            plant();
            for door in DOORS {
                let error = door(&path).unwrap_err();
                let expected = ["symbolic link", "symbolic link", "regular", "regular"][n];
                assert!(error.to_string().contains(expected), "{n}: {error}");
            }
            fs::remove_file(&path).unwrap();
        }
        assert_eq!(fs::read(&target).unwrap(), b"precious");
    }

    #[test]
    fn a_file_with_two_names_is_for_looking_only() {
        let dir = tempfile::tempdir().unwrap();
        let (target, path) = (dir.path().join("target"), dir.path().join("ballast"));
        fs::write(&target, "precious").unwrap();
        fs::hard_link(&target, &path).unwrap();
        for door in [open_own, open_to_lock, make_own] {
            assert!(door(&path).unwrap_err().to_string().contains("hard links"));
        }
        assert_eq!(fs::read(&target).unwrap(), b"precious");
        let mut read = Vec::new();
        io::Read::read_to_end(&mut open_to_look(&path).unwrap(), &mut read).unwrap();
        assert_eq!(read, b"precious");
    }

    #[test]
    fn what_is_made_is_private_and_was_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let path = dir.path().join("file");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(make_own(&path).unwrap().metadata().unwrap().len(), 0);
        assert_eq!(mode(&path), 0o600);
        let inner = dir.path().join("a/b/c");
        let made = create_private_dir(&inner).unwrap();
        assert_eq!(
            made,
            ["a", "a/b", "a/b/c"].map(|name| dir.path().join(name))
        );
        assert!(made.iter().all(|dir| mode(dir) == 0o700));
        assert!(create_private_dir(&inner).unwrap().is_empty());
        fs::write(dir.path().join("a/keep"), "").unwrap();
        take_back(&made);
        assert!(!dir.path().join("a/b").exists() && dir.path().join("a/keep").exists());
    }
}
