//! What a new spool needs of the disk, and what to say if it is not there.

use std::path::Path;

use super::budget::Budget;
use crate::error::{Error, FILES_TOO_SMALL_FOR_NEW, NO_ROOM_FOR_NEW};

/// Why a spool could not be made: what it needs, and what there was.
pub(super) fn too_small(error: &Error, budget: &Budget, free: u64) -> Error {
    match error {
        Error::Storage { source, .. } if source.kind() == std::io::ErrorKind::FileTooLarge => {
            Error::Full {
                what: FILES_TOO_SMALL_FOR_NEW,
                used: budget.largest_file_bytes(),
                max: largest_file_bytes(),
            }
        }
        _ => Error::Full {
            what: NO_ROOM_FOR_NEW,
            used: budget.new_spool_bytes(),
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
