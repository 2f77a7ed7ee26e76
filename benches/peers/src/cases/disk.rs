//! Bytes on disk for each byte of payload in a backlog.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;

use crate::backlog;
use crate::bench::Bench;
use crate::contest::{Opened, System};
use crate::events::{self, Size};
use crate::goal::Verdict;
use crate::parts;
use crate::place;
use crate::stats::Samples;
use crate::systems::{self, WRITTEN};

const CASE: &str = "disk";

/// Measures. The same bytes always take the same room, so there is one round only.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let pool: Arc<[Bytes]> = Arc::from(events::pool(Size::Chat, 4096));
    let many = 1_000_000;
    let spool = bench.backlog(many)?;
    ours(bench, &pool, many, 64, place::disk_bytes(&spool));

    let scratch = bench.place.fresh()?;
    let spool = scratch.path().join("spool");
    backlog::build_singly(&spool, &pool, many, WRITTEN)?;
    ours(bench, &pool, many, 1, place::disk_bytes(&spool));
    drop(scratch);

    let what =
        "the JSON alone, without ids and times, in runs of 256 KiB, each a zstd frame of level 3";
    let ratio = Samples::from_iter([compressed(&pool, false)?]);
    let report = &mut bench.report;
    report.row(CASE, "limit: zstd", what, &ratio, "bytes/byte");
    let what = "the same with an id of 16 bytes before each event, 10 of them random";
    let ratio = Samples::from_iter([compressed(&pool, true)?]);
    report.row(CASE, "limit: zstd, with ids", what, &ratio, "bytes/byte");

    let events = bench.args.pick(100_000, many);
    for system in systems::all_growing() {
        if !bench.args.wants_system(system.name) {
            continue;
        }
        eprintln!("{CASE}: {}", system.name);
        match peer(bench, &system, &pool, events) {
            Ok(ratio) => {
                let name = format!("{}, {events} events", system.name);
                let what = "appended 64 at a time, closed";
                bench.report.row(CASE, &name, what, &ratio, "bytes/byte");
            }
            Err(error) => bench.report.skip(CASE, system.name, format!("{error:#}")),
        }
    }
    Ok(())
}

fn ours(bench: &mut Bench, pool: &[Bytes], events: usize, commit_events: usize, bytes: u64) {
    let ratio = bytes as f64 / backlog::payload_bytes(pool, events) as f64;
    let name = format!("everpost, {events} events");
    let what = format!("appended {commit_events} at a time, closed; journal and all included");
    let samples = Samples::from_iter([ratio]);
    bench.report.row(
        CASE,
        &format!("{name}, {commit_events} at a time"),
        &what,
        &samples,
        "bytes/byte",
    );
    let goal = format!("at most 0.35 appended {commit_events} at a time");
    let text = format!("{ratio:.3} for {events} events");
    bench
        .report
        .verdict(Verdict::at_most(CASE, &goal, ratio, 0.35, text));
}

/// What zstd makes of each byte of the events, in runs as long as a chunk.
pub(crate) fn compressed(pool: &[Bytes], with_ids: bool) -> Result<f64> {
    let whole = if with_ids {
        parts::with_ids(pool)
    } else {
        pool.concat()
    };
    let mut bytes = 0;
    for run in whole.chunks(256 << 10) {
        bytes += zstd::bulk::compress(run, 3)?.len();
    }
    Ok(bytes as f64 / backlog::payload_bytes(pool, pool.len()) as f64)
}

fn peer(bench: &Bench, system: &System, pool: &[Bytes], events: usize) -> Result<Samples> {
    let scratch = bench.place.fresh()?;
    let mut store = match (system.open)(scratch.path())? {
        Opened::Store(store) => store,
        _ => bail!("this system takes no commits of many events"),
    };
    let mut turn = pool.iter().cycle().take(events).cloned();
    loop {
        let commit: Vec<Bytes> = turn.by_ref().take(64).collect();
        if commit.is_empty() {
            break;
        }
        store.append(&commit).context("an append failed")?;
    }
    drop(store);
    rustix::fs::sync();
    let ratio =
        place::disk_bytes(scratch.path()) as f64 / backlog::payload_bytes(pool, events) as f64;
    Ok(Samples::from_iter([ratio]))
}
