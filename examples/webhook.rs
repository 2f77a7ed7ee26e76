//! Sensor readings as JSON lines to a webhook, signed.
//!
//! ```text
//! cargo run --example webhook
//! ```
//!
//! The receiver is the sandbox, which checks the signatures. For one of your own, put its address
//! there, and its secret into a file.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::time::Duration;

use everpost::http::{Format, Http, SecretSource};
use everpost::sandbox::Sandbox;
use everpost::{Event, Queue};
use serde_json::json;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let home = tempfile::tempdir()?;
    let sandbox = Sandbox::builder().any_receiver().signing_secret(SECRET)?;
    let sandbox = sandbox.start().await?;

    let sink = Http::builder(format!("http://{}/readings", sandbox.address()))
        .format(Format::Lines)
        .sign_with(SecretSource::value(SECRET))
        .build()?;
    let queue = Queue::builder(home.path().join("spool")).sink(sink).open();
    let queue = queue.await?;
    for n in 1..=100 {
        let reading = json!({"id": format!("r-{n}"), "sensor": "door-17", "celsius": 20.5});
        queue.append(Event::from_serialize(&reading)?).await?;
    }
    assert!(queue.close(Duration::from_secs(10)).await?.drained);

    let expected = (1..=100).map(|n| format!("r-{n}"));
    sandbox.check_order(expected)?;
    println!("100 readings arrived, in order, each request with a good signature");
    sandbox.stop().await;
    Ok(())
}
