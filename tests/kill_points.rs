//! SIGKILL at the n-th system call of a kind: while the program opens, appends, seals, rolls,
//! recycles, delivers, buries, removes and closes. The spool opens every time, everything
//! acknowledged is there, in order and unaltered, and at most the batch in flight comes again.
//!
//! strace does it, and counts the calls of each thread for itself. A seeded choice of places is
//! tried; `TRACED_ALL=1` tries them all, `TRACED_SEED` chooses others. Says so and passes where
//! strace may not trace.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/traced.rs"]
mod traced;

use std::collections::BTreeMap;
use std::path::Path;

/// Each call, and about how many there are on the busiest thread.
const CALLS: [(&str, u64); 11] = [
    ("openat", 200),
    ("mkdir", 20),
    ("pwrite64", 250),
    ("write", 60),
    ("fdatasync", 150),
    ("fsync", 60),
    ("sync_file_range", 60),
    ("rename", 10),
    ("unlink,unlinkat,rmdir", 40),
    ("ftruncate", 10),
    ("lseek,read,pread64", 100),
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
    let dir = tempfile::tempdir().unwrap();
    let mut table: BTreeMap<&str, u64> = BTreeMap::new();
    let mut torn = 0;
    for (call, about) in CALLS {
        let mut n = if traced::all() {
            1
        } else {
            dice.step(about / 8 + 1)
        };
        loop {
            let inject = format!("signal=KILL:when={n}");
            let spool = dir.path().join("spool");
            let (said, killed) = traced::run(&spool, &dir.path().join("trace"), call, &inject);
            torn += u64::from(has_torn_snapshot(&spool));
            let case = format!("{call} {inject}");
            traced::check(&case, &spool, &said, Some(BATCH)).await;
            assert!(
                !has_torn_snapshot(&spool),
                "{case}: a torn snapshot is left"
            );
            std::fs::remove_dir_all(&spool).unwrap();
            if !killed {
                break;
            }
            *table.entry(call).or_default() += 1;
            n += if traced::all() {
                1
            } else {
                dice.step(about / 6 + 1)
            };
        }
    }
    println!("killed at {table:?}; torn snapshots {torn}");
    assert!(table.values().sum::<u64>() > 40, "{table:?}");
}
