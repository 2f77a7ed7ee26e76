//! A long-running process that must not lose its log: an audit trail is written before each act,
//! the process is killed three times with SIGKILL, and every line it ever relied on arrives.
//!
//! ```text
//! cargo run --example crash_safe_log
//! ```
//!
//! The process is this same program, started again as a child. It has no async runtime. Its lines
//! are at level `Written`: they survive the death of the process, which is what happens here; a
//! power cut could cost the last second. `Durability::Synced`, the default, excludes that too, at
//! the price of a sync for each act.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example speaks to its reader"
)]

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use everpost::blocking::Queue;
use everpost::botanalytics::message::{Message, Sender};
use everpost::botanalytics::{Botanalytics, KeySource};
use everpost::sandbox::{Accepted, Sandbox};
use everpost::{Durability, Settings};

/// Acts in all.
const ACTS: u64 = 1_000;
/// Acts after which the process is killed.
const KILLS: [u64; 3] = [111, 322, 703];

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args[..] {
        ["act", spool, url, key] => act(spool, url, key),
        _ => supervise(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crash_safe_log: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The process: logs what it is about to do, does it, and goes on where the log ends.
fn act(spool: &str, url: &str, key: &str) -> Outcome<()> {
    let sink = Botanalytics::builder(KeySource::value(key))
        .base_url(url)
        .build()?;
    let settings = Settings {
        durability: Durability::Written {
            sync_every: Duration::from_secs(1),
        },
        ..Settings::default()
    };
    let queue = Queue::builder(spool).settings(settings).sink(sink).open()?;
    let mut out = std::io::stdout();
    for n in queue.status().last_seq + 1..=ACTS {
        let line = Message::text(format!("act {n}"))
            .thread("audit")
            .sender(Sender::virtual_agent("actor"));
        queue.append(line.into_event()?)?;
        // The act itself. What is done here is in the log already.
        writeln!(out, "DID {n}")?;
    }
    let closed = queue.close(Duration::from_secs(30))?;
    if closed.drained {
        Ok(())
    } else {
        Err(format!("{} lines are left", closed.status.pending).into())
    }
}

/// Kills the process at three moments of its life and reads the log where it arrives.
fn supervise() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let home = tempfile::tempdir()?;
    let spool = home.path().join("spool");
    let sandbox = runtime.block_on(Sandbox::start())?;
    let mut did = Vec::new();
    for kill_after in KILLS {
        let mut child = start(&spool, &sandbox)?;
        read(&mut child, &mut did, Some(kill_after))?;
        child.kill()?;
        child.wait()?;
        println!("* SIGKILL after act {kill_after}");
    }
    let mut child = start(&spool, &sandbox)?;
    read(&mut child, &mut did, None)?;
    if !child.wait()?.success() {
        return Err("the process failed".into());
    }

    let accepted = sandbox.accepted();
    let logged = first_times(&accepted);
    let twice = sent_twice(&accepted);
    runtime.block_on(sandbox.stop());
    println!(
        "* {} acts were seen, {} lines arrived",
        did.len(),
        logged.len()
    );
    println!("  batches sent twice   {twice:>5}  (under way at a kill; ids tell the repetition)");
    if twice > KILLS.len() {
        return Err("more was sent twice than was under way".into());
    }
    if let Some(lost) = did.iter().find(|n| !logged.contains(n)) {
        return Err(format!("act {lost} was done and its line is lost").into());
    }
    if !logged.iter().copied().eq(1..=ACTS) {
        return Err("the lines are not in order, or not whole".into());
    }
    println!("\nNo line was lost, and they arrived in order.");
    Ok(())
}

fn start(spool: &Path, sandbox: &Sandbox) -> Outcome<Child> {
    Ok(Command::new(std::env::current_exe()?)
        .arg("act")
        .arg(spool)
        .args([sandbox.base_url(), sandbox.key()])
        .stdout(Stdio::piped())
        .spawn()?)
}

/// Notes what the process did, up to `last` or its end.
fn read(child: &mut Child, did: &mut Vec<u64>, last: Option<u64>) -> Outcome<()> {
    let out = child.stdout.take().ok_or("the process has no output")?;
    for line in BufReader::new(out).lines() {
        let n: u64 = line?.trim_start_matches("DID ").parse()?;
        did.push(n);
        if Some(n) == last {
            return Ok(());
        }
    }
    match last {
        Some(_) => Err("the process ended too early".into()),
        None => Ok(()),
    }
}

/// Of how many requests something was accepted again later.
fn sent_twice(accepted: &[Accepted]) -> usize {
    let mut first = HashMap::new();
    let mut repeated = HashSet::new();
    for accepted in accepted {
        let request = *first.entry(accepted.id()).or_insert(accepted.request());
        if request != accepted.request() {
            repeated.insert(request);
        }
    }
    repeated.len()
}

/// The numbers of the lines, in the order they first arrived.
fn first_times(accepted: &[Accepted]) -> Vec<u64> {
    let mut seen = HashSet::new();
    let numbers = accepted.iter().filter_map(|accepted| {
        let message: serde_json::Value = serde_json::from_slice(accepted.json()?).ok()?;
        let text = message["message"]["content"]["texts"][0]["text"].as_str()?;
        text.strip_prefix("act ")?.parse().ok()
    });
    numbers.filter(|n| seen.insert(*n)).collect()
}
