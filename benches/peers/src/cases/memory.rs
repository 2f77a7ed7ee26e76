//! Resident memory by the size of the backlog, idle and draining.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::bench::Bench;
use crate::child::Running;
use crate::goal::Verdict;
use crate::place;
use crate::process::{peak_bytes, resident_bytes};
use crate::receiver::Receiver;
use crate::stats::{Samples, mib};

const CASE: &str = "memory";

/// Measures, each time in a new process.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let sizes = bench.args.pick(
        [10_000, 100_000, 1_000_000],
        [10_000, 1_000_000, 10_000_000],
    );
    let rounds = bench.args.pick(1, bench.args.rounds());
    let span = bench
        .args
        .pick(Duration::from_secs(1), Duration::from_secs(2));
    let receiver = Receiver::start(Duration::ZERO)?;
    let base_url = receiver.base_url();
    let mut empty = Samples::new();
    for _ in 0..rounds.max(3) {
        let mut child = Running::start("empty", &[&base_url])?;
        child.line()?;
        empty.add(mib(resident_bytes(child.id())?));
        child.end()?;
    }
    let what = "resident, a runtime and an HTTP client that has posted once";
    bench
        .report
        .row(CASE, "an empty process", what, &empty, "MiB");
    let mut beyond = Vec::new();
    for size in sizes {
        eprintln!("{CASE}: {size} pending");
        let (mut idle, mut draining) = (Samples::new(), Samples::new());
        let master = bench.backlog(size)?;
        for _ in 0..rounds {
            idle.add(mib(idling(&master)?) - empty.median());
            // What was drained in the round before would be missing in this one.
            let copy = bench.place.fresh()?;
            place::copy(&master, copy.path())?;
            draining.add(mib(draining_peak(copy.path(), &base_url, span)?) - empty.median());
        }
        let what = "resident above the empty process, half a second after opening";
        bench.report.row(
            CASE,
            &format!("everpost, {size} pending, idle"),
            what,
            &idle,
            "MiB",
        );
        let what = "the most that was resident above the empty process";
        let system = format!("everpost, {size} pending, draining");
        bench.report.row(CASE, &system, what, &draining, "MiB");
        beyond.extend([idle.median(), draining.median()]);
    }
    let most = beyond.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let goal = "at most 32 MiB above an empty process";
    bench.report.verdict(Verdict::at_most(
        CASE,
        goal,
        most,
        32.0,
        format!("{most:.1} MiB"),
    ));
    if let [_, few, _, _, _, many] = beyond.as_slice() {
        let growth = many - few;
        let goal = "flat: draining the largest backlog takes at most 4 MiB more than the smallest";
        bench.report.verdict(Verdict::at_most(
            CASE,
            goal,
            growth,
            4.0,
            format!("{growth:.1} MiB"),
        ));
    }
    Ok(())
}

fn idling(spool: &Path) -> Result<u64> {
    let mut child = Running::start("hold", &[&spool.to_string_lossy()])?;
    child.line()?;
    std::thread::sleep(Duration::from_millis(500));
    let bytes = resident_bytes(child.id())?;
    child.end()?;
    Ok(bytes)
}

/// The peak while a backlog is delivered, until it is or a while has passed.
fn draining_peak(spool: &Path, base_url: &str, span: Duration) -> Result<u64> {
    let mut child = Running::start("hold", &[&spool.to_string_lossy(), base_url])?;
    child.line()?;
    let begin = Instant::now();
    let mut bytes = peak_bytes(child.id())?;
    while begin.elapsed() < span {
        std::thread::sleep(Duration::from_millis(20));
        bytes = bytes.max(peak_bytes(child.id())?);
    }
    child.end()?;
    Ok(bytes)
}
