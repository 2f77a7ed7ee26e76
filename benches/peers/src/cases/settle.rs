//! What settling a batch costs in system calls.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::bench::Bench;
use crate::child::Running;
use crate::goal::Verdict;
use crate::receiver::Receiver;
use crate::stats::Samples;
use crate::watched::{BEGIN, END};

const CASE: &str = "settle";

/// What strace saw between the marks.
struct Seen {
    batches: f64,
    segments: f64,
    syncs: f64,
    writes: f64,
}

/// Counts the syncs of a drain, from memory and from segments.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let strace = std::process::Command::new("strace").arg("-V").output();
    if let Err(error) = strace {
        bench
            .report
            .skip(CASE, "everpost", format!("no strace: {error}"));
        return Ok(());
    }
    // What 5000 chat events take fits the tail.
    let memory = count(bench, 5000)?;
    let segments = count(bench, bench.args.pick(50_000, 200_000))?;
    let report = &mut bench.report;
    for (seen, from) in [(&memory, "from memory"), (&segments, "from segments")] {
        let what = format!(
            "{} batches, {} segments deleted, by strace",
            seen.batches, seen.segments
        );
        let mut each = |name: &str, count: f64| {
            let samples = Samples::from_iter([count / seen.batches]);
            report.row(
                CASE,
                &format!("everpost, {from}, {name}"),
                &what,
                &samples,
                "calls/batch",
            );
        };
        each("syncs", seen.syncs);
        each("writes", seen.writes);
    }
    let text = format!("{} in {} batches", memory.syncs, memory.batches);
    let goal = "no fdatasync of its own while no segment is deleted";
    report.verdict(Verdict::at_most(CASE, goal, memory.syncs, 0.0, text));
    let text = format!(
        "{} in {} batches with {} segments deleted",
        segments.syncs, segments.batches, segments.segments
    );
    let goal = "at most three syncs for each deleted segment: the journal's, the directory's, and sled's own if the segment was open";
    let most = 3.0 * segments.segments;
    report.verdict(Verdict::at_most(CASE, goal, segments.syncs, most, text));
    Ok(())
}

fn count(bench: &Bench, events: usize) -> Result<Seen> {
    // A pause between the batches keeps the marks apart from what is counted.
    let receiver = Receiver::start(Duration::from_millis(2))?;
    let scratch = bench.place.fresh()?;
    let (spool, trace) = (scratch.path().join("spool"), scratch.path().join("trace"));
    let trace_name = trace.to_string_lossy();
    let program = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=fsync,fdatasync,sync_file_range,msync,pwrite64,write,statx",
        "-o",
        &trace_name,
    ];
    let args = [
        &*spool.to_string_lossy(),
        &receiver.base_url(),
        &events.to_string(),
    ];
    let mut child = Running::start_under(&program, "settle", &args)?;
    let told = child.line()?;
    child.end()?;
    let (batches, segments) = told
        .split_once(' ')
        .context("the child told something else")?;
    let text = fs::read_to_string(&trace)?;
    let (_, rest) = text.split_once(BEGIN).context("no mark in the trace")?;
    let (between, _) = rest
        .split_once(END)
        .context("no second mark in the trace")?;
    Ok(Seen {
        batches: batches.parse()?,
        segments: segments.parse()?,
        syncs: calls(
            between,
            &["fsync(", "fdatasync(", "sync_file_range(", "msync("],
        ),
        writes: calls(between, &["pwrite64("]),
    })
}

/// How many lines begin one of these calls. What was interrupted is written twice; the second
/// line has the name in another place.
fn calls(trace: &str, names: &[&str]) -> f64 {
    let begun = |line: &&str| {
        let call = line.split_ascii_whitespace().nth(1).unwrap_or_default();
        names.iter().any(|name| call.starts_with(name))
    };
    trace.lines().filter(begun).count() as f64
}
