//! What many short sessions on one spool leave behind: its size, and how long opening takes.
//!
//! ```text
//! cargo run --release --example many_sessions -- 1000 100000
//! ```
//!
//! The first number is how many sessions, the second how many dead letters there are when a last
//! session changes one. Each session appends events that are not delivered, or has one event refused.
//! `TMPDIR` says where.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::path::Path;
use std::time::Duration;

use everpost::{Answer, Delivery, Event, Outcome, Queue, Request, Settings, Sink};
use tokio::time::Instant;

/// Refuses every event.
struct Refuses;

impl Sink for Refuses {
    async fn deliver(&self, _: Request) -> Outcome {
        Outcome::poison(Answer::from_status(400))
    }
}

fn settings() -> Settings {
    Settings {
        // So small that each session seals something.
        journal_bytes: 64 << 10,
        tail_bytes: 32 << 10,
        max_event_bytes: 16 << 10,
        delivery: Delivery {
            // All refusals are meant here.
            breaker_refusals: u32::MAX,
            batch_events: 1,
            ..Delivery::default()
        },
        ..Settings::default()
    }
}

fn event(n: u64) -> Result<Event, everpost::Error> {
    Event::json(format!(
        "{{\"n\":{n},\"text\":\"{}\"}}",
        "hello there ".repeat(40)
    ))
}

fn bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

fn count(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}

/// Opens, and says how long that took.
async fn open(spool: &Path, refuses: bool) -> Result<(Queue, Duration), everpost::Error> {
    let builder = Queue::builder(spool).settings(settings());
    let began = Instant::now();
    let queue = if refuses {
        builder.sink(Refuses).open().await?
    } else {
        builder.open().await?
    };
    Ok((queue, began.elapsed()))
}

/// Has so many events refused.
async fn refuse(queue: &Queue, events: u64) -> Result<(), everpost::Error> {
    for n in 0..events {
        queue.append(event(n)?).await?;
    }
    let drained = |status: &everpost::Status| status.pending == 0;
    let _ = queue.watch().wait_for(drained).await;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).map(|arg| arg.parse::<u64>());
    let sessions = numbers.next().transpose()?.unwrap_or(50);
    let letters = numbers.next().transpose()?.unwrap_or(200);
    let home = tempfile::tempdir()?;

    let spool = home.path().join("events");
    for _ in 0..sessions {
        let (queue, _) = open(&spool, false).await?;
        for n in 0..100 {
            queue.append(event(n)?).await?;
        }
        queue.close(Duration::ZERO).await?;
    }
    let (queue, took) = open(&spool, false).await?;
    let pending = queue.status().pending;
    queue.close(Duration::ZERO).await?;
    println!(
        "{sessions} sessions, {pending} events: {} segments, {} KiB, opened in {took:?}",
        count(&spool.join("segments")),
        bytes(&spool) >> 10
    );

    let spool = home.path().join("letters");
    for _ in 0..sessions {
        let (queue, _) = open(&spool, true).await?;
        refuse(&queue, 1).await?;
        queue.close(Duration::ZERO).await?;
    }
    let (queue, took) = open(&spool, false).await?;
    let held = queue.status().dead_letters;
    queue.close(Duration::ZERO).await?;
    println!(
        "{sessions} sessions, {held} dead letters: {} volumes, {} KiB, opened in {took:?}",
        count(&spool.join("letters")),
        bytes(&spool.join("letters")) >> 10
    );

    let spool = home.path().join("many");
    let (queue, _) = open(&spool, true).await?;
    refuse(&queue, letters).await?;
    queue.close(Duration::ZERO).await?;
    let (queue, opened) = open(&spool, false).await?;
    let mut changes = Vec::new();
    for seq in [letters / 2 + 1, 1] {
        let began = Instant::now();
        queue.dead_letters().discard(seq).await?;
        changes.push(began.elapsed());
    }
    queue.close(Duration::ZERO).await?;
    println!("{letters} dead letters: opened in {opened:?}, the first changes took {changes:?}");
    Ok(())
}
