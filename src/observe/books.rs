//! The numbers of a fleet as its books have them: their names and what they mean. What a worker counts too has the
//! worker's names: see [`worker`](super::worker).

use super::numbers::Kind;
use super::worker::{Number, number};

/// Label: the stream of events.
pub(crate) const STREAM: &str = "stream";

/// Counter, events of a partition: ever stored in the stream.
pub(crate) const STORED: &str = "everpost_fleet_events_stored_total";
/// Gauge, seconds since 1970, of a partition: when the oldest event that waits happened; 0 if none waits.
pub(crate) const OLDEST: &str = "everpost_fleet_oldest_pending_timestamp_seconds";
/// Gauge: 1 if the books agree with what the stream counts, 0 otherwise.
pub(crate) const BALANCED: &str = "everpost_fleet_books_balanced";
/// Gauge: dead letters that are there.
pub(crate) const LETTERS: &str = "everpost_fleet_dead_letters";
/// Gauge, seconds since 1970: when the books were read last; 0 if they never were.
pub(crate) const READ: &str = "everpost_fleet_books_timestamp_seconds";
/// Gauge: 1 while the books cannot be read, 0 otherwise.
pub(crate) const UNREAD: &str = "everpost_fleet_books_unread";

/// Of each partition, beside what a worker counts of it.
pub(crate) const OF_PARTITION: [Number; 2] = [
    number(STORED, Kind::Counter, "events ever stored"),
    number(
        OLDEST,
        Kind::Gauge,
        "time of the oldest pending event, since 1970; 0 if none",
    ),
];

/// Of the fleet.
pub(crate) const OF_FLEET: [Number; 4] = [
    number(
        BALANCED,
        Kind::Gauge,
        "1 if the books agree with what the stream counts",
    ),
    number(LETTERS, Kind::Gauge, "dead letters held at present"),
    number(
        READ,
        Kind::Gauge,
        "when the books were read last, since 1970; 0 if never",
    ),
    number(UNREAD, Kind::Gauge, "1 while the books cannot be read"),
];
