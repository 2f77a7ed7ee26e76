//! Waking, pausing and closing.

#[path = "../common/tree.rs"]
mod tree;

use std::future::{Future, poll_fn};
use std::ops::RangeInclusive;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use everpost::sandbox::Fault;
use everpost::{Error, FlusherState, PauseReason, Queue, Status, blocking};
use tokio::time::Instant;

use crate::common::{
    HOUR, PATIENT, World, assert_books, drained, event, events, ids, settings, settings_that_wait,
    until, within,
};

fn backs_off(status: &Status) -> bool {
    matches!(status.flusher, FlusherState::BackingOff { .. })
}

/// Appends these, and returns once a request of theirs hangs.
async fn append_and_hang(world: &World, queue: &Queue, numbers: RangeInclusive<u64>) {
    queue.append_all(events(numbers)).await.unwrap();
    let hangs = world.sandbox.wait_for(|stats| stats.hanging == 1);
    within(hangs).await.unwrap();
}

#[tokio::test]
async fn a_close_with_a_server_that_hangs_keeps_its_deadline_and_loses_nothing() {
    let world = World::new().await;
    let queue = world.open_to(patient_sink(&world), settings()).await;
    world.sandbox.always(Fault::Hang);
    append_and_hang(&world, &queue, 1..=10).await;
    let (began, deadline) = (Instant::now(), Duration::from_millis(200));
    let closed = within(queue.close(deadline)).await.unwrap();
    let took = began.elapsed();
    assert!(took >= deadline && took < PATIENT / 3, "{took:?}");
    assert!(!closed.drained);
    assert_eq!(closed.status.pending, 10);
    assert_eq!(closed.status.flusher, FlusherState::Closed);
    assert_books(&closed.status);

    world.sandbox.clear();
    let queue = world.open(settings()).await;
    drained(&queue).await;
    world.sandbox.check_order(ids(1..=10)).unwrap();
    assert!(world.sandbox.duplicates().is_empty());
}

/// A sink that would wait an hour for an answer.
fn patient_sink(world: &World) -> everpost::botanalytics::Botanalytics {
    world.sink_builder().request_timeout(HOUR).build().unwrap()
}

#[tokio::test]
async fn a_close_drains_first_and_says_so() {
    let world = World::new().await;
    let mut settings = settings();
    settings.delivery.batch_events = 10;
    let queue = world.open(settings).await;
    world.sandbox.script(vec![Fault::status(503); 5]);
    queue.append_all(events(1..=300)).await.unwrap();
    let closed = within(queue.close(PATIENT)).await.unwrap();
    assert!(closed.drained);
    assert_eq!(closed.status.ledger.delivered, 300);
    assert_books(&closed.status);
    world.sandbox.check_order(ids(1..=300)).unwrap();
}

#[tokio::test]
async fn a_close_tries_once_more_at_once_and_does_not_sit_out_a_long_wait() {
    let world = World::new().await;
    let queue = world.open(settings_that_wait()).await;
    world.sandbox.always(Fault::status(503));
    queue.append_all(events(1..=5)).await.unwrap();
    until(&queue, backs_off).await;
    let began = Instant::now();
    let closed = within(queue.close(Duration::from_secs(600))).await.unwrap();
    assert!(began.elapsed() < PATIENT / 2);
    assert!(!closed.drained);
    assert_eq!(world.sandbox.stats().requests, 2);

    world.sandbox.clear();
    world.sandbox.script([Fault::status(503)]);
    let queue = world.open(settings_that_wait()).await;
    until(&queue, backs_off).await;
    let closed = within(queue.close(Duration::from_secs(600))).await.unwrap();
    assert!(closed.drained, "the one more try was good");
    world.sandbox.check_order(ids(1..=5)).unwrap();
}

#[tokio::test]
async fn a_closed_queue_takes_nothing_and_says_what_to_do() {
    let world = World::new().await;
    let queue = world.open(settings()).await;
    queue.append(event(1)).await.unwrap();
    let other = queue.clone();
    within(queue.close(PATIENT)).await.unwrap();
    for queue in [&queue, &other] {
        let errors: [Error; 8] = [
            queue.append(event(2)).await.unwrap_err().into(),
            queue.append_all(events([2, 3])).await.unwrap_err().into(),
            queue.close(PATIENT).await.unwrap_err(),
            queue.dead_letters().list(..).take(1).await.unwrap_err(),
            queue.dead_letters().retry(1).await.unwrap_err(),
            queue.wake().await.unwrap_err(),
            queue.pause().await.unwrap_err(),
            queue.resume().await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, Error::Closed), "{error:?}");
            assert!(error.hint().contains("open the queue again"));
        }
        let status = queue.status();
        assert_eq!(status.flusher, FlusherState::Closed);
        assert_eq!(status.ledger.delivered, 1);
    }
    let mut watch = other.watch();
    within(async { while watch.changed().await {} }).await;
    // The spool is free although handles to the closed queue are still held.
    let queue = world.open(settings()).await;
    assert_eq!(queue.append(event(2)).await.unwrap().seq, 2);
    drained(&queue).await;
}

