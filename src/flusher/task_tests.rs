//! The task and its handle: on the log's thread, with a scripted sink and paused time.
//!
//! Paused time runs on whenever the runtime is idle, also while the log's thread works. So no test
//! here has a timer of its own under way while it waits for the log.

mod ending;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::reader::Reader;
use super::script::*;
use super::step::Reading;
use super::{FlusherHandle, FlusherView};
use crate::error::Error;
use crate::id::Seq;
use crate::ledger::Ledger;
use crate::log::thread::{self, LogHandle, ThreadSettings};
use crate::outcome::{PauseReason, Verdict};
use crate::settings::{Delivery, Settings};
use crate::status::FlusherState;

struct Bench {
    log: LogHandle,
    faults: Arc<Faults>,
    sink: Arc<ScriptedSink>,
    flusher: FlusherHandle,
    task: JoinHandle<()>,
}

impl Bench {
    /// A flusher on a log with so many events.
    async fn new(count: u64, delivery: Delivery, sink: Arc<ScriptedSink>) -> Self {
        let threads = ThreadSettings {
            intake_bytes: 1 << 20,
            block_when_full: false,
            sync_every: None,
            place: crate::observe::Place::new("".as_ref()),
        };
        let clock = Arc::new(PausedClock(Instant::now()));
        let open = || {
            let log = FaultyLog::new(&Settings::default());
            let faults = Arc::clone(&log.faults);
            Ok((log, faults))
        };
        let (log, faults) = thread::spawn(threads, clock.clone(), open).await.unwrap();
        if count > 0 {
            log.append(events(count), true).await.unwrap();
        }
        let (flusher, task) = super::spawn(
            &Handle::current(),
            Arc::clone(&sink),
            log.clone(),
            delivery,
            None,
            clock,
        );
        Self {
            log,
            faults,
            sink,
            flusher,
            task,
        }
    }

    async fn until(&self, wanted: impl FnMut(&FlusherView) -> bool) -> FlusherView {
        let mut views = self.flusher.views();
        views.wait_for(wanted).await.unwrap().clone()
    }

    async fn until_settled(&self, through: Seq) {
        let mut changes = self.log.changes();
        changes.wait_for(|at| at.cursor >= through).await.unwrap();
    }

    /// Whether this is the pause that a restart would find.
    async fn is_kept(&self, reason: Option<PauseReason>) -> bool {
        let memo = self.log.run(|log| log.memo()).await.unwrap();
        memo.paused.map(|paused| paused.reason) == reason
    }

    async fn until_paused(&self, wanted: PauseReason) {
        let is_paused = |view: &FlusherView| matches!(view.state, FlusherState::Paused { reason, .. } if reason == wanted);
        self.until(is_paused).await;
    }
}

/// The books as the log has them, which may be ahead of what it has published.
async fn ledger(log: &LogHandle) -> Ledger {
    log.run(|log| Ok(log.position().ledger)).await.unwrap()
}

fn is_idle(view: &FlusherView) -> bool {
    view.state == FlusherState::Idle
}

/// Fails so many times and is well afterwards.
fn fails(times: usize, verdict: Verdict) -> Arc<ScriptedSink> {
    ScriptedSink::new(move |call, _| if call < times { verdict } else { DELIVERED })
}

