//! The numbers of a worker of a fleet: their names and what they mean.

use super::numbers::Kind;

/// Label: the name of the worker.
pub(crate) const WORKER: &str = "worker";
/// Label: the number of the partition.
pub(crate) const PARTITION: &str = "partition";

/// Gauge: partitions that this worker has.
pub(crate) const PARTITIONS: &str = "everpost_worker_partitions";
/// Gauge: 1 while the servers do not let it do what it has to, 0 otherwise.
pub(crate) const TROUBLE: &str = "everpost_worker_trouble";
/// Counter, events of a partition: taken by the receiver, over the life of the fleet.
pub(crate) const DELIVERED: &str = "everpost_fleet_events_delivered_total";
/// Counter, events of a partition: refused by the receiver and set aside.
pub(crate) const DEAD: &str = "everpost_fleet_events_dead_total";
/// Counter, events of a partition: set aside because of their age.
pub(crate) const EXPIRED: &str = "everpost_fleet_events_expired_total";
/// Counter, events of a partition: removed by a person before they were delivered.
pub(crate) const LOST: &str = "everpost_fleet_events_lost_total";
/// Gauge, events of a partition: waiting for delivery.
pub(crate) const PENDING: &str = "everpost_fleet_events_pending";
/// Counter, requests of a partition: since this worker has it.
pub(crate) const REQUESTS: &str = "everpost_fleet_requests_total";

/// A number, as a page shows it.
pub(crate) struct Number {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) meaning: &'static str,
}

pub(super) const fn number(name: &'static str, kind: Kind, meaning: &'static str) -> Number {
    Number {
        name,
        kind,
        meaning,
    }
}

/// Of the worker.
pub(crate) const OF_WORKER: [Number; 2] = [
    number(PARTITIONS, Kind::Gauge, "partitions that this worker has"),
    number(
        TROUBLE,
        Kind::Gauge,
        "1 while the servers refuse this worker",
    ),
];

/// Of each partition, as its record has them.
pub(crate) const OF_EVENTS: [Number; 5] = [
    number(DELIVERED, Kind::Counter, "events taken by the receiver"),
    number(
        DEAD,
        Kind::Counter,
        "events refused by the receiver and set aside",
    ),
    number(
        EXPIRED,
        Kind::Counter,
        "events set aside because of their age",
    ),
    number(
        LOST,
        Kind::Counter,
        "events removed before they were delivered",
    ),
    number(PENDING, Kind::Gauge, "events waiting for delivery"),
];

/// Of each partition that it has.
pub(crate) const OF_HELD: [Number; 1] = [number(
    REQUESTS,
    Kind::Counter,
    "requests since this worker has the partition",
)];
