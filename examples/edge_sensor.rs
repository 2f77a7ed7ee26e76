//! A sensor on an edge device: little disk, a disk that should be spared, and no network for a
//! long time. The newest readings are worth the most, so the oldest make room.
//!
//! ```text
//! cargo run --example edge_sensor
//! ```
//!
//! It measures until the outage has cost a thousand readings, shows that the disk stayed within
//! its bound, and delivers what is left when the API is back.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everpost::botanalytics::message::{Message, Sender};
use everpost::botanalytics::{Botanalytics, KeySource};
use everpost::sandbox::Sandbox;
use everpost::{Delivery, Durability, Error, Event, OnFull, Queue, Settings};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const MIB: u64 = 1 << 20;
/// Six readings an hour.
const EVERY: Duration = Duration::from_secs(600);
/// Readings appended in one commit, as a device does that wakes up now and then.
const TOGETHER: u64 = 10;
/// What the outage may cost before it ends.
const EVICTED: u64 = 1_000;

/// Limits for a small device. The other sizes follow `max_bytes`.
fn settings() -> Settings {
    Settings {
        max_bytes: MIB,
        on_full: OnFull::DropOldest,
        // A write reaches the disk once a second at most: flash wears out by writing.
        durability: Durability::Written {
            sync_every: Duration::from_secs(1),
        },
        delivery: Delivery {
            batch_events: 200,
            backoff_max: Duration::from_millis(500),
            ..Delivery::default()
        },
        ..Settings::default()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let home = tempfile::tempdir()?;
    let sandbox = Sandbox::start().await?;
    sandbox.go_away().await?;
    let sink = Botanalytics::builder(KeySource::value(sandbox.key()))
        .base_url(sandbox.base_url())
        .build()?;
    let queue = Queue::builder(home.path().join("spool"))
        .settings(settings())
        .sink(sink)
        .open()
        .await?;

    let mut measured = 0;
    let mut most_bytes = 0;
    while queue.status().ledger.evicted < EVICTED {
        let readings: Result<Vec<Event>, Error> =
            (measured..measured + TOGETHER).map(reading).collect();
        queue.append_all(readings?).await?;
        measured += TOGETHER;
        most_bytes = most_bytes.max(queue.status().disk_bytes);
        if measured > 1_000_000 {
            return Err("the disk never filled".into());
        }
    }
    let offline = queue.status();
    let days = measured * EVERY.as_secs() / (24 * 3600);
    println!("* {days} days without a network: {measured} readings");
    println!("  waiting              {:>9}", offline.pending);
    println!("  evicted (oldest)     {:>9}", offline.ledger.evicted);
    println!("  most bytes on disk   {most_bytes:>9}");
    println!("  bound                {:>9}", offline.max_bytes);

    sandbox.come_back().await?;
    queue.wake().await?;
    let closed = queue.close(Duration::from_secs(30)).await?;
    let books = closed.status.ledger;
    let accepted = sandbox.stats().distinct;
    sandbox.stop().await;
    println!("* the API is back");
    println!("  delivered            {:>9}", books.delivered);
    println!("  appended in all      {:>9}", books.appended);
    if most_bytes > offline.max_bytes {
        return Err("the disk went over its bound".into());
    }
    let accounted = books.delivered + books.evicted == books.appended;
    if !closed.drained || !accounted || books.appended != measured || accepted != books.delivered {
        return Err(format!("the books do not balance: {books:?}").into());
    }
    println!("\nEvery reading was delivered or is counted as evicted.");
    Ok(())
}

/// Reading `n`: a waveform, which compresses badly, at its own time.
fn reading(n: u64) -> Result<Event, Error> {
    let start: SystemTime = UNIX_EPOCH + Duration::from_secs(1_750_000_000);
    let time = start + EVERY * u32::try_from(n).unwrap_or(u32::MAX);
    let mut noise = n + 1;
    let mut wave = String::new();
    for _ in 0..64 {
        // Any generator will do; this one is Marsaglia's xorshift.
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        // Writing into a string does not fail.
        let _ = write!(wave, "{noise:016x}");
    }
    Message::text(wave)
        .timestamp(time)
        .thread("sensor-7")
        .sender(Sender::virtual_agent("sensor-7"))
        .into_event()
}