#[tokio::test(start_paused = true)]
async fn events_are_delivered_in_order_as_they_come() {
    let sink = fails(0, RETRY);
    let bench = Bench::new(
        5,
        Delivery {
            batch_events: 2,
            ..steady()
        },
        sink,
    )
    .await;
    bench.until_settled(5).await;
    let view = bench.until(is_idle).await;
    assert_eq!((view.requests, view.drained), (3, false));
    assert_eq!(view.last_answer.unwrap().status, Some(200));
    bench.log.append(events(1), true).await.unwrap();
    // The log says that it has settled a moment before it answers. Were the flusher closed in
    // between, the paused clock would jump to the deadline, since the answer is no timer.
    bench
        .until(|view| is_idle(view) && view.requests == 4)
        .await;
    let seqs: Vec<Seq> = bench
        .sink
        .shut()
        .into_iter()
        .flat_map(|call| call.seqs)
        .collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
    assert!(bench.flusher.close(secs(60)).await.unwrap());
    bench.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_days_costs_nothing_but_time() {
    let started = Instant::now();
    let bench = Bench::new(3, steady(), fails(5_000, RETRY)).await;
    let calls = bench.sink.calls(5_001).await;
    let late = calls
        .iter()
        .filter(|c| c.at - started > secs(15 * 60))
        .count();
    assert!(late > 4_900, "it goes on long after a quarter of an hour");
    assert!(started.elapsed() > secs(3 * 24 * 3600));
    let longest = calls.windows(2).map(|pair| pair[1].at - pair[0].at).max();
    assert!(
        longest.unwrap() <= secs(60) + Duration::from_millis(2),
        "{longest:?}"
    );
    let key = calls[0].batch.idempotency_key();
    assert!(calls.iter().all(|call| call.batch.idempotency_key() == key));
    bench.until_settled(3).await;
    assert_eq!(ledger(&bench.log).await.delivered, 3);
}

#[tokio::test(start_paused = true)]
async fn a_new_key_ends_a_pause_at_once() {
    let bench = Bench::new(3, steady(), fails(1, DENIED)).await;
    bench.until_paused(PauseReason::Credentials).await;
    assert_eq!(ledger(&bench.log).await.pending(), 3);
    // A little later, so that the change is not held back as one of a storm.
    tokio::time::sleep(secs(1)).await;
    let changed = Instant::now();
    bench.sink.change.notify_one();
    let calls = bench.sink.calls(2).await;
    assert!(calls[1].at - changed <= Duration::from_millis(2));
    bench.until_settled(3).await;
}

#[tokio::test(start_paused = true)]
async fn pause_lets_the_request_finish_and_resume_goes_on() {
    let sink = ScriptedSink::new(|_, _| Reply::Gate(outcome(DELIVERED)));
    let bench = Bench::new(
        2,
        Delivery {
            batch_events: 1,
            ..steady()
        },
        sink,
    )
    .await;
    bench.sink.calls(1).await;
    let pause = tokio::spawn({
        let flusher = bench.flusher.clone();
        async move { flusher.pause().await }
    });
    tokio::task::yield_now().await;
    assert!(!pause.is_finished());
    assert_eq!(bench.flusher.view().state, FlusherState::Sending);
    bench.sink.gate.add_permits(1);
    pause.await.unwrap().unwrap();
    bench.until_paused(PauseReason::Requested).await;
    assert_eq!(ledger(&bench.log).await.delivered, 1);
    assert!(bench.is_kept(Some(PauseReason::Requested)).await);
    bench.flusher.wake().await.unwrap();
    bench.sink.change.notify_one();
    tokio::time::sleep(secs(24 * 3600)).await;
    assert_eq!(bench.sink.calls(1).await.len(), 1);
    bench.flusher.pause().await.unwrap();
    bench.flusher.resume().await.unwrap();
    assert!(bench.is_kept(None).await);
    bench.sink.calls(2).await;
    bench.sink.gate.add_permits(1);
    bench.until_settled(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_after_a_resume_is_the_one_that_counts() {
    let bench = Bench::new(0, steady(), fails(0, RETRY)).await;
    let flusher = &bench.flusher;
    let orders = tokio::join!(flusher.pause(), flusher.resume(), flusher.pause());
    for answer in [orders.0, orders.1, orders.2] {
        answer.unwrap();
    }
    assert!(bench.is_kept(Some(PauseReason::Requested)).await);
    bench.until_paused(PauseReason::Requested).await;
    bench.log.append(events(1), true).await.unwrap();
    assert!(!bench.flusher.close(secs(60)).await.unwrap());
    assert!(bench.sink.shut().is_empty());
}

/// Such as of an order that comes when the flusher has ended, or ends before it is done.
#[tokio::test(start_paused = true)]
async fn an_order_that_the_end_overtakes_says_how_it_ended() {
    let gated = || ScriptedSink::new(|_, _| Reply::Gate(outcome(DELIVERED)));
    let bench = Bench::new(1, steady(), gated()).await;
    bench.sink.calls(1).await;
    let flusher = &bench.flusher;
    let (pause, closed) = tokio::join!(flusher.pause(), flusher.close(Duration::ZERO));
    assert!(matches!(pause, Err(Error::Closed)), "{pause:?}");
    assert!(!closed.unwrap());
    assert!(matches!(flusher.wake().await, Err(Error::Closed)));

    let broken = ScriptedSink::new(|_, _| Reply::Panic);
    let bench = Bench::new(1, steady(), broken).await;
    let flusher = &bench.flusher;
    bench.until(FlusherView::has_ended).await;
    for error in [
        flusher.pause().await.unwrap_err(),
        flusher.resume().await.unwrap_err(),
        flusher.wake().await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::Panicked { .. }), "{error:?}");
        assert!(error.to_string().contains("the sink is broken"), "{error}");
    }

    let bench = Bench::new(1, steady(), gated()).await;
    bench.sink.calls(1).await;
    bench.task.abort();
    assert!(matches!(bench.flusher.pause().await, Err(Error::Closed)));
}

/// A caller that gives up leaves nothing behind, and an order that it gave holds.
#[tokio::test(start_paused = true)]
async fn a_pause_that_is_not_waited_for_comes_all_the_same() {
    let sink = ScriptedSink::new(|_, _| Reply::Gate(outcome(RETRY)));
    let bench = Bench::new(1, steady(), sink).await;
    bench.sink.calls(1).await;
    for _ in 0..100 {
        let given_up = tokio::time::timeout(Duration::ZERO, bench.flusher.pause());
        assert!(given_up.await.is_err());
    }
    assert!(bench.flusher.waiting() <= 1);
    bench.sink.gate.add_permits(1);
    bench.until_paused(PauseReason::Requested).await;
    bench.flusher.pause().await.unwrap();
    assert!(bench.is_kept(Some(PauseReason::Requested)).await);
}

#[tokio::test(start_paused = true)]
async fn a_settle_that_fails_does_not_send_the_batch_again() {
    let bench = Bench::new(
        1,
        steady(),
        ScriptedSink::new(|_, _| Reply::Gate(outcome(DELIVERED))),
    )
    .await;
    bench.sink.calls(1).await;
    bench.faults.settles.store(5, Ordering::SeqCst);
    bench.sink.gate.add_permits(1);
    bench.until_settled(1).await;
    assert_eq!(bench.sink.shut().len(), 1);
}

/// Batches of two events, each of which waits for a permit.
async fn gated_batches(count: u64) -> Bench {
    let delivery = Delivery {
        batch_events: 2,
        ..steady()
    };
    let sink = ScriptedSink::new(|_, _| Reply::Gate(outcome(DELIVERED)));
    Bench::new(2 * count, delivery, sink).await
}

#[tokio::test(start_paused = true)]
async fn the_next_two_batches_are_prepared_before_they_are_sent_and_no_more_than_that() {
    let bench = gated_batches(6).await;
    let mut prepared = bench.sink.prepared.subscribe();
    for count in 1..=6 {
        let ahead = 6.min(count + 2);
        if count == 1 {
            // Nothing but the flusher itself makes way for these.
            prepared.wait_for(|all| all.len() == ahead).await.unwrap();
        }
        let calls = bench.sink.calls(count).await;
        assert_eq!(calls.len(), count, "the request is under way");
        assert!((count..=ahead).contains(&prepared.borrow().len()));
        for call in calls {
            let made = format!("{:?}", call.seqs);
            assert_eq!(call.prepared.unwrap(), made, "what was prepared is sent");
        }
        bench.sink.gate.add_permits(1);
    }
    bench.until_settled(12).await;
    let each_once = [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12]];
    assert_eq!(*prepared.borrow(), each_once);
}

