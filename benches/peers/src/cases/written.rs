//! Bytes written to the disk for each byte of payload, from the append to the delivery.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use everpost::{Durability, Queue};

use super::disk;
use crate::backlog;
use crate::bench::Bench;
use crate::client;
use crate::contest::Store;
use crate::device::Device;
use crate::events::{self, Size};
use crate::goal::Verdict;
use crate::receiver::Receiver;
use crate::stats::Samples;
use crate::systems::{Preallocated, settings};

const CASE: &str = "written";

/// Measures by the counters of the block device, so by all that any process wrote meanwhile.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let device = match Device::of(bench.place.root()) {
        Ok(device) => device,
        Err(error) => {
            bench.report.skip(CASE, "all", format!("{error:#}"));
            return Ok(());
        }
    };
    let events = bench.args.pick(64_000, 640_000);
    let pool = events::pool(Size::Chat, 4096);
    let payload = backlog::payload_bytes(&pool, events) as f64;
    let receiver = Receiver::start(Duration::ZERO)?;
    let (mut appended, mut drained) = (Samples::new(), Samples::new());
    let (mut both, mut bare) = (Samples::new(), Samples::new());
    for round in 1..=bench.args.pick(3, bench.args.rounds()) {
        eprintln!("{CASE}: round {round}");
        let scratch = bench.place.fresh()?;
        let spool = scratch.path().join("spool");
        let queue = Queue::builder(&spool).settings(settings(Durability::Synced));
        // Opening a new spool writes the journal files once; that is no part of the work.
        bench
            .runtime
            .block_on(async { queue.open().await?.close(Duration::ZERO).await })?;
        let begin = device.bytes_written()?;
        bench.runtime.block_on(backlog::build(
            &spool,
            &pool,
            events,
            64,
            Durability::Synced,
        ))?;
        let middle = device.bytes_written()?;
        bench.runtime.block_on(drain(&spool, &receiver))?;
        let end = device.bytes_written()?;
        appended.add((middle - begin) as f64 / payload);
        drained.add((end - middle) as f64 / payload);
        both.add((end - begin) as f64 / payload);
        bare.add(limit(bench, &device, &pool, events)? / payload);
    }
    let report = &mut bench.report;
    let what = format!("{events} events in commits of 64, each synced; by the device's counters");
    report.row(CASE, "everpost, append", &what, &appended, "bytes/byte");
    report.row(
        CASE,
        "everpost, drain",
        "the same events delivered",
        &drained,
        "bytes/byte",
    );
    report.row(CASE, "everpost, both", "", &both, "bytes/byte");
    let what = "the same commits overwritten in place and synced: what blocks of 4 KiB cost";
    report.row(
        CASE,
        "limit: overwrite + fdatasync",
        what,
        &bare,
        "bytes/byte",
    );
    let (writes, packed) = (bare.median(), disk::compressed(&pool, true)?);
    report.note(CASE, format!(
        "Overwriting the commits in place takes {writes:.2} bytes for each byte of payload, since a block of 4 KiB is written again for each commit that ends in it. everpost writes each event twice, before it is acknowledged and when it is sealed. Compressed with all others of its chunk, an event with its id takes {packed:.2}; left as they are, the commits would make that {:.2}. So long appends are compressed in the journal, too.",
        writes + packed
    ));
    let ratio = both.median();
    let goal = "at most 1.4 over append and drain";
    report.verdict(Verdict::at_most(
        CASE,
        goal,
        ratio,
        1.4,
        format!("{ratio:.2}"),
    ));
    Ok(())
}

async fn drain(spool: &std::path::Path, receiver: &Receiver) -> Result<()> {
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
    queue.close(Duration::ZERO).await?;
    Ok(())
}

fn limit(bench: &Bench, device: &Device, pool: &[Bytes], events: usize) -> Result<f64> {
    let scratch = bench.place.fresh()?;
    let mut file = Preallocated::create(scratch.path())?;
    let mut turn = pool.iter().cycle().take(events).cloned();
    let begin = device.bytes_written()?;
    loop {
        let commit: Vec<Bytes> = turn.by_ref().take(64).collect();
        if commit.is_empty() {
            break;
        }
        file.append(&commit)?;
    }
    Ok((device.bytes_written()? - begin) as f64)
}
