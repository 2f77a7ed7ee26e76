//! Incidents: what was found wrong with a spool, on record until a person has seen it.

use serde::{Deserialize, Serialize};

use crate::id::SeqRange;

/// What kind of thing an incident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum IncidentKind {
    /// Acknowledged events cannot be read any more: the range is in [`Incident::missing`].
    EventsMissing,
    /// Dead letters are gone that were neither retried nor discarded; or some are there again.
    LettersMissing,
    /// Bytes of a file are not what was written. What could be read of it was kept.
    Damaged,
    /// A file or directory of another spool, or of another place in this one, lay in the spool. It
    /// is not read, and is moved to `quarantine/`.
    Foreign,
    /// One of the two files that say what the directory is was unreadable or wrong.
    Marker,
    /// A part of the spool was gone altogether and was made anew.
    Gone,
}

/// Something that was found wrong with a spool, on record in the spool before anything was changed
/// because of it.
///
/// As JSON: an object with these field names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Incident {
    /// Its number in this spool, from 1.
    pub number: u64,
    /// When it was found, in milliseconds since 1970.
    pub time_ms: u64,
    /// What kind of thing it is.
    pub kind: IncidentKind,
    /// The file or directory, inside the spool.
    pub place: String,
    /// What is wrong, in one line. Never contains any of the content of an event.
    pub what: String,
    /// The events that cannot be read any more, if it is about events.
    pub missing: Option<SeqRange>,
    /// When a person said that it was seen, in milliseconds since 1970.
    pub acknowledged_ms: Option<u64>,
}

/// What an opening would put on record, before it has a number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) kind: IncidentKind,
    pub(crate) place: String,
    pub(crate) what: String,
    pub(crate) missing: Option<SeqRange>,
}

impl Finding {
    pub(crate) fn new(
        kind: IncidentKind,
        place: impl Into<String>,
        what: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            place: place.into(),
            what: what.into(),
            missing: None,
        }
    }

    /// Acknowledged events that cannot be read.
    pub(crate) fn events(place: impl Into<String>, range: SeqRange, more: &str) -> Self {
        let SeqRange { first, last } = range;
        let what = format!("the events {first} to {last} cannot be read{more}");
        Self {
            missing: Some(range),
            ..Self::new(IncidentKind::EventsMissing, place, what)
        }
    }
}
