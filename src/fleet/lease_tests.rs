//! Leases in simulated time: many workers that start, stop, freeze and go on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::lease::{Lease, Roster};

const LEASE: Lease = Lease::of_seconds(3);
const STEP: Duration = Duration::from_millis(50);

impl Lease {
    const fn of_seconds(seconds: u64) -> Self {
        Self::of(Duration::from_secs(seconds))
    }
}

/// The stream of cursors: the place and the owner of each record.
#[derive(Default)]
struct Store {
    records: BTreeMap<u16, (u64, String)>,
    writes: u64,
}

impl Store {
    /// A write that names the record it replaces.
    fn write(&mut self, partition: u16, expected: u64, owner: &str) -> Option<u64> {
        let there = self.records.get(&partition).map_or(0, |record| record.0);
        if there != expected {
            return None;
        }
        self.writes += 1;
        self.records
            .insert(partition, (self.writes, owner.to_owned()));
        Some(self.writes)
    }
}

struct Worker {
    name: String,
    roster: Roster,
    /// The partitions it believes it has, with the place of its last write and when that was.
    held: BTreeMap<u16, (u64, Duration)>,
    frozen_until: Duration,
    next_round: Duration,
}

impl Worker {
    fn new(name: String, partitions: u16, now: Duration) -> Self {
        Self {
            roster: Roster::new(&name, LEASE, partitions),
            name,
            held: BTreeMap::new(),
            frozen_until: Duration::ZERO,
            next_round: now,
        }
    }

    /// One round of what a worker does: renew, look, take, give up.
    fn round(&mut self, store: &mut Store, now: Duration) {
        let held: Vec<u16> = self.held.keys().copied().collect();
        for partition in held {
            let (place, _) = self.held[&partition];
            if let Some(place) = store.write(partition, place, &self.name) {
                self.held.insert(partition, (place, now));
            } else {
                self.held.remove(&partition);
            }
        }
        for (partition, (place, owner)) in &store.records {
            self.roster.look(*partition, *place, owner, now);
        }
        let advice = self
            .roster
            .advice(&self.held.keys().copied().collect(), now);
        for partition in advice.give_up {
            let (place, _) = self.held.remove(&partition).unwrap();
            store.write(partition, place, "");
        }
        for partition in advice.take {
            let expected = store.records.get(&partition).map_or(0, |record| record.0);
            if let Some(place) = store.write(partition, expected, &self.name) {
                self.held.insert(partition, (place, now));
            }
        }
    }

    /// Whether it would begin a delivery now.
    fn delivers(&self, partition: u16, now: Duration) -> bool {
        let held = self.held.get(&partition);
        held.is_some_and(|(_, renewed)| now - *renewed <= LEASE.good_for())
    }
}

struct Fleet {
    store: Store,
    workers: Vec<Worker>,
    partitions: u16,
    now: Duration,
}

impl Fleet {
    fn new(partitions: u16) -> Self {
        Self {
            store: Store::default(),
            workers: Vec::new(),
            partitions,
            now: Duration::ZERO,
        }
    }

    fn start(&mut self, name: &str) {
        let worker = Worker::new(name.to_owned(), self.partitions, self.now);
        self.workers.push(worker);
    }

    fn step(&mut self) {
        self.now += STEP;
        let names: Vec<String> = self.awake().map(|worker| worker.name.clone()).collect();
        for worker in &mut self.workers {
            if worker.frozen_until > self.now || worker.next_round > self.now {
                continue;
            }
            for name in &names {
                worker.roster.hear(name, self.now);
            }
            worker.round(&mut self.store, self.now);
            worker.next_round = self.now + LEASE.renew_every();
        }
        self.check();
    }

    fn awake(&self) -> impl Iterator<Item = &Worker> {
        self.workers
            .iter()
            .filter(|worker| worker.frozen_until <= self.now)
    }

