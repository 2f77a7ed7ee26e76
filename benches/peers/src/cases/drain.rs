//! How fast a backlog is delivered.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use everpost::{Durability, Queue};

use crate::bench::Bench;
use crate::client::{self, BATCH_EVENTS, Bare};
use crate::events::{self, Size};
use crate::goal::Verdict;
use crate::packed::Packed;
use crate::parts::Parts;
use crate::place;
use crate::receiver::Receiver;
use crate::report::figure;
use crate::stats::Samples;
use crate::systems::settings;

/// What is left of the bare loop when the events have to come from a compressed file.
const UNPACKING: &str = "limit: bare loop that unpacks";

/// Drains a backlog, and posts the same batches with no queue.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let events = bench.args.pick(100_000, 1_000_000);
    let pool = events::pool(Size::Chat, 4096);
    let receiver = Receiver::start(Duration::ZERO)?;
    let spool = bench.backlog(events)?;
    let (mut ours, mut bare) = (Samples::new(), Samples::new());
    let (mut our_work, mut bare_work) = (Samples::new(), Samples::new());
    let (mut unpacked, mut unpacked_work) = (Samples::new(), Samples::new());
    let scratch = bench.place.fresh()?;
    let packed = Packed::create(scratch.path(), &pool, events)?;
    for round in 1..=bench.args.rounds() {
        eprintln!("drain: round {round} of {}", bench.args.rounds());
        let before = receiver.processor_seconds()?;
        bare.add(bench.runtime.block_on(post_all(&pool, events, &receiver))?);
        bare_work.add(work_us(&receiver, before, events)?);
        let before = receiver.processor_seconds()?;
        let posted = post_unpacked(&packed, events, &receiver);
        unpacked.add(bench.runtime.block_on(posted)?);
        unpacked_work.add(work_us(&receiver, before, events)?);
        let scratch = bench.place.fresh()?;
        place::copy(&spool, scratch.path())?;
        rustix::fs::sync();
        let before = receiver.processor_seconds()?;
        ours.add(
            bench
                .runtime
                .block_on(drain(scratch.path(), events, &receiver))?,
        );
        our_work.add(work_us(&receiver, before, events)?);
    }
    let report = &mut bench.report;
    let what = format!("{events} events in batches of {BATCH_EVENTS}, each awaited");
    report.row(
        "drain",
        "everpost",
        &format!("{what}, opening included"),
        &ours,
        "events/s",
    );
    report.row(
        "drain",
        "limit: bare reqwest loop",
        &what,
        &bare,
        "events/s",
    );
    let unpacking = format!(
        "{what}; read from a file and unpacked on a thread of its own, ahead, and nothing else"
    );
    report.row("drain", UNPACKING, &unpacking, &unpacked, "events/s");
    let what = "processor time of both processes for a batch";
    report.row("drain", "everpost, work", what, &our_work, "us/batch");
    report.row(
        "drain",
        "limit: bare reqwest loop, work",
        what,
        &bare_work,
        "us/batch",
    );
    let name = format!("{UNPACKING}, work");
    report.row("drain", &name, what, &unpacked_work, "us/batch");
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
    let most = |work_us: f64| cores * 1e6 * BATCH_EVENTS as f64 / work_us;
    let unpack = Parts::measure(&pool)?.unpack_us * BATCH_EVENTS as f64;
    let (all, post) = (our_work.median(), bare_work.median());
    let note = format!(
        "To read a batch from disk, check and unpack it, post it and settle it takes {all:.0} us of processor time in both processes together, to post it alone {post:.0} us. zstd alone takes {unpack:.0} us to unpack it, measured by itself. With {cores} processors that never wait, everpost could reach {} events/s here, {:.2} of the bare loop. A loop that only unpacks and posts the same batches reaches {:.2}, and everpost {:.2} of that loop.",
        figure(most(all)),
        most(all) / bare.median(),
        unpacked.median() / bare.median(),
        ours.median() / unpacked.median()
    );
    report.note("drain", note);
    let ratio = ours.median() / bare.median();
    let text = format!("{ratio:.2}");
    report.verdict(Verdict::at_least(
        "drain",
        "at least 0.9 of the bare loop",
        ratio,
        0.9,
        text,
    ));
    Ok(())
}

/// Microseconds of processor time for a batch since a moment.
fn work_us(receiver: &Receiver, before: f64, events: usize) -> Result<f64> {
    let seconds = receiver.processor_seconds()? - before;
    Ok(1e6 * seconds * BATCH_EVENTS as f64 / events as f64)
}

/// Events delivered in a second, from before the spool is opened until nothing is pending.
async fn drain(spool: &Path, events: usize, receiver: &Receiver) -> Result<f64> {
    let sink = client::sink(&receiver.base_url())?;
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
    let rate = events as f64 / begin.elapsed().as_secs_f64();
    queue.close(Duration::ZERO).await?;
    Ok(rate)
}

/// As [`post_all`], with the batches from a file.
async fn post_unpacked(packed: &Packed, events: usize, receiver: &Receiver) -> Result<f64> {
    let bare = Bare::new(&receiver.base_url())?;
    let begin = Instant::now();
    let mut batches = packed.batches()?;
    while let Some(batch) = batches.recv().await {
        bare.post(&batch?).await?;
    }
    Ok(events as f64 / begin.elapsed().as_secs_f64())
}

async fn post_all(pool: &[Bytes], events: usize, receiver: &Receiver) -> Result<f64> {
    let bare = Bare::new(&receiver.base_url())?;
    let mut turn = pool.iter().cycle().take(events).cloned();
    let begin = Instant::now();
    loop {
        let batch: Vec<Bytes> = turn.by_ref().take(BATCH_EVENTS).collect();
        if batch.is_empty() {
            return Ok(events as f64 / begin.elapsed().as_secs_f64());
        }
        bare.post(&batch).await?;
    }
}
