//! A file that holds a secret: read without waiting for anything but the disk, and recognised when
//! it is another one.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::path::Path;
use std::time::SystemTime;

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use crate::error::SecretError;

/// A secret is a few hundred bytes; whatever is longer than this is some other file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Reads the secret. Links are followed, since that is how secrets are mounted.
pub(super) fn read(path: &Path) -> Result<SecretString, SecretError> {
    let unreadable = |error: io::Error| SecretError::Unreadable {
        path: path.to_owned(),
        kind: error.kind(),
    };
    // Looked at before it is opened: to open a device may do something.
    must_be_regular(path, &path.metadata().map_err(unreadable)?)?;
    let file = open(path).map_err(unreadable)?;
    // It may have been replaced in between.
    must_be_regular(path, &file.metadata().map_err(unreadable)?)?;
    let mut text = Zeroizing::new(String::new());
    match file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text) {
        Ok(bytes) if bytes as u64 > FILE_BYTES_MAX => {
            Err(unreadable(io::ErrorKind::FileTooLarge.into()))
        }
        Ok(_) => Ok(SecretString::from(text.as_str())),
        Err(error) => Err(unreadable(error)),
    }
}

/// A pipe in its place must not hold up the thread: to open one waits for its writer.
#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt as _;

    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

fn must_be_regular(path: &Path, found: &Metadata) -> Result<(), SecretError> {
    if found.is_file() {
        return Ok(());
    }
    Err(SecretError::NotAFile {
        path: path.to_owned(),
        found: if found.is_dir() {
            "a directory"
        } else {
            "a pipe, a socket or a device"
        },
    })
}

/// By which a file is known from another one at its place, and from itself with another content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileMark {
    bytes: u64,
    modified: Option<SystemTime>,
    /// Which file it is, and when anything about it changed last.
    place: [i64; 4],
}

impl FileMark {
    /// None if there is no file, or it may not be looked at.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let found = path.metadata().ok()?;
        Some(Self {
            bytes: found.len(),
            modified: found.modified().ok(),
            place: place(&found),
        })
    }
}

#[cfg(unix)]
fn place(found: &Metadata) -> [i64; 4] {
    use std::os::unix::fs::MetadataExt as _;
    let (dev, ino) = (found.dev().cast_signed(), found.ino().cast_signed());
    [dev, ino, found.ctime(), found.ctime_nsec()]
}

#[cfg(not(unix))]
fn place(_found: &Metadata) -> [i64; 4] {
    [0; 4]
}
