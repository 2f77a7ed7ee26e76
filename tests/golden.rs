//! A spool written by an earlier build of this format version is read to the byte.
//!
//! `tests/golden/v1` holds one with events in every place: settled, in a segment, in the journal
//! only, and in a dead letter. `GOLDEN_WRITE=1 cargo test --test golden` writes it anew: only for
//! a new format version, into a new directory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/tree.rs"]
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use everpost::{Answer, Event, EventId, Outcome, Queue, Request, Settings, Sink, Verdict};

use tree::copy;

const EVENTS: u64 = 60;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

fn event(n: u64) -> Event {
    let id = EventId::from_uuid(uuid::Uuid::from_u128(u128::from(n)));
    let json = format!("{{\"n\":{n},\"text\":\"{}\"}}", "golden ".repeat(30));
    Event::json(json)
        .unwrap()
        .with_id(id)
        .with_time(UNIX_EPOCH + Duration::from_millis(n))
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.journal_bytes = 16 << 10;
    settings.max_event_bytes = 4 << 10;
    settings.tail_bytes = 4 << 10;
    settings.chunk_bytes = 4 << 10;
    settings.segment_bytes = 64 << 10;
    settings.delivery.batch_events = 1;
    settings
}

/// Takes the events 1 to 9, refuses the 10th, takes the 11th and is away for the rest.
struct Scripted;

impl Sink for Scripted {
    async fn deliver(&self, request: Request) -> Outcome {
        let verdict = match request.events()[0].seq {
            10 => Verdict::Poison,
            1..=11 => Verdict::Delivered,
            _ => Verdict::Retry {
                not_before: Some(Duration::from_secs(600)),
            },
        };
        let mut answer = Answer::from_status(400);
        answer.errors = vec!["golden error".to_owned()];
        Outcome::new(verdict, answer)
    }
}

async fn write(spool: &Path) {
    let queue = Queue::builder(spool)
        .settings(settings())
        .sink(Scripted)
        .open()
        .await
        .unwrap();
    for n in 1..=EVENTS {
        queue.append(event(n)).await.unwrap();
    }
    let stuck = queue
        .watch()
        .wait_for(|status| status.ledger.settled() == 11)
        .await;
    assert!(stuck.is_some());
    queue.close(Duration::ZERO).await.unwrap();
    // Neither belongs to the data, and the ballast is a megabyte of nothing.
    for name in ["lock", "ballast"] {
        fs::remove_file(spool.join(name)).unwrap();
    }
}

#[tokio::test]
async fn a_spool_of_version_1_is_read_to_the_byte() {
    if std::env::var("GOLDEN_WRITE").is_ok() {
        write(&golden()).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    copy(&golden(), &spool);
    let queue = Queue::builder(&spool)
        .settings(settings())
        .open()
        .await
        .unwrap();
    let recovery = queue.recovery();
    assert!(
        recovery.missing.is_empty() && recovery.notes.is_empty(),
        "{recovery:?}"
    );
    let ledger = queue.status().ledger;
    assert_eq!(
        (ledger.appended, ledger.delivered, ledger.dead),
        (EVENTS, 10, 1)
    );

    let pending = queue.events(..).take(1000).await.unwrap();
    assert!(pending.iter().map(|e| e.seq).eq(12..=EVENTS));
    assert!(
        pending
            .iter()
            .all(|stored| stored.event == event(stored.seq))
    );
    let in_segments = pending.len() as u64 - recovery.replayed;
    assert!(in_segments > 0 && recovery.replayed > 0, "{recovery:?}");

    let letter = queue.dead_letters().show(10).await.unwrap();
    assert_eq!(letter.event, event(10));
    assert_eq!(letter.answer.errors, ["golden error"]);
    queue.close(Duration::ZERO).await.unwrap();
}
