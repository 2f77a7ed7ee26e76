//! The log's thread and its handle, with a real runtime.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use super::thread::{LogHandle, ThreadSettings, Unawaited, spawn};
use super::{Log, Memo, Position, Read};
use crate::clock::SystemClock;
use crate::dead::DeadLetter;
use crate::error::Error;
use crate::event::{Event, Receipt};
use crate::id::Seq;
use crate::ledger::Settled;
use crate::log::disk::{Disk, DiskFile, RealDisk};
use crate::log::memory::MemoryLog;
use crate::log::spool::SpoolLog;
use crate::observe::Place;
use crate::settings::{OnFull, Settings};

async fn open(settings: Settings) -> LogHandle {
    let threads = ThreadSettings {
        intake_bytes: settings.intake_bytes,
        block_when_full: settings.on_full == OnFull::Block,
        sync_every: None,
        place: Place::new("".as_ref()),
    };
    let log = move || Ok((MemoryLog::new(&settings), ()));
    spawn(threads, Arc::new(SystemClock), log).await.unwrap().0
}

fn events(n: usize) -> Vec<Event> {
    (0..n)
        .map(|i| Event::json(i.to_string()).unwrap())
        .collect()
}

#[tokio::test]
async fn appends_are_numbered_in_order_and_visible_when_answered() {
    let log = open(Settings::default()).await;
    assert_eq!(log.append(events(3), true).await.unwrap(), 1);
    assert_eq!(log.append(events(1), true).await.unwrap(), 4);
    assert_eq!(log.position().last_seq, 4);
    log.close().await.unwrap();
    assert!(matches!(
        log.append(events(1), true).await,
        Err(Error::Closed)
    ));
    let submitted = log.submit(events(1), true, Unawaited::Stays).await;
    assert!(matches!(submitted.map(drop), Err(Error::Closed)));
    let tried = log.try_append(events(1), true);
    assert!(matches!(tried.map(drop), Err(Error::Closed)));
    assert!(matches!(log.close().await, Err(Error::Closed)));
}

// A forked process has the handle but not the threads: it waited for them for ever, or wrote to the
// journal beside its parent.
#[tokio::test]
async fn i14_in_a_forked_process_every_call_fails_at_once() {
    let log = open(Settings::default()).await;
    let forked = log.clone().of_spool(Path::new("/s")).forked();
    let refused = |result: Result<(), Error>| match result {
        Err(Error::NotOwner { path, .. }) => assert_eq!(path, Path::new("/s")),
        other => panic!("{other:?}"),
    };
    refused(forked.append(events(1), true).await.map(drop));
    refused(forked.append_blocking(&mut events(1), false).map(drop));
    refused(forked.run(|_| Ok(())).await);
    refused(forked.read(1, 1, 1).await.map(drop));
    refused(forked.close().await);
    refused(forked.try_append(events(1), false).map(drop));
    let submitted = forked.submit(events(1), false, Unawaited::Stays).await;
    refused(submitted.map(drop));
    assert_eq!(log.append(events(1), true).await.unwrap(), 1);
}

#[tokio::test]
async fn a_blocked_append_waits_for_room_and_keeps_its_place() {
    let log = open(Settings {
        on_full: OnFull::Block,
        max_bytes: 2,
        ..Settings::default()
    })
    .await;
    log.append(events(2), true).await.unwrap();
    let first = tokio::spawn({
        let log = log.clone();
        async move { log.append(events(1), true).await }
    });
    tokio::task::yield_now().await;
    // The log has seen the first when it answers a command that was sent after it.
    log.run(|_| Ok(())).await.unwrap();
    assert!(!first.is_finished());
    let second = tokio::spawn({
        let log = log.clone();
        async move { log.append(events(1), true).await }
    });
    tokio::task::yield_now().await;
    log.run(|log| log.settle(2, Settled::Delivered))
        .await
        .unwrap();
    // No other command follows: the room is noticed all the same.
    assert_eq!(first.await.unwrap().unwrap(), 3);
    assert_eq!(second.await.unwrap().unwrap(), 4);
}

