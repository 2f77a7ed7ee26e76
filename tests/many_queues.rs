//! Many queues in one process.
//!
//! sled's threads are shared by all databases of a process, and a flush occupies one while it waits
//! for another. 100 queues of 1 MiB that sealed at once occupied all of them: every append behind
//! that, and every close, stood still for exactly a minute, until the flushes were given up, and
//! the databases with them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/noise.rs"]
mod noise;

use std::sync::Barrier;
use std::time::Duration;

use everpost::blocking::Queue;
use everpost::{Durability, Event, Settings};

use noise::numbers;

const QUEUES: usize = 200;
const EVENTS: u64 = 200;

/// Message `n`: 300 bytes of JSON, half of them noise.
fn event(n: u64) -> Event {
    let noise: String = numbers(n | 1 << 40)
        .take(10)
        .map(|word| format!("{word:016x}"))
        .collect();
    Event::json(format!(r#"{{"text":"{noise}{}"}}"#, " and".repeat(31))).unwrap()
}

#[test]
fn two_hundred_queues_seal_and_close_at_once_without_a_standstill() {
    let home = tempfile::tempdir().unwrap();
    let sync_every = Duration::from_secs(1);
    let settings = Settings {
        max_bytes: 1 << 20,
        durability: Durability::Written { sync_every },
        ..Settings::default()
    };
    let open = |n: usize| {
        let queue = Queue::builder(home.path().join(n.to_string()));
        queue.settings(settings.clone()).open().unwrap()
    };
    let queues: Vec<Queue> = (0..QUEUES).map(open).collect();
    let (all, start, end) = (&queues, Barrier::new(QUEUES), Barrier::new(QUEUES));
    std::thread::scope(|scope| {
        for queue in all {
            scope.spawn(|| {
                start.wait();
                for n in 1..=EVENTS {
                    queue.append(event(n)).unwrap();
                }
                end.wait();
                queue.close(Duration::from_secs(600)).unwrap();
            });
        }
    });
    // A flush that was given up would have left a fault, a segment that was begun anew, or both.
    for queue in &queues {
        let status = queue.status();
        assert_eq!(status.storage_fault, None, "{}", queue.spool().display());
        assert_eq!(status.pending, EVENTS);
    }
    drop(queues);
    for n in 0..QUEUES {
        let spool = home.path().join(n.to_string());
        let segments = std::fs::read_dir(spool.join("segments")).unwrap().count();
        assert_eq!(segments, 1, "{n} did not seal into one segment");
    }
    let recovery = open(QUEUES - 1).recovery().clone();
    assert!(
        recovery.missing.is_empty() && recovery.notes.is_empty(),
        "{recovery:?}"
    );
}