#[tokio::test]
async fn two_closes_at_once_end_the_queue_once() {
    let world = World::new().await;
    let queue = world.open_to(patient_sink(&world), settings()).await;
    world.sandbox.always(Fault::Hang);
    append_and_hang(&world, &queue, 1..=3).await;
    // The earlier of the two deadlines counts.
    let long = queue.close(HOUR);
    let short = queue.close(Duration::from_millis(50));
    let (one, other) = within(async { tokio::join!(long, short) }).await;
    let ended = [one, other].into_iter().filter(Result::is_ok).count();
    assert_eq!(ended, 1);
}

#[tokio::test]
async fn a_close_that_is_dropped_can_be_called_again() {
    let world = World::new().await;
    let queue = world.open_to(patient_sink(&world), settings()).await;
    world.sandbox.always(Fault::Hang);
    append_and_hang(&world, &queue, 1..=3).await;
    let impatient = tokio::time::timeout(Duration::from_millis(50), queue.close(HOUR));
    assert!(impatient.await.is_err());
    let closed = within(queue.close(Duration::ZERO)).await.unwrap();
    assert_eq!(closed.status.pending, 3);
}

#[tokio::test]
async fn a_wake_ends_a_long_wait() {
    let world = World::new().await;
    let queue = world.open(settings_that_wait()).await;
    world.sandbox.go_away().await.unwrap();
    queue.append_all(events(1..=5)).await.unwrap();
    until(&queue, backs_off).await;
    for attempts in 2..5 {
        queue.wake().await.unwrap();
        let again = |status: &Status| match status.flusher {
            FlusherState::BackingOff { attempt, .. } => attempt == attempts,
            _ => false,
        };
        until(&queue, again).await;
    }
    world.sandbox.come_back().await.unwrap();
    queue.wake().await.unwrap();
    drained(&queue).await;
    world.sandbox.check_order(ids(1..=5)).unwrap();
}

#[tokio::test]
async fn a_wake_during_a_request_that_fails_tries_at_once_again() {
    let world = World::new().await;
    let queue = world.open(settings_that_wait()).await;
    world.sandbox.script([Fault::Hang]);
    append_and_hang(&world, &queue, 1..=5).await;
    queue.wake().await.unwrap();
    world.sandbox.go_away().await.unwrap();
    world.sandbox.come_back().await.unwrap();
    drained(&queue).await;
    world.sandbox.check_order(ids(1..=5)).unwrap();
}