    /// No two begin a delivery of the same partition, and the one that does is the one in its record.
    fn check(&self) {
        for partition in 0..self.partitions {
            let ready = self
                .awake()
                .filter(|worker| worker.delivers(partition, self.now));
            // One that was just thawed has not looked at the time yet: it does before it delivers.
            let ready: Vec<&str> = ready.map(|worker| worker.name.as_str()).collect();
            assert!(ready.len() <= 1, "{partition} at {:?}: {ready:?}", self.now);
            if let [owner] = ready[..] {
                assert_eq!(self.store.records[&partition].1, owner, "{partition}");
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.step();
        }
    }

    fn shares(&self) -> Vec<usize> {
        let mut shares: Vec<usize> = self.awake().map(|worker| worker.held.len()).collect();
        shares.sort_unstable();
        shares
    }

    fn owned(&self) -> usize {
        let held = self.awake().flat_map(|worker| worker.held.keys());
        held.collect::<BTreeSet<_>>().len()
    }
}

#[test]
fn partitions_are_shared_evenly_as_workers_come_and_go() {
    let mut fleet = Fleet::new(64);
    fleet.start("a");
    fleet.run(Duration::from_secs(1));
    assert_eq!(fleet.shares(), [64]);
    fleet.start("b");
    fleet.start("c");
    fleet.run(Duration::from_secs(4));
    assert_eq!(fleet.shares(), [21, 21, 22]);
    // One dies without a word.
    fleet.workers.remove(1);
    fleet.run(Duration::from_secs(6));
    assert_eq!(fleet.shares(), [32, 32]);
    for name in ["d", "e", "f", "g"] {
        fleet.start(name);
    }
    fleet.run(Duration::from_secs(5));
    assert_eq!(fleet.shares(), [10, 10, 11, 11, 11, 11]);
}

#[test]
fn more_workers_than_partitions_are_no_fault() {
    let mut fleet = Fleet::new(2);
    for name in ["a", "b", "c"] {
        fleet.start(name);
    }
    fleet.run(Duration::from_secs(4));
    assert_eq!(fleet.shares(), [0, 1, 1]);
    let at = fleet
        .workers
        .iter()
        .position(|worker| !worker.held.is_empty());
    fleet.workers.remove(at.unwrap());
    fleet.run(Duration::from_secs(6));
    assert_eq!(fleet.shares(), [1, 1]);
}

#[test]
fn no_two_deliver_the_same_partition_whatever_freezes_and_all_are_owned_again_within_seconds() {
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut fleet = Fleet::new(random.gen_range(1..40));
        let mut names = 0..;
        for _ in 0..200 {
            match random.gen_range(0..6) {
                0 | 1 if fleet.workers.len() < 8 => {
                    fleet.start(&format!("w{}", names.next().unwrap()));
                }
                2 if fleet.workers.len() > 1 => {
                    let at = random.gen_range(0..fleet.workers.len());
                    fleet.workers.remove(at);
                }
                3 if !fleet.workers.is_empty() => {
                    let at = random.gen_range(0..fleet.workers.len());
                    let time = Duration::from_millis(random.gen_range(100..9000));
                    fleet.workers[at].frozen_until = fleet.now + time;
                }
                _ => {}
            }
            fleet.run(Duration::from_millis(random.gen_range(50..1500)));
        }
        fleet.start("last");
        fleet.run(Duration::from_secs(20));
        assert_eq!(fleet.owned(), usize::from(fleet.partitions), "seed {seed}");
        let shares = fleet.shares();
        let (least, most) = (shares[0], shares[shares.len() - 1]);
        assert!(most - least <= 1, "seed {seed}: {shares:?}");
    }
}

#[test]
fn a_server_that_is_behind_makes_no_record_look_new_or_abandoned() {
    let mut roster = Roster::new("a", LEASE, 1);
    let at = Duration::from_secs;
    roster.look(0, 5, "b", at(0));
    roster.look(0, 9, "b", at(2));
    roster.look(0, 5, "b", at(3));
    let none = BTreeSet::new();
    assert!(roster.advice(&none, at(4)).take.is_empty());
    assert_eq!(roster.advice(&none, at(5)).take, [0]);
    roster.reprieve(at(5));
    assert!(
        roster.advice(&none, at(7)).take.is_empty(),
        "nothing could be written"
    );
    assert_eq!(roster.advice(&none, at(8)).take, [0]);
}
