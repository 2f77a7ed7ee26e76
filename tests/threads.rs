//! A close leaves no thread and no task of the queue behind.
//!
//! All in one test, since the threads of a process are counted.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use everpost::control::{self, Client};
use everpost::{Answer, Event, Outcome, Queue, Request, Sink, Verdict, blocking};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Handle, Runtime};

const PATIENCE: Duration = Duration::from_secs(60);

/// A thread in the kernel's hands: it has left the program for good, and is only listed yet.
const PF_EXITING: u64 = 4;

/// Takes everything. It is dropped as the last of the flusher, and takes its time for that.
#[derive(Default)]
struct Taker(Arc<AtomicBool>);

impl Drop for Taker {
    fn drop(&mut self) {
        for _ in 0..100_000 {
            std::thread::yield_now();
        }
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Sink for Taker {
    async fn deliver(&self, _: Request) -> Outcome {
        Outcome::new(Verdict::Delivered, Answer::from_status(200))
    }
}

/// The names of the threads of this process that a queue has started.
fn threads() -> Vec<String> {
    let mut found = Vec::new();
    for task in fs::read_dir("/proc/self/task").unwrap() {
        // A thread may end while it is looked at.
        let Ok(stat) = fs::read_to_string(task.unwrap().path().join("stat")) else {
            continue;
        };
        let (front, rest) = stat.rsplit_once(')').unwrap();
        let (_, name) = front.split_once('(').unwrap();
        let flags: u64 = rest.split_whitespace().nth(6).unwrap().parse().unwrap();
        if name.starts_with("everpost-") && flags & PF_EXITING == 0 {
            found.push(name.to_owned());
        }
    }
    found.sort();
    found
}

fn event() -> Event {
    Event::json(r#"{"text":"hello"}"#).unwrap()
}

fn here() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Without a runtime: the log, its shelf and the flusher have threads.
fn by_blocking(spool: &Path) {
    let sink = Taker::default();
    let gone = Arc::clone(&sink.0);
    let queue = blocking::Queue::builder(spool).sink(sink).open().unwrap();
    queue.append(event()).unwrap();
    let running = threads();
    assert!(running.len() >= 2, "{running:?}");
    assert!(queue.close(PATIENCE).unwrap().drained);
    assert!(gone.load(Ordering::SeqCst));
    assert_eq!(threads(), [""; 0]);
}

/// On a runtime with one thread: whatever still runs there would be counted. A client is in the
/// midst of an answer that it does not take.
async fn on_the_runtime(spool: &Path) {
    let queue = Queue::builder(spool).sink(Taker::default()).open().await;
    let queue = queue.unwrap();
    let control = control::serve(&queue).await.unwrap();
    let client = Client::new(spool);
    client.pause().await.unwrap();
    // More than the socket holds.
    let large = Event::json(format!("\"{}\"", "x".repeat(200_000))).unwrap();
    queue.append_all(vec![large; 5]).await.unwrap();
    let mut stuck = UnixStream::connect(client.path()).await.unwrap();
    let request = b"GET /events HTTP/1.1\r\nhost: everpost\r\n\r\n";
    stuck.write_all(request).await.unwrap();
    stuck.read_u8().await.unwrap();
    queue.close(PATIENCE).await.unwrap();
    assert_eq!(threads(), [""; 0]);
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    drop(stuck);
    control.close().await.unwrap();
}

/// A task of the runtime that delivers closes the queue: it must not wait for itself.
async fn from_within(spool: &Path) {
    let sink = Taker::default();
    let gone = Arc::clone(&sink.0);
    let queue = Queue::builder(spool).sink(sink).open().await.unwrap();
    let control = control::serve(&queue).await.unwrap();
    let client = Client::new(spool);
    client.resume().await.unwrap();
    let closing = tokio::spawn(async move {
        queue.append(event()).await.unwrap();
        queue.close(PATIENCE).await.unwrap().drained
    });
    assert!(closing.await.unwrap());
    assert!(gone.load(Ordering::SeqCst));
    drop(control);
    assert_eq!(threads(), [""; 0]);
}

/// Within a runtime with one thread that only the control socket is on.
async fn by_blocking_within(spool: &Path) {
    let builder = Queue::builder(spool).sink(Taker::default());
    let queue = builder.flusher_thread().open().await.unwrap();
    let control = control::serve(&queue).await.unwrap();
    queue.blocking().close(PATIENCE).unwrap();
    assert_eq!(threads(), [""; 0]);
    control.close().await.unwrap();
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

/// `Queue::close` came back while the log's thread, the flusher's task or thread and the task of
/// the control socket were still ending: a program that ended its runtime next, or counted its
/// threads, met them.
#[test]
fn a_close_comes_back_after_the_last_thread_and_task() {
    let dir = tempfile::tempdir().unwrap();
    let many = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    for round in 0..5 {
        let spool = dir.path().join(round.to_string());
        by_blocking(&spool);
        many.block_on(from_within(&spool));
        here().block_on(from_within(&spool));
        here().block_on(by_blocking_within(&spool));
    }
    // Once: the client has a second to go.
    here().block_on(on_the_runtime(&dir.path().join("0")));
    // An opening that fails leaves nothing behind either.
    fs::write(dir.path().join("other"), "").unwrap();
    assert!(blocking::Queue::open(dir.path()).is_err());
    assert_eq!(threads(), [""; 0]);
}
