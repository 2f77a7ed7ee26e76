//! The log's thread under a scheduler that tries one interleaving after the other.
//!
//! `thread/` is compiled here a second time, over the locks and the threads of shuttle in place
//! of the system's. A thread that waits for ever is found at once, as a deadlock. tokio's
//! semaphore, oneshot and watch are the real ones and count as one step each: their inside is
//! tokio's to test. No wait runs into its timeout, so nothing here is rescued by one.
//!
//! `SCHEDULES` says how many schedules each test tries (300 otherwise), `SCHEDULES_SEED` from
//! which seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner, future};

use super::memory::MemoryLog;
// What `thread/` takes from its parent.
use super::*;
use crate::clock::SystemClock;
use crate::observe::Place;
use crate::settings::{OnFull, Settings};
use thread::{LogHandle, ThreadSettings, Unawaited, spawn};

mod sync {
    pub(super) use shuttle::future::block_on;
    pub(super) use shuttle::sync::{Condvar, Mutex, MutexGuard, TryLockError};
    pub(super) use shuttle::thread;

    pub(super) const THREAD_LOOKS: u32 = 3;
}

#[path = "thread/mod.rs"]
#[expect(dead_code, reason = "only what is tested here is used")]
#[expect(
    clippy::duplicate_mod,
    reason = "over other primitives it is another module"
)]
mod thread;

/// What became of the log, as its disk would know.
#[derive(Debug, Default)]
struct Disk {
    committed: AtomicU64,
    synced: AtomicU64,
    dropped: AtomicU64,
}

impl Disk {
    fn of(number: &AtomicU64) -> u64 {
        number.load(Ordering::SeqCst)
    }
}

/// A log in memory in which each call takes so long that all others get their turn.
struct SlowLog {
    inner: MemoryLog,
    disk: Arc<Disk>,
    /// The commit at which it panics.
    dies_at: u64,
    commits: u64,
}

impl SlowLog {
    fn last_seq(&self) -> u64 {
        self.inner.position().last_seq
    }
}

