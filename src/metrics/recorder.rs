//! The numbers for the recorder of the program.

use ::metrics::{Counter, Gauge, counter, gauge};

use crate::observe::Place;
use crate::observe::numbers::{
    FLUSHER_STATE, Kind, METRICS, Metric, SPOOL, STATE, STATES, Unit, accounts, levels, states,
};
use crate::observe::recorder::label;
use crate::queue::Queue;
use crate::status::Status;
use crate::watch::StatusWatch;

/// Tells the installed recorder the unit and the meaning of every metric. [`follow`] does so too.
pub fn describe() {
    for metric in METRICS {
        let Metric { name, meaning, .. } = metric;
        let unit = match metric.unit {
            Unit::Count => ::metrics::Unit::Count,
            Unit::Bytes => ::metrics::Unit::Bytes,
            Unit::Seconds => ::metrics::Unit::Seconds,
        };
        match metric.kind {
            Kind::Counter => ::metrics::describe_counter!(name, unit, meaning),
            Kind::Gauge => ::metrics::describe_gauge!(name, unit, meaning),
            Kind::Histogram => ::metrics::describe_histogram!(name, unit, meaning),
        }
    }
}

/// Publishes what this queue is doing, now and whenever it changes, until the queue has ended.
///
/// Give the future to a runtime, or run it to its end on a thread of its own; it needs neither
/// timers nor I/O, and does nothing while nothing changes. It does not keep the queue open.
/// Install the recorder before this call: the one that is there now is the one that is told.
///
/// # Cancel safety
/// If the future is dropped, the numbers stay as they are.
pub fn follow(queue: &Queue) -> impl Future<Output = ()> + Send + 'static {
    describe();
    let mut watch: StatusWatch = queue.watch();
    let numbers = Numbers::new(queue.place(), &watch.current());
    async move {
        // No status ends this; the end of the queue does, and its last status is published too.
        let on_change = |status: &Status| {
            numbers.publish(status);
            false
        };
        let _ = watch.wait_for(on_change).await;
        numbers.publish(&watch.current());
    }
}

/// The metrics of one queue, looked up once.
struct Numbers {
    accounts: [Counter; 6],
    levels: [Gauge; 9],
    states: [Gauge; STATES.len()],
}

impl Numbers {
    /// Looks them up under the names that this status gives.
    fn new(place: &Place, status: &Status) -> Self {
        let spool = label(place);
        Self {
            accounts: accounts(&status.ledger)
                .map(|(name, _)| counter!(name, SPOOL => spool.clone())),
            levels: levels(status).map(|(name, _)| gauge!(name, SPOOL => spool.clone())),
            states: STATES
                .map(|state| gauge!(FLUSHER_STATE, SPOOL => spool.clone(), STATE => state)),
        }
    }

    fn publish(&self, status: &Status) {
        for (counter, (_, value)) in self.accounts.iter().zip(accounts(&status.ledger)) {
            counter.absolute(value);
        }
        for (gauge, (_, value)) in self.levels.iter().zip(levels(status)) {
            gauge.set(value);
        }
        for (gauge, value) in self.states.iter().zip(states(&status.flusher)) {
            gauge.set(value);
        }
    }
}
