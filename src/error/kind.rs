//! What a caller does about an error.

use super::{Error, FILES_TOO_SMALL_FOR_NEW, NO_ROOM_FOR_NEW};

/// What a caller does about an error: each error of everpost is one of these, and no other will
/// be added, so that a `match` on them is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Wait, then do the same again: the spool is full while delivery makes room, or is being
    /// written to while it is looked at. Nothing was done.
    Wait,
    /// Change what was given to the call: the event, the settings, the key, the address, the
    /// number of a letter. The same again fails again.
    Mend,
    /// This queue is done. Open it again, and do the same again, under the same id; what was
    /// acknowledged is on disk.
    OpenAgain,
    /// Something outside of the program has to be seen to, and by a person: the disk, the rights of
    /// a directory, another process that holds the spool. Show the hint. The same may work later:
    /// the queue itself goes on trying what it does in the background.
    AskPerson,
    /// A fault inside everpost. Report it.
    Bug,
}

impl Error {
    /// What a caller does about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Full { what, .. }
                if [NO_ROOM_FOR_NEW, FILES_TOO_SMALL_FOR_NEW].contains(what) =>
            {
                ErrorKind::AskPerson
            }
            Self::Full { .. } | Self::Changing { .. } => ErrorKind::Wait,
            Self::InvalidEvent { .. }
            | Self::TooLarge { .. }
            | Self::Settings { .. }
            | Self::Key(_)
            | Self::Sink { .. }
            | Self::NoSink
            | Self::NoSuchLetter { .. } => ErrorKind::Mend,
            Self::Closed | Self::NotOwner { .. } | Self::Panicked { .. } => ErrorKind::OpenAgain,
            Self::InUse { .. }
            | Self::NotYours { .. }
            | Self::Unsafe { .. }
            | Self::NotASpool { .. }
            | Self::NoSpool { .. }
            | Self::FutureFormat { .. }
            | Self::Damaged { .. }
            | Self::Fleet { .. }
            | Self::Control { .. }
            | Self::Storage { .. }
            | Self::NoThread { .. } => ErrorKind::AskPerson,
            Self::Internal { .. } => ErrorKind::Bug,
        }
    }
}
