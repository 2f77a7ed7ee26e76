//! Programs without a runtime: delivery has a thread of its own, which ends when the queue does.
//! Each test here is a plain function; the example runs as a process of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use everpost::blocking::Queue;
use everpost::{Answer, Error, Event, FlusherState, Outcome, Request, Sink, Verdict};

#[path = "../examples/no_tokio.rs"]
mod example;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// Says on which thread it delivers, and does what it is told there.
struct Told {
    threads: Mutex<Sender<String>>,
    verdict: fn() -> Verdict,
}

impl Told {
    fn new(verdict: fn() -> Verdict) -> (Self, Receiver<String>) {
        let (threads, seen) = channel();
        let threads = Mutex::new(threads);
        (Self { threads, verdict }, seen)
    }
}

impl Sink for Told {
    async fn deliver(&self, _: Request) -> Outcome {
        let name = std::thread::current().name().unwrap_or("").to_owned();
        self.threads.lock().unwrap().send(name).unwrap();
        Outcome::new((self.verdict)(), Answer::default())
    }
}

fn event() -> Event {
    Event::json("{}").unwrap()
}

fn spool() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    (dir, spool)
}

/// Only in the child process: this is the whole program then.
#[test]
fn the_program() {
    if std::env::var_os("NO_TOKIO").is_some() {
        example::main().unwrap();
    }
}

#[test]
fn the_example_delivers_everything_as_a_process() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_program", "--nocapture", "--test-threads=1"])
        .env("NO_TOKIO", "1")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("100 messages are on disk"), "{text}");
    assert!(text.contains("100 were delivered"), "{text}");
    let source = include_str!("../examples/no_tokio.rs");
    let code: Vec<&str> = source
        .lines()
        .filter(|line| !line.contains("no_tokio"))
        .collect();
    assert!(!code.join("\n").contains("tokio"), "the example names it");
}

#[test]
fn without_a_runtime_delivery_has_a_thread_of_its_own() {
    let (_dir, spool) = spool();
    let (sink, seen) = Told::new(|| Verdict::Delivered);
    let queue = Queue::builder(&spool).sink(sink).open().unwrap();
    queue.append(event()).unwrap();
    assert_eq!(seen.recv().unwrap(), "everpost-flusher");
    let closed = queue.close(LONG).unwrap();
    assert!(closed.drained);
    assert_eq!(closed.status.flusher, FlusherState::Closed);
}

#[tokio::test(flavor = "current_thread")]
async fn on_request_delivery_leaves_a_busy_runtime_alone() {
    let (_dir, spool) = spool();
    let (sink, seen) = Told::new(|| Verdict::Delivered);
    let queue = everpost::Queue::builder(&spool)
        .sink(sink)
        .flusher_thread()
        .open()
        .await
        .unwrap();
    // This thread, the only one of the runtime, is held up from here on.
    queue.blocking().append(event()).unwrap();
    assert_eq!(seen.recv().unwrap(), "everpost-flusher");
    assert!(queue.blocking().close(LONG).unwrap().drained);
}

#[test]
fn dropping_the_last_clone_ends_the_thread_and_frees_the_spool() {
    let (_dir, spool) = spool();
    let (sink, seen) = Told::new(|| Verdict::Retry {
        not_before: Some(LONG),
    });
    let queue = Queue::builder(&spool).sink(sink).open().unwrap();
    queue.append(event()).unwrap();
    assert_eq!(seen.recv().unwrap(), "everpost-flusher");
    let mut watch = queue.as_async().watch();
    drop(queue);
    // The sink is dropped with the flusher, in the middle of a long wait.
    assert!(seen.recv().is_err());
    // The spool is free when nothing can change any more.
    assert_eq!(pollster::block_on(watch.wait_for(|_| false)), None);
    let again = Queue::builder(&spool).open().unwrap();
    assert_eq!(again.status().pending, 1);
}

#[test]
fn a_sink_that_panics_on_the_thread_is_seen_and_loses_nothing() {
    let (_dir, spool) = spool();
    let (sink, seen) = Told::new(|| panic!("the sink broke"));
    let queue = Queue::builder(&spool).sink(sink).open().unwrap();
    queue.append(event()).unwrap();
    seen.recv().unwrap();
    let error = queue.close(LONG).unwrap_err();
    assert!(matches!(error, Error::Panicked { .. }), "{error:?}");
    assert!(error.to_string().contains("the sink broke"), "{error}");

    let again = Queue::builder(&spool).open().unwrap();
    assert_eq!(again.status().pending, 1);
}

/// Bytes that this thread has written to files, as the system counts them.
#[cfg(target_os = "linux")]
fn written_here() -> u64 {
    let counts = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    let written = counts.lines().find_map(|line| line.strip_prefix("wchar: "));
    written.unwrap().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_caller_that_blocks_writes_on_its_own_thread() {
    let (_dir, spool) = spool();
    let queue = Queue::builder(&spool).open().unwrap();
    let before = written_here();
    // The queue's own thread may be at the log once or twice after the opening.
    for _ in 0..100 {
        queue.append(event()).unwrap();
    }
    let written = written_here() - before;
    assert!(written > 0, "all was written elsewhere");
    queue.close(Duration::ZERO).unwrap();
}
