//! What is told to the recorder of the program where it happens.

use std::sync::Arc;
use std::time::Duration;

use ::metrics::{SharedString, counter, histogram};

use super::Place;
use super::numbers::{BATCHES_RETRIED, COMMIT_TIME, EVENTS_REFUSED, REQUEST_TIME, SPOOL};

/// The name of a queue as a label.
pub(crate) fn label(place: &Place) -> SharedString {
    SharedString::from(place.name())
}

/// The queue whose work this thread does.
fn here() -> SharedString {
    Place::current().map_or_else(|| SharedString::from(Arc::from("")), |place| label(&place))
}

pub(crate) fn commit_took(time: Duration) {
    histogram!(COMMIT_TIME, SPOOL => here()).record(time);
}

pub(crate) fn request_took(time: Duration) {
    histogram!(REQUEST_TIME, SPOOL => here()).record(time);
}

pub(crate) fn batch_retried() {
    counter!(BATCHES_RETRIED, SPOOL => here()).increment(1);
}

pub(crate) fn events_refused(place: &Place, events: usize) {
    let events = u64::try_from(events).unwrap_or(u64::MAX);
    counter!(EVENTS_REFUSED, SPOOL => label(place)).increment(events);
}
