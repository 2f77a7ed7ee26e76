//! A spool of 1 MiB, made as a user would: `max_bytes` is set, and nothing else that has to do
//! with sizes. It takes a useful number of events, never takes more of the disk than it may, and
//! keeps every promise that a large one keeps.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(unix)]

#[path = "common/noise.rs"]
mod noise;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use everpost::botanalytics::{Botanalytics, KeySource};
use everpost::sandbox::Sandbox;
use everpost::{AppendError, DeadLetter, Event, EventId, OnFull, Queue, Settings};

use noise::numbers;

const MIB: u64 = 1 << 20;

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.max_bytes = MIB;
    settings.delivery.backoff_min = Duration::from_millis(1);
    settings.delivery.backoff_max = Duration::from_millis(5);
    settings
}

fn id(n: u64) -> EventId {
    EventId::from_uuid(uuid::Uuid::from_u128(u128::from(n)))
}

/// Message `n`: 300 bytes of JSON, half of them noise.
fn event(n: u64) -> Event {
    let noise: String = numbers(n | 1 << 40)
        .take(10)
        .map(|word| format!("{word:016x}"))
        .collect();
    let json = |text: &str| {
        let id = id(n);
        format!(r#"{{"id":"{id}","timestamp":{n},"content":{{"texts":[{{"text":"{text}"}}]}}}}"#)
    };
    let pad = 300 - json(&noise).len();
    let text = noise + &" and".repeat(75)[..pad];
    Event::json(json(&text)).unwrap().with_id(id(n))
}

/// Bytes of the files as long as they are, and bytes of the disk for them and their directories.
fn used(dir: &Path) -> (u64, u64) {
    fn walk(dir: &Path, files: &mut BTreeMap<u64, (u64, u64)>) {
        // What is gone since it was listed takes no room; what was renamed counts once.
        let Ok(meta) = std::fs::metadata(dir) else {
            return;
        };
        files.insert(meta.ino(), (0, meta.blocks() * 512));
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => walk(&entry.path(), files),
                Ok(meta) => drop(files.insert(meta.ino(), (meta.len(), meta.blocks() * 512))),
                Err(_) => {}
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(dir, &mut files);
    let sum = |of: fn(&(u64, u64)) -> u64| files.values().map(of).sum();
    (sum(|file| file.0), sum(|file| file.1))
}

/// Looks at the spool all the time, and remembers the most that it ever took.
struct Watcher {
    ends: Arc<AtomicBool>,
    most: JoinHandle<(u64, u64)>,
}

impl Watcher {
    fn of(spool: &Path) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let (spool, told) = (spool.to_owned(), Arc::clone(&ends));
        let most = std::thread::spawn(move || {
            let mut most = (0, 0);
            while !told.load(Ordering::Relaxed) {
                let now = used(&spool);
                most = (most.0.max(now.0), most.1.max(now.1));
                // Leaves the processor to the spool; nothing waits for this.
                std::thread::park_timeout(Duration::from_millis(1));
            }
            most
        });
        Self { ends, most }
    }

    /// Ends, and fails if the spool was ever larger than it may be.
    fn check(self) {
        self.ends.store(true, Ordering::Relaxed);
        let (apparent, allocated) = self.most.join().unwrap();
        assert!(apparent <= MIB, "{apparent}");
        assert!(allocated <= MIB, "{allocated}");
    }
}

async fn open(spool: &Path, sandbox: &Sandbox, settings: Settings) -> Queue {
    let sink = Botanalytics::builder(KeySource::value(sandbox.key()))
        .base_url(sandbox.base_url())
        .build()
        .unwrap();
    let builder = Queue::builder(spool).settings(settings).sink(sink);
    let queue = builder.open().await.unwrap();
    let recovery = queue.recovery();
    // A chunk that a kill cut off is worth a note, and no more: the journal has its events.
    assert!(recovery.missing.is_empty(), "{recovery:?}");
    queue
}

/// Appends from `n` on, one by one, until there is no room; gives the next number.
async fn fill(queue: &Queue, mut n: u64) -> u64 {
    loop {
        match queue.append(event(n)).await {
            Ok(receipt) => assert_eq!(receipt.seq, n),
            Err(AppendError::Full { .. }) => return n,
            Err(error) => panic!("{error}"),
        }
        n += 1;
    }
}

async fn drained(queue: &Queue) {
    queue.wake().await.unwrap();
    let status = queue.watch().wait_for(|status| status.pending == 0).await;
    assert_eq!(status.unwrap().pending, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mebibyte_takes_a_thousand_events_delivers_them_and_is_never_exceeded() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.go_away().await.unwrap();
    let watcher = Watcher::of(&spool);
    let queue = open(&spool, &sandbox, settings()).await;
    let end = fill(&queue, 1).await;
    println!("{} events of 300 bytes fit", end - 1);
    assert!(end > 1000, "{end}");
    queue.close(Duration::ZERO).await.unwrap();
    // Full across restarts, and empty after delivery.
    for _ in 0..3 {
        let queue = open(&spool, &sandbox, settings()).await;
        assert_eq!(queue.status().pending, end - 1);
        queue.close(Duration::ZERO).await.unwrap();
    }
    let queue = open(&spool, &sandbox, settings()).await;
    let full_bytes = queue.status().disk_bytes;
    sandbox.come_back().await.unwrap();
    drained(&queue).await;
    sandbox.go_away().await.unwrap();
    let again = fill(&queue, end).await;
    assert!(again > end + 1000, "{end} {again}");
    sandbox.come_back().await.unwrap();
    drained(&queue).await;
    let closed = queue.close(Duration::from_secs(30)).await.unwrap();
    assert!(closed.status.disk_bytes < full_bytes, "{full_bytes}");
    watcher.check();
    assert_eq!(
        std::fs::read_dir(spool.join("segments")).unwrap().count(),
        0
    );
    let sent = (1..again).map(|n| id(n).to_string());
    sandbox.check_order(sent).unwrap();
    assert_eq!(sandbox.duplicates(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_events_stay_when_the_oldest_make_room() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.go_away().await.unwrap();
    let mut settings = settings();
    settings.on_full = OnFull::DropOldest;
    let watcher = Watcher::of(&spool);
    let queue = open(&spool, &sandbox, settings).await;
    for first in (1..=6000).step_by(20) {
        queue
            .append_all((first..first + 20).map(event))
            .await
            .unwrap();
    }
    let ledger = queue.status().ledger;
    assert!(
        ledger.evicted > 1000 && ledger.pending() > 500,
        "{ledger:?}"
    );
    sandbox.come_back().await.unwrap();
    drained(&queue).await;
    let closed = queue.close(Duration::from_secs(30)).await.unwrap();
    watcher.check();
    let books = closed.status.ledger;
    assert_eq!(books.evicted + books.delivered, 6000, "{books:?}");
    let kept = (books.evicted + 1..=6000).map(|n| id(n).to_string());
    sandbox.check_order(kept).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_that_wait_for_room_all_get_it() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.go_away().await.unwrap();
    let mut settings = settings();
    settings.on_full = OnFull::Block;
    let watcher = Watcher::of(&spool);
    let queue = open(&spool, &sandbox, settings).await;
    let appender = {
        let queue = queue.clone();
        tokio::spawn(async move {
            for n in 1..=6000 {
                assert_eq!(queue.append(event(n)).await.unwrap().seq, n);
            }
        })
    };
    // Nothing is delivered before a thousand wait, so that some have to wait for room.
    let many = queue.watch().wait_for(|status| status.pending > 1000).await;
    many.unwrap();
    sandbox.come_back().await.unwrap();
    queue.wake().await.unwrap();
    appender.await.unwrap();
    drained(&queue).await;
    queue.close(Duration::from_secs(30)).await.unwrap();
    watcher.check();
    sandbox
        .check_order((1..=6000).map(|n| id(n).to_string()))
        .unwrap();
}

/// Every tenth event is refused: its letter is kept, retried or discarded, and takes no more room
/// than it may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_kept_retried_and_discarded() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let sandbox = Sandbox::start().await.unwrap();
    let watcher = Watcher::of(&spool);
    let queue = open(&spool, &sandbox, settings()).await;
    let is_bad =
        |event: &serde_json::Value| event["timestamp"].as_u64().is_some_and(|n| n % 10 == 0);
    sandbox.reject_when(move |event| is_bad(event).then(|| "no tens".to_owned()));
    for first in (1..=1000).step_by(50) {
        queue
            .append_all((first..first + 50).map(event))
            .await
            .unwrap();
        drained(&queue).await;
    }
    queue.close(Duration::ZERO).await.unwrap();
    let queue = open(&spool, &sandbox, settings()).await;
    let letters = queue.dead_letters();
    let seqs = |letters: Vec<DeadLetter>| letters.iter().map(|l| l.seq).collect::<Vec<_>>();
    let held = seqs(letters.list(..).take(1000).await.unwrap());
    assert_eq!(held, (1..=100).map(|n| n * 10).collect::<Vec<_>>());
    sandbox.reject_nothing();
    for (at, seq) in held.into_iter().enumerate() {
        if at % 2 == 0 {
            letters.retry(seq).await.unwrap();
        } else {
            letters.discard(seq).await.unwrap();
        }
    }
    drained(&queue).await;
    assert_eq!(queue.status().dead_letters, 0);
    let ledger = queue.status().ledger;
    assert_eq!((ledger.dead, ledger.delivered), (100, 950));
    queue.close(Duration::from_secs(30)).await.unwrap();
    watcher.check();
}

/// A large spool is opened with 1 MiB and a small one with 1 GiB, full each time: nothing is lost,
/// and the files follow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bound_of_a_spool_can_be_moved_down_and_up() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.go_away().await.unwrap();
    let mut large = settings();
    large.max_bytes = Settings::default().max_bytes;
    let journal = || {
        let files = std::fs::read_dir(spool.join("journal")).unwrap();
        files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .max()
    };

    let queue = open(&spool, &sandbox, large.clone()).await;
    for first in (1..=20_000).step_by(500) {
        queue
            .append_all((first..first + 500).map(event))
            .await
            .unwrap();
    }
    queue.close(Duration::ZERO).await.unwrap();
    assert_eq!(journal(), Some(4 * MIB));

    let queue = open(&spool, &sandbox, settings()).await;
    assert_eq!(queue.status().pending, 20_000);
    let full = queue.append(event(20_001)).await;
    assert!(matches!(full, Err(AppendError::Full { .. })), "{full:?}");
    sandbox.come_back().await.unwrap();
    drained(&queue).await;
    sandbox.go_away().await.unwrap();
    // There is room again, and the spool has become small.
    let watcher = Watcher::of(&spool);
    let end = fill(&queue, 20_001).await;
    assert!(end > 21_000, "{end}");
    queue.close(Duration::ZERO).await.unwrap();
    watcher.check();
    assert_eq!(journal(), Some(64 << 10));

    // An event that a small spool could not take.
    let queue = open(&spool, &sandbox, large).await;
    assert_eq!(queue.status().pending, end - 20_001);
    let big = Event::json(format!("\"{}\"", "x".repeat(200_000))).unwrap();
    let big_id = big.id();
    assert_eq!(queue.append(big).await.unwrap().seq, end);
    for first in (end + 1..end + 20_000).step_by(500) {
        queue
            .append_all((first..first + 500).map(event))
            .await
            .unwrap();
    }
    sandbox.reject_when(move |event| event.is_string().then(|| "no text".to_owned()));
    sandbox.come_back().await.unwrap();
    drained(&queue).await;
    let letter = queue.dead_letters().show(end).await.unwrap();
    assert_eq!(letter.event.id(), big_id);
    let ledger = queue
        .close(Duration::from_secs(30))
        .await
        .unwrap()
        .status
        .ledger;
    assert_eq!((ledger.dead, ledger.delivered), (1, ledger.appended - 1));
    let sent = (1..=ledger.appended).filter(|n| *n != end);
    sandbox
        .check_order(sent.map(|n| id(n).to_string()))
        .unwrap();
}

/// Appends for ever and says so; does nothing in an ordinary run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program() {
    let Ok(spool) = std::env::var("SMALL_SPOOL") else {
        return;
    };
    let mut settings = settings();
    settings.on_full = OnFull::DropOldest;
    let queue = Queue::builder(spool)
        .settings(settings)
        .open()
        .await
        .unwrap();
    assert_eq!(queue.recovery().missing, []);
    let mut out = std::io::stdout();
    let mut n = queue.status().last_seq;
    loop {
        n += 1;
        queue.append(event(n)).await.unwrap();
        writeln!(out, "ACK {n}").unwrap();
        out.flush().unwrap();
    }
}

/// Killed at ten places, full or not, while it opens or appends: what was acknowledged is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kills() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let watcher = Watcher::of(&spool);
    let mut acknowledged = 0;
    for acks in [1, 700, 3, 300, 1, 2, 900, 50, 400, 1] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_program", "--nocapture"])
            .env("SMALL_SPOOL", &spool)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines.map_while(Result::ok) {
            let Some(n) = line
                .strip_prefix("ACK ")
                .and_then(|n| n.parse::<u64>().ok())
            else {
                continue;
            };
            assert!(n > acknowledged, "{n} was acknowledged before");
            acknowledged = n;
            seen += 1;
            if seen == acks {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(seen >= acks, "the program ended by itself");
    }
    let sandbox = Sandbox::start().await.unwrap();
    let queue = open(&spool, &sandbox, settings()).await;
    drained(&queue).await;
    let ledger = queue
        .close(Duration::from_secs(30))
        .await
        .unwrap()
        .status
        .ledger;
    watcher.check();
    assert!(ledger.appended >= acknowledged, "{ledger:?}");
    assert_eq!(ledger.evicted + ledger.delivered, ledger.appended);
    let kept = ledger.evicted + 1..=ledger.appended;
    sandbox
        .check_order(kept.map(|n| id(n).to_string()))
        .unwrap();
}
