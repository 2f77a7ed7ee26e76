//! Log lines: one function for each fact, with its level.
//!
//! WARN: odd, but nothing is lost. ERROR: something was lost, set aside, or a person must act.
//! INFO: it is well again. DEBUG: each attempt. Never a key, never the content of an event.

use crate::error::Error;
use crate::status::SeqRange;

/// Opening found events that were acknowledged and cannot be read any more.
pub(crate) fn damage_found(range: SeqRange) {
    tracing::error!(first = range.first, last = range.last, count = range.count(), "events are damaged and lost");
}

/// Old events made room for new ones.
pub(crate) fn evicted(range: SeqRange) {
    tracing::error!(first = range.first, last = range.last, count = range.count(), "events were dropped to make room");
}

/// The disk refused something, for the first time since it last worked.
pub(crate) fn storage_fault(error: &Error) {
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::error!(%error, source, hint = error.hint(), "the disk refused");
}
