//! The smallest real use: one message to the real API.
//!
//! ```text
//! BA_API_KEY=... cargo run --example send -- "hello"
//! ```
//!
//! Without a network the message stays in the spool and the next run delivers it.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::time::Duration;

use everpost::Queue;
use everpost::botanalytics::Botanalytics;
use everpost::botanalytics::message::{Message, Sender};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "hello".to_owned());
    let spool = std::env::temp_dir().join("everpost-send");
    let queue = Queue::builder(&spool)
        .sink(Botanalytics::from_env()?)
        .open()
        .await?;

    let message = Message::text(text)
        .thread("t-1")
        .sender(Sender::user("u-1"));
    let receipt = queue.append(message.into_event()?).await?;
    println!("event {} is safe in {}", receipt.id, spool.display());

    let closed = queue.close(Duration::from_secs(10)).await?;
    println!(
        "{} delivered so far, {} waiting",
        closed.status.ledger.delivered, closed.status.pending
    );
    Ok(())
}
