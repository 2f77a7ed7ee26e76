//! What queues cost that share one process: threads and memory, idle and while all of them seal.
//!
//! ```text
//! cargo run --release --example many_queues -- 1000
//! ```
//!
//! opens so many queues of 1 MiB, prints what they take, gives each 200 events of 300 bytes at
//! once, so that all of them seal at the same time, and closes them. It fails if one of them met
//! a fault of its storage. Threads and memory are printed where `/proc` tells them.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example speaks to its reader"
)]

use std::path::Path;
use std::process::ExitCode;
use std::sync::Barrier;
use std::time::Duration;

use everpost::blocking::Queue;
use everpost::{Durability, Event, Settings};
use tokio::time::Instant;

/// Events that each queue is given, of 300 bytes: four times what a tail of 1 MiB holds unsealed.
const EVENTS: usize = 200;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let count = std::env::args().nth(1).map_or(Ok(200), |n| n.parse());
    match count.map_err(Into::into).and_then(measure) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("many_queues: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(count: usize) -> Outcome<()> {
    let home = tempfile::tempdir()?;
    println!("{count} queues of 1 MiB\n");
    println!("| | took | threads | resident |\n| --- | --- | --- | --- |");
    row("before", Duration::ZERO);
    let begun = Instant::now();
    let queues = open(home.path(), count)?;
    row("open, idle", begun.elapsed());

    let begun = Instant::now();
    at_once(&queues, |queue| {
        for n in 0..EVENTS {
            queue.append(event(n)?)?;
        }
        Ok(())
    })?;
    row("200 events each, sealing", begun.elapsed());
    for queue in &queues {
        if let Some(fault) = queue.status().storage_fault {
            return Err(format!("{}: {fault}", queue.spool().display()).into());
        }
    }

    let begun = Instant::now();
    at_once(&queues, |queue| {
        queue.close(Duration::from_secs(600))?;
        Ok(())
    })?;
    row("closed", begun.elapsed());
    drop(queues);
    row("dropped", Duration::ZERO);
    Ok(())
}

fn open(home: &Path, count: usize) -> Outcome<Vec<Queue>> {
    let settings = Settings {
        max_bytes: 1 << 20,
        durability: Durability::Written {
            sync_every: Duration::from_secs(1),
        },
        ..Settings::default()
    };
    let open = |n| Queue::builder(home.join(format!("{n}"))).settings(settings.clone());
    let queues = (0..count).map(|n| Ok(open(n).open()?));
    queues.collect()
}

/// Does it to all queues at the same time, each on a thread of its own.
fn at_once(queues: &[Queue], work: impl Fn(&Queue) -> Outcome<()> + Sync) -> Outcome<()> {
    let start = Barrier::new(queues.len());
    let (start, work) = (&start, &work);
    std::thread::scope(|scope| {
        let body = |queue| {
            move || {
                start.wait();
                work(queue)
            }
        };
        let threads: Vec<_> = queues.iter().map(|q| scope.spawn(body(q))).collect();
        let panicked = |_| Err("a thread panicked".into());
        let ends = threads
            .into_iter()
            .map(|t| t.join().unwrap_or_else(panicked));
        ends.collect()
    })
}

/// Message `n`: 300 bytes of JSON, half of them noise.
fn event(n: usize) -> Outcome<Event> {
    let mut state = n as u64 | 1 << 40;
    let mut noise = String::new();
    for _ in 0..10 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise += &format!("{state:016x}");
    }
    let text = noise + &" and".repeat(31);
    Ok(Event::json(format!(r#"{{"text":"{text}"}}"#))?)
}

fn row(what: &str, took: Duration) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map_or("?", str::trim)
    };
    let (threads, resident) = (field("Threads:"), field("VmRSS:"));
    println!("| {what} | {took:.1?} | {threads} | {resident} |");
}
