//! Room for the file of a Unix socket.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::near::near;
use crate::seat::dir_of;

/// Makes room for a socket. One that is there is removed only if it is this user's and its process is
/// gone; every other file is left as it is.
///
/// Two processes that do so at once would remove each other's: each holds a lock on the directory
/// meanwhile, which is given back when what is returned is dropped.
pub(super) fn make_room(path: &Path) -> io::Result<Option<File>> {
    let lock = lock_dir(path)?;
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(lock),
        Err(error) => return Err(error),
    };
    let taken = |text: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, text.to_owned()));
    if !meta.file_type().is_socket() {
        return taken("a file that is no socket has its name");
    }
    match is_served(path) {
        Ok(true) => taken("another process serves it"),
        Ok(false) if meta.uid() != rustix::process::geteuid().as_raw() => {
            taken(&format!("the socket there belongs to user {}", meta.uid()))
        }
        Ok(false) => fs::remove_file(path).map(|()| lock),
        Err(error) => taken(&format!("it is not known who serves it: {error}")),
    }
}

/// Whether a process listens on this socket. It does not wait for one that does not answer.
fn is_served(path: &Path) -> io::Result<bool> {
    let near = near(path)?;
    let address = SocketAddrUnix::new(near.path())?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags(), None)?;
    match connect(&socket, &address) {
        // The second has clients that wait.
        Ok(()) | Err(rustix::io::Errno::AGAIN) => Ok(true),
        Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn flags() -> SocketFlags {
    SocketFlags::NONBLOCK | SocketFlags::CLOEXEC
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn flags() -> SocketFlags {
    SocketFlags::empty()
}

/// None where the directory cannot be read or locked: then two may be as quick as each other.
fn lock_dir(socket: &Path) -> io::Result<Option<File>> {
    let Ok(dir) = File::open(dir_of(socket)) else {
        return Ok(None);
    };
    match dir.try_lock() {
        Ok(()) => Ok(Some(dir)),
        Err(fs::TryLockError::WouldBlock) => {
            let text = "another process is taking a place in its directory; start again";
            Err(io::Error::new(io::ErrorKind::AddrInUse, text))
        }
        Err(fs::TryLockError::Error(_)) => Ok(None),
    }
}
