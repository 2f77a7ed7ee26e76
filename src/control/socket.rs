//! The socket's file, and the task that listens on it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use super::answer::Refusal;
use super::{CONNECTIONS_MAX, SOCKET, connection};
use crate::error::Error;
use crate::log::guard::Process;
use crate::room::Guest;

/// Bytes of a socket's path: what the system's `sun_path` holds, without the zero at its end.
const PATH_BYTES_MAX: usize = if cfg!(any(target_os = "linux", target_os = "android")) {
    107
} else {
    103
};

/// Connections beyond the limit that are told so; more wait unheard.
const TURNED_AWAY_MAX: usize = 16;

/// How long the listener rests when the system has no more sockets to give.
const REST: Duration = Duration::from_millis(100);

/// How long answers under way may take once the socket is to go.
const GRACE: Duration = Duration::from_secs(1);

/// The file of the socket. Dropping it removes the file and tells the listener to end.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode: under its name there may be the socket of another owner one day.
    id: (u64, u64),
    process: Process,
    // Dropped with the rest: its closing is the sign.
    _stop: watch::Sender<()>,
}

impl Guest for SocketFile {}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // After a fork it is the parent's.
        if !self.process.is_this() || id(&self.path).ok() != Some(self.id) {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "failed to remove the control socket");
        }
    }
}

/// Makes the directory private and binds the socket in it, for its owner alone. A socket that is
/// there belongs to nobody: the spool is ours, and whoever owned it before is gone.
pub(super) fn bind(spool: &Path) -> Result<(SocketFile, StdListener, watch::Receiver<()>), Error> {
    let path = spool.join(SOCKET);
    let refused = |reason: String| Error::Control {
        reason,
        path: path.clone(),
    };
    let failed = |action: &'static str| {
        move |source: io::Error| refused(format!("failed to {action}: {source}"))
    };
    let bytes = path.as_os_str().len();
    if bytes > PATH_BYTES_MAX {
        return Err(refused(format!(
            "its path has {bytes} bytes, and a Unix socket may have {PATH_BYTES_MAX}; use a \
             shorter one, or one relative to the current directory"
        )));
    }
    let is_lent = is_lent(spool).map_err(failed("see whose the directory is"))?;
    if !is_lent {
        make_private(spool, 0o700).map_err(failed("make the directory private"))?;
    }
    remove_stale(&path).map_err(failed("remove the socket of an earlier owner"))?;
    // The current directory may change before the file is to be removed.
    let absolute = std::path::absolute(&path).map_err(failed("find the current directory"))?;
    let listener = StdListener::bind(&path).map_err(failed("bind it"))?;
    let (stop, stopped) = watch::channel(());
    let file = SocketFile {
        id: id(&absolute).map_err(failed("find it again"))?,
        process: Process::this(),
        path: absolute,
        _stop: stop,
    };
    // Until here only the directory kept others out.
    make_private(&path, 0o600).map_err(failed("make it private"))?;
    listener
        .set_nonblocking(true)
        .map_err(failed("set it up"))?;
    if is_lent {
        // Others may have come in before it was private.
        while listener.accept().is_ok() {}
    }
    Ok((file, listener, stopped))
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

fn id(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

/// Takes all rights from everybody but the owner, and sees that they are gone.
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

/// Accepts and serves until `stop` closes; then lets answers under way finish for a moment.
pub(super) async fn listen(listener: UnixListener, router: Router, mut stop: watch::Receiver<()>) {
    let mut connections = JoinSet::new();
    let busy = Router::new().fallback(turn_away);
    loop {
        let has_place = connections.len() < CONNECTIONS_MAX + TURNED_AWAY_MAX;
        tokio::select! {
            // The end comes before what clients do.
            biased;
            _ = stop.changed() => break,
            Some(ended) = connections.join_next() => report(ended),
            accepted = listener.accept(), if has_place => match accepted {
                Ok((stream, _)) => {
                    let is_full = connections.len() >= CONNECTIONS_MAX;
                    let router = if is_full { &busy } else { &router };
                    connections.spawn(connection::serve(stream, router.clone(), stop.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection to the control socket");
                    tokio::time::sleep(REST).await;
                }
            },
        }
    }
    drop(listener);
    let rest = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    // Who is not done by then, such as a watcher, is cut off.
    if tokio::time::timeout(GRACE, rest).await.is_err() {
        connections.shutdown().await;
    }
}

async fn turn_away() -> Refusal {
    Refusal::busy(format!(
        "too many connections are open. max=`{CONNECTIONS_MAX}`"
    ))
}

/// A connection has ended: only its panic is of interest.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        let message = crate::log::thread::panic_text(error.into_panic().as_ref());
        tracing::error!(
            message,
            "a connection to the control socket ended by a panic"
        );
    }
}
