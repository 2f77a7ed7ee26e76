//! Events go into a stream of NATS JetStream, each exactly once.
//!
//! ```text
//! cargo run --example into_stream -- nats://127.0.0.1:4222
//! ```
//!
//! It wants a server of 2.12 or newer (`nats-server -js`) with the stream that `everpost fleet setup`
//! makes there. Without one it says so, and the events stay in the spool.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::time::Duration;

use everpost::nats::Target;
use everpost::{Event, Queue, Verdict};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned());
    let sink = Target::parse(&address, "example".parse()?)?.build()?;
    println!("subject {}", sink.subject());
    let met = sink.knock().await;
    if met.verdict != Verdict::Delivered {
        println!("not now: {}", met.answer.detail.unwrap_or_default());
        // What is accepted is that one server alone is a trial.
        println!(
            "start `nats-server -js`, then `everpost fleet setup --nats {address} --replicas 1 \
             --accept-few-replicas --accept-sync-unknown`"
        );
    }

    let home = tempfile::tempdir()?;
    let queue = Queue::builder(home.path().join("spool"))
        .sink(sink)
        .open()
        .await?;
    for n in 1..=3 {
        queue.append(Event::from_serialize(&("hello", n))?).await?;
    }
    let closed = queue.close(Duration::from_secs(5)).await?;
    let books = closed.status.ledger;
    println!(
        "{} delivered, {} wait in the spool",
        books.delivered, closed.status.pending
    );
    Ok(())
}
