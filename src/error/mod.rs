//! What can go wrong, sorted by what the caller does about it.

mod key;
mod kind;
mod part;
mod secret;

use std::io;
use std::path::PathBuf;

pub use self::key::KeyError;
pub use self::kind::ErrorKind;
pub use self::part::{AppendError, OpenError};
pub use self::secret::SecretError;

/// Why [`Error::Full`]: the disk is too small for a new spool.
pub(crate) const NO_ROOM_FOR_NEW: &str = "the disk has no room for a new spool";

/// Why [`Error::Full`]: files may not become as large as those of a new spool.
pub(crate) const FILES_TOO_SMALL_FOR_NEW: &str =
    "files may not be as large as those of a new spool, see `ulimit -f`";

fn full(what: &str, used: u64, max: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (needed, there) = (mib(used), mib(max));
    match what {
        NO_ROOM_FOR_NEW => format!(
            "{what}: it needs {needed:.1} MiB, {there:.1} MiB are free, and nothing of it was left. \
             needed_bytes=`{used}`, free_bytes=`{max}`"
        ),
        FILES_TOO_SMALL_FOR_NEW => format!(
            "{what}: the largest needs {needed:.1} MiB, the limit is {there:.1} MiB, and nothing of \
             it was left. needed_bytes=`{used}`, limit_bytes=`{max}`"
        ),
        _ => format!("spool is full ({what}). used_bytes=`{used}`, max_bytes=`{max}`"),
    }
}