impl Drop for SlowLog {
    fn drop(&mut self) {
        turn();
        self.disk.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

fn turn() {
    // While a panic unwinds there is no giving way.
    if !std::thread::panicking() {
        shuttle::thread::yield_now();
    }
}

impl Log for SlowLog {
    fn take_up(&mut self, events: &mut Vec<Event>) -> Result<Seq, Error> {
        turn();
        self.inner.take_up(events)
    }

    fn commit(&mut self, sync: bool) -> Result<(), Error> {
        self.commits += 1;
        turn();
        assert_ne!(self.commits, self.dies_at, "boom");
        self.inner.commit(sync)?;
        self.disk.committed.store(self.last_seq(), Ordering::SeqCst);
        turn();
        if sync {
            self.disk.synced.store(self.last_seq(), Ordering::SeqCst);
        }
        turn();
        Ok(())
    }

    fn close(&mut self) -> Result<(), Error> {
        turn();
        self.commit(true)?;
        self.inner.close()
    }

    fn settle(&mut self, through: Seq, how: Settled) -> Result<(), Error> {
        turn();
        self.inner.settle(through, how)
    }

    fn tidy(&mut self) -> Result<bool, Error> {
        turn();
        self.inner.tidy()
    }

    fn position(&self) -> Position {
        turn();
        self.inner.position()
    }

    fn is_unsynced(&self) -> bool {
        self.inner.is_unsynced()
    }

    fn read(&mut self, from: Seq, events_max: usize, bytes_max: u64) -> Result<Read, Error> {
        self.inner.read(from, events_max, bytes_max)
    }

    fn bury(&mut self, letter: &DeadLetter, how: Settled) -> Result<(), Error> {
        self.inner.bury(letter, how)
    }

    fn letters(&mut self, after: Seq, max: usize) -> Result<Vec<DeadLetter>, Error> {
        self.inner.letters(after, max)
    }

    fn letter(&mut self, seq: Seq) -> Result<Option<DeadLetter>, Error> {
        self.inner.letter(seq)
    }

    fn retry(&mut self, seq: Seq) -> Result<Receipt, Error> {
        self.inner.retry(seq)
    }

    fn discard(&mut self, seq: Seq) -> Result<(), Error> {
        self.inner.discard(seq)
    }

    fn memo(&mut self) -> Result<Memo, Error> {
        self.inner.memo()
    }

    fn remember(&mut self, memo: &Memo) -> Result<(), Error> {
        self.inner.remember(memo)
    }
}

/// How a log is opened.
#[derive(Clone, Copy)]
struct Opening {
    /// Events that are let in at once; more wait outside.
    intake_events: u64,
    /// Events of one byte that it holds; more wait inside.
    events_max: u64,
    dies_at: u64,
}

impl Default for Opening {
    fn default() -> Self {
        Self {
            intake_events: 2,
            events_max: 1000,
            dies_at: 0,
        }
    }
}

/// What an append of one event of one byte costs of the intake.
const COST_BYTES: u64 = 16 + 8 + 4 + 1 + 256;

async fn open(opening: Opening) -> (LogHandle, Arc<Disk>) {
    let settings = Settings {
        on_full: OnFull::Block,
        max_bytes: opening.events_max,
        ..Settings::default()
    };
    let threads = ThreadSettings {
        intake_bytes: opening.intake_events * COST_BYTES,
        block_when_full: true,
        sync_every: None,
        place: Place::new("".as_ref()),
    };
    let disk = Arc::new(Disk::default());
    let log = SlowLog {
        inner: MemoryLog::new(&settings),
        disk: Arc::clone(&disk),
        dies_at: opening.dies_at,
        commits: 0,
    };
    let opened = spawn(threads, Arc::new(SystemClock), move || Ok((log, ()))).await;
    (opened.unwrap().0, disk)
}

/// Takes away what is there, as the flusher does, until so many events were let in.
async fn drain(log: &LogHandle, events: u64) {
    let mut changes = log.changes();
    let mut settled = 0;
    while settled < events {
        let last = changes.borrow_and_update().last_seq;
        if last > settled {
            let settle = move |log: &mut dyn Log| log.settle(last, Settled::Delivered);
            log.run(settle).await.unwrap();
            settled = last;
        } else {
            changes.changed().await.unwrap();
        }
    }
}

fn events(n: usize) -> Vec<Event> {
    (0..n).map(|_| Event::json("1").unwrap()).collect()
}

/// Runs a scenario under many schedules: half of them at random, half with few changes of turn
/// at unlikely places.
fn explore<F: Future<Output = ()>>(scenario: impl Fn() -> F + Send + Sync + 'static) {
    let number = |name: &str, otherwise: u64| {
        let text = std::env::var(name).ok();
        text.map_or(otherwise, |text| text.parse().unwrap())
    };
    let (schedules, seed) = (
        number("SCHEDULES", 300),
        number("SCHEDULES_SEED", 20_261_123),
    );
    println!("SCHEDULES_SEED={seed} SCHEDULES={schedules}");
    let half = usize::try_from(schedules).unwrap().div_ceil(2);
    let scenario = Arc::new(scenario);
    let again = Arc::clone(&scenario);
    let random = RandomScheduler::new_from_seed(seed, half);
    Runner::new(random, Config::new()).run(move || future::block_on(scenario()));
    let rare = PctScheduler::new_from_seed(seed, 3, half);
    Runner::new(rare, Config::new()).run(move || future::block_on(again()));
    println!("\nPROVED schedules={} panics=0", 2 * half);
}

#[test]
fn i1_every_append_is_answered_once_and_after_its_sync_whatever_the_schedule() {
    explore(|| async {
        let (log, disk) = open(Opening::default()).await;
        let appends: Vec<_> = [(1, true), (2, false), (1, true), (1, true)]
            .into_iter()
            .map(|(count, sync)| {
                let (log, disk) = (log.clone(), Arc::clone(&disk));
                future::spawn(async move {
                    let first = log.append(events(count), sync).await.unwrap();
                    let last = first + count as u64 - 1;
                    let safe = if sync { &disk.synced } else { &disk.committed };
                    assert!(Disk::of(safe) >= last, "{last} was acknowledged too early");
                    let seen = log.position().last_seq;
                    assert!(seen >= last, "{last} is not in the position, {seen} is");
                    (first..=last).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut seqs = Vec::new();
        for append in appends {
            seqs.extend(append.await.unwrap());
        }
        seqs.sort_unstable();
        assert_eq!(seqs, [1, 2, 3, 4, 5], "a number is missing or given twice");
        log.close().await.unwrap();
        assert_eq!(Disk::of(&disk.synced), 5);
    });
}

/// Once, an append that was left while the thread was at the log stayed in the inbox when the
/// thread went to sleep, and its caller waited for ever.
#[test]
fn i1_callers_that_commit_themselves_are_all_answered_and_after_their_sync() {
    explore(|| async {
        let (log, disk) = open(Opening {
            intake_events: 3,
            ..Opening::default()
        })
        .await;
        let callers: Vec<_> = [true, false, true]
            .into_iter()
            .map(|sync| {
                let (log, disk) = (log.clone(), Arc::clone(&disk));
                shuttle::thread::spawn(move || {
                    [(), ()].map(|()| {
                        let seq = log.append_blocking(&mut events(1), sync).unwrap();
                        let safe = if sync { &disk.synced } else { &disk.committed };
                        assert!(Disk::of(safe) >= seq, "{seq} was acknowledged too early");
                        assert!(log.position().last_seq >= seq);
                        seq
                    })
                })
            })
            .collect();
        // Others go on beside them, and are not kept waiting by them.
        let first = log.append(events(1), true).await.unwrap();
        log.run(|_| Ok(())).await.unwrap();
        let mut seqs = vec![first];
        for caller in callers {
            seqs.extend(caller.join().unwrap());
        }
        seqs.sort_unstable();
        assert_eq!(
            seqs,
            [1, 2, 3, 4, 5, 6, 7],
            "a number is missing or given twice"
        );
        log.close().await.unwrap();
        assert_eq!(Disk::of(&disk.synced), 7);
    });
}

#[test]
fn a_caller_that_commits_itself_does_not_overtake_what_it_sent_before() {
    // Sent, and perhaps not even looked at; or looked at, and waiting for room.
    for wait in [false, true] {
        does_not_overtake(wait);
    }
}

fn does_not_overtake(wait: bool) {
    explore(move || async move {
        let (log, _) = open(Opening {
            intake_events: 4,
            events_max: 2,
            ..Opening::default()
        })
        .await;
        let caller = log.clone();
        let caller = shuttle::thread::spawn(move || {
            // There is no room for the second behind the first: it waits, and the third, for
            // which there is, has to wait behind it.
            let mut sent: Vec<_> = ["1", "22"]
                .map(|json| Box::pin(caller.append(vec![Event::json(json).unwrap()], true)))
                .into();
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let mut early = Vec::new();
            for append in &mut sent {
                early.push(append.as_mut().poll(&mut context));
            }
            if wait {
                let mut changes = caller.changes();
                future::block_on(changes.wait_for(|position| position.last_seq > 0)).unwrap();
            }
            let last = caller.append_blocking(&mut events(1), true).unwrap();
            for (append, early) in sent.into_iter().zip(early) {
                let seq = match early {
                    std::task::Poll::Ready(seq) => seq.unwrap(),
                    std::task::Poll::Pending => future::block_on(append).unwrap(),
                };
                assert!(seq < last, "{last} overtook {seq}");
            }
        });
        drain(&log, 3).await;
        caller.join().unwrap();
        log.close().await.unwrap();
    });
}

#[test]
fn callers_that_commit_themselves_wait_for_room_like_all_others() {
    explore(|| async {
        let (log, _) = open(Opening {
            intake_events: 3,
            events_max: 2,
            ..Opening::default()
        })
        .await;
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let log = log.clone();
                shuttle::thread::spawn(move || log.append_blocking(&mut events(1), true).unwrap())
            })
            .collect();
        drain(&log, 4).await;
        for caller in callers {
            caller.join().unwrap();
        }
        log.close().await.unwrap();
    });
}

/// Once, a caller that found the log ended while it looked for its answer asked for that answer
/// again, which is a panic in tokio.
#[test]
fn a_close_or_the_end_of_the_log_reaches_callers_that_commit_themselves() {
    for dies_at in [0, 1, 2] {
        explore(move || async move {
            let (log, disk) = open(Opening {
                intake_events: 3,
                dies_at,
                ..Opening::default()
            })
            .await;
            let callers: Vec<_> = [true, false, false]
                .into_iter()
                .map(|sync| {
                    let log = log.clone();
                    shuttle::thread::spawn(move || log.append_blocking(&mut events(1), sync))
                })
                .collect();
            let closed = log.close().await;
            if closed.is_ok() {
                assert_eq!(Disk::of(&disk.dropped), 1, "the log is still there");
            }
            for caller in callers {
                match caller.join().unwrap() {
                    Ok(seq) => assert!(Disk::of(&disk.committed) >= seq, "{seq} is not safe"),
                    Err(Error::Closed) => {}
                    Err(error) => assert!(error.to_string().contains("boom"), "{error:?}"),
                }
            }
            let late = log.append_blocking(&mut events(1), true);
            assert!(late.is_err(), "{late:?}");
        });
    }
}

#[test]
fn the_intake_gets_every_byte_back_from_appends_that_were_done_or_abandoned() {
    explore(|| async {
        let (log, _) = open(Opening::default()).await;
        let appends: Vec<_> = (0..4)
            .map(|_| {
                let log = log.clone();
                future::spawn(async move { log.append(events(1), true).await.map(drop) })
            })
            .collect();
        appends[1].abort();
        appends[3].abort();
        for append in appends {
            // Of those that were abandoned, some were done before.
            let _ = append.await;
        }
        // This one costs all of the intake: with a byte less it would wait for ever.
        log.append(events(20), true).await.unwrap();
        log.close().await.unwrap();
    });
}

#[test]
fn appends_that_wait_for_room_all_go_on_when_there_is_some() {
    explore(|| async {
        let (log, _) = open(Opening {
            intake_events: 3,
            events_max: 2,
            ..Opening::default()
        })
        .await;
        let appends: Vec<_> = (0..6)
            .map(|_| {
                let log = log.clone();
                future::spawn(async move { log.append(events(1), true).await.unwrap() })
            })
            .collect();
        drain(&log, 6).await;
        for append in appends {
            append.await.unwrap();
        }
        log.close().await.unwrap();
    });
}

#[test]
fn a_close_answers_everybody_and_the_log_is_gone_when_it_returns() {
    explore(|| async {
        let (log, disk) = open(Opening {
            intake_events: 3,
            events_max: 2,
            ..Opening::default()
        })
        .await;
        let appends: Vec<_> = (0..4)
            .map(|_| {
                let log = log.clone();
                future::spawn(async move { log.append(events(1), true).await })
            })
            .collect();
        let closes: Vec<_> = (0..2)
            .map(|_| {
                let (log, disk) = (log.clone(), Arc::clone(&disk));
                future::spawn(async move {
                    let closed = log.close().await;
                    if closed.is_ok() {
                        assert_eq!(Disk::of(&disk.dropped), 1, "the log is still there");
                    }
                    closed
                })
            })
            .collect();
        let mut acknowledged = 0;
        for append in appends {
            match append.await.unwrap() {
                Ok(seq) => acknowledged = acknowledged.max(seq),
                Err(error) => assert!(matches!(error, Error::Closed), "{error:?}"),
            }
        }
        let mut closed = 0;
        for close in closes {
            match close.await.unwrap() {
                Ok(()) => closed += 1,
                Err(error) => assert!(matches!(error, Error::Closed), "{error:?}"),
            }
        }
        assert_eq!(closed, 1);
        assert!(Disk::of(&disk.synced) >= acknowledged);
        let late = log.append(events(1), true).await;
        assert!(matches!(late, Err(Error::Closed)), "{late:?}");
    });
}

#[test]
fn when_the_log_dies_everybody_is_told_why() {
    explore(|| async {
        let (log, disk) = open(Opening {
            dies_at: 2,
            ..Opening::default()
        })
        .await;
        let appends: Vec<_> = (0..5)
            .map(|_| {
                let log = log.clone();
                future::spawn(async move { log.append(events(1), true).await })
            })
            .collect();
        for append in appends {
            match append.await.unwrap() {
                Ok(seq) => assert!(Disk::of(&disk.synced) >= seq, "{seq} is not safe"),
                Err(error) => assert!(error.to_string().contains("boom"), "{error:?}"),
            }
        }
        // All may have been in the first commit; then this one is the second.
        let late = log.append(events(1), true).await.unwrap_err();
        assert!(late.to_string().contains("boom"), "{late:?}");
        let late = log.run(|_| Ok(())).await.unwrap_err();
        assert!(late.to_string().contains("boom"), "{late:?}");
        let late = log.close().await.unwrap_err();
        assert!(late.to_string().contains("boom"), "{late:?}");
    });
}

#[test]
fn without_handles_the_log_makes_everything_durable_and_ends() {
    explore(|| async {
        let (log, disk) = open(Opening::default()).await;
        let mut changes = log.changes();
        let append = future::spawn(async move { log.append(events(1), false).await.unwrap() });
        assert_eq!(append.await.unwrap(), 1);
        while changes.changed().await.is_ok() {}
        assert_eq!(Disk::of(&disk.synced), 1);
    });
}

#[test]
fn what_is_submitted_is_answered_once_and_stays_though_its_answer_is_dropped() {
    explore(|| async {
        let (log, disk) = open(Opening::default()).await;
        let submitted: Vec<_> = [true, false, true]
            .into_iter()
            .map(|waits| {
                let (log, disk) = (log.clone(), Arc::clone(&disk));
                future::spawn(async move {
                    let answer = log.submit(events(1), true, Unawaited::Stays).await.unwrap();
                    if waits {
                        let seq = answer.await.unwrap();
                        assert!(Disk::of(&disk.synced) >= seq, "{seq} is not safe");
                    }
                })
            })
            .collect();
        for submitted in submitted {
            submitted.await.unwrap();
        }
        // Everything before it in the inbox is done when this is answered.
        log.run(|_| Ok(())).await.unwrap();
        assert_eq!(Disk::of(&disk.synced), 3);
        log.close().await.unwrap();
    });
}

#[test]
fn what_waits_for_room_is_not_overtaken_by_what_would_fit() {
    explore(|| async {
        let (log, _) = open(Opening {
            intake_events: 4,
            events_max: 2,
            ..Opening::default()
        })
        .await;
        let submitted: Vec<_> = ["1", "22", "3"]
            .map(|json| log.try_append(vec![Event::json(json).unwrap()], true))
            .into();
        drain(&log, 3).await;
        for (answer, seq) in submitted.into_iter().zip(1..) {
            assert_eq!(answer.unwrap().await.unwrap(), seq);
        }
        log.close().await.unwrap();
    });
}

#[test]
fn a_caller_that_commits_itself_does_not_overtake_what_it_submitted() {
    explore(|| async {
        let (log, _) = open(Opening::default()).await;
        let caller = log.clone();
        let caller = shuttle::thread::spawn(move || {
            let submitted = caller.try_append(events(1), true).unwrap();
            let last = caller.append_blocking(&mut events(1), true).unwrap();
            let first = future::block_on(submitted).unwrap();
            assert!(first < last, "{last} overtook {first}");
        });
        // Beside another, so that the thread has work of its own.
        log.append(events(1), true).await.unwrap();
        caller.join().unwrap();
        log.close().await.unwrap();
    });
}

#[test]
fn what_one_commit_has_no_room_for_is_in_the_next() {
    let large = Event::json(vec![b'1'; 600 << 10]).unwrap();
    explore(move || {
        let large = large.clone();
        async move {
            let (log, _) = open(Opening {
                intake_events: 20_000,
                events_max: 4 << 20,
                ..Opening::default()
            })
            .await;
            let under_way = [(); 3].map(|()| log.try_append(vec![large.clone()], true).unwrap());
            for (answer, seq) in under_way.into_iter().zip(1..) {
                assert_eq!(answer.await.unwrap(), seq);
            }
            log.close().await.unwrap();
        }
    });
}
