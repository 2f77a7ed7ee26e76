//! The socket's file, and the task that listens on it.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};

use tokio::sync::watch;

use super::doors::Doors;
use super::{GroupSocket, SOCKET};
use crate::error::Error;
use crate::log::guard::Process;
use crate::near::near;
use crate::room::Guest;
use crate::seat::{Failed, Rights, Seat, find_or_make_dir, make_private};

/// The files of the sockets. Dropping it removes them and tells the listener to end.
#[derive(Debug)]
pub(super) struct SocketFiles {
    process: Process,
    seats: Vec<Seat>,
    // Dropped with the rest: its closing is the sign.
    _stop: watch::Sender<()>,
}

impl Guest for SocketFiles {}

impl Drop for SocketFiles {
    fn drop(&mut self) {
        // After a fork they are the parent's, and so may be the locks.
        if self.process.is_this() {
            self.seats.iter().for_each(Seat::leave);
        }
    }
}

/// A socket that was not bound, and why.
struct Refused {
    path: PathBuf,
    reason: String,
}

impl Refused {
    fn because(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| {
            let reason = format!("failed to {action}: {source}");
            Self { path, reason }
        }
    }
}

impl From<Refused> for Error {
    fn from(Refused { path, reason }: Refused) -> Self {
        Self::Control { reason, path }
    }
}

/// Makes the spool's directory private and binds the socket in it, for its owner alone; and the
/// one for a group, if there is to be one.
pub(super) fn bind(
    spool: &Path,
    group: Option<&GroupSocket>,
) -> Result<(SocketFiles, Doors), Error> {
    let (stop, stopped) = watch::channel(());
    let mut files = SocketFiles {
        process: Process::this(),
        seats: Vec::new(),
        _stop: stop,
    };
    // Each is in `files` as soon as it is bound, so that none is left if the next one fails.
    let (own, listener) = bind_own(spool)?;
    files.seats.push(own);
    let group = match group {
        Some(group) => {
            let (seat, listener) = bind_for_group(group)?;
            files.seats.push(seat);
            Some(listener)
        }
        None => None,
    };
    let doors = Doors::new(files.seats.clone(), listener, group, stopped);
    Ok((
        files,
        doors.map_err(Refused::because(&spool.join(SOCKET), "set it up"))?,
    ))
}

/// A socket that is there belongs to no living process: the spool is ours, and its owner before us
/// is gone.
fn bind_own(spool: &Path) -> Result<(Seat, StdListener), Refused> {
    let path = spool.join(SOCKET);
    let failed = |action| Refused::because(&path, action);
    if !is_lent(spool).map_err(failed("see whose the directory is"))? {
        make_private(spool, 0o700).map_err(failed("make the directory private"))?;
    }
    remove_stale(&path).map_err(failed("remove the socket of an earlier owner"))?;
    seat(&path, None)
}

/// One that is there may be the living one of another spool.
fn bind_for_group(group: &GroupSocket) -> Result<(Seat, StdListener), Refused> {
    let path = group.path();
    let failed = |action| Refused::because(path, action);
    let gid = group.gid();
    find_or_make_dir(path, Some(gid)).map_err(failed("use its directory"))?;
    if near(path).is_ok_and(|near| StdStream::connect(near.path()).is_ok()) {
        let reason = "another process serves it; name another path".to_owned();
        let path = path.to_owned();
        return Err(Refused { path, reason });
    }
    remove_stale(path).map_err(failed("remove the socket of an earlier owner"))?;
    seat(path, Some(gid))
}

/// For its owner, and for the group if one is given.
fn seat(path: &Path, gid: Option<u32>) -> Result<(Seat, StdListener), Refused> {
    let mode = if gid.is_some() { 0o660 } else { 0o600 };
    Seat::take(path, Rights { mode, gid })
        .map_err(|Failed { action, source }| Refused::because(path, action)(source))
}

/// Whether the directory belongs to another user, as one that a container is given does: its rights
/// are not ours to change. It must keep out those who have no business there.
fn is_lent(spool: &Path) -> io::Result<bool> {
    let meta = fs::metadata(spool)?;
    if meta.uid() == rustix::process::geteuid().as_raw() {
        return Ok(false);
    }
    if meta.mode() & 0o002 != 0 {
        let text = "every user may write to the directory, which belongs to another one";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(true)
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "something else has its name",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
