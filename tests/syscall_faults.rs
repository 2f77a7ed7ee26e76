//! The system refuses the n-th call of a kind, once or from there on, in the whole program with
//! sled in it. Then the spool is opened on a system that works: every acknowledged event is
//! there, in order and unaltered, nothing is missing, and the books balance.
//!
//! strace does it, and counts the calls of each thread for itself. A seeded choice of places is
//! tried; `TRACED_ALL=1` tries them all, `TRACED_SEED` chooses others. Says so and passes where
//! strace may not trace.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/traced.rs"]
mod traced;

use std::collections::BTreeMap;

/// Each call with the errors it may meet, and about how many there are on the busiest thread.
const CALLS: [(&str, &[&str], u64); 9] = [
    ("pwrite64", &["EIO", "ENOSPC", "EDQUOT"], 250),
    ("fdatasync", &["EIO", "ENOSPC"], 150),
    ("fsync", &["EIO"], 60),
    ("sync_file_range", &["EIO"], 60),
    ("openat", &["EIO", "ENOSPC", "EROFS", "EMFILE"], 200),
    ("rename", &["EIO", "ENOSPC", "EROFS"], 10),
    ("unlink,unlinkat,rmdir", &["EIO", "EROFS"], 40),
    ("ftruncate", &["EIO", "ENOSPC"], 10),
    ("mkdir", &["EIO", "ENOSPC", "EROFS"], 20),
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
    let mut dice = traced::Dice::seeded();
    let dir = tempfile::tempdir().unwrap();
    let mut table: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
    for (call, errors, about) in CALLS {
        for lasting in ["", "+"] {
            let mut n = if traced::all() {
                1
            } else {
                dice.step(about / 4 + 1)
            };
            loop {
                let error = errors[usize::try_from(dice.step(errors.len() as u64)).unwrap() - 1];
                let inject = format!("error={error}:when={n}{lasting}");
                let spool = dir.path().join("spool");
                let (said, fired) = traced::run(&spool, &dir.path().join("trace"), call, &inject);
                let case = format!("{call} {inject}");
                traced::check(&case, &spool, &said, None).await;
                let row = table.entry(call).or_default();
                row[0] += 1;
                row[1] += u64::from(fired);
                row[2] += u64::from(said.ended);
                std::fs::remove_dir_all(&spool).unwrap();
                if !fired {
                    break;
                }
                n += if traced::all() {
                    1
                } else {
                    dice.step(about / 2 + 1)
                };
            }
        }
    }
    println!("{:24}{:>8}{:>8}{:>8}", "call", "runs", "failed", "ended");
    for (call, [runs, fired, ended]) in &table {
        println!("{call:24}{runs:>8}{fired:>8}{ended:>8}");
        assert!(
            *fired > 0 || *call == "ftruncate",
            "no fault came at {call}"
        );
    }
}
