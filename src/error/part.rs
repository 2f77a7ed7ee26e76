//! The errors of single calls: each has those of the kinds of [`Error`] that its call can give,
//! under the same names and with the same texts.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::{Again, Error, ErrorKind};

/// What a part of [`Error`] has in common with the whole.
macro_rules! part_of_error {
    ($part:ident { $($kind:ident { $($field:ident),* },)* }) => {
        impl $part {
            /// The part that this error is. One that the call cannot give is a fault inside.
            pub(crate) fn of(error: Error) -> Self {
                match error {
                    $(Error::$kind { $($field),* } => Self::$kind { $($field),* },)*
                    other => Self::Internal { what: other.to_string() },
                }
            }

            fn whole(&self) -> Error {
                match self {
                    $(Self::$kind { $($field),* } => Error::$kind { $($field: $field.again()),* },)*
                }
            }

            /// What a caller does about it.
            #[must_use]
            pub fn kind(&self) -> ErrorKind {
                self.whole().kind()
            }

            /// What a person can do about it, in one line.
            #[must_use]
            pub fn hint(&self) -> &'static str {
                self.whole().hint()
            }
        }

        impl From<$part> for Error {
            fn from(error: $part) -> Self {
                match error {
                    $($part::$kind { $($field),* } => Self::$kind { $($field),* },)*
                }
            }
        }

        impl fmt::Display for $part {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.whole().fmt(f)
            }
        }

        impl std::error::Error for $part {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                match self {
                    Self::Storage { source, .. } | Self::NoThread { source, .. } => Some(source),
                    _ => None,
                }
            }
        }
    };
}

/// Why an event was not acknowledged. Becomes an [`Error`] by `?`.
///
/// ```
/// use std::time::Duration;
///
/// use everpost::{AppendError, ErrorKind, Event, Queue, Receipt};
///
/// async fn insist(queue: &Queue, event: Event) -> Result<Receipt, AppendError> {
///     loop {
///         match queue.append(event.clone()).await {
///             Err(error) if error.kind() == ErrorKind::Wait => {
///                 tokio::time::sleep(Duration::from_secs(1)).await;
///             }
///             done => return done,
///         }
///     }
/// }
/// ```
#[derive(Debug)]
pub enum AppendError {
    /// The event, or the events of one `append_all` together, are larger than the settings allow.
    /// Nothing was appended. Split it, or raise the setting named.
    TooLarge {
        /// The size that was asked for.
        bytes: u64,
        /// The limit.
        max: u64,
        /// The setting that holds the limit.
        setting: &'static str,
    },
    /// The spool has reached `max_bytes` and its rule is to reject, or the disk is full. Nothing
    /// was appended. Delivery goes on and makes room.
    Full {
        /// Which bound was reached.
        what: &'static str,
        /// Bytes in use, as counted against the limit.
        used: u64,
        /// The limit.
        max: u64,
    },
    /// The queue was closed. Nothing was appended.
    Closed,
    /// The spool is not, or not certainly, owned by this queue any more; see
    /// [`Error::NotOwner`]. Nothing is acknowledged from here on.
    NotOwner {
        /// Where the spool was opened.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// The disk refused. The event is not acknowledged; it may or may not turn up after a restart,
    /// so append it again under the same id.
    Storage {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the spool is damaged in a way that needs a person to decide. Nothing was deleted.
    Damaged {
        /// What is wrong.
        what: String,
        /// The file or directory.
        path: PathBuf,
    },
    /// The system refused a thread that the spool needs.
    NoThread {
        /// What it was needed for.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The thread of the log ended by a panic. What was acknowledged is safe on disk.
    Panicked {
        /// Which part.
        part: &'static str,
        /// The text of the panic.
        message: String,
    },
    /// A fault inside everpost.
    Internal {
        /// What is not as it must be.
        what: String,
    },
}

part_of_error!(AppendError {
    TooLarge { bytes, max, setting },
    Full { what, used, max },
    Closed {},
    NotOwner { path, reason },
    Storage { action, path, source },
    Damaged { what, path },
    NoThread { action, source },
    Panicked { part, message },
    Internal { what },
});

/// Why a queue did not open. Becomes an [`Error`] by `?`.
#[derive(Debug)]
pub enum OpenError {
    /// The settings contradict themselves or leave their range; every fault is listed.
    Settings {
        /// One sentence for each fault, naming the field and its range.
        problems: Vec<String>,
    },
    /// Another process, or another queue in this one, owns the spool. Nothing was touched.
    InUse {
        /// The spool.
        path: PathBuf,
        /// The process that holds it, as it wrote itself into the lock file.
        pid: Option<u32>,
    },
    /// The spool belongs to another user, who could not read what this one leaves in it. Nothing
    /// was touched.
    NotYours {
        /// The spool.
        path: PathBuf,
        /// The user that its marker, or its directory, belongs to.
        uid: u32,
    },
    /// The rights of the directory let others do what only its owner may. Nothing was touched.
    Unsafe {
        /// The spool, or the directory in it.
        path: PathBuf,
        /// What is wrong, with the command to type where there is one.
        reason: String,
    },
    /// The directory holds something that is not a spool. Nothing was touched.
    NotASpool {
        /// The directory.
        path: PathBuf,
    },
    /// The spool was written by a newer everpost. Nothing was touched.
    FutureFormat {
        /// The spool, or the file in it.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The newest version this build reads.
        supported: u32,
    },
    /// A file of the spool is damaged in a way that needs a person to decide. Nothing was deleted.
    Damaged {
        /// What is wrong.
        what: String,
        /// The file or directory.
        path: PathBuf,
    },
    /// There is no room for a new spool, of which nothing stays, or for what opening has to write.
    Full {
        /// Which bound was reached.
        what: &'static str,
        /// Bytes in use, or needed, as counted against the limit.
        used: u64,
        /// The limit.
        max: u64,
    },
    /// The directory was moved, removed or replaced while it was opened; see
    /// [`Error::NotOwner`].
    NotOwner {
        /// Where the spool was opened.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// The disk refused.
    Storage {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused a thread that a queue needs.
    NoThread {
        /// What it was needed for.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A part of the queue ended by a panic. What was acknowledged is safe on disk.
    Panicked {
        /// Which part.
        part: &'static str,
        /// The text of the panic.
        message: String,
    },
    /// A fault inside everpost.
    Internal {
        /// What is not as it must be.
        what: String,
    },
}

part_of_error!(OpenError {
    Settings { problems },
    InUse { path, pid },
    NotYours { path, uid },
    Unsafe { path, reason },
    NotASpool { path },
    FutureFormat { path, found, supported },
    Damaged { what, path },
    Full { what, used, max },
    NotOwner { path, reason },
    Storage { action, path, source },
    NoThread { action, source },
    Panicked { part, message },
    Internal { what },
});
