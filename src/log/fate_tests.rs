//! What is said of settled events is true, whatever happens to the disk and to the process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::Log;
use super::contract::{append, event, letter, open, tight};
use super::disk::Disk;
use super::fates::Fates;
use super::fault_tests::{FaultyDisk, Lasting};
use super::forgetful_tests::ForgetfulDisk;
use super::look::Picture;
use super::spool::SpoolLog;
use crate::clock::SystemClock;
use crate::fate::Fate;
use crate::id::Seq;
use crate::ledger::Settled;

const WAYS: [Settled; 6] = [
    Settled::Delivered,
    Settled::Evicted,
    Settled::Delivered,
    Settled::Lost,
    Settled::Dead,
    Settled::Expired,
];

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn open_on(dir: &Path, disk: Arc<dyn Disk>) -> SpoolLog {
    SpoolLog::open(dir, tight(), Arc::new(SystemClock), disk)
        .unwrap()
        .0
}

/// How many ranges there are of what was not delivered.
fn ranges(came_to: &[Settled]) -> usize {
    let mut left: Vec<_> = came_to.to_vec();
    left.dedup();
    left.iter()
        .filter(|how| **how != Settled::Delivered)
        .count()
}

/// Each event came to what is said of it, and something is said of it unless there is too much.
fn check(fates: &Fates, came_to: &[Settled], case: &str) {
    let last = came_to.len() as u64;
    let is_all_known = ranges(came_to) <= Fates::ranges_max(tight().journal_bytes);
    for (seq, how) in (1..).zip(came_to) {
        let said = fates.fate(seq, last, last);
        let is_true = said == Fate::of(Some(*how));
        assert!(
            is_true || said == Fate::Settled && !is_all_known,
            "{case}, {seq}: {said:?} for {how:?}"
        );
    }
}

/// Settles or buries what comes next, in this way.
fn settle(log: &mut SpoolLog, how: Settled, count: u64, came_to: &mut Vec<Settled>) {
    let before = log.position().cursor;
    match how {
        Settled::Dead | Settled::Expired => {
            let seq = before + 1;
            if let super::Read::Events(events) = log.read(seq, 1, 0).unwrap() {
                log.bury(&letter(seq, events[0].event.clone()), how)
                    .unwrap();
            }
        }
        _ => log.settle(before + count, how).unwrap(),
    }
    let moved = log.position().cursor - before;
    came_to.extend((0..moved).map(|_| how));
}

/// Random settles with power cuts, kills and closes between them: the journal files are so short
/// that each is begun anew many times.
#[test]
fn after_power_cuts_and_restarts_nothing_false_is_said_of_an_event() {
    let mut checked = 0;
    for seed in 1..=24 {
        let dir = tempfile::tempdir().unwrap();
        let disk = ForgetfulDisk::default();
        let mut dice = Dice(seed);
        let mut log = open_on(dir.path(), Arc::new(disk.clone()));
        let mut came_to = Vec::new();
        for step in 0..120 {
            let case = format!("seed {seed}, step {step}");
            match dice.below(16) {
                0 => disk.cut(),
                1 => log.close().unwrap(),
                2 => {}
                _ => {
                    for _ in 0..=dice.below(5) {
                        let n = log.position().last_seq + 1;
                        log.stage(&[event(n, 200)]).unwrap();
                        log.commit(dice.below(3) > 0).unwrap();
                    }
                    let how = WAYS[dice.below(6) as usize];
                    settle(&mut log, how, 1 + dice.below(4), &mut came_to);
                    log.tidy().unwrap();
                    check(&log.position().fates, &came_to, &case);
                    continue;
                }
            }
            drop(log);
            // As a look says it, and its next owner.
            let seen = Picture::take(dir.path()).unwrap().unwrap().recovered;
            log = open_on(dir.path(), Arc::new(disk.clone()));
            let position = log.position();
            came_to.truncate(usize::try_from(position.cursor).unwrap());
            assert_eq!(
                (seen.ledger.settled(), &seen.fates),
                (position.cursor, &*position.fates),
                "{case}"
            );
            check(&position.fates, &came_to, &case);
            checked += came_to.len();
        }
    }
    assert!(checked > 10_000, "{checked}");
}

