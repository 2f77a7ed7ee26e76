//! From the append to the receipt at the server, with nothing pending before.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use everpost::{Durability, Event, Queue};

use crate::bench::Bench;
use crate::client::{self, Bare};
use crate::device;
use crate::events::{self, Size};
use crate::goal::Verdict;
use crate::receiver::{Receiver, now_ns};
use crate::stats::Samples;
use crate::systems::settings;

const CASE: &str = "online";

/// Measures.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let pool = events::pool(Size::Chat, bench.args.pick(100, 500));
    let receiver = Receiver::start(Duration::ZERO)?;
    let (mut ours, mut post, mut sync) = (Samples::new(), Samples::new(), Samples::new());
    for _ in 0..bench.args.rounds() {
        let scratch = bench.place.fresh()?;
        let span = bench.args.span() / 2;
        let took = device::sync_times(scratch.path(), 300, span)?;
        sync.add(took.into_iter().collect::<Samples>().median());
        post.add(bench.runtime.block_on(bare(&pool, &receiver))?);
        let spool = scratch.path().join("spool");
        let sink = client::sink(&receiver.base_url())?;
        let opened = Queue::builder(spool)
            .settings(settings(Durability::Synced))
            .sink(sink);
        ours.add(bench.runtime.block_on(async {
            let queue = opened.open().await?;
            let median = through(&queue, &pool, &receiver).await;
            queue.close(Duration::ZERO).await?;
            median
        })?);
    }
    let report = &mut bench.report;
    let what = "median of a round, from before `append` until the receiver has the whole batch";
    report.row(CASE, "everpost", what, &ours, "ms");
    let what = "median of a round, from before the call until the receiver has the whole batch";
    report.row(CASE, "limit: bare POST", what, &post, "ms");
    let what = "median of a round, 300 bytes overwritten in place and synced";
    report.row(CASE, "limit: bare fdatasync", what, &sync, "ms");
    let extra = ours.median() - post.median() - sync.median();
    let text = format!("both and {extra:.3} ms");
    let goal = "at most one fdatasync plus one bare POST plus 0.2 ms";
    report.verdict(Verdict::at_most(CASE, goal, extra, 0.2, text));
    Ok(())
}

async fn through(queue: &Queue, pool: &[Bytes], receiver: &Receiver) -> Result<f64> {
    let mut calls = Vec::new();
    let mut watch = queue.watch();
    for json in pool {
        calls.push(now_ns());
        queue.append(Event::json(json.clone())?).await?;
        watch
            .wait_for(|status| status.pending == 0)
            .await
            .context("the queue ended")?;
    }
    median(&calls, &receiver.receipts().await?)
}

async fn bare(pool: &[Bytes], receiver: &Receiver) -> Result<f64> {
    let client = Bare::new(&receiver.base_url())?;
    let mut calls = Vec::new();
    for json in pool {
        calls.push(now_ns());
        client.post(std::slice::from_ref(json)).await?;
    }
    median(&calls, &receiver.receipts().await?)
}

/// The median of the spans in milliseconds.
fn median(calls: &[u64], receipts: &[u64]) -> Result<f64> {
    ensure!(
        calls.len() == receipts.len(),
        "not one batch for each event"
    );
    let spans = calls.iter().zip(receipts);
    let spans: Samples = spans
        .map(|(call, receipt)| receipt.saturating_sub(*call) as f64 / 1e6)
        .collect();
    Ok(spans.median())
}
