//! The socket's file, and the task that listens on it.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown,
};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::doors::Doors;
use super::{GroupSocket, SOCKET, place};
use crate::error::Error;
use crate::log::guard::Process;
use crate::room::Guest;

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

/// The place of a socket's file, for as long as it is served.
#[derive(Clone, Debug)]
pub(super) struct Seat(Arc<Mutex<File>>);

#[derive(Debug)]
struct File {
    path: PathBuf,
    /// Device and inode: under its name there may be the socket of another owner one day.
    id: Id,
    /// Of its directory.
    dir: Id,
    /// The group that may use it too.
    gid: Option<u32>,
    is_left: bool,
}

type Id = (u64, u64);

impl Seat {
    /// Binds the socket anew if its file was removed, as one who cleans up may do. Where another
    /// directory or another file is in its place, that is left alone.
    ///
    /// # Errors
    /// If the system refuses; it may be tried again later.
    pub(super) fn renew(&self) -> io::Result<Option<StdListener>> {
        let mut file = self.file();
        let is_free = fs::symlink_metadata(&file.path)
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if file.is_left || !is_free || dir_id(&file.path).ok() != Some(file.dir) {
            return Ok(None);
        }
        let (listener, id) = bind_at(&file.path, file.gid)?;
        file.id = id;
        Ok(Some(listener))
    }

    fn leave(&self) {
        let mut file = self.file();
        file.is_left = true;
        if id(&file.path).ok() != Some(file.id) {
            return;
        }
        if let Err(error) = fs::remove_file(&file.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %file.path.display(), %error, "failed to remove the control socket");
        }
    }

    fn file(&self) -> MutexGuard<'_, File> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    find_or_make_dir(path, gid).map_err(failed("use its directory"))?;
    if place::near(path).is_ok_and(|near| StdStream::connect(near.path()).is_ok()) {
        let reason = "another process serves it; name another path".to_owned();
        let path = path.to_owned();
        return Err(Refused { path, reason });
    }
    remove_stale(path).map_err(failed("remove the socket of an earlier owner"))?;
    seat(path, Some(gid))
}

fn seat(path: &Path, gid: Option<u32>) -> Result<(Seat, StdListener), Refused> {
    let failed = |action| Refused::because(path, action);
    // The current directory may change before the file is to be removed.
    let absolute = std::path::absolute(path).map_err(failed("find the current directory"))?;
    let (listener, id) = bind_at(&absolute, gid).map_err(failed("bind it"))?;
    let dir = dir_id(&absolute).map_err(failed("find its directory again"))?;
    let file = File {
        path: absolute,
        id,
        dir,
        gid,
        is_left: false,
    };
    Ok((Seat(Arc::new(Mutex::new(file))), listener))
}

/// Binds a socket for its owner, and for the group if one is given.
fn bind_at(path: &Path, gid: Option<u32>) -> io::Result<(StdListener, Id)> {
    let near = place::near(path)?;
    let listener = StdListener::bind(near.path())?;
    let set_up = || {
        let id = id(path)?;
        // Until here only the directory kept others out.
        make_private(path, 0o600)?;
        if let Some(gid) = gid {
            give_to(path, gid)?;
            make_private(path, 0o660)?;
        }
        listener.set_nonblocking(true)?;
        // Others may have come in before that.
        while listener.accept().is_ok() {}
        Ok(id)
    };
    match set_up() {
        Ok(id) => Ok((listener, id)),
        Err(error) => {
            drop(fs::remove_file(path));
            Err(error)
        }
    }
}

/// The directory of a group's socket: only its owner, who is this user or root, may write to it, so
/// that no member of the group can put another socket there. It is made if there is none.
fn find_or_make_dir(socket: &Path, gid: u32) -> io::Result<()> {
    let dir = match socket.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    match fs::metadata(dir) {
        Ok(meta) => {
            let us = rustix::process::geteuid().as_raw();
            let reason = if meta.uid() != us && meta.uid() != 0 {
                format!("it belongs to user {}, and this is user {us}", meta.uid())
            } else if meta.mode() & 0o022 != 0 {
                "others may write to it; name a socket in a directory of its own".to_owned()
            } else {
                return Ok(());
            };
            Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().mode(0o700).create(dir)?;
            give_to(dir, gid)
                .and_then(|()| make_private(dir, 0o750))
                .inspect_err(|_| drop(fs::remove_dir(dir)))
        }
        Err(error) => Err(error),
    }
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

fn id(path: &Path) -> io::Result<Id> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

/// Of the directory that this file is in.
fn dir_id(path: &Path) -> io::Result<Id> {
    let meta = fs::metadata(path.parent().unwrap_or(path));
    meta.map(|meta| (meta.dev(), meta.ino()))
}

/// Gives it to the group, if it is not the group's already: where the service runs under that group,
/// the right to give things away may be taken from it.
fn give_to(path: &Path, gid: u32) -> io::Result<()> {
    if fs::symlink_metadata(path)?.gid() == gid {
        return Ok(());
    }
    chown(path, None, Some(gid))
}

/// Gives it these rights and no others, and sees that it has them.
fn make_private(path: &Path, mode: u32) -> io::Result<()> {
    let rights = |path| fs::metadata(path).map(|meta| meta.permissions().mode() & 0o777);
    if rights(path)? != mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    let found = rights(path)?;
    if found == mode {
        Ok(())
    } else {
        let text = format!("its mode stays {found:o} instead of {mode:o}");
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }
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
