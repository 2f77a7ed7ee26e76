//! Where a relay listens.

use std::net::TcpListener;
#[cfg(unix)]
use std::os::unix::net::UnixListener;

#[cfg(unix)]
pub use on_unix::UnixSocket;

use super::Tls;
use crate::serving;

/// Where clients of a relay come in: a TCP port or a Unix socket, with [TLS](Door::tls) or without.
/// Served by [`Relay::serve`](super::Relay::serve).
#[derive(Debug)]
pub struct Door(serving::Door);

impl From<TcpListener> for Door {
    fn from(listener: TcpListener) -> Self {
        Self(listener.into())
    }
}

/// A socket that is bound already. Its file, if it has one, is left where it is; see [`UnixSocket`] for
/// one that is made and removed here.
#[cfg(unix)]
impl From<UnixListener> for Door {
    fn from(listener: UnixListener) -> Self {
        Self(listener.into())
    }
}

impl Door {
    /// Speaks TLS 1.2 or 1.3, and HTTP/1.1 inside. A client has 10 seconds for the handshake.
    #[must_use]
    pub fn tls(self, tls: Tls) -> Self {
        Self(self.0.with_tls(tls))
    }

    /// The socket belongs to another process, as one that systemd passes does: what waits in it when
    /// this process ends is for the next one. Otherwise it is taken in at the end, for it would be
    /// cut off.
    #[must_use]
    pub fn lent(self) -> Self {
        Self(self.0.lent())
    }

    /// What other routes than those of a relay are served at too: see `serving::Port`.
    pub(crate) fn into_inner(self) -> serving::Door {
        self.0
    }
}

#[cfg(unix)]
mod on_unix {
    use std::io;
    use std::path::{Path, PathBuf};

    use super::Door;
    use crate::relay::berth::make_room;
    use crate::seat::{Failed, Rights, Seat, find_or_make_dir};
    use crate::serving;

    /// A Unix socket that a relay makes, and removes when it closes.
    ///
    /// Its directory has to belong to this user or to root, and no other user may write to it, as
    /// systemd's `RuntimeDirectory=` makes it; if there is none, it is made for this user, or with the
    /// mode 0750 for the group.
    #[derive(Clone, Debug)]
    pub struct UnixSocket {
        path: PathBuf,
        gid: Option<u32>,
        mode: Option<u32>,
    }

    impl UnixSocket {
        /// A socket at this path, for this user alone.
        #[must_use]
        pub fn at(path: impl Into<PathBuf>) -> Self {
            Self {
                path: path.into(),
                gid: None,
                mode: None,
            }
        }

        /// For the members of the group with this number too. The user of this process has to be root
        /// or one of them.
        #[must_use]
        pub fn group(mut self, gid: u32) -> Self {
            self.gid = Some(gid);
            self
        }

        /// The rights of the file, as `chmod` takes them: to write is to connect. Otherwise 0660 with
        /// a group, and 0600 without.
        #[must_use]
        pub fn mode(mut self, mode: u32) -> Self {
            self.mode = Some(mode & 0o777);
            self
        }

        /// Where it is.
        #[must_use]
        pub fn path(&self) -> &Path {
            &self.path
        }

        /// Binds it. A socket of this user's is replaced if no process serves it any more. Touches the
        /// directory: not for a thread that must not wait for a disk.
        ///
        /// # Errors
        /// If another process serves it, another file has its name, its directory is one that others
        /// may write to, or the system refuses; the text says which, and what to do.
        pub fn bind(&self) -> io::Result<Door> {
            self.try_bind().map_err(|Failed { action, source }| {
                let path = self.path.display();
                let text = format!("failed to {action}: {source}. path=`{path}`");
                io::Error::new(source.kind(), text)
            })
        }

        fn try_bind(&self) -> Result<Door, Failed> {
            let (path, gid) = (&self.path, self.gid);
            find_or_make_dir(path, gid).map_err(Failed::to("use the directory of the socket"))?;
            let room = make_room(path).map_err(Failed::to("make room for the socket"))?;
            let default = if gid.is_some() { 0o660 } else { 0o600 };
            let mode = self.mode.unwrap_or(default);
            let (seat, listener) = Seat::take(path, Rights { mode, gid })?;
            drop(room);
            Ok(Door(serving::Door::seated(listener, seat)))
        }
    }
}
