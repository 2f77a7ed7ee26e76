//! The numbers of a queue, as a Prometheus server reads them.
//!
//! ```text
//! cargo run --example prometheus
//! ```
//!
//! It delivers a few messages to the sandbox, serves the text on a free port, reads it once as a
//! server would, and ends. `docs/grafana-dashboard.json` shows these numbers.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::time::Duration;

use everpost::Queue;
use everpost::botanalytics::message::{Message, Sender};
use everpost::botanalytics::{Botanalytics, KeySource};
use everpost::metrics;
use everpost::sandbox::{Fault, Sandbox};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const MESSAGES: u64 = 200;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    // The recorder comes first: what is there when the queue is followed is what is told.
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(
            Matcher::Suffix("_seconds".into()),
            &metrics::SECONDS_BUCKETS,
        )?
        .install_recorder()?;

    let home = tempfile::tempdir()?;
    let sandbox = Sandbox::start().await?;
    sandbox.script([Fault::status(503)]);
    let sink = Botanalytics::builder(KeySource::value(sandbox.key()))
        .base_url(sandbox.base_url())
        .build()?;
    let queue = Queue::builder(home.path().join("spool"))
        .sink(sink)
        .open()
        .await?;
    let following = tokio::spawn(metrics::follow(&queue));

    for n in 1..=MESSAGES {
        let message = Message::text(format!("message {n}"))
            .thread("t-1")
            .sender(Sender::user("u-1"));
        queue.append(message.into_event()?).await?;
    }
    queue.close(Duration::from_secs(10)).await?;
    // It ends with the queue, when the last numbers are published.
    drop(queue);
    following.await?;

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    println!("# http://{address}/metrics");
    let (served, text) = tokio::join!(serve_once(&listener, &recorder), scrape(address));
    served?;
    let text = text?;
    for line in text.lines().filter(|line| !line.contains("_bucket")) {
        println!("{line}");
    }
    sandbox.stop().await;
    for (name, expected) in [
        (metrics::EVENTS_DELIVERED, MESSAGES),
        (metrics::EVENTS_PENDING, 0),
        (metrics::BATCHES_RETRIED, 1),
    ] {
        let sample = text
            .lines()
            .find(|line| line.starts_with(&format!("{name}{{")));
        if sample.is_none_or(|line| !line.ends_with(&format!(" {expected}"))) {
            return Err(format!("{name} is not {expected}: {sample:?}").into());
        }
    }
    Ok(())
}

/// Answers one request with the text, whatever was asked.
async fn serve_once(listener: &TcpListener, recorder: &PrometheusHandle) -> Outcome<()> {
    let (mut stream, _) = listener.accept().await?;
    let mut request = [0; 1024];
    let _ = stream.read(&mut request).await?;
    let text = recorder.render();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close\r\n\r\n{text}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}

/// Reads the text as a server would.
async fn scrape(address: std::net::SocketAddr) -> Outcome<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, text) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    Ok(text.to_owned())
}
