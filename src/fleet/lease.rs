//! Who may have which partition, and for how long: pure.
//!
//! A worker that has a partition writes its record at least every third of the lease. Another one takes
//! a partition whose record has not changed for a whole lease by its own clock, by a write that names the
//! record that it saw: so of two that try, and of the old one and the new one, only one is written. What
//! keeps two from *delivering* at once is time: a worker delivers only while its last write is younger
//! than 0.7 of the lease, and a process that was stopped in between may still send what it held. Its
//! next write fails, and it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a worker has a partition without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease(Duration);

impl Lease {
    pub(super) const fn of(lease: Duration) -> Self {
        Self(lease)
    }

    /// After so long without a change, a record counts as abandoned.
    pub(super) fn abandoned_after(self) -> Duration {
        self.0
    }

    /// So often a record is written.
    pub(super) fn renew_every(self) -> Duration {
        self.0 / 3
    }

    /// So long after the beginning of the last write a delivery may begin.
    pub(super) fn good_for(self) -> Duration {
        self.0 * 7 / 10
    }
}

/// What a worker knows of all partitions and of the other workers, by its own monotonic clock.
#[derive(Debug)]
pub(super) struct Roster {
    me: String,
    lease: Lease,
    partitions: u16,
    seen: BTreeMap<u16, Seen>,
    /// When each other worker was heard last, also those that have no partition.
    heard: BTreeMap<String, Duration>,
}

/// The record of a partition, when it was looked at last.
#[derive(Debug)]
struct Seen {
    /// Its place in the stream of cursors: each write has a new one.
    place: u64,
    owner: String,
    /// Since when it is as it is.
    unchanged_since: Duration,
}

/// What a worker should do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Advice {
    pub(super) take: Vec<u16>,
    pub(super) give_up: Vec<u16>,
}

impl Roster {
    pub(super) fn new(me: &str, lease: Lease, partitions: u16) -> Self {
        Self {
            me: me.to_owned(),
            lease,
            partitions,
            seen: BTreeMap::new(),
            heard: BTreeMap::new(),
        }
    }

    /// A record was looked at. What a server that is behind says is not taken for news.
    pub(super) fn look(&mut self, partition: u16, place: u64, owner: &str, now: Duration) {
        let seen = self.seen.entry(partition).or_insert_with(|| Seen {
            place: 0,
            owner: String::new(),
            unchanged_since: now,
        });
        if place > seen.place {
            seen.place = place;
            owner.clone_into(&mut seen.owner);
            seen.unchanged_since = now;
        }
    }

    /// Nothing could be written for a while, so that no worker could renew either: each has a whole lease
    /// from now.
    pub(super) fn reprieve(&mut self, now: Duration) {
        for seen in self.seen.values_mut() {
            seen.unchanged_since = now;
        }
    }

    /// Another worker is there.
    pub(super) fn hear(&mut self, worker: &str, now: Duration) {
        /// More workers than any fleet has.
        const WORKERS_MAX: usize = 4096;
        if worker != self.me && (self.heard.len() < WORKERS_MAX || self.heard.contains_key(worker))
        {
            self.heard.insert(worker.to_owned(), now);
        }
    }

    /// Another worker has said that it goes.
    pub(super) fn unhear(&mut self, worker: &str) {
        self.heard.remove(worker);
    }

    /// What to take and what to give up, if these are held. Each worker comes to the same shares: the
    /// partitions by the number of workers, and one more for the first of them by name.
    pub(super) fn advice(&mut self, held: &BTreeSet<u16>, now: Duration) -> Advice {
        let lease = self.lease.abandoned_after();
        self.heard.retain(|_, at| now.saturating_sub(*at) <= lease);
        let share = self.share(now);
        if held.len() > share {
            let give_up = held.iter().rev().take(held.len() - share);
            return Advice {
                give_up: give_up.copied().collect(),
                ..Advice::default()
            };
        }
        // Not all begin with the same one.
        let (rank, workers) = self.rank(now);
        let offset = u16::try_from(rank * usize::from(self.partitions) / workers).unwrap_or(0);
        let order = (0..self.partitions).map(|at| (at + offset) % self.partitions);
        let free =
            order.filter(|partition| !held.contains(partition) && self.is_free(*partition, now));
        Advice {
            take: free.take(share - held.len()).collect(),
            ..Advice::default()
        }
    }

    /// The workers that are alive, this one among them.
    fn alive(&self, now: Duration) -> BTreeSet<&str> {
        let owners = self
            .seen
            .iter()
            .filter(|(number, _)| !self.is_free(**number, now));
        let owners = owners.map(|(_, seen)| seen.owner.as_str());
        let heard = self.heard.keys().map(String::as_str);
        owners.chain(heard).chain([self.me.as_str()]).collect()
    }

    /// The place of this worker among those that are alive, and how many these are.
    fn rank(&self, now: Duration) -> (usize, usize) {
        let alive = self.alive(now);
        (alive.range(..self.me.as_str()).count(), alive.len())
    }

    fn share(&self, now: Duration) -> usize {
        let (rank, workers) = self.rank(now);
        let partitions = usize::from(self.partitions);
        partitions / workers + usize::from(rank < partitions % workers)
    }

    /// Whether no worker has it: none has ever had it, it was given up, or it is abandoned.
    fn is_free(&self, partition: u16, now: Duration) -> bool {
        self.seen.get(&partition).is_none_or(|seen| {
            let unchanged = now.saturating_sub(seen.unchanged_since);
            seen.owner.is_empty() || unchanged >= self.lease.abandoned_after()
        })
    }
}
