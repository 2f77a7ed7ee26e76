//! The socket for a group.

use std::path::{Path, PathBuf};

/// A second control socket, for programs of other users: the members of a group may use it to
/// append, although they cannot see the spool. Served by [`serve_group`](super::serve_group),
/// reached by [`Client::at`](super::Client::at).
///
/// Members of the group may append (`POST /events`) and see the state (`GET /status`,
/// `GET /status/watch`, and where there are such endpoints `/livez`, `/readyz` and `/metrics`). All
/// else is refused with `forbidden`: events of others are not theirs to read, discard or hold up.
/// Root and the user of the owner may do everything here too.
///
/// The socket has the mode 0660 and this group. Its directory is one that belongs to the user of
/// the owner, or to root, and that no other user may write to, as systemd's `RuntimeDirectory=`
/// makes it; if there is none, it is made with the mode 0750 and this group.
#[derive(Clone, Debug)]
pub struct GroupSocket {
    path: PathBuf,
    gid: u32,
}

impl GroupSocket {
    /// The socket at this path, for the group with this number.
    ///
    /// The user of the owner must be root or a member of the group.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, gid: u32) -> Self {
        let path = path.into();
        Self { path, gid }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of the group.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.gid
    }
}
