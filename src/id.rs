//! Names of events: the id that never changes, and the place in the queue.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::Error;

/// The position of an event in its queue: from 1, gap-free, never reused.
pub type Seq = u64;

/// The identity of an event: made once, stored with it, sent unchanged on every attempt.
///
/// A UUID of version 7 unless the caller brings its own, so ids made by one process sort by the
/// millisecond they were made in. The receiver can recognise a duplicate by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(Uuid);

impl EventId {
    /// Wraps an id that the caller already has.
    #[must_use]
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID itself.
    #[must_use]
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventId({self})")
    }
}

impl FromStr for EventId {
    type Err = Error;

    /// # Errors
    /// [`Error::InvalidEvent`] if the text is not a UUID.
    fn from_str(text: &str) -> Result<Self, Error> {
        Uuid::parse_str(text)
            .map(Self)
            .map_err(|source| Error::InvalidEvent {
                reason: format!("the id is not a UUID: {source}"),
            })
    }
}

/// A run of sequence numbers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeqRange {
    /// The first.
    pub first: Seq,
    /// The last; never before the first.
    pub last: Seq,
}

impl SeqRange {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_as_text() {
        let id = EventId::from_uuid(Uuid::from_u128(7));
        assert_eq!(id.to_string().parse::<EventId>().unwrap(), id);
        assert!("no".parse::<EventId>().is_err());
    }
}
