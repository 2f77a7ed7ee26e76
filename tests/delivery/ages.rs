//! The age of events where clocks are wrong and people have a word, through a real queue.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use everpost::clock::Clock;
use everpost::sandbox::{Fault, Reply};
use everpost::{Cause, Event, FlusherState, Queue, Settings, Status};

use crate::common::{
    HOUR, World, drained, event, ids, settings, settings_that_wait, until, within,
};
use crate::still_clock::StillClock;

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn open_at(world: &World, clock: &Arc<StillClock>, mut settings: Settings) -> Queue {
    settings.max_age = Some(HOUR);
    let sink = world.sink_builder().clock(clock.clone()).build().unwrap();
    let builder = Queue::builder(world.spool()).settings(settings);
    let builder = builder.clock(clock.clone()).sink(sink);
    builder.open().await.unwrap()
}

fn at(clock: &StillClock, n: u64) -> Event {
    event(n).with_time(clock.wall())
}

fn waits(status: &Status) -> bool {
    matches!(status.flusher, FlusherState::BackingOff { .. })
}

/// An expired letter was retried after an outage and expired again on the spot, unsent.
#[tokio::test]
async fn a_letter_that_a_person_sends_again_does_not_expire_again() {
    let world = World::new().await;
    let clock = Arc::new(StillClock::new());
    let queue = open_at(&world, &clock, settings()).await;
    let old = event(1).with_time(clock.wall() - DAY * 30);
    queue.append(old.clone()).await.unwrap();
    assert_eq!(drained(&queue).await.ledger.expired, 1);
    assert_eq!(world.sandbox.stats().requests, 0);

    // It waits in the queue through an outage and a restart, and is still the same event.
    world.sandbox.always(Fault::status(503));
    queue.dead_letters().retry(1).await.unwrap();
    until(&queue, waits).await;
    let waiting = queue.events(2..).take(1).await.unwrap();
    assert_eq!(waiting[0].event, old);
    within(queue.close(Duration::ZERO)).await.unwrap();
    clock.advance(DAY);
    let queue = open_at(&world, &clock, settings()).await;
    until(&queue, waits).await;
    world.sandbox.clear();
    let status = drained(&queue).await;
    assert_eq!((status.ledger.expired, status.ledger.delivered), (1, 1));
    world.sandbox.check_order(ids([1])).unwrap();
}

/// So it was with any old letter, whatever had made it one.
#[tokio::test]
async fn a_refused_letter_that_is_sent_again_late_does_not_expire() {
    let world = World::new().await;
    let clock = Arc::new(StillClock::new());
    let queue = open_at(&world, &clock, settings()).await;
    world.sandbox.script([Fault::Answer(Reply::status(400))]);
    queue.append(at(&clock, 1)).await.unwrap();
    drained(&queue).await;
    let letter = queue.dead_letters().show(1).await.unwrap();
    assert_eq!(letter.cause, Cause::Refused);
    clock.advance(DAY);
    queue.dead_letters().retry(1).await.unwrap();
    let status = drained(&queue).await;
    assert_eq!((status.ledger.expired, status.ledger.delivered), (0, 1));
}

/// A board without a battery appended in 1970 until the network told it the time; then all of it
/// was 56 years old.
#[tokio::test]
async fn a_device_without_a_clock_at_boot_expires_nothing() {
    let world = World::new().await;
    let clock = Arc::new(StillClock::at(UNIX_EPOCH + Duration::from_secs(10)));
    world.sandbox.always(Fault::status(503));
    let queue = open_at(&world, &clock, settings_that_wait()).await;
    let first: Vec<Event> = (1..=3).map(|n| at(&clock, n)).collect();
    queue.append_all(first).await.unwrap();
    until(&queue, waits).await;
    clock.set(StillClock::new().wall());
    queue.append(at(&clock, 4)).await.unwrap();
    within(queue.close(Duration::ZERO)).await.unwrap();
    // The next process knows nothing of that step.
    let queue = open_at(&world, &clock, settings()).await;
    until(&queue, waits).await;
    world.sandbox.clear();
    let status = drained(&queue).await;
    assert_eq!((status.ledger.expired, status.ledger.delivered), (0, 4));
    world.sandbox.check_order(ids(1..=4)).unwrap();
}

/// The network told a wrong time, and every event that waited would have been set aside.
#[tokio::test]
async fn a_clock_that_jumps_ahead_expires_nothing_that_waits() {
    let world = World::new().await;
    let clock = Arc::new(StillClock::new());
    let right = clock.wall();
    world.sandbox.always(Fault::status(503));
    let queue = open_at(&world, &clock, settings()).await;
    queue.append(at(&clock, 1)).await.unwrap();
    until(&queue, waits).await;
    for wrong in [right + DAY * 365 * 70, right] {
        clock.set(wrong);
        let before = queue.status().requests;
        until(&queue, |status| status.requests > before + 2).await;
    }
    world.sandbox.clear();
    let status = drained(&queue).await;
    assert_eq!((status.ledger.expired, status.ledger.delivered), (0, 1));
}
