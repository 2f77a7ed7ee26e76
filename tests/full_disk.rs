//! A disk that is full to the last byte: appends are refused with a clear error, delivery goes
//! on, room comes back, and the books balance. Also across a restart on the full disk.
//!
//! Needs the right to mount a small tmpfs; says so and passes where there is none.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::print_stdout,
    reason = "`cargo xtask prove` collects what is counted"
)]

#[path = "common/noise.rs"]
mod noise;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use everpost::botanalytics::Botanalytics;
use everpost::botanalytics::KeySource;
use everpost::sandbox::Sandbox;
use everpost::{AppendError, Event, EventId, Queue, Settings};

use noise::numbers;

/// A file system of its own, unmounted at the end.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(mib: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={mib}m"),
                "everpost-test",
            ])
            .arg(dir.path())
            .output();
        mount
            .is_ok_and(|run| run.status.success())
            .then_some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn id(n: u64) -> EventId {
    EventId::from_uuid(uuid::Uuid::from_u128(u128::from(n)))
}

/// Message `n` with 8 KiB of noise that hardly compresses.
fn event(n: u64) -> Event {
    let noise: String = numbers(n | 1 << 40)
        .take(2048)
        .map(|word| format!("{:04x}", word & 0xffff))
        .collect();
    let id = id(n);
    Event::json(format!(
        r#"{{"id":"{id}","timestamp":{n},"content":{{"texts":[{{"text":"{noise}"}}]}}}}"#
    ))
    .unwrap()
    .with_id(id)
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.journal_bytes = 1 << 20;
    settings.tail_bytes = 1 << 20;
    settings.segment_bytes = 1 << 20;
    settings.delivery.backoff_min = Duration::from_millis(1);
    settings.delivery.backoff_max = Duration::from_millis(20);
    // So small that the cursor moves many times while the journal cannot be recycled.
    settings.delivery.batch_events = 1;
    settings
}

async fn open(spool: &Path, sandbox: &Sandbox) -> Queue {
    let sink = Botanalytics::builder(KeySource::value(sandbox.key()))
        .base_url(sandbox.base_url())
        .build()
        .unwrap();
    Queue::builder(spool)
        .settings(settings())
        .sink(sink)
        .open()
        .await
        .unwrap()
}

/// Appends from `n` until there is no room; gives the next number.
async fn fill(queue: &Queue, mut n: u64) -> u64 {
    loop {
        match queue.append(event(n)).await {
            Ok(receipt) => assert_eq!(receipt.seq, n),
            Err(error @ (AppendError::Full { .. } | AppendError::Storage { .. })) => {
                assert!(
                    matches!(error, AppendError::Full { .. }),
                    "{error}: {:?}",
                    std::error::Error::source(&error)
                );
                return n;
            }
            Err(error) => panic!("{error}"),
        }
        n += 1;
    }
}

async fn drained(queue: &Queue) {
    let mut watch = queue.watch();
    let wait = watch.wait_for(|status| status.pending == 0);
    let status = tokio::time::timeout(Duration::from_secs(60), wait).await;
    let status = status.unwrap_or_else(|_| panic!("not drained: {:?}", queue.status()));
    let ledger = status.unwrap().ledger;
    assert_eq!(ledger.appended, ledger.delivered, "{ledger:?}");
}

/// Takes every byte that is left.
fn take_the_rest(disk: &Tmpfs) {
    // The error is the point: the file is as long as there was room for it.
    let _ = std::fs::write(disk.path().join("filler"), vec![1; 64 << 20]);
}

async fn story(disk: &Tmpfs, full_from_the_start: bool) {
    let spool = disk.path().join("spool");
    let sandbox = Sandbox::builder()
        .max_body_bytes(64 << 20)
        .start()
        .await
        .unwrap();
    sandbox.go_away().await.unwrap();
    let queue = open(&spool, &sandbox).await;
    if full_from_the_start {
        take_the_rest(disk);
    }
    let refused = fill(&queue, 1).await;
    assert!(refused > 300, "the disk took only {refused} events");
    take_the_rest(disk);
    let refused = fill(&queue, refused).await;

    // A restart on the full disk.
    let closed = queue.close(Duration::ZERO).await.unwrap();
    assert_eq!(closed.status.pending, refused - 1);
    let queue = open(&spool, &sandbox).await;
    assert!(
        queue.recovery().missing.is_empty(),
        "{:?}",
        queue.recovery()
    );
    assert_eq!(queue.status().last_seq, refused - 1);

    sandbox.come_back().await.unwrap();
    queue.wake().await.unwrap();
    drained(&queue).await;
    std::fs::remove_file(disk.path().join("filler")).unwrap();

    // There is room again, without a restart.
    let receipt = queue.append(event(refused)).await.unwrap();
    assert_eq!(receipt.seq, refused);
    drained(&queue).await;
    queue.close(Duration::from_secs(5)).await.unwrap();
    sandbox
        .check_order((1..=refused).map(|n| id(n).to_string()))
        .unwrap();
    assert!(
        sandbox.duplicates().is_empty(),
        "{:?}",
        sandbox.duplicates()
    );
    println!("\nPROVED disks=1 acknowledged={refused} duplicates=0 lost=0 reordered=0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_refuses_appends_and_delivers_until_there_is_room() {
    match Tmpfs::mount(16) {
        Some(disk) => story(&disk, false).await,
        None => println!("\nSKIPPED no right to mount a tmpfs"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_with_room_for_no_segment_delivers_from_the_journal() {
    match Tmpfs::mount(16) {
        Some(disk) => story(&disk, true).await,
        None => println!("\nSKIPPED no right to mount a tmpfs"),
    }
}

/// The largest letter there may be is the first of the spool, and comes when not a byte is left. It
/// is no message, and so refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_on_a_full_disk_has_the_room_of_the_ballast() {
    let Some(disk) = Tmpfs::mount(16) else {
        println!("\nSKIPPED no right to mount a tmpfs");
        return;
    };
    let spool = disk.path().join("spool");
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.go_away().await.unwrap();
    let queue = open(&spool, &sandbox).await;
    let mut json = vec![b'"'];
    while json.len() < (256 << 10) - 1 {
        json.extend_from_slice(&event(json.len() as u64).json_bytes()[200..8000]);
        json.truncate((256 << 10) - 1);
    }
    json.push(b'"');
    let large = Event::json(json).unwrap();
    let large_id = large.id();
    queue.append(large).await.unwrap();
    let end = fill(&queue, 2).await;
    take_the_rest(&disk);

    sandbox.come_back().await.unwrap();
    queue.wake().await.unwrap();
    let mut watch = queue.watch();
    let buried = watch.wait_for(|status| status.ledger.dead == 1);
    let status = tokio::time::timeout(Duration::from_secs(60), buried).await;
    assert!(status.is_ok(), "not buried: {:?}", queue.status());
    assert!(!spool.join("ballast").exists());
    let letter = queue.dead_letters().show(1).await.unwrap();
    assert_eq!(letter.event.id(), large_id);
    let wait = watch.wait_for(|status| status.pending == 0);
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .unwrap()
        .unwrap();

    // Opening has the room for the state that the letter has left it.
    queue.close(Duration::ZERO).await.unwrap();
    take_the_rest(&disk);
    let queue = open(&spool, &sandbox).await;
    let letter = queue.dead_letters().show(1).await.unwrap();
    assert_eq!(letter.event.id(), large_id);
    assert_eq!(queue.status().ledger.appended, end - 1);
    queue.close(Duration::ZERO).await.unwrap();
}
