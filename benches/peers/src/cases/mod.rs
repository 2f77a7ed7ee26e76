//! The cases, one to a file.

mod after_drain;
mod append;
mod append_p99;
mod disk;
mod drain;
mod far;
mod fleet;
mod idle;
mod memory;
mod online;
mod open;
mod settle;
mod written;

use anyhow::Result;

use crate::bench::Bench;

/// A case that can be asked for.
pub(crate) struct Case {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it measures, for people.
    pub(crate) about: &'static str,
    /// Whether it means nothing without a disk.
    pub(crate) needs_disk: bool,
    /// Measures.
    pub(crate) run: fn(&mut Bench) -> Result<()>,
}

/// All cases, in the order they run.
pub(crate) fn all() -> Vec<Case> {
    vec![
        Case {
            name: "append_synced_1",
            about: "One producer. Each event is appended and awaited before the next, and has to survive a power cut by then.",
            needs_disk: true,
            run: append::synced_1,
        },
        Case {
            name: "append_synced_64",
            about: "64 producers, each awaiting its event before it appends the next. The bare limit writes 64 events for each fdatasync, with no caller to wake.",
            needs_disk: true,
            run: append::synced_64,
        },
        Case {
            name: "append_written_1",
            about: "One producer. Each event is appended and awaited, and has to survive the death of the process by then, but not a power cut.",
            needs_disk: false,
            run: append::written_1,
        },
        Case {
            name: "append_written_64",
            about: "64 producers, with the same promise as one. The bare limit writes 64 events in each call, with no caller to wake.",
            needs_disk: false,
            run: append::written_64,
        },
        Case {
            name: "append_p99",
            about: "The latency of appends that come at half of the maximum rate, each event synced, while the queue seals chunks, begins and deletes segments, and delivers a backlog at the same rate: with the default settings, and with segments of 1 MiB, of which several are begun and deleted in a second.",
            needs_disk: true,
            run: append_p99::run,
        },
        Case {
            name: "drain",
            about: "A backlog is delivered to a local server in another process. The bare loop posts the same events in batches of the same size, from memory.",
            needs_disk: false,
            run: drain::run,
        },
        Case {
            name: "far",
            about: "A backlog is delivered over a way of 100 ms, 50 ms in each direction, by a proxy on real sockets that holds back every byte for that long, and answers no new connection sooner than a handshake would. With one request under way at a time, the number of requests is what takes the time. The bare loops keep their connection, and have the events in memory.",
            needs_disk: false,
            run: far::run,
        },
        Case {
            name: "fleet",
            about: "16 spools with a backlog deliver into a stream that three servers of NATS keep, and 4 workers deliver it from there to a local server. Beside it, the same events by plain publishes with many under way, and a pull consumer that 4 loops share. The streams are those of `everpost fleet setup`; the servers sync before they acknowledge.",
            needs_disk: true,
            run: fleet::run,
        },
        Case {
            name: "online",
            about: "With nothing pending, from before an append until the server has the event. The bare POST is the same request without a queue.",
            needs_disk: true,
            run: online::run,
        },
        Case {
            name: "open",
            about: "How long opening a spool takes, by the number of pending events.",
            needs_disk: false,
            run: open::run,
        },
        Case {
            name: "memory",
            about: "Resident memory of a process with a queue, less that of a process with a runtime and an HTTP client alone.",
            needs_disk: false,
            run: memory::run,
        },
        Case {
            name: "disk",
            about: "Bytes on disk for each byte of payload in a backlog of chat events: allocated blocks of all files.",
            needs_disk: false,
            run: disk::run,
        },
        Case {
            name: "written",
            about: "Bytes that the block device was given for each byte of payload, metadata of the file system included.",
            needs_disk: true,
            run: written::run,
        },
        Case {
            name: "after_drain",
            about: "Bytes on disk once a backlog was delivered.",
            needs_disk: false,
            run: after_drain::run,
        },
        Case {
            name: "idle",
            about: "What a process with an open, empty queue does while nothing happens.",
            needs_disk: false,
            run: idle::run,
        },
        Case {
            name: "settle",
            about: "What settling a batch costs in system calls, counted between the second batch and the last. Segments hold 1 MiB here.",
            needs_disk: false,
            run: settle::run,
        },
    ]
}
