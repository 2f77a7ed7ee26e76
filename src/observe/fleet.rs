//! Log lines about the workers of a fleet.

use std::time::Duration;

use crate::error::Error;

/// INFO: this worker delivers a partition from now on.
pub(crate) fn partition_taken(partition: u16) {
    tracing::info!(partition, "this worker delivers the partition now");
}

/// WARN: a partition is free and could not be taken.
pub(crate) fn partition_not_taken(partition: u16, error: &Error) {
    tracing::warn!(partition, %error, "the partition cannot be taken; trying again");
}

/// WARN: another worker has a partition that this one held, or its record says so no more.
pub(crate) fn partition_lost(partition: u16) {
    tracing::warn!(
        partition,
        "the partition is held no more; another worker goes on, and the batch under way may come twice"
    );
}

/// WARN: other workers have to wait until the lease is over.
pub(crate) fn partition_not_given_up(partition: u16, error: &Error) {
    tracing::warn!(partition, %error, "the partition could not be given up; it is free when its lease is over");
}

/// WARN: it is not known which partitions are free.
pub(crate) fn records_not_read(error: &Error) {
    tracing::warn!(%error, "the records of the partitions cannot be read; trying again");
}

/// ERROR: a partition is delivered by no worker of this version.
pub(crate) fn record_unreadable(error: &Error) {
    tracing::error!(%error, "this worker leaves the partition alone; a person must act");
}

/// ERROR: events are gone that no cursor had passed, and no worker removed them.
pub(crate) fn removed_before_delivery(partition: u16, cursor: u64, first_seq: u64) {
    tracing::error!(
        partition,
        cursor,
        first_seq,
        "the stream begins behind the cursor of the partition: events may have been removed before they \
         were delivered; what was known to be there is booked as lost"
    );
}

/// INFO: delivered events were removed.
pub(crate) fn removed_delivered(events: u64, through: u64) {
    if events > 0 {
        tracing::info!(
            events,
            through,
            "delivered events that are old enough were removed from the stream"
        );
    }
}

/// WARN: delivered events stay in the stream.
pub(crate) fn nothing_removed(error: &Error) {
    tracing::warn!(%error, "delivered events cannot be removed from the stream at present; trying again");
}

/// ERROR: the servers do not let this worker in, or refuse what it needs.
pub(crate) fn refused_by_servers(said: &str, wait: Duration) {
    tracing::error!(
        said,
        ?wait,
        "the servers refuse this worker: its connection is dropped and made again later; a person must see \
         to its credentials and rights"
    );
}

/// INFO: the servers let this worker in again.
pub(crate) fn taken_by_servers() {
    tracing::info!("the servers take this worker again");
}

/// WARN: the books of a fleet are shown as they were before, if at all.
pub(crate) fn books_not_read(error: &Error) {
    tracing::warn!(%error, "the books of the fleet cannot be read; trying again, and showing those from before");
}

/// INFO: the books of a fleet are shown as they are.
pub(crate) fn books_are_read_again() {
    tracing::info!("the books of the fleet are read again");
}
