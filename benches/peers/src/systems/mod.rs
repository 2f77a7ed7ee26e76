//! everpost, the limits and the peers, each at its best honest setting.

mod everpost;
mod files;
mod fjall;
mod okaywal;
mod persistent_queue;
mod queue_file;
mod redb;
mod sled;
mod sqlite;
mod yaque;

pub(crate) use self::everpost::{
    WRITTEN, settings, synced, synced_blocking, written, written_blocking,
};
pub(crate) use self::files::{
    Preallocated, bare_synced, bare_written, grouped_synced, grouped_written,
};
use crate::contest::System;

/// Those whose append survives a power cut, or is meant to; the limits first.
pub(crate) fn all_synced() -> Vec<System> {
    vec![
        bare_synced(),
        grouped_synced(),
        synced(),
        synced_blocking(),
        sqlite::full(),
        queue_file::synced(),
        okaywal::own(),
        okaywal::batched(),
        fjall::synced(),
        redb::immediate(),
        persistent_queue::synced(),
        sled::flushed(),
    ]
}

/// Those whose append survives the process, or less; the limits first.
pub(crate) fn all_written() -> Vec<System> {
    vec![
        bare_written(),
        grouped_written(),
        written(),
        written_blocking(),
        sqlite::normal(),
        queue_file::written(),
        yaque::written(),
        fjall::written(),
        redb::none(),
        persistent_queue::none(),
        sled::unflushed(),
    ]
}

/// Those that can hold a backlog, at their fastest: what they take on disk does not depend on it.
pub(crate) fn all_growing() -> Vec<System> {
    vec![
        sqlite::normal(),
        queue_file::growing(),
        yaque::written(),
        fjall::written(),
        redb::none(),
        sled::unflushed(),
    ]
}