/// Fewer events than a batch takes may be more by the time they are asked for.
#[tokio::test(start_paused = true)]
async fn only_whole_batches_are_read_ahead() {
    let bench = gated_batches(2).await;
    let reader = Reader::new(bench.log.clone());
    let reading = Reading {
        from: 3,
        events_max: 2,
        bytes_max: 1,
    };
    assert_eq!(reader.behind(reading, 4, 2), Some(reading));
    assert_eq!(reader.behind(reading, 3, 2), None);
    assert_eq!(reader.behind(reading, 4, 0), None, "no room for it");
}

/// An outage may last for days, and nothing but the batch that is tried again is needed.
#[tokio::test(start_paused = true)]
async fn nothing_is_kept_ready_while_the_receiver_is_away() {
    let delivery = Delivery {
        batch_events: 2,
        ..steady()
    };
    let sink = ScriptedSink::new(|_, _| Reply::Gate(outcome(RETRY)));
    let bench = Bench::new(6, delivery, sink).await;
    let mut prepared = bench.sink.prepared.subscribe();
    prepared.wait_for(|all| all.len() == 3).await.unwrap();
    bench.sink.gate.add_permits(1);
    let is_away = |view: &FlusherView| matches!(view.state, FlusherState::BackingOff { .. });
    bench.until(is_away).await;
    bench.sink.calls(2).await;
    prepared.wait_for(|all| all.len() == 6).await.unwrap();
    let again = [[1, 2], [3, 4], [5, 6]];
    assert_eq!(*prepared.borrow(), [again, again].concat());
}