#[tokio::test]
async fn a_pause_lets_the_request_in_flight_finish_and_sends_no_other() {
    let world = World::new().await;
    let mut settings = settings();
    settings.delivery.batch_events = 2;
    let queue = world.open(settings).await;
    world.sandbox.script([Fault::Hang]);
    append_and_hang(&world, &queue, 1..=6).await;
    let mut pause = pin!(queue.pause());
    // The order is given with the first look at it, and not answered while the request lasts.
    assert!(poll_once(pause.as_mut()).await.is_pending());
    world.sandbox.release();
    within(pause).await.unwrap();
    let requested = |status: &Status| match &status.flusher {
        FlusherState::Paused {
            reason, next_probe, ..
        } => {
            assert_eq!((*reason, *next_probe), (PauseReason::Requested, None));
            true
        }
        _ => false,
    };
    let status = queue.status();
    assert!(requested(&status), "{status:?}");
    assert_eq!((status.cursor, status.pending), (2, 4));
    queue.wake().await.unwrap();
    queue.append(event(7)).await.unwrap();
    let status = until(&queue, |status| status.pending == 5).await;
    assert!(requested(&status));
    assert_eq!(world.sandbox.stats().requests, 1);
    queue.resume().await.unwrap();
    drained(&queue).await;
    world.sandbox.check_order(ids(1..=7)).unwrap();
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// `pause` and `resume` gave no answer, so no caller knew when a pause would outlive the process. The
/// queue is dropped here as a kill would: without a close.
#[tokio::test]
async fn a_pause_and_its_end_are_on_disk_when_they_are_answered() {
    let world = World::new().await;
    let queue = world.open(settings()).await;
    for _ in 0..3 {
        within(queue.pause()).await.unwrap();
        assert_eq!(remembered(&world), Some(PauseReason::Requested));
        within(queue.pause()).await.unwrap();
        within(queue.resume()).await.unwrap();
        assert_eq!(remembered(&world), None);
    }
    within(queue.pause()).await.unwrap();
    let late = queue.clone();
    within(queue.close(Duration::ZERO)).await.unwrap();
    let found = everpost::inspect::remembered_pause(&world.spool()).unwrap();
    assert_eq!(
        found.map(|paused| paused.reason),
        Some(PauseReason::Requested)
    );
    assert!(matches!(late.pause().await, Err(Error::Closed)));
}

/// What another process would find if this one were killed now.
fn remembered(world: &World) -> Option<PauseReason> {
    let copy = tempfile::tempdir().unwrap();
    tree::copy(&world.spool(), copy.path());
    let found = everpost::inspect::remembered_pause(copy.path()).unwrap();
    found.map(|paused| paused.reason)
}

#[tokio::test]
async fn two_orders_at_once_are_both_answered_and_the_newer_one_counts() {
    let world = World::new().await;
    let queue = world.open(settings()).await;
    let (one, other, wake) =
        within(async { tokio::join!(queue.pause(), queue.resume(), queue.wake()) }).await;
    for answer in [one, other, wake] {
        answer.unwrap();
    }
    assert_eq!(remembered(&world), None);
    let (one, other) = within(async { tokio::join!(queue.resume(), queue.pause()) }).await;
    for answer in [one, other] {
        answer.unwrap();
    }
    assert_eq!(remembered(&world), Some(PauseReason::Requested));
    // An order that is given and not waited for is done all the same.
    assert!(poll_once(pin!(queue.resume())).await.is_pending());
    queue.append(event(1)).await.unwrap();
    drained(&queue).await;
}

#[tokio::test]
async fn a_queue_without_a_sink_has_nothing_to_pause_and_says_so() {
    let world = World::new().await;
    let builder = Queue::builder(world.spool()).settings(settings());
    let queue = builder.open().await.unwrap();
    for error in [
        queue.pause().await.unwrap_err(),
        queue.resume().await.unwrap_err(),
        queue.wake().await.unwrap_err(),
        queue.blocking().pause().unwrap_err(),
    ] {
        assert!(matches!(error, Error::NoSink), "{error:?}");
        assert!(error.hint().contains("with a sink"));
    }
    within(queue.close(HOUR)).await.unwrap();
    assert!(matches!(queue.pause().await, Err(Error::Closed)));
}

#[tokio::test]
async fn a_queue_without_a_sink_keeps_what_it_is_given() {
    let world = World::new().await;
    let builder = Queue::builder(world.spool()).settings(settings());
    let queue = builder.open().await.unwrap();
    queue.append_all(events(1..=3)).await.unwrap();
    let status = queue.status();
    assert_eq!(status.flusher, FlusherState::Absent);
    let closed = within(queue.close(HOUR)).await.unwrap();
    assert_eq!((closed.drained, closed.status.pending), (false, 3));
    let queue = world.open(settings()).await;
    drained(&queue).await;
    world.sandbox.check_order(ids(1..=3)).unwrap();
}

#[test]
fn a_program_without_async_appends_and_closes_by_blocking() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let world = runtime.block_on(World::new());
    let queue = {
        let _inside = runtime.enter();
        let builder = blocking::Queue::builder(world.spool()).settings(settings());
        builder.sink(world.sink()).open().unwrap()
    };
    queue.append(event(1)).unwrap();
    queue.append_all(events(2..=5)).unwrap();
    queue.pause().unwrap();
    queue.wake().unwrap();
    queue.resume().unwrap();
    runtime.block_on(drained(queue.as_async()));
    world.sandbox.check_order(ids(1..=5)).unwrap();
}

#[test]
fn a_runtime_that_ends_takes_delivery_with_it_and_no_event() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(World::new());
    let short = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let queue = short.block_on(world.open_to(patient_sink(&world), settings()));
    world.sandbox.always(Fault::Hang);
    queue.blocking().append(event(1)).unwrap();
    drop(short);
    // Appends do not need a runtime.
    queue.blocking().append(event(2)).unwrap();
    assert_eq!(queue.status().flusher, FlusherState::Closed);
    runtime.block_on(within(queue.close(HOUR))).unwrap();
    world.sandbox.clear();
    runtime.block_on(async {
        let queue = world.open(settings()).await;
        drained(&queue).await;
        world.sandbox.check_order(ids([1, 2])).unwrap();
    });
}