#[tokio::test]
async fn a_panic_on_the_thread_is_an_error_for_everyone_and_says_why() {
    let log = open(Settings::default()).await;
    let broken: Result<(), Error> = log.run(|_| panic!("boom")).await;
    assert!(
        matches!(broken, Err(Error::Panicked { .. } | Error::Closed)),
        "{broken:?}"
    );
    let error = loop {
        match log.append(events(1), true).await {
            Err(Error::Closed) => tokio::task::yield_now().await,
            other => break other.unwrap_err(),
        }
    };
    assert!(error.to_string().contains("boom"), "{error}");
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_log() {
    let log = open(Settings::default()).await;
    let mut changes = log.changes();
    drop(log);
    while changes.changed().await.is_ok() {}
}

/// The last thing that a thread does, after all that was written for it, and it takes its time.
struct Lingers(Arc<AtomicBool>);

impl Drop for Lingers {
    fn drop(&mut self) {
        for _ in 0..10_000 {
            std::thread::yield_now();
        }
        self.0.store(true, Ordering::SeqCst);
    }
}

thread_local! {
    static LAST: RefCell<Option<Lingers>> = const { RefCell::new(None) };
}

/// A close was answered while its thread was still ending: a program that forks, unloads or counts
/// its threads after a close found one too many now and then.
#[tokio::test]
async fn a_log_that_is_closed_or_does_not_open_has_no_thread_any_more() {
    for fails in [false, true] {
        let gone = Arc::new(AtomicBool::new(false));
        let lingers = Lingers(Arc::clone(&gone));
        let settings = Settings::default();
        let threads = ThreadSettings {
            intake_bytes: settings.intake_bytes,
            block_when_full: false,
            sync_every: None,
            place: Place::new("".as_ref()),
        };
        let opening = move || {
            LAST.set(Some(lingers));
            if fails {
                return Err(Error::Closed);
            }
            Ok((MemoryLog::new(&settings), ()))
        };
        match spawn(threads, Arc::new(SystemClock), opening).await {
            Ok((log, ())) => {
                let other = log.clone();
                let (one, two) = tokio::join!(log.close(), other.close());
                assert!(one.is_ok() != two.is_ok());
            }
            Err(error) => assert!(fails, "{error:?}"),
        }
        assert!(gone.load(Ordering::SeqCst), "fails: {fails}");
    }
}

/// A log whose files turn out to be damaged when it commits.
struct DamagedLog(MemoryLog);

impl Log for DamagedLog {
    fn commit(&mut self, _: bool) -> Result<(), Error> {
        let (what, path) = ("a hole".to_owned(), "journal".into());
        Err(Error::Damaged { what, path })
    }

    fn take_up(&mut self, events: &mut Vec<Event>) -> Result<Seq, Error> {
        self.0.take_up(events)
    }
    fn is_unsynced(&self) -> bool {
        self.0.is_unsynced()
    }
    fn read(&mut self, from: Seq, events_max: usize, bytes_max: u64) -> Result<Read, Error> {
        self.0.read(from, events_max, bytes_max)
    }
    fn settle(&mut self, through: Seq, how: Settled) -> Result<(), Error> {
        self.0.settle(through, how)
    }
    fn bury(&mut self, letter: &DeadLetter, how: Settled) -> Result<(), Error> {
        self.0.bury(letter, how)
    }
    fn letters(&mut self, after: Seq, max: usize) -> Result<Vec<DeadLetter>, Error> {
        self.0.letters(after, max)
    }
    fn letter(&mut self, seq: Seq) -> Result<Option<DeadLetter>, Error> {
        self.0.letter(seq)
    }
    fn retry(&mut self, seq: Seq) -> Result<Receipt, Error> {
        self.0.retry(seq)
    }
    fn discard(&mut self, seq: Seq) -> Result<(), Error> {
        self.0.discard(seq)
    }
    fn memo(&mut self) -> Result<Memo, Error> {
        self.0.memo()
    }
    fn remember(&mut self, memo: &Memo) -> Result<(), Error> {
        self.0.remember(memo)
    }
    fn position(&self) -> Position {
        self.0.position()
    }
    fn tidy(&mut self) -> Result<bool, Error> {
        self.0.tidy()
    }
    fn close(&mut self) -> Result<(), Error> {
        self.0.close()
    }
}

/// The thread of a log whose commits fail.
async fn damaged(intake_bytes: u64) -> LogHandle {
    let threads = ThreadSettings {
        intake_bytes,
        block_when_full: false,
        sync_every: None,
        place: Place::new("".as_ref()),
    };
    let opening = || Ok((DamagedLog(MemoryLog::new(&Settings::default())), ()));
    let opened = spawn(threads, Arc::new(SystemClock), opening).await;
    let (log, ()) = opened.unwrap();
    log
}

#[tokio::test]
async fn each_caller_of_a_commit_that_fails_is_told_the_same() {
    let log = damaged(1 << 20).await;
    let (one, two) = tokio::join!(log.append(events(1), true), log.append(events(1), true));
    for error in [one.unwrap_err(), two.unwrap_err()] {
        assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    }
}

/// Keeps the log's thread busy until the sender is used, and waits until it is.
async fn hold(log: &LogHandle) -> Sender<()> {
    let (open_gate, gate) = channel();
    let (begun, begins) = tokio::sync::oneshot::channel();
    let log = log.clone();
    tokio::spawn(async move {
        let wait = move |_: &mut dyn Log| {
            begun.send(()).unwrap();
            gate.recv().map_err(|_| Error::Closed)
        };
        log.run(wait).await
    });
    begins.await.unwrap();
    open_gate
}

#[tokio::test]
async fn what_is_on_its_way_is_appended_though_its_answer_is_dropped_and_an_append_is_not() {
    let log = open(Settings::default()).await;
    let gate = hold(&log).await;
    drop(log.try_append(events(1), true).unwrap());
    drop(log.submit(events(1), true, Unawaited::Stays).await.unwrap());
    let mut append = Box::pin(log.append(events(1), true));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(append.as_mut().poll(&mut context).is_pending());
    drop(append);
    let last = log.try_append(events(1), true).unwrap();
    gate.send(()).unwrap();
    assert_eq!(last.await.unwrap(), 3, "the two, without the one");
}

#[tokio::test]
async fn one_task_has_many_appends_under_way_in_the_order_of_its_calls() {
    let log = open(Settings::default()).await;
    let mut under_way = Vec::new();
    for n in 0..64 {
        under_way.push(if n % 2 == 0 {
            log.try_append(events(1), true).unwrap()
        } else {
            log.submit(events(1), true, Unawaited::Stays).await.unwrap()
        });
    }
    for (answer, seq) in under_way.into_iter().zip(1..) {
        assert_eq!(answer.await.unwrap(), seq);
    }
}

#[tokio::test]
async fn a_full_intake_refuses_what_does_not_wait_and_holds_back_what_does() {
    let log = open(Settings {
        intake_bytes: 1_000,
        ..Settings::default()
    })
    .await;
    let gate = hold(&log).await;
    let mut under_way = Vec::new();
    let full = loop {
        match log.try_append(events(1), true) {
            Ok(answer) => under_way.push(answer),
            Err(error) => break error,
        }
    };
    let Error::Full { used, max, .. } = full else {
        panic!("{full:?}");
    };
    assert!(used <= 1_000 && max == 1_000, "{used} of {max}");
    assert_eq!(
        under_way.len(),
        3,
        "each costs somewhat less than 300 bytes"
    );
    let mut held = Box::pin(log.submit(events(1), true, Unawaited::Stays));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(held.as_mut().poll(&mut context).is_pending());
    gate.send(()).unwrap();
    assert_eq!(held.await.unwrap().await.unwrap(), 4);
    assert_eq!(under_way.pop().unwrap().await.unwrap(), 3);
}

/// A caller that does not wait for its answer does not count by itself what was refused.
#[cfg(feature = "control")]
#[tokio::test]
async fn each_event_that_is_refused_is_counted_once_wherever_that_happens() {
    let log = damaged(1_000).await;
    let refused = || log.place().meter().refused.get();
    // By the commit: a lone caller's, and one whose answer is dropped.
    assert!(log.append_blocking(&mut events(2), true).is_err());
    assert_eq!(refused(), 2);
    drop(log.try_append(events(3), true).unwrap());
    log.run(|_| Ok(())).await.unwrap();
    assert_eq!(refused(), 5);
    // By the intake.
    let gate = hold(&log).await;
    drop(log.try_append(events(20), true).unwrap());
    assert!(log.try_append(events(1), true).is_err());
    assert_eq!(refused(), 6);
    gate.send(()).unwrap();
    // By a log that has closed.
    log.close().await.unwrap();
    assert!(log.append(events(1), true).await.is_err());
    assert_eq!(refused(), 6 + 20 + 1);
}

/// The runtime has one thread. If the log worked on it, nothing could open the gate.
#[tokio::test(flavor = "current_thread")]
async fn i9_a_disk_that_does_not_answer_holds_up_no_thread_of_the_runtime() {
    let log = open(Settings::default()).await;
    let (open_gate, gate) = channel();
    let stuck = tokio::spawn({
        let log = log.clone();
        async move {
            let wait = move |_: &mut dyn Log| {
                gate.recv().map_err(|_| Error::Closed)?;
                Ok(std::thread::current().name().map(str::to_owned))
            };
            log.run(wait).await
        }
    });
    let behind = tokio::spawn({
        let log = log.clone();
        async move { log.append(events(1), true).await }
    });
    tokio::task::yield_now().await;
    assert!(!stuck.is_finished() && !behind.is_finished());
    open_gate.send(()).unwrap();
    assert_eq!(
        stuck.await.unwrap().unwrap().as_deref(),
        Some("everpost-log")
    );
    assert_eq!(behind.await.unwrap().unwrap(), 1);
}

/// The file system, telling which thread syncs a file.
#[derive(Clone, Debug)]
struct Telling(Sender<Option<String>>);

#[derive(Debug)]
struct TellingFile(Box<dyn DiskFile>, Telling);

impl Disk for Telling {
    fn create(&self, path: &Path, len: u64) -> io::Result<Box<dyn DiskFile>> {
        let file = RealDisk.create(path, len)?;
        Ok(Box::new(TellingFile(file, self.clone())))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(TellingFile(RealDisk.open(path)?, self.clone())))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_dir(path)
    }
}

