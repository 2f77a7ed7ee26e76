//! What a program logs with `tracing`, to an OTLP endpoint, through a crash and an outage.
//!
//! ```text
//! cargo run --example otlp_logs
//! ```
//!
//! The receiver is the sandbox. A collector on this machine is `otlp://localhost`.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::time::Duration;

use everpost::Queue;
use everpost::http::{Format, Receiver};
use everpost::layer::EverpostLayer;
use everpost::sandbox::Sandbox;
use tracing_subscriber::prelude::*;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let home = tempfile::tempdir()?;
    let sandbox = Sandbox::builder().any_receiver().start().await?;
    let address = format!("otlp://{}", sandbox.address());

    // The ten lines.
    let resource = [("service.name".to_owned(), "shop".to_owned())].into();
    let receiver = Receiver::parse(&address)?.with_format(Format::Otlp { resource });
    let queue = Queue::builder(home.path().join("spool")).sink(receiver.build()?);
    let queue = queue.open().await?;
    let layer = EverpostLayer::new(&queue);
    let log = layer.handle();
    tracing_subscriber::registry().with(layer).init();

    tracing::info!(item = 17, "an order came in");
    tracing::warn!(item = 17, left = 0, "no stock");

    log.flush(Duration::from_secs(10));
    assert!(queue.close(Duration::from_secs(10)).await?.drained);
    for event in sandbox.accepted() {
        let record: serde_json::Value = serde_json::from_slice(event.json().unwrap_or_default())?;
        println!(
            "{} {}",
            record["severityText"], record["body"]["stringValue"]
        );
    }
    assert_eq!(sandbox.stats().accepted, 2);
    sandbox.stop().await;
    Ok(())
}
