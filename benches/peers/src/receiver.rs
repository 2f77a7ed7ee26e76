//! A receiver in a process of its own: takes every batch, and remembers when.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;

use crate::child::{self, Running};
use crate::{client, process};

/// When batches came, in nanoseconds of the monotonic clock, which all processes share.
#[derive(Clone)]
struct Receipts {
    times: Arc<Mutex<Vec<u64>>>,
    /// The bytes of each body.
    sizes: Arc<Mutex<Vec<usize>>>,
    delay: Duration,
}

/// The monotonic clock of the machine in nanoseconds.
pub(crate) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Serves on a free port of this machine until the standard input closes. Each answer waits so
/// many microseconds.
pub(crate) fn serve(delay_us: u64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let receipts = Receipts {
            times: Arc::default(),
            sizes: Arc::default(),
            delay: Duration::from_micros(delay_us),
        };
        let app = Router::new()
            .route("/v2/messages", post(take))
            .route("/receipts", get(tell))
            .route("/sizes", get(tell_sizes))
            .layer(DefaultBodyLimit::disable())
            .with_state(receipts);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        child::tell(&listener.local_addr()?.port().to_string())?;
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        tokio::select! {
            ended = axum::serve(listener, app) => ended?,
            () = client::parent_is_gone() => {}
        }
        Ok(())
    })
}

async fn take(State(receipts): State<Receipts>, body: Bytes) -> &'static str {
    let now = now_ns();
    if let Ok(mut sizes) = receipts.sizes.lock() {
        sizes.push(body.len());
    }
    drop(body);
    if let Ok(mut times) = receipts.times.lock() {
        times.push(now);
    }
    if !receipts.delay.is_zero() {
        tokio::time::sleep(receipts.delay).await;
    }
    "{}"
}

async fn tell(State(receipts): State<Receipts>) -> String {
    let times = receipts
        .times
        .lock()
        .map(|mut times| std::mem::take(&mut *times));
    format!("{:?}", times.unwrap_or_default())
}

async fn tell_sizes(State(receipts): State<Receipts>) -> String {
    let sizes = receipts
        .sizes
        .lock()
        .map(|mut sizes| std::mem::take(&mut *sizes));
    format!("{:?}", sizes.unwrap_or_default())
}

/// The receiver, as the parent sees it.
#[derive(Debug)]
pub(crate) struct Receiver {
    process: Running,
    host: String,
}

impl Receiver {
    /// Starts one.
    pub(crate) fn start(delay: Duration) -> Result<Self> {
        let mut process = Running::start("receive", &[&delay.as_micros().to_string()])?;
        let port = process.line()?;
        Ok(Self {
            process,
            host: format!("http://127.0.0.1:{port}"),
        })
    }

    /// Seconds of processor that it and this process have used.
    pub(crate) fn processor_seconds(&self) -> Result<f64> {
        Ok(process::processor_seconds(self.process.id())?
            + process::processor_seconds(std::process::id())?)
    }

    /// The base URL for a sink.
    pub(crate) fn base_url(&self) -> String {
        format!("{}/v2", self.host)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        self.host.trim_start_matches("http://")
    }

    /// The bytes of each body since this was asked last, in order.
    pub(crate) async fn sizes(&self) -> Result<Vec<usize>> {
        let answer = reqwest::get(format!("{}/sizes", self.host)).await?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }

    /// When the batches came since this was asked last.
    pub(crate) async fn receipts(&self) -> Result<Vec<u64>> {
        let answer = reqwest::get(format!("{}/receipts", self.host)).await?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }
}
