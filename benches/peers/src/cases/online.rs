//! From the append to the receipt at the server, with nothing pending before.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use everpost::{Durability, Event, Queue};

use crate::bench::Bench;
use crate::client::{self, Bare};
use crate::contest::Store;
use crate::events::{self, Size};
use crate::goal::Verdict;
use crate::receiver::{Receiver, now_ns};
use crate::stats::{Samples, ms};
use crate::systems::{Preallocated, settings};

const CASE: &str = "online";

/// Takes turns event by event, so that all three meet the disk and the processor in the same state:
/// a disk that is synced without a pause answers otherwise than one that had a rest.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let pool = events::pool(Size::Chat, bench.args.pick(100, 500));
    let receiver = Receiver::start(Duration::ZERO)?;
    let (mut ours, mut post, mut sync) = (Samples::new(), Samples::new(), Samples::new());
    for _ in 0..bench.args.rounds() {
        let scratch = bench.place.fresh()?;
        let turns = bench
            .runtime
            .block_on(turns(scratch.path(), &pool, &receiver))?;
        sync.add(turns.sync.median());
        post.add(turns.post.median());
        ours.add(turns.ours.median());
    }
    let report = &mut bench.report;
    let what = "median of a round, from before `append` until the receiver has the whole batch";
    report.row(CASE, "everpost", what, &ours, "ms");
    let what = "median of a round, from before the call until the receiver has the whole batch";
    report.row(CASE, "limit: bare POST", what, &post, "ms");
    let what = "median of a round, the event overwritten in place and synced";
    report.row(CASE, "limit: bare fdatasync", what, &sync, "ms");
    let extra = ours.median() - post.median() - sync.median();
    let text = format!("both and {extra:.3} ms");
    let goal = "at most one fdatasync plus one bare POST plus 0.2 ms";
    report.verdict(Verdict::at_most(CASE, goal, extra, 0.2, text));
    Ok(())
}

/// What one round took, in milliseconds.
struct Turns {
    sync: Samples,
    post: Samples,
    ours: Samples,
}

async fn turns(dir: &Path, pool: &[Bytes], receiver: &Receiver) -> Result<Turns> {
    let mut file = Preallocated::create(dir)?;
    let client = Bare::new(&receiver.base_url())?;
    let sink = client::sink(&receiver.base_url())?;
    let queue = Queue::builder(dir.join("spool"))
        .settings(settings(Durability::Synced))
        .sink(sink)
        .open()
        .await?;
    rustix::fs::sync();
    let mut watch = queue.watch();
    let (mut sync, mut calls) = (Samples::new(), Vec::new());
    for json in pool {
        let begin = Instant::now();
        file.append(std::slice::from_ref(json))?;
        sync.add(ms(begin.elapsed()));

        calls.push(now_ns());
        client.post(std::slice::from_ref(json)).await?;

        calls.push(now_ns());
        queue.append(Event::json(json.clone())?).await?;
        let drained = watch.wait_for(|status| status.pending == 0).await;
        drained.context("the queue ended")?;
    }
    queue.close(Duration::ZERO).await?;
    let receipts = receiver.receipts().await?;
    ensure!(
        calls.len() == receipts.len(),
        "not one batch for each event"
    );
    let spans: Vec<f64> = calls
        .iter()
        .zip(receipts)
        .map(|(call, receipt)| receipt.saturating_sub(*call) as f64 / 1e6)
        .collect();
    Ok(Turns {
        sync,
        post: spans.iter().copied().step_by(2).collect(),
        ours: spans.iter().copied().skip(1).step_by(2).collect(),
    })
}
