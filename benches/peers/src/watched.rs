//! Children that are looked at from outside: their memory, their wake-ups, their system calls.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use everpost::{Durability, Event, Queue};
use tokio::runtime::Runtime;

use crate::child::tell;
use crate::client::{self, Bare, parent_is_gone};
use crate::events::{self, Size};
use crate::systems::settings;

/// Paths that do not exist, looked at to leave a mark between the system calls.
pub(crate) const BEGIN: &str = "/begin-of-what-is-counted";
/// The end of it.
pub(crate) const END: &str = "/end-of-what-is-counted";

/// A program with a runtime and an HTTP client that has posted once, but without a queue.
pub(crate) fn empty(base_url: &str) -> Result<()> {
    Runtime::new()?.block_on(async {
        let client = Bare::new(base_url)?;
        client.post(&[Bytes::from_static(b"{}")]).await?;
        tell("ready")?;
        parent_is_gone().await;
        Ok(())
    })
}

/// A program that holds a queue open, with a sink if there is a base URL.
pub(crate) fn hold(spool: &Path, base_url: Option<&str>) -> Result<()> {
    Runtime::new()?.block_on(async {
        let mut queue = Queue::builder(spool).settings(settings(Durability::Synced));
        if let Some(base_url) = base_url {
            queue = queue.sink(client::sink(base_url)?);
        }
        let queue = queue.open().await?;
        tell("ready")?;
        let mut watch = queue.watch();
        let drained = async {
            if base_url.is_some() && watch.wait_for(|status| status.pending == 0).await.is_some() {
                let _ = tell("drained");
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = drained => {}
            () = parent_is_gone() => {}
        }
        queue.close(Duration::ZERO).await?;
        Ok(())
    })
}

/// A program that delivers a backlog, with marks around all batches but the first two. Tells how
/// many batches and how many segments went between the marks.
pub(crate) fn settle(spool: &Path, base_url: &str, events: usize) -> Result<()> {
    Runtime::new()?.block_on(async {
        let settings = || {
            let mut settings = settings(Durability::Synced);
            settings.segment_bytes = 1 << 20;
            settings
        };
        let queue = Queue::builder(spool).settings(settings()).open().await?;
        let pool = events::pool(Size::Chat, events);
        for commit in pool.chunks(64) {
            let commit: Result<Vec<_>, _> = commit.iter().cloned().map(Event::json).collect();
            queue.append_all(commit?).await?;
        }
        queue.close(Duration::ZERO).await?;
        let sink = client::sink(base_url)?;
        let queue = Queue::builder(spool)
            .settings(settings())
            .sink(sink)
            .open()
            .await?;
        let mut watch = queue.watch();
        let first = watch
            .wait_for(|status| status.ledger.delivered >= 1000)
            .await;
        let before = segments(spool);
        let _ = fs::metadata(BEGIN);
        let first = first.context("the queue ended")?.requests;
        let last = watch
            .wait_for(|status| status.pending == 0)
            .await
            .context("the queue ended")?;
        let _ = fs::metadata(END);
        let gone = before.saturating_sub(segments(spool));
        tell(&format!("{} {gone}", last.requests.saturating_sub(first)))?;
        queue.close(Duration::ZERO).await?;
        Ok(())
    })
}

fn segments(spool: &Path) -> usize {
    fs::read_dir(spool.join("segments")).map_or(0, |entries| entries.count())
}