impl DiskFile for TellingFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()?;
        let thread = std::thread::current().name().map(str::to_owned);
        let _ = self.1.0.send(thread);
        Ok(())
    }
}

/// Callers that append by themselves do not look at the clock: the thread is woken for the sync.
#[tokio::test]
async fn what_callers_wrote_is_synced_by_the_thread_when_it_is_due() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, (told, syncs)) = (dir.path().join("spool"), channel());
    let settings = Settings::default();
    let threads = ThreadSettings {
        intake_bytes: settings.intake_bytes,
        block_when_full: false,
        sync_every: Some(Duration::from_millis(1)),
        place: Place::new(&spool),
    };
    let clock = Arc::new(SystemClock);
    let opening = move || {
        let (clock, disk) = (Arc::new(SystemClock), Arc::new(Telling(told)));
        SpoolLog::open(&spool, settings, clock, disk)
    };
    let (log, _) = spawn(threads, clock, opening).await.unwrap();
    log.run(|_| Ok(())).await.unwrap();
    while syncs.try_recv().is_ok() {}
    // The thread may be awake once or twice.
    for _ in 0..20 {
        log.append_blocking(&mut events(1), false).unwrap();
        let synced = syncs.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(synced.as_deref(), Some("everpost-log"));
    }
    log.close().await.unwrap();
}
