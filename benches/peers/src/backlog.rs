//! Spools with a backlog.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use everpost::{Durability, Event, Queue, blocking};

use crate::systems::settings;

/// Appends so many events in commits of so many, without a sink, and closes.
pub(crate) async fn build(
    spool: &Path,
    pool: &[Bytes],
    events: usize,
    commit_events: usize,
    durability: Durability,
) -> Result<()> {
    let queue = Queue::builder(spool)
        .settings(settings(durability))
        .open()
        .await?;
    let mut turn = pool.iter().cycle();
    let mut left = events;
    while left > 0 {
        let count = left.min(commit_events);
        let commit: Result<Vec<Event>, _> = turn
            .by_ref()
            .take(count)
            .map(|json| Event::json(json.clone()))
            .collect();
        queue.append_all(commit?).await?;
        left -= count;
        let done = events - left;
        if done / 1_000_000 > (done - count) / 1_000_000 {
            eprintln!("backlog: {done} of {events} events");
        }
    }
    let closed = queue.close(Duration::ZERO).await?;
    ensure!(
        closed.status.pending == events as u64,
        "the backlog is not what was appended"
    );
    Ok(())
}

/// The same with a commit for each event.
pub(crate) fn build_singly(
    spool: &Path,
    pool: &[Bytes],
    events: usize,
    durability: Durability,
) -> Result<()> {
    let queue = blocking::Queue::builder(spool)
        .settings(settings(durability))
        .open()?;
    for json in pool.iter().cycle().take(events) {
        queue.append(Event::json(json.clone())?)?;
    }
    let closed = queue.close(Duration::ZERO)?;
    ensure!(
        closed.status.pending == events as u64,
        "the backlog is not what was appended"
    );
    Ok(())
}

/// Bytes of JSON that `build` appends.
pub(crate) fn payload_bytes(pool: &[Bytes], events: usize) -> u64 {
    pool.iter()
        .cycle()
        .take(events)
        .map(|json| json.len() as u64)
        .sum()
}
