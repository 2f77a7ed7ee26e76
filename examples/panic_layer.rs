//! A program that logs, panics, and has its last words delivered after its restart.
//!
//! ```text
//! cargo run --example panic_layer
//! ```
//!
//! The program is this same one, started again as a child process. The first time the API is away
//! and the program dies of a panic; the second time it only delivers what it finds.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example speaks to its reader"
)]

use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Duration;

use everpost::blocking::Queue;
use everpost::botanalytics::message::{Message, Sender};
use everpost::botanalytics::{Botanalytics, KeySource};
use everpost::layer::{EverpostLayer, Record};
use everpost::sandbox::Sandbox;
use everpost::{Error, Event};
use tracing_subscriber::prelude::*;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// How long a panic may hold up the end of the program.
const LAST_WORDS: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args[..] {
        ["shop", spool, url, key] => shop(spool, url, key),
        ["deliver", spool, url, key] => deliver(spool, url, key),
        _ => supervise(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("panic_layer: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The program: serves one order well and one badly.
fn shop(spool: &str, url: &str, key: &str) -> Outcome<()> {
    let queue = open(spool, url, key)?;
    let layer = EverpostLayer::new(queue.as_async()).format(as_message);
    let log = layer.handle();
    tracing_subscriber::registry().with(layer).init();

    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        tracing::error!(%panic, "the shop panicked");
        // Without this, a panic that ends the process at once could overtake the disk.
        log.flush(LAST_WORDS);
    }));

    for (order, stock) in [(16_u64, 3_u64), (17, 0)] {
        let _order = tracing::info_span!("order", order).entered();
        tracing::info!(stock, "an order came in");
        assert!(stock > 0, "nobody thought of an empty shelf");
    }
    Ok(())
}

/// The same program after its restart, as far as it matters here.
fn deliver(spool: &str, url: &str, key: &str) -> Outcome<()> {
    let closed = open(spool, url, key)?.close(Duration::from_secs(10))?;
    if closed.drained {
        Ok(())
    } else {
        Err(format!("{} events are left", closed.status.pending).into())
    }
}

fn open(spool: &str, url: &str, key: &str) -> Outcome<Queue> {
    let sink = Botanalytics::builder(KeySource::value(key))
        .base_url(url)
        .build()?;
    Ok(Queue::builder(spool).sink(sink).open()?)
}

/// A line of the log as a message of the channel `universal`.
fn as_message(record: &Record<'_>) -> Result<Event, Error> {
    let mut text = format!("{} {}", record.level, record.message);
    for (name, value) in record.fields.iter() {
        text.push_str(&format!(" {name}={value}"));
    }
    for span in record.spans {
        for (name, value) in span.fields.iter() {
            text.push_str(&format!(" {}.{name}={value}", span.name));
        }
    }
    Message::text(text)
        .thread("log")
        .sender(Sender::virtual_agent("shop"))
        .into_event()
}

/// Plays the world: an API that is away, an operator who starts the program again, a reader.
fn supervise() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let home = tempfile::tempdir()?;
    let spool = home.path().join("spool");
    let sandbox = runtime.block_on(Sandbox::start())?;

    runtime.block_on(sandbox.go_away())?;
    println!("* the API is away; the shop opens");
    let ended = start("shop", &spool, &sandbox)?;
    println!("* the shop ended with {ended}");
    if ended.success() {
        return Err("the shop did not panic".into());
    }

    runtime.block_on(sandbox.come_back())?;
    println!("* the API is back; the shop is started again");
    let ended = start("deliver", &spool, &sandbox)?;
    if !ended.success() {
        return Err("the backlog was not delivered".into());
    }
    let texts: Vec<String> = sandbox.accepted().iter().map(text).collect();
    for text in &texts {
        println!("  {}", text.lines().next().unwrap_or_default());
    }
    let before = texts
        .iter()
        .any(|text| text.contains("stock=0") && text.contains("order.order=17"));
    let last = texts
        .last()
        .is_some_and(|text| text.contains("nobody thought of an empty shelf"));
    runtime.block_on(sandbox.stop());
    if texts.len() == 3 && before && last {
        println!("\nThe last words before the panic were delivered after the restart.");
        Ok(())
    } else {
        Err("the last words are missing".into())
    }
}

fn start(what: &str, spool: &Path, sandbox: &Sandbox) -> Outcome<ExitStatus> {
    let program = std::env::current_exe()?;
    Ok(Command::new(program)
        .arg(what)
        .arg(spool)
        .args([sandbox.base_url(), sandbox.key()])
        .status()?)
}

fn text(accepted: &everpost::sandbox::Accepted) -> String {
    let json = accepted.json().unwrap_or_default();
    let message: serde_json::Value = serde_json::from_slice(json).unwrap_or_default();
    let text = &message["message"]["content"]["texts"][0]["text"];
    text.as_str().unwrap_or_default().to_owned()
}
