//! How fast a backlog is delivered over a long way.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use everpost::{Durability, Queue};

use crate::bench::Bench;
use crate::client::{self, BATCH_EVENTS, Bare};
use crate::delay::Way;
use crate::events::{self, Size};
use crate::goal::Verdict;
use crate::place;
use crate::receiver::Receiver;
use crate::stats::Samples;
use crate::systems::settings;

/// The way in each direction.
const EACH: Duration = Duration::from_millis(50);

const EVENTS: usize = 100_000;

/// Drains a backlog over a long way, and posts the same events with no queue.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let pool = events::pool(Size::Chat, 4096);
    let receiver = Receiver::start(Duration::ZERO)?;
    let way = bench.runtime.block_on(Way::to(receiver.address(), EACH))?;
    let spool = bench.backlog(EVENTS)?;
    let (mut ours, mut same, mut fixed) = (Samples::new(), Samples::new(), Samples::new());
    let mut requests = Samples::new();
    for round in 1..=bench.args.rounds() {
        eprintln!("far: round {round} of {}", bench.args.rounds());
        let scratch = bench.place.fresh()?;
        place::copy(&spool, scratch.path())?;
        rustix::fs::sync();
        bench.runtime.block_on(receiver.sizes())?;
        let drained = drain(scratch.path(), &way);
        ours.add(bench.runtime.block_on(drained)?);
        let sizes = bench.runtime.block_on(receiver.sizes())?;
        requests.add(sizes.len() as f64);
        let batches = cut_as(&pool, &sizes);
        same.add(bench.runtime.block_on(post(&batches, &way))?);
        let all: Vec<Bytes> = pool.iter().cycle().take(EVENTS).cloned().collect();
        let batches: Vec<Vec<Bytes>> = all.chunks(BATCH_EVENTS).map(<[Bytes]>::to_vec).collect();
        fixed.add(bench.runtime.block_on(post(&batches, &way))?);
    }
    let report = &mut bench.report;
    let what = format!("{EVENTS} events, one request at a time; opening included");
    report.row("far", "everpost", &what, &ours, "events/s");
    let what = format!("{EVENTS} events in the batches that everpost made");
    report.row(
        "far",
        "limit: bare loop, the same batches",
        &what,
        &same,
        "events/s",
    );
    let what = format!("{EVENTS} events in batches of {BATCH_EVENTS}");
    report.row(
        "far",
        "limit: bare loop, fixed batches",
        &what,
        &fixed,
        "events/s",
    );
    let what = "requests of everpost";
    report.row("far", "everpost, requests", what, &requests, "requests");
    let of_same = ours.median() / same.median();
    let of_fixed = ours.median() / fixed.median();
    report.note(
        "far",
        format!("everpost reaches {of_same:.2} of the bare loop with the same batches, and {of_fixed:.2} of the one with batches of {BATCH_EVENTS}."),
    );
    report.verdict(Verdict::at_least(
        "far",
        "at least the bare loop with batches of 500",
        of_fixed,
        1.0,
        format!("{of_fixed:.2}"),
    ));
    Ok(())
}

/// The events in batches of about these many bytes.
fn cut_as(pool: &[Bytes], sizes: &[usize]) -> Vec<Vec<Bytes>> {
    let mut turn = pool.iter().cycle().take(EVENTS).cloned().peekable();
    let mut batches = Vec::new();
    for size in sizes {
        let mut bytes = 0;
        let mut batch = Vec::new();
        while let Some(event) = turn.next_if(|event| bytes + event.len() + 13 <= *size) {
            bytes += event.len() + 13;
            batch.push(event);
        }
        batches.push(batch);
    }
    batches.push(turn.collect());
    batches.retain(|batch| !batch.is_empty());
    batches
}

/// Events delivered in a second, from before the spool is opened until nothing is pending.
async fn drain(spool: &Path, way: &Way) -> Result<f64> {
    let sink = client::sink(&way.base_url())?;
    let begin = Instant::now();
    let queue = Queue::builder(spool)
        .settings(settings(Durability::Synced))
        .sink(sink)
        .open()
        .await?;
    queue
        .watch()
        .wait_for(|status| status.pending == 0)
        .await
        .context("the queue ended")?;
    let rate = EVENTS as f64 / begin.elapsed().as_secs_f64();
    queue.close(Duration::ZERO).await?;
    Ok(rate)
}

async fn post(batches: &[Vec<Bytes>], way: &Way) -> Result<f64> {
    let bare = Bare::new(&way.base_url())?;
    let begin = Instant::now();
    let mut events = 0;
    for batch in batches {
        bare.post(batch).await?;
        events += batch.len();
    }
    Ok(events as f64 / begin.elapsed().as_secs_f64())
}
