//! Why an owner did not do what it was asked for.

use std::io;
use std::path::PathBuf;

use crate::error::Error;

/// Why a request to the owner of a spool did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The socket is not served: there is none, or its owner is gone. The spool is free, or its
    /// owner serves no control socket.
    #[error("no process serves the control socket. path=`{}`", path.display())]
    NoOwner {
        /// The socket.
        path: PathBuf,
    },

    /// The socket cannot be reached: it is not for us, its path is too long for this system, or
    /// there are no Unix sockets here.
    #[error("failed to connect to the control socket. path=`{}`", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },

    /// The socket is served by a user who has no business with the spool, or, for a socket that
    /// is reached by its own path, with the socket's directory. Nothing was sent.
    #[error("control socket is served by user {uid}, to whom its directory does not belong. path=`{}`", path.display())]
    Stranger {
        /// The socket.
        path: PathBuf,
        /// The user.
        uid: u32,
    },

    /// The owner refused; nothing was done.
    #[error("{text}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What went wrong, for programs: see the table of the [module](super).
        kind: String,
        /// What went wrong, in one line.
        text: String,
        /// What to do about it, in one line.
        hint: String,
    },

    /// The owner went away before it answered. What was asked was done or not.
    #[error("the owner of the spool went away before it answered")]
    Broken {
        /// What the connection said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The owner did not answer within 30 seconds. What was asked was done or not.
    #[error("the owner of the spool does not answer")]
    TimedOut,

    /// The answer is not as documented: the owner is of another version, or no everpost at all.
    #[error("the owner of the spool cannot be understood: {reason}")]
    Protocol {
        /// What is wrong, without any of the content.
        reason: String,
    },

    /// An event cannot be sent.
    #[error(transparent)]
    Event(#[from] Error),
}

impl ClientError {
    /// What a person can do about it, in one line.
    #[must_use]
    pub fn hint(&self) -> &str {
        match self {
            Self::NoOwner { .. } => "use the spool directly, or start its owner with live control",
            Self::Connect { .. } => {
                "see the cause; the socket is for the user that runs the owner, or for the group \
                 that it names"
            }
            Self::Stranger { .. } => {
                "see whose the directory is, and use one that only the owner of the spool may \
                 write to"
            }
            Self::Refused { hint, .. } => hint,
            Self::Broken { .. } => "ask again; append again under the same ids",
            Self::TimedOut => "see whether the owner of the spool hangs",
            Self::Protocol { .. } => "use the same version as the owner of the spool",
            Self::Event(error) => error.hint(),
        }
    }

    pub(super) fn protocol(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::Protocol { reason }
    }

    pub(super) fn broken(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let source = source.into();
        Self::Broken { source }
    }
}
