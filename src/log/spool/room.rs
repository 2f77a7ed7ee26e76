//! What a new spool needs of the disk, and what to say if it is not there.

use std::path::Path;

use super::space::{OWN_BYTES, ballast_bytes};
use crate::error::{Error, FILES_TOO_SMALL_FOR_NEW, NO_ROOM_FOR_NEW};
use crate::log::journal::FILES;
use crate::settings::Settings;

/// Bytes of a new spool: the journal, the ballast, and little more.
fn needed_bytes(settings: &Settings) -> u64 {
    FILES as u64 * settings.journal_bytes + ballast_bytes(settings) + OWN_BYTES
}

/// Why a spool could not be made: what it needs, and what there was.
pub(super) fn too_small(error: &Error, settings: &Settings, free: u64) -> Error {
    match error {
        Error::Storage { source, .. } if source.kind() == std::io::ErrorKind::FileTooLarge => {
            Error::Full {
                what: FILES_TOO_SMALL_FOR_NEW,
                used: settings.journal_bytes.max(ballast_bytes(settings)),
                max: largest_file_bytes(),
            }
        }
        _ => Error::Full {
            what: NO_ROOM_FOR_NEW,
            used: needed_bytes(settings),
            max: free,
        },
    }
}

/// Bytes that this user may still fill on the disk of this directory; 0 if the system does not say.
#[cfg(unix)]
pub(super) fn free_bytes(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
pub(super) fn free_bytes(_: &Path) -> u64 {
    0
}

#[cfg(unix)]
fn largest_file_bytes() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize);
    limit.current.unwrap_or(u64::MAX)
}

#[cfg(not(unix))]
fn largest_file_bytes() -> u64 {
    u64::MAX
}
