//! The system refuses the n-th call of a kind, once or from there on, in the whole program with
//! sled in it. Then the spool is opened on a system that works: every acknowledged event is
//! there, in order and unaltered, nothing is missing, and the books balance.
//!
//! strace does it, and counts the calls of each thread for itself. A seeded choice of places is
//! tried, or all: see `common/traced.rs`. Says so and passes where strace may not trace.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it skips"
)]

#[path = "common/traced.rs"]
mod traced;

use std::collections::BTreeMap;

use traced::{LIVES, Life};

type Call = (&'static str, &'static [&'static str], u64);

/// Each call with the errors it may meet, and how far apart the tried places are at the most.
const CALLS: [Call; 9] = [
    ("pwrite64", &["EIO", "ENOSPC", "EDQUOT"], 40),
    ("fdatasync", &["EIO", "ENOSPC"], 40),
    ("fsync", &["EIO"], 15),
    ("sync_file_range", &["EIO"], 2),
    ("openat", &["EIO", "ENOSPC", "EROFS", "EMFILE"], 50),
    ("rename", &["EIO", "ENOSPC", "EROFS"], 2),
    ("unlink,unlinkat,rmdir", &["EIO", "EROFS"], 4),
    ("ftruncate", &["EIO", "ENOSPC"], 2),
    ("mkdir", &["EIO", "ENOSPC", "EROFS"], 2),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program() {
    traced::program().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_no_acknowledged_event_is_lost_whichever_system_call_fails() {
    if !traced::can_trace() {
        return;
    }
    let bench = traced::Bench::new();
    let all = CALLS.into_iter().flat_map(|call| {
        let lives = LIVES.into_iter();
        lives.flat_map(move |life| [(call, life, ""), (call, life, "+")])
    });
    let name = |((call, ..), life, lasting): &(Call, Life, &str)| {
        let how = if lasting.is_empty() {
            "once"
        } else {
            "for ever"
        };
        format!("{life:?} {call} {how}")
    };
    let mut table: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
    let mut acknowledged = 0;
    for (((call, errors, about), life, lasting), mut dice) in traced::series(all.collect(), name) {
        let mut n = dice.next(about);
        loop {
            let error = errors[usize::try_from(dice.step(errors.len() as u64)).unwrap() - 1];
            let inject = format!("error={error}:when={n}{lasting}");
            let (said, fired) = bench.run(life, call, &inject);
            let case = format!("{life:?} {call} {inject}");
            traced::check(&case, &bench.spool(), &said, None).await;
            bench.clear();
            acknowledged += said.acknowledged();
            let row = table.entry(call).or_default();
            row[0] += 1;
            row[1] += u64::from(fired);
            row[2] += u64::from(said.ended);
            if !fired {
                break;
            }
            n += dice.next(about);
        }
    }
    println!("{:24}{:>8}{:>8}{:>8}", "call", "runs", "failed", "ended");
    for (call, [runs, fired, ended]) in &table {
        println!("{call:24}{runs:>8}{fired:>8}{ended:>8}");
        assert!(
            *fired > 0 || *call == "ftruncate" || !traced::is_whole(),
            "no fault came at {call}"
        );
    }
    let faults: u64 = table.values().map(|row| row[1]).sum();
    println!(
        "\nPROVED faults={faults} acknowledged={acknowledged} lost=0 altered=0 reordered=0 panics=0"
    );
}