/// A settle whose frame was not written is followed by one that books the same events another way,
/// whichever call fails.
#[test]
fn whichever_call_fails_nothing_false_is_said_of_an_event() {
    for (lasting, kind) in [
        (Lasting::Once, io::ErrorKind::Other),
        (Lasting::ForEver, io::ErrorKind::StorageFull),
    ] {
        for fail_at in (20..).step_by(3) {
            let dir = tempfile::tempdir().unwrap();
            let disk = FaultyDisk::failing(fail_at, lasting, kind);
            let mut log = open_on(dir.path(), Arc::new(disk.clone()));
            // What each event came to, and what was tried with those behind.
            let mut came_to: Vec<Settled> = Vec::new();
            let mut tried: Vec<(Seq, Settled)> = Vec::new();
            for n in 1..=60 {
                let _ = log.stage(&[event(n, 500)]).and_then(|_| log.commit(true));
                for how in [WAYS[n as usize % 4], Settled::Evicted] {
                    let before = log.position().cursor;
                    let through = before + 1 + u64::from(how == Settled::Evicted && n % 5 == 0);
                    tried.push((through, how));
                    let settled = log.settle(through, how);
                    let moved = log.position().cursor - before;
                    came_to.extend((0..moved).map(|_| how));
                    if settled.is_ok() {
                        break;
                    }
                }
                let _ = log.tidy();
            }
            drop(log);
            let log = open(dir.path(), tight());
            let position = log.position();
            let acknowledged = came_to.len() as u64;
            assert!(position.cursor >= acknowledged);
            for seq in 1..=position.cursor {
                let said = position.fate(seq);
                let is_true = match came_to.get(seq as usize - 1) {
                    Some(how) => said == Fate::of(Some(*how)),
                    None => tried
                        .iter()
                        .any(|(through, how)| *through >= seq && said == Fate::of(Some(*how))),
                };
                assert!(
                    is_true || said == Fate::Settled,
                    "call {fail_at} {lasting:?}, {seq}: {said:?}"
                );
            }
            if !disk.has_fired() {
                assert!(fail_at > 100, "too few calls to prove anything");
                break;
            }
        }
    }
}

/// More ranges than a short journal file begins with: the oldest are forgotten, and what is said of
/// the others is the same after each restart, in a look, and after the journal went round.
#[test]
fn what_is_too_much_is_forgotten_from_the_old_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), tight());
    let max = Fates::ranges_max(tight().journal_bytes);
    let rounds = 3 * max as u64;
    for n in 0..rounds {
        append(&mut log, 2 * n + 1..=2 * n + 2, 600);
        log.settle(2 * n + 1, Settled::Delivered).unwrap();
        log.settle(2 * n + 2, Settled::Evicted).unwrap();
    }
    let last = 2 * rounds;
    let floor = last - 2 * max as u64;
    let is_right = |log: &SpoolLog| {
        let fate = |seq| log.position().fate(seq);
        (1..=floor).all(|seq| fate(seq) == Fate::Settled)
            && (floor + 1..=last).all(|seq| {
                let how = [Settled::Evicted, Settled::Delivered][seq as usize % 2];
                fate(seq) == Fate::of(Some(how))
            })
    };
    assert!(is_right(&log));
    for restart in 0..3 {
        let fates = Arc::clone(&log.position().fates);
        drop(log);
        let seen = Picture::take(dir.path()).unwrap().unwrap();
        assert_eq!(seen.recovered.fates, *fates, "restart {restart}");
        log = open(dir.path(), tight());
        assert!(is_right(&log), "restart {restart}");
    }
    assert_eq!(log.position().fate(last + 1), Fate::Unknown);
    // The journal goes round, and what it had before is said again.
    append(&mut log, last + 1..=last + 120, 600);
    log.settle(last + 120, Settled::Delivered).unwrap();
    drop(log);
    assert!(is_right(&open(dir.path(), tight())));
}