/// Every error of the public API. The calls that are made most have errors of their own, with
/// those of these that they can give: [`AppendError`] and [`OpenError`]; `?` makes this of them.
///
/// [`Error::kind`] says what a caller does about it, and [`Error::hint`] what a person does. The
/// text is one line. Neither ever contains a key or the content of an event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The event is not one JSON value. Nothing was appended. Mend the event.
    #[error("event is not valid: {reason}")]
    InvalidEvent {
        /// What is wrong and where, without any of the content.
        reason: String,
    },

    /// The event, or the events of one `append_all` together, are larger than the settings
    /// allow. Nothing was appended. Split it, or raise the setting named.
    #[error("event is too large. bytes=`{bytes}`, {setting}=`{max}`")]
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
    #[error("{}", full(what, *used, *max))]
    Full {
        /// Which bound was reached.
        what: &'static str,
        /// Bytes in use, as counted against the limit.
        used: u64,
        /// The limit.
        max: u64,
    },

    /// The queue was closed. Nothing was appended. Open it again.
    #[error("queue is closed")]
    Closed,

    /// The queue was opened without a sink, so there is no delivery to pause, resume or wake.
    /// Nothing was changed. Open it with a sink.
    #[error("the queue has no sink")]
    NoSink,

    /// Another process, or another queue in this one, owns the spool. Nothing was touched.
    #[error("spool is in use by another process. path=`{}`, pid=`{}`", path.display(), pid.map_or_else(|| "unknown".into(), |p| p.to_string()))]
    InUse {
        /// The spool.
        path: PathBuf,
        /// The process that holds it, as it wrote itself into the lock file.
        pid: Option<u32>,
    },

    /// The spool is not, or not certainly, owned by this queue any more: its directory was moved,
    /// removed or replaced, its lock file is gone, or the process was forked from the one that
    /// opened it. Nothing is acknowledged from here on; what was, is in the directory that was
    /// opened, wherever that is now. Open the queue again.
    #[error("spool is not owned any more: {reason}. path=`{}`", path.display())]
    NotOwner {
        /// Where the spool was opened.
        path: PathBuf,
        /// What happened.
        reason: String,
    },

    /// The spool belongs to another user, who could not read what this one leaves in it. Nothing
    /// was touched.
    #[error("spool belongs to user {uid}; type: sudo -u '#{uid}' everpost ... path=`{}`", path.display())]
    NotYours {
        /// The spool.
        path: PathBuf,
        /// The user that its marker, or its directory, belongs to.
        uid: u32,
    },

    /// The rights of the directory let others do what only its owner may. Nothing was touched.
    #[error("spool cannot be used safely: {reason}. path=`{}`", path.display())]
    Unsafe {
        /// The spool, or the directory in it.
        path: PathBuf,
        /// What is wrong, with the command to type where there is one.
        reason: String,
    },

    /// The directory holds something that is not a spool. Nothing was touched.
    #[error("directory is not empty and not a spool. path=`{}`", path.display())]
    NotASpool {
        /// The directory.
        path: PathBuf,
    },

    /// There is no spool yet: the directory is missing, empty, or left over from the making of a
    /// spool that was interrupted. Nothing was ever acknowledged in it.
    #[error("there is no spool yet. path=`{}`", path.display())]
    NoSpool {
        /// The directory.
        path: PathBuf,
    },

    /// The owner of the spool kept writing while it was looked at, so that nothing certain can be
    /// said. Look again, or ask the owner.
    #[error("spool is being written to by its owner. path=`{}`", path.display())]
    Changing {
        /// The spool.
        path: PathBuf,
    },

    /// The spool was written by a newer everpost. Nothing was touched.
    #[error("spool has a format this version does not know. path=`{}`, found=`{found}`, supported=`{supported}`", path.display())]
    FutureFormat {
        /// The spool, or the file in it.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The newest version this build reads.
        supported: u32,
    },

    /// A file of the spool is damaged in a way that needs a person to decide. Nothing was
    /// deleted.
    #[error("spool is damaged: {what}. path=`{}`", path.display())]
    Damaged {
        /// What is wrong.
        what: String,
        /// The file or directory.
        path: PathBuf,
    },

    /// The settings contradict themselves or leave their range; every fault is listed.
    #[error("settings are not usable: {}", problems.join("; "))]
    Settings {
        /// One sentence for each fault, naming the field and its range.
        problems: Vec<String>,
    },

    /// The API key cannot be used. See [`KeyError`].
    #[error(transparent)]
    Key(#[from] KeyError),

    /// The sink cannot be built as asked: a bad base URL, plain HTTP to another machine, no TLS
    /// in this build.
    #[error("sink is not usable: {reason}")]
    Sink {
        /// What is wrong, without credentials.
        reason: String,
    },

    /// The servers of a fleet cannot be used: they are not reached, they refuse, or what they hold is
    /// not as it must be. Nothing was lost by it. Do what the reason says; the same may work later.
    #[error("fleet cannot be used: {reason}")]
    Fleet {
        /// What stands in the way, without credentials.
        reason: String,
    },

    /// The control socket cannot be served. The queue itself is not affected. Mend what the
    /// reason says, or go on without it.
    #[error("control socket cannot be served: {reason}. path=`{}`", path.display())]
    Control {
        /// What stands in the way.
        reason: String,
        /// The socket.
        path: PathBuf,
    },

    /// There is no dead letter under this number.
    #[error("no such dead letter. seq=`{seq}`")]
    NoSuchLetter {
        /// The number asked for.
        seq: u64,
    },

    /// The disk refused. At `append`: the event is not acknowledged; it may or may not turn up
    /// after a restart, so append it again under the same id. The queue itself goes on trying.
    #[error("failed to {action}. path=`{}`", path.display())]
    Storage {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },

    /// The system refused a thread, or what a thread needs. What was asked for was not done.
    #[error("failed to {action}")]
    NoThread {
        /// What it was needed for.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },

    /// Something inside everpost is not as it must be. What was asked for was not done, and what
    /// was acknowledged is safe on disk.
    #[error("fault inside everpost: {what}")]
    Internal {
        /// What is not as it must be.
        what: String,
    },

    /// A part of the queue ended by a panic. What was acknowledged is safe on disk; open the
    /// queue again.
    #[error("{part} ended by a panic: {message}")]
    Panicked {
        /// Which part.
        part: &'static str,
        /// The text of the panic.
        message: String,
    },
}

impl Error {
    /// What a person can do about it, in one line.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::InvalidEvent { .. } => "an event is one JSON value; mend it and append it again",
            Self::TooLarge { .. } => "split the event, or raise the setting named",
            Self::Full { what, .. } if *what == NO_ROOM_FOR_NEW => {
                "free so many bytes, choose another disk, or make a smaller spool: see \
                 `journal_bytes` and `max_bytes`"
            }
            Self::Full { what, .. } if *what == FILES_TOO_SMALL_FOR_NEW => {
                "raise the limit, or set a smaller `journal_bytes`"
            }
            Self::Full { .. } => {
                "wait until delivery has made room, raise `max_bytes`, or choose \
                 `OnFull::Block` or `OnFull::DropOldest`"
            }
            Self::Closed => "open the queue again; what was acknowledged is still in it",
            Self::NoSink => "the owner of the spool has to open it with a sink",
            Self::InUse { .. } => "stop the other process, or use a different directory",
            Self::NotOwner { .. } => {
                "open the queue again; a program that forks opens it after that, in one process"
            }
            Self::NotYours { .. } => {
                "run it as that user, or give the spool, with all that is in it, to this one"
            }
            Self::Unsafe { .. } => "mend what the reason says, then open the spool again",
            Self::NotASpool { .. } => "choose an empty directory, or one made by everpost",
            Self::NoSpool { .. } => {
                "`everpost append` makes a new spool; or name another directory"
            }
            Self::Changing { .. } => {
                "look again, or let the owner serve the control socket, as `everpost run` does"
            }
            Self::FutureFormat { .. } => "use the everpost that wrote it, or a newer one",
            Self::Damaged { .. } => "keep a copy of the directory before anything else",
            Self::Settings { .. } => "mend the fields named",
            Self::Key(error) => error.hint(),
            Self::Sink { .. } => {
                "mend what is named: the base URL, the proxy, a time limit, or a TLS feature of the build"
            }
            Self::Fleet { .. } => {
                "see that the servers run, are reached from here and take these credentials; then try again"
            }
            Self::Control { .. } => "mend what the reason says; the queue works without the socket",
            Self::NoSuchLetter { .. } => "list the dead letters to see which there are",
            Self::Storage { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "see that the file is one that everpost made, and belongs to the user that runs this"
            }
            Self::Storage { .. } => {
                "see that the disk is there, writable and has room; then try again"
            }
            Self::NoThread { .. } => {
                "see how many threads and how much memory the program may have, then try again"
            }
            Self::Internal { .. } => "report it, with what the program logged before",
            Self::Panicked { .. } => "open the queue again, and report the text of the panic",
        }
    }

    pub(crate) fn storage(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match source.downcast::<Self>() {
            // It has been said already, below the file system: see `Guarded`.
            Ok(said) => said,
            Err(source) => Self::Storage {
                action,
                path,
                source,
            },
        }
    }

    pub(crate) fn no_thread(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::NoThread { action, source }
    }

    /// The same error for one more caller; a system error cannot be cloned.
    pub(crate) fn again(&self) -> Self {
        macro_rules! same {
            ($($kind:ident { $($field:ident),* },)*) => {
                match self {
                    $(Self::$kind { $($field),* } => Self::$kind { $($field: $field.again()),* },)*
                    Self::Key(error) => Self::Key(error.clone()),
                }
            };
        }
        same! {
            InvalidEvent { reason },
            TooLarge { bytes, max, setting },
            Full { what, used, max },
            Closed {},
            NoSink {},
            InUse { path, pid },
            NotASpool { path },
            NotOwner { path, reason },
            NotYours { path, uid },
            Unsafe { path, reason },
            NoSpool { path },
            Changing { path },
            FutureFormat { path, found, supported },
            Damaged { what, path },
            Settings { problems },
            Sink { reason },
            Fleet { reason },
            Control { reason, path },
            NoSuchLetter { seq },
            Storage { action, path, source },
            NoThread { action, source },
            Internal { what },
            Panicked { part, message },
        }
    }

    /// Whether the cause is that the disk, the quota of the user or the limit on the size of files
    /// leaves no room.
    pub(crate) fn is_out_of_room(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Storage { source, .. } => {
                matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull
                        | io::ErrorKind::QuotaExceeded
                        | io::ErrorKind::FileTooLarge
                )
            }
            _ => false,
        }
    }
}

/// The same value for one more caller. A system error cannot be cloned.
trait Again {
    fn again(&self) -> Self;
}

macro_rules! again_by_clone {
    ($($type:ty),*) => {
        $(impl Again for $type {
            fn again(&self) -> Self {
                self.clone()
            }
        })*
    };
}

again_by_clone!(
    &'static str,
    String,
    Vec<String>,
    PathBuf,
    u64,
    u32,
    Option<u32>
);

/// The same kind and the same text, and the system's number if there is one.
impl Again for io::Error {
    fn again(&self) -> Self {
        match self.raw_os_error() {
            Some(number) => Self::from_raw_os_error(number),
            None => Self::new(self.kind(), self.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