/// The log does not know it of events that are in segments.
#[tokio::test(start_paused = true)]
async fn the_view_says_when_the_oldest_pending_event_happened() {
    let bench = gated_batches(3).await;
    let noon = u64::try_from(NOON.as_millis()).unwrap();
    let views = bench.flusher.views();
    let knows = |seq: Seq| views.borrow().begins.contains(&Some((seq, noon)));
    for (count, seq) in [(1, 1), (2, 3), (3, 5)] {
        bench.sink.calls(count).await;
        assert!(knows(seq), "{seq}");
        bench.sink.gate.add_permits(1);
        bench.until_settled(seq + 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_goes_out_is_counted_and_wakes_nobody() {
    let bench = gated_batches(3).await;
    let mut views = bench.flusher.views();
    bench.sink.gate.add_permits(1);
    bench.sink.calls(2).await;
    // The first answer is one more than none.
    views.mark_unchanged();
    bench.sink.gate.add_permits(1);
    bench.sink.calls(3).await;
    assert!(!views.has_changed().unwrap());
    assert_eq!(views.borrow().requests, 3);
    bench.sink.gate.add_permits(1);
    views.wait_for(is_idle).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_that_was_prepared_goes_out_before_the_settle_is_written() {
    let bench = gated_batches(3).await;
    let mut prepared = bench.sink.prepared.subscribe();
    prepared.wait_for(|all| all.len() == 3).await.unwrap();
    bench.faults.settles.store(5, Ordering::SeqCst);
    bench.sink.gate.add_permits(1);
    bench
        .until(|view| matches!(view.state, FlusherState::BackingOff { attempt: 5, .. }))
        .await;
    assert_eq!(bench.sink.calls(1).await.len(), 1);
    // The read that was to begin with the settle did not, five times.
    bench.sink.gate.add_permits(2);
    bench.until_settled(6).await;
    let calls = bench.sink.shut();
    let sent: Vec<Seq> = calls.into_iter().flat_map(|call| call.seqs).collect();
    assert_eq!(sent, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_ahead_of_its_time_is_done_again() {
    let bench = gated_batches(4).await;
    let mut prepared = bench.sink.prepared.subscribe();
    prepared.wait_for(|all| all.len() == 3).await.unwrap();
    // The one that begins with the settle.
    bench.faults.reads.store(1, Ordering::SeqCst);
    bench.sink.gate.add_permits(1);
    // It has failed by the time the second request is under way, and the machine has not asked for it yet.
    bench.sink.calls(2).await;
    bench.sink.gate.add_permits(3);
    bench.until_settled(8).await;
    let calls = bench.sink.shut();
    let is_at_once = |pair: &[Call]| pair[0].at == pair[1].at;
    assert!(
        calls.windows(2).all(is_at_once),
        "the request waited for it"
    );
    let sent: Vec<Seq> = calls.into_iter().flat_map(|call| call.seqs).collect();
    assert_eq!(sent, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(bench.faults.reads.load(Ordering::SeqCst), 0);
}
