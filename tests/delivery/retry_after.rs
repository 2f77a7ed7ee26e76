//! What the API asks for in `Retry-After` is a floor, and has a ceiling.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everpost::clock::Clock;
use everpost::sandbox::{Fault, Reply};
use everpost::{FlusherState, Queue};
use tokio::time::Instant;

use crate::common::{World, drained, events, ids, settings, until};
use crate::still_clock::StillClock;

const CEILING: Duration = Duration::from_secs(100);

/// How long the queue waits after this reply, as it says itself.
async fn wait_after(reply: Reply) -> Duration {
    let world = World::new().await;
    let clock = Arc::new(StillClock::new());
    let sink = world.sink_builder().clock(clock.clone()).build().unwrap();
    let mut settings = settings();
    settings.delivery.retry_after_max = CEILING;
    settings.delivery.backoff_min = Duration::from_secs(7);
    settings.delivery.backoff_max = Duration::from_secs(7);
    let builder = Queue::builder(world.spool()).settings(settings);
    let queue = builder
        .clock(clock.clone())
        .sink(sink)
        .open()
        .await
        .unwrap();
    world.sandbox.script([Fault::Answer(reply)]);
    queue.append_all(events(1..=3)).await.unwrap();
    let mut again_at = None;
    until(&queue, |status| {
        if let FlusherState::BackingOff { until, .. } = status.flusher {
            again_at = Some(until);
        }
        again_at.is_some()
    })
    .await;
    // A word of a person counts more than the wish of the receiver.
    queue.wake().await.unwrap();
    drained(&queue).await;
    world.sandbox.check_order(ids(1..=3)).unwrap();
    again_at.unwrap().duration_since(clock.wall()).unwrap()
}

/// In so many seconds, by the clock that stands still.
fn date(seconds: u64) -> SystemTime {
    StillClock::new().wall() + Duration::from_secs(seconds)
}

#[tokio::test]
async fn a_wait_that_was_asked_for_is_kept_and_clamped() {
    let busy = || Reply::status(503);
    let seconds = |seconds| Duration::from_secs(seconds);
    let cases = [
        (busy().retry_after(seconds(42)), 42),
        (Reply::status(429).retry_after(seconds(42)), 42),
        (busy().retry_after_date(date(50)), 50),
        // Never shorter than the queue's own wait.
        (busy().retry_after(seconds(3)), 7),
        (busy().retry_after(seconds(0)), 7),
        (busy().retry_after_date(date(0) - seconds(500)), 7),
        // Never longer than the settings allow.
        (busy().retry_after(seconds(101)), 100),
        (busy().retry_after(seconds(u64::MAX)), 100),
        (busy().header("retry-after", "9".repeat(400)), 100),
        (busy().retry_after_date(date(1 << 40)), 100),
        // What says nothing is not heard.
        (busy().header("retry-after", "tomorrow"), 7),
        (busy().header("retry-after", "-5"), 7),
        (busy().header("retry-after", ""), 7),
        (busy(), 7),
    ];
    for (reply, expected) in cases {
        let shown = format!("{reply:?}");
        assert_eq!(wait_after(reply).await, seconds(expected), "{shown}");
    }
}

#[tokio::test]
async fn the_wait_that_was_asked_for_passes_and_delivery_goes_on() {
    let world = World::new().await;
    let queue = world.open(settings()).await;
    let second = Duration::from_secs(1);
    let busy = Reply::status(429).retry_after(second);
    world.sandbox.script([Fault::Answer(busy)]);
    queue.append_all(events(1..=3)).await.unwrap();
    let waits = |state: &FlusherState| matches!(state, FlusherState::BackingOff { .. });
    until(&queue, |status| waits(&status.flusher)).await;
    let began = Instant::now();
    drained(&queue).await;
    // The wait had begun a moment before it was seen.
    assert!(began.elapsed() >= second * 9 / 10, "{:?}", began.elapsed());
    assert_eq!(world.sandbox.stats().requests, 2);
    world.sandbox.check_order(ids(1..=3)).unwrap();
}

#[tokio::test]
async fn a_date_from_another_age_is_no_reason_to_fall() {
    for time in [
        UNIX_EPOCH,
        UNIX_EPOCH + Duration::from_secs(253_402_300_799),
    ] {
        let wait = wait_after(Reply::status(503).retry_after_date(time)).await;
        assert!(wait <= CEILING, "{wait:?}");
    }
}
