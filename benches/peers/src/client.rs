//! What sends: a sink for everpost, and the bare client beside it.

use anyhow::{Result, ensure};
use bytes::Bytes;
use everpost::botanalytics::{Botanalytics, KeySource};

/// Three parts, of which the middle one says `{"channel":"universal"}`. It opens nothing.
const KEY: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJjaGFubmVsIjoidW5pdmVyc2FsIn0.bm9uZQ";

/// Events in a batch, the default of everpost.
pub(crate) const BATCH_EVENTS: usize = 500;

/// The sink that everpost ships, for a receiver on this machine.
pub(crate) fn sink(base_url: &str) -> Result<Botanalytics> {
    Ok(Botanalytics::builder(KeySource::value(KEY))
        .base_url(base_url)
        .build()?)
}

/// A client that posts bodies of the same form, and nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Bare {
    client: reqwest::Client,
    url: String,
}

impl Bare {
    /// Made as the sink of everpost makes its own.
    pub(crate) fn new(base_url: &str) -> Result<Self> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self {
            client,
            url: format!("{base_url}/messages"),
        })
    }

    /// Posts one batch and reads the answer.
    pub(crate) async fn post(&self, events: &[Bytes]) -> Result<()> {
        let request = self
            .client
            .post(&self.url)
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {KEY}"))
            .body(body(events));
        let answer = request.send().await?;
        ensure!(answer.status().is_success(), "the receiver refused a batch");
        answer.bytes().await?;
        Ok(())
    }
}

fn body(events: &[Bytes]) -> Vec<u8> {
    let bytes: usize = events.iter().map(|event| event.len() + 13).sum();
    let mut body = Vec::with_capacity(bytes + 16);
    body.extend_from_slice(br#"{"messages":["#);
    for (index, event) in events.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(br#"{"message":"#);
        body.extend_from_slice(event);
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    body
}

/// Waits until the standard input is closed: the parent wants this process to end, or is gone.
pub(crate) async fn parent_is_gone() {
    let (told, heard) = tokio::sync::oneshot::channel();
    // Not tokio's standard input, since a read of that cannot be dropped at the end of a runtime.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = told.send(());
    });
    let _ = heard.await;
}
