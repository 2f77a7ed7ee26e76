//! The file of a Unix socket: bound with its rights, found again, and removed by the process that it
//! belongs to.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::near::near;
use crate::observe;

/// The place of a socket's file, for as long as it is served.
#[derive(Clone, Debug)]
pub(crate) struct Seat(Arc<Mutex<Taken>>);

#[derive(Debug)]
struct Taken {
    path: PathBuf,
    /// Device and inode: under its name there may be the socket of another owner one day.
    id: Id,
    /// Of its directory.
    #[cfg(feature = "control")]
    dir: Id,
    #[cfg(feature = "control")]
    rights: Rights,
    is_left: bool,
}

type Id = (u64, u64);

/// Who may use a socket, besides its user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rights {
    pub(crate) mode: u32,
    pub(crate) gid: Option<u32>,
}

/// What could not be done with a socket, and why.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) action: &'static str,
    pub(crate) source: io::Error,
}

impl Failed {
    pub(crate) fn to(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { action, source }
    }
}

impl Seat {
    /// Binds a socket where there is no file.
    pub(crate) fn take(path: &Path, rights: Rights) -> Result<(Self, UnixListener), Failed> {
        // The current directory may change before the file is to be removed.
        let absolute = std::path::absolute(path).map_err(Failed::to("find the current directory"));
        let path = absolute?;
        let (listener, id) = bind(&path, rights).map_err(Failed::to("bind it"))?;
        let taken = Taken {
            #[cfg(feature = "control")]
            dir: dir_id(&path).map_err(Failed::to("find its directory again"))?,
            #[cfg(feature = "control")]
            rights,
            path,
            id,
            is_left: false,
        };
        Ok((Self(Arc::new(Mutex::new(taken))), listener))
    }

    /// Binds the socket anew if its file was removed, as one who cleans up may do. Where another
    /// directory or another file is in its place, that is left alone.
    ///
    /// # Errors
    /// If the system refuses; it may be tried again later.
    #[cfg(feature = "control")]
    pub(crate) fn renew(&self) -> io::Result<Option<UnixListener>> {
        let mut taken = self.taken();
        let is_free = fs::symlink_metadata(&taken.path)
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if taken.is_left || !is_free || dir_id(&taken.path).ok() != Some(taken.dir) {
            return Ok(None);
        }
        let (listener, id) = bind(&taken.path, taken.rights)?;
        taken.id = id;
        Ok(Some(listener))
    }

    /// Removes the file, if it is still the one that was bound here.
    pub(crate) fn leave(&self) {
        let mut taken = self.taken();
        let was_left = std::mem::replace(&mut taken.is_left, true);
        if was_left || id(&taken.path).ok() != Some(taken.id) {
            return;
        }
        if let Err(error) = fs::remove_file(&taken.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            observe::socket_left(&taken.path, &error);
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Binds a socket for its user, and then for others if they have rights.
fn bind(path: &Path, rights: Rights) -> io::Result<(UnixListener, Id)> {
    let near = near(path)?;
    let listener = UnixListener::bind(near.path())?;
    let set_up = || {
        let id = id(path)?;
        // Until here only the directory kept others out.
        make_private(path, 0o600)?;
        if let Some(gid) = rights.gid {
            give_to(path, gid)?;
        }
        make_private(path, rights.mode)?;
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

/// The directory of a socket that others use: only its owner, who is this user or root, may write to
/// it, so that none of those can put another socket there. It is made if there is none, for the group
/// if there is one.
pub(crate) fn find_or_make_dir(socket: &Path, gid: Option<u32>) -> io::Result<()> {
    let dir = dir_of(socket);
    match fs::metadata(dir) {
        Ok(meta) => check_dir(&meta),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().mode(0o700).create(dir)?;
            let Some(gid) = gid else {
                return Ok(());
            };
            give_to(dir, gid)
                .and_then(|()| make_private(dir, 0o750))
                .inspect_err(|_| drop(fs::remove_dir(dir)))
        }
        Err(error) => Err(error),
    }
}

fn check_dir(meta: &fs::Metadata) -> io::Result<()> {
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

pub(crate) fn dir_of(socket: &Path) -> &Path {
    match socket.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

fn id(path: &Path) -> io::Result<Id> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

/// Of the directory that this file is in.
#[cfg(feature = "control")]
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
pub(crate) fn make_private(path: &Path, mode: u32) -> io::Result<()> {
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
