//! What became of an event.

use serde::{Deserialize, Serialize};

use crate::dead::{Cause, DeadLetter};
use crate::id::SeqRange;
use crate::ledger::Settled;
use crate::outcome::Answer;

/// What became of an event.
///
/// Whatever is said here is true, after restarts, power cuts and damage too. What is not known is
/// not guessed: how the last 1,024 ranges of events left that were not delivered is kept, fewer in a
/// spool whose journal files are shorter than 640 KiB. What is older, or what a damaged journal
/// leaves open, is [`Settled`](Self::Settled), or what its dead letter says while that is held.
///
/// As JSON: an object whose `fate` is the name in lower case, with the fields beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fate", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fate {
    /// No event has this number, or none that is known has this id.
    Unknown,
    /// It waits, or is being sent. So is one that damage made unreadable, until its turn comes.
    Pending,
    /// The receiver took it.
    Delivered {
        /// The receiver's name for the request, if it gave one. It is remembered for the last 256
        /// requests that were named, in at most 1,024 bytes, and not across a restart.
        request_id: Option<String>,
    },
    /// It was refused, or was too large for the receiver, and set aside as a dead letter.
    Dead {
        /// The receiver's last word on it, as the letter has it. None if the letter was retried or
        /// discarded since, cannot be read, or was not looked at.
        answer: Option<Answer>,
    },
    /// It outlived `max_age` and was set aside as a dead letter.
    Expired,
    /// It made room for newer ones.
    Evicted,
    /// Damage made it unreadable.
    Lost,
    /// It has left the queue, and it is not known any more how.
    Settled,
}

impl Fate {
    /// As the books say it; `None` if they do not.
    pub(crate) fn of(how: Option<Settled>) -> Self {
        match how {
            Some(Settled::Delivered) => Self::Delivered { request_id: None },
            Some(Settled::Dead) => Self::Dead { answer: None },
            Some(Settled::Expired) => Self::Expired,
            Some(Settled::Evicted) => Self::Evicted,
            Some(Settled::Lost) => Self::Lost,
            None => Self::Settled,
        }
    }

    /// As its dead letter says it.
    pub(crate) fn of_letter(letter: DeadLetter) -> Self {
        match letter.cause {
            Cause::Expired => Self::Expired,
            Cause::Refused | Cause::TooLarge => Self::Dead {
                answer: Some(letter.answer),
            },
        }
    }

    /// Whether the event has left the queue. That is final, but a dead letter may be sent again,
    /// under a new number.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !matches!(self, Self::Unknown | Self::Pending)
    }

    /// Whether there may be a dead letter that says more. One stands also for an event that damage
    /// took between its letter and its place.
    pub(crate) fn may_have_letter(&self) -> bool {
        matches!(
            self,
            Self::Dead { .. } | Self::Expired | Self::Lost | Self::Settled
        )
    }
}

/// Events that left the queue one behind the other and in the same way. Given by
/// [`Settlements`](crate::Settlements).
///
/// As JSON: the fields of a [`Fate`], with `first` and `last` beside them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Settlement {
    /// Which.
    #[serde(flatten)]
    pub range: SeqRange,
    /// How. Of dead letters it has no answer: those are in the letters.
    #[serde(flatten)]
    pub fate: Fate,
}

impl Settlement {
    pub(crate) fn new(range: SeqRange, fate: Fate) -> Self {
        Self { range, fate }
    }
}
