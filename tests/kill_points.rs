//! SIGKILL at the n-th system call of a kind: while the program opens, appends, seals, rolls,
//! recycles, delivers, buries, removes and closes. The spool opens every time, everything
//! acknowledged is there, in order and unaltered, and at most the batch in flight comes again.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_system_call_loses_nothing_and_the_spool_opens() {
    if !traced::can_trace() {
        return;
    }
    let bench = traced::Bench::new();
    let all = CALLS
        .into_iter()
        .flat_map(|call| LIVES.map(|life| (call, life)));
    let name = |((call, _), life): &((&str, u64), Life)| format!("{life:?} {call}");
    let mut table: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut acknowledged, mut duplicates) = (0, 0);
    for (((call, apart), life), mut dice) in traced::series(all.collect(), name) {
        let mut n = dice.next(apart);
        loop {
            let inject = format!("signal=KILL:when={n}");
            let (said, killed) = bench.run(life, call, &inject);
            let case = format!("{life:?} {call} {inject}");
            duplicates += traced::check(&case, &bench.spool(), &said, Some(BATCH)).await;
            acknowledged += said.acknowledged();
            bench.clear();
            if !killed {
                break;
            }
            *table.entry(call).or_default() += 1;
            n += dice.next(apart);
        }
    }
    let kills: u64 = table.values().sum();
    println!("killed at {table:?}");
    println!(
        "\nPROVED kills={kills} acknowledged={acknowledged} duplicates={duplicates} lost=0 \
         altered=0 reordered=0 panics=0"
    );
    if traced::is_whole() {
        assert!(kills > 30, "{table:?}");
    }
}
