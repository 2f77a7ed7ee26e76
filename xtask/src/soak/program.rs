//! The program that is killed: appends events for ever, delivers them, says what was acknowledged.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use everpost::botanalytics::Botanalytics;
use everpost::botanalytics::KeySource;
use everpost::clock::{Clock, SystemClock};
use everpost::{Event, OnFull, Queue, Settings};

use crate::prove::Failure;

/// Events in one append.
const GROUP: u64 = 64;

/// A small queue: every limit is met all the time.
pub(super) fn settings() -> Settings {
    let mut settings = Settings {
        on_full: OnFull::Block,
        max_bytes: 16 << 20,
        journal_bytes: 512 << 10,
        max_event_bytes: 4 << 10,
        tail_bytes: 128 << 10,
        chunk_bytes: 64 << 10,
        segment_bytes: 1 << 20,
        ..Settings::default()
    };
    settings.delivery.batch_events = 250;
    settings.delivery.backoff_min = Duration::from_millis(1);
    settings.delivery.backoff_max = Duration::from_millis(20);
    settings
}

/// The bytes of event `n`: a number, and text that does and does not compress.
pub(super) fn json(n: u64) -> String {
    let mut rng = fastrand::Rng::with_seed(n);
    let noise: String = (0..rng.usize(8..80)).map(|_| rng.alphanumeric()).collect();
    format!(
        r#"{{"id":"{n:032x}","timestamp":{n},"content":{{"texts":[{{"text":"message {n} of a long day {noise}"}}]}}}}"#
    )
}

/// Appends up to event `last` and ends when everything is delivered.
pub(super) fn run(spool: &str, url: &str, key: &str, last: u64) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(work(Path::new(spool), url, key, last))
}

async fn work(spool: &Path, url: &str, key: &str, last: u64) -> Result<(), Failure> {
    let sink = Botanalytics::builder(KeySource::value(key.to_owned()))
        .base_url(url)
        .build()?;
    let began = SystemClock.monotonic();
    let queue = Queue::builder(spool)
        .settings(settings())
        .sink(sink)
        .open()
        .await?;
    let took = SystemClock.monotonic().saturating_sub(began);
    let mut out = std::io::stdout();
    let recovery = queue.recovery();
    if !recovery.missing.is_empty() {
        return Err(format!("events are missing: {:?}", recovery.missing).into());
    }
    let ledger = queue.status().ledger;
    if ledger.appended != ledger.settled() + ledger.pending()
        || ledger.appended != ledger.delivered + ledger.pending()
    {
        return Err(format!("the books do not balance: {ledger:?}").into());
    }
    writeln!(out, "OPENED {}", took.as_micros())?;
    let mut next = queue.status().last_seq + 1;
    while next <= last {
        let end = last.min(next + GROUP - 1);
        let events: Vec<Event> = (next..=end)
            .map(|n| Event::json(json(n)))
            .collect::<Result<_, _>>()?;
        let receipts = queue.append_all(events).await?;
        let seqs = receipts.iter().map(|receipt| receipt.seq);
        if !seqs.eq(next..=end) {
            return Err(format!("event {next} was given another number").into());
        }
        writeln!(out, "ACK {end}")?;
        next = end + 1;
    }
    let drained = queue.watch().wait_for(|status| status.pending == 0).await;
    let delivered = drained.ok_or("the queue ended")?.ledger.delivered;
    writeln!(out, "DRAINED {delivered}")?;
    // Looked at while it idles; ended by the end of its input.
    std::io::stdin().read_line(&mut String::new())?;
    queue.close(Duration::from_secs(10)).await?;
    Ok(())
}
