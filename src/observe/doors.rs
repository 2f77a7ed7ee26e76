//! Log lines about sockets and ports.

use std::io;
use std::path::Path;

/// WARN: a connection could not be accepted; the next is tried after a rest.
pub(crate) fn not_accepted(port: &str, error: &io::Error) {
    tracing::warn!(%error, port, "failed to accept a connection");
}

/// WARN: another process had removed the control socket.
#[cfg(all(unix, feature = "control"))]
pub(crate) fn socket_renewed() {
    tracing::warn!("the control socket was removed, and is bound again");
}

/// WARN: the control socket is gone, and cannot be bound at present.
#[cfg(all(unix, feature = "control"))]
pub(crate) fn socket_not_renewed(error: &io::Error) {
    tracing::warn!(%error, "failed to bind the control socket again");
}

/// ERROR: the serving of a connection panicked. The others go on.
#[cfg(all(unix, feature = "control"))]
pub(crate) fn connection_panicked(message: &str) {
    tracing::error!(
        message,
        "a connection to the control socket ended by a panic"
    );
}

/// WARN: a socket stays in its directory, served by no process.
#[cfg(unix)]
pub(crate) fn socket_left(path: &Path, error: &io::Error) {
    tracing::warn!(path = %path.display(), %error, "failed to remove a socket");
}
