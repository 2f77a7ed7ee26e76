//! What an open, empty queue does while nothing happens.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::bench::Bench;
use crate::child::Running;
use crate::goal::Verdict;
use crate::process::wake_ups;
use crate::receiver::Receiver;
use crate::stats::Samples;

const CASE: &str = "idle";

/// How long the queue is left alone before it counts.
const SETTLING: Duration = Duration::from_secs(1);

/// Watches two children at once: one by its counters, one with strace.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let span = bench
        .args
        .pick(Duration::from_secs(10), Duration::from_secs(60));
    let receiver = Receiver::start(Duration::ZERO)?;
    let scratch = bench.place.fresh()?;
    let (spool, traced) = (scratch.path().join("spool"), scratch.path().join("traced"));
    let trace = scratch.path().join("trace");
    let mut child = Running::start("hold", &[&spool.to_string_lossy(), &receiver.base_url()])?;
    let mut other = Running::start("hold", &[&traced.to_string_lossy(), &receiver.base_url()])?;
    child.line()?;
    other.line()?;
    std::thread::sleep(SETTLING);
    let strace = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(&trace)
        .args(["-p", &other.id().to_string()])
        .stdin(Stdio::null())
        .spawn();
    let before = wake_ups(child.id())?;
    std::thread::sleep(span);
    let after = wake_ups(child.id())?;
    let woken: Vec<(String, u64)> = after
        .into_iter()
        .map(|(name, count)| {
            (
                name.clone(),
                count - before.get(&name).copied().unwrap_or(0),
            )
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    let total: u64 = woken.iter().map(|(_, count)| count).sum();
    let what = format!(
        "context switches of all threads in {} s {woken:?}",
        span.as_secs()
    );
    let samples = Samples::from_iter([total as f64]);
    bench
        .report
        .row(CASE, "everpost, wake-ups", &what, &samples, "wake-ups");
    let goal = format!("no wake-ups in {} s", span.as_secs());
    let text = format!("{total} {woken:?}");
    bench
        .report
        .verdict(Verdict::at_most(CASE, &goal, total as f64, 0.0, text));

    match strace {
        Err(error) => bench.report.skip(
            CASE,
            "everpost, system calls",
            format!("no strace: {error}"),
        ),
        Ok(mut strace) => {
            // It lets go of the process and writes out what it still holds.
            if let Some(id) = Pid::from_raw(strace.id().cast_signed()) {
                kill_process(id, Signal::INT)?;
            }
            strace.wait()?;
            let text = fs::read_to_string(&trace).context("strace could not attach")?;
            let calls = calls(&text);
            let samples = Samples::from_iter([calls.len() as f64]);
            let what = format!("all system calls in {} s, by strace", span.as_secs());
            bench
                .report
                .row(CASE, "everpost, system calls", &what, &samples, "calls");
            let goal = format!(
                "no writes, nor any other system call, in {} s",
                span.as_secs()
            );
            let mut names = BTreeMap::<&str, u32>::new();
            for name in &calls {
                *names.entry(name).or_default() += 1;
            }
            let text = format!("{} {names:?}", calls.len());
            bench
                .report
                .verdict(Verdict::at_most(CASE, &goal, calls.len() as f64, 0.0, text));
        }
    }
    other.end()?;
    child.end()
}

/// The names of the calls that ended while strace was attached, each once. A call that has not
/// ended is a thread that sleeps.
fn calls(trace: &str) -> Vec<&str> {
    trace
        .lines()
        .filter(|line| !line.contains("<unfinished") && !line.contains("<detached"))
        .filter_map(|line| {
            let (_, call) = line.split_once(' ')?;
            match call.trim_start().strip_prefix("<... ") {
                Some(resumed) => resumed.split(' ').next(),
                None => call.trim_start().split_once('(').map(|(name, _)| name),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_counts_once_and_only_when_it_has_ended() {
        let trace = "7  futex(0x1, FUTEX_WAIT, 1, NULL <unfinished ...>\n\
                     8  write(3, \"x\", 1)      = 1\n\
                     7  <... futex resumed>)   = 0\n\
                     7  epoll_wait(3,  <detached ...>\n";
        assert_eq!(calls(trace), ["write", "futex"]);
    }
}
