//! SIGKILL at the n-th system call of a kind: while the program opens, appends, seals, rolls,
//! recycles, delivers, buries, removes and closes. The spool opens every time, everything
//! acknowledged is there, in order and unaltered, and at most the batch in flight comes again.
//!
//! strace does it, and counts the calls of each thread for itself. A seeded choice of places is
//! tried; `TRACED_ALL=1` tries them all, `TRACED_SEED` chooses others. Says so and passes where
//! strace may not trace.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it skips"
)]

#[path = "common/traced.rs"]
mod traced;

use std::collections::BTreeMap;
use std::path::Path;

use traced::LIVES;

/// Each call, and how far apart the tried places are at the most.
const CALLS: [(&str, u64); 11] = [
    ("openat", 50),
    ("mkdir", 5),
    ("pwrite64", 40),
    ("write", 40),
    ("fdatasync", 40),
    ("fsync", 15),
    ("sync_file_range", 2),
    ("rename", 1),
    ("unlink,unlinkat,rmdir", 3),
    ("ftruncate", 2),
    ("lseek,read,pread64", 40),
];

/// Events of one request, as the program has it.
const BATCH: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program() {
    traced::program().await;
}

/// Whether a snapshot was being written when the program died.
fn has_torn_snapshot(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|entries| {
        entries.map(|entry| entry.unwrap().path()).any(|path| {
            path.extension().is_some_and(|end| end == "generating")
                || path.is_dir() && has_torn_snapshot(&path)
        })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_system_call_loses_nothing_and_the_spool_opens() {
    if !traced::can_trace() {
        return;
    }
    let mut dice = traced::Dice::seeded();
    let bench = traced::Bench::new();
    let mut table: BTreeMap<&str, u64> = BTreeMap::new();
    let mut torn = 0;
    for (call, apart) in CALLS {
        for life in LIVES {
            let next = |dice: &mut traced::Dice| if traced::all() { 1 } else { dice.step(apart) };
            let mut n = next(&mut dice);
            loop {
                let inject = format!("signal=KILL:when={n}");
                let (said, killed) = bench.run(life, call, &inject);
                torn += u64::from(has_torn_snapshot(&bench.spool()));
                let case = format!("{life:?} {call} {inject}");
                traced::check(&case, &bench.spool(), &said, Some(BATCH)).await;
                assert!(
                    !has_torn_snapshot(&bench.spool()),
                    "{case}: a torn snapshot is left"
                );
                bench.clear();
                if !killed {
                    break;
                }
                *table.entry(call).or_default() += 1;
                n += next(&mut dice);
            }
        }
    }
    println!("killed at {table:?}; torn snapshots {torn}");
    assert!(table.values().sum::<u64>() > 30, "{table:?}");
    assert!(torn > 0, "no kill came between a snapshot and its name");
}
