//! Bytes on disk once a backlog was delivered.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use everpost::{Durability, Queue};

use crate::bench::Bench;
use crate::client;
use crate::goal::Verdict;
use crate::place;
use crate::receiver::Receiver;
use crate::stats::{Samples, mib};
use crate::systems::settings;

const CASE: &str = "after_drain";

/// How long the queue may take to tidy up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Measures.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let events = bench.args.pick(100_000, 1_000_000);
    let master = bench.backlog(events)?;
    let receiver = Receiver::start(Duration::ZERO)?;
    let (mut open, mut closed, mut journal) = (Samples::new(), Samples::new(), Samples::new());
    for _ in 0..bench.args.pick(1, bench.args.rounds()) {
        let scratch = bench.place.fresh()?;
        let spool = scratch.path().join("spool");
        place::copy(&master, &spool)?;
        open.add(mib(bench.runtime.block_on(drained(&spool, &receiver))?));
        closed.add(mib(place::disk_bytes(&spool)));
        journal.add(mib(place::disk_bytes(&spool.join("journal"))));
    }
    let report = &mut bench.report;
    let what = format!("{events} events delivered, the queue still open");
    report.row(CASE, "everpost, open", &what, &open, "MiB");
    report.row(CASE, "everpost, closed", "", &closed, "MiB");
    report.row(CASE, "of which the journal", "", &journal, "MiB");
    let beyond = open.max().max(closed.max()) - journal.median();
    let text = format!("the journal and {beyond:.2} MiB");
    let goal = "at most the journal plus 1 MiB";
    report.verdict(Verdict::at_most(CASE, goal, beyond, 1.0, text));
    Ok(())
}

/// Drains, and gives the bytes on disk once they go down no more.
async fn drained(spool: &Path, receiver: &Receiver) -> Result<u64> {
    let sink = client::sink(&receiver.base_url())?;
    let opened = Queue::builder(spool)
        .settings(settings(Durability::Synced))
        .sink(sink);
    let queue = opened.open().await?;
    queue
        .watch()
        .wait_for(|status| status.pending == 0)
        .await
        .context("the queue ended")?;
    let begin = std::time::Instant::now();
    let mut least = place::disk_bytes(spool);
    let mut since = std::time::Instant::now();
    while begin.elapsed() < PATIENCE && since.elapsed() < PATIENCE / 5 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = place::disk_bytes(spool);
        if now < least {
            (least, since) = (now, std::time::Instant::now());
        }
    }
    let bytes = place::disk_bytes(spool);
    queue.close(Duration::ZERO).await?;
    Ok(bytes)
}
