//! Appends, delivers in the background and closes: the smallest useful program.
//!
//! ```text
//! edge SPOOL EVENTS [MAX_BYTES]
//! ```
//!
//! It opens the spool, appends so many events of 300 bytes, says `ready`, and closes when its
//! standard input ends. The address is one where nothing answers, so that everything waits. With the
//! feature `nats` it delivers into a stream in place of the API.

use std::io::Read;
use std::time::Duration;

use everpost::{Event, OnFull, Queue, Settings, Sink};

/// Events in one commit.
const TOGETHER: u64 = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let spool = arguments.next().ok_or("no spool is named")?;
    let events: u64 = arguments.next().ok_or("no number is named")?.parse()?;
    let mut settings = Settings::default();
    settings.on_full = OnFull::DropOldest;
    if let Some(max_bytes) = arguments.next() {
        settings.max_bytes = max_bytes.parse()?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let queue = Queue::builder(spool)
            .settings(settings)
            .sink(sink()?)
            .open()
            .await?;
        for first in (0..events).step_by(20) {
            let batch: Result<Vec<Event>, _> =
                (first..events.min(first + TOGETHER)).map(event).collect();
            queue.append_all(batch?).await?;
        }
        println!("ready");
        let wait = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        wait.await??;
        queue.close(Duration::ZERO).await?;
        Ok(())
    })
}

#[cfg(not(feature = "nats"))]
fn sink() -> Result<impl Sink, everpost::Error> {
    use everpost::botanalytics::{Botanalytics, KeySource};

    Botanalytics::builder(KeySource::value(
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJjaGFubmVsIjoidW5pdmVyc2FsIn0.c2ln",
    ))
    .base_url("http://127.0.0.1:9/v2")
    .build()
}

#[cfg(feature = "nats")]
fn sink() -> Result<impl Sink, everpost::Error> {
    use everpost::nats::{JetStream, Names};

    let names = Names::new(Names::STREAM, Names::PARTITIONS)?;
    JetStream::builder("nats://127.0.0.1:9".parse()?, names, "edge".parse()?).build()
}

/// Event `n`: 300 bytes, half of them noise.
fn event(n: u64) -> Result<Event, everpost::Error> {
    let mut noise = n | 1 << 40;
    let mut text = format!("{{\"n\":{n},\"text\":\"");
    while text.len() < 150 {
        // Any generator will do; this one is Marsaglia's xorshift.
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        text.push_str(&format!("{noise:016x}"));
    }
    Event::json(format!("{text:-<298}\"}}"))
}
