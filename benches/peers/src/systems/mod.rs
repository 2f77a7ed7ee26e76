//! everpost, the limits and the peers, each at its best honest setting.

mod everpost;
mod files;
mod fjall;
mod okaywal;
mod persistent_queue;
mod queue_file;
mod redb;
mod sealed;
mod sled;
mod sqlite;
mod yaque;

pub(crate) use self::everpost::{WRITTEN, settings, synced, written};
pub(crate) use self::files::{
    Preallocated, bare_synced, bare_written, grouped_synced, grouped_written,
};
pub(crate) use self::sealed::sealed;
use crate::contest::System;

/// Those whose append survives a power cut, or is meant to; the limits first.
pub(crate) fn all_synced(producers: usize) -> Vec<System> {
    let limits = [bare_synced(), grouped_synced()];
    let peers = [
        sqlite::full(),
        queue_file::synced(),
        okaywal::own(),
        okaywal::batched(),
        fjall::synced(),
        redb::immediate(),
        persistent_queue::synced(),
        sled::flushed(),
    ];
    limits
        .into_iter()
        .chain(synced(producers))
        .chain(peers)
        .collect()
}

/// Those whose append survives the process, or less; the limits first.
pub(crate) fn all_written(producers: usize) -> Vec<System> {
    let mut limits = vec![bare_written(), grouped_written()];
    // Many producers share a write, and have to be woken: another shape.
    if producers == 1 {
        limits.insert(1, sealed());
    }
    let peers = [
        sqlite::normal(),
        queue_file::written(),
        yaque::written(),
        fjall::written(),
        redb::none(),
        persistent_queue::none(),
        sled::unflushed(),
    ];
    limits
        .into_iter()
        .chain(written(producers))
        .chain(peers)
        .collect()
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
