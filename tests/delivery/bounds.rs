//! Age and room: what happens when events wait too long or there are too many of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use everpost::clock::Clock;
use everpost::sandbox::Fault;
use everpost::{AppendError, Cause, FlusherState, OnFull, Queue, Settings, Status};

use crate::common::{
    HOUR, World, drained, event, event_with, events, id, ids, settings, settings_that_wait, until,
    within,
};
use crate::still_clock::StillClock;

const MINUTE: Duration = Duration::from_secs(60);

async fn open_at(world: &World, clock: &Arc<StillClock>, settings: Settings) -> Queue {
    let sink = world.sink_builder().clock(clock.clone()).build().unwrap();
    let builder = Queue::builder(world.spool()).settings(settings);
    builder
        .clock(clock.clone())
        .sink(sink)
        .open()
        .await
        .unwrap()
}

#[tokio::test]
async fn events_past_their_age_become_letters_and_the_others_are_delivered() {
    let world = World::new().await;
    let clock = Arc::new(StillClock::new());
    let mut settings = settings();
    settings.max_age = Some(MINUTE);
    let queue = open_at(&world, &clock, settings).await;
    let now = clock.wall();
    let at = |n: u64, time: SystemTime| event(n).with_time(time);
    let old = now - MINUTE - Duration::from_secs(1);
    let batch = [
        at(1, old),
        at(2, now),
        at(3, now - MINUTE),
        at(4, old),
        at(5, old),
        // A clock that was set back makes events of the future; they are not old.
        at(6, now + HOUR),
    ];
    queue.append_all(batch).await.unwrap();
    let status = drained(&queue).await;
    assert_eq!((status.ledger.expired, status.ledger.dead), (3, 0));
    assert_eq!((status.ledger.delivered, status.dead_letters), (3, 3));
    world.sandbox.check_order(ids([2, 3, 6])).unwrap();
    let letters = queue.dead_letters().list(..).take(10).await.unwrap();
    assert!(letters.iter().map(|letter| letter.seq).eq([1, 4, 5]));
    for letter in &letters {
        assert_eq!((letter.cause, letter.attempts), (Cause::Expired, 0));
        assert_eq!(letter.event.time(), old);
        assert_eq!(letter.last_attempt, now);
    }
}

#[tokio::test]
async fn events_expire_during_an_outage_and_know_what_was_tried() {
    let world = World::new().await;
    let clock = Arc::new(StillClock::new());
    let mut settings = settings_that_wait();
    settings.max_age = Some(MINUTE);
    let queue = open_at(&world, &clock, settings).await;
    world.sandbox.script([Fault::status(503)]);
    let then = clock.wall();
    let appended = events(1..=4).into_iter().map(|event| event.with_time(then));
    queue.append_all(appended).await.unwrap();
    let waits = |status: &Status| matches!(status.flusher, FlusherState::BackingOff { .. });
    until(&queue, waits).await;
    clock.advance(MINUTE * 2);
    queue
        .append(event(5).with_time(clock.wall()))
        .await
        .unwrap();
    queue.wake().await.unwrap();
    let status = drained(&queue).await;
    assert_eq!((status.ledger.expired, status.ledger.delivered), (4, 1));
    world.sandbox.check_order(ids([5])).unwrap();
    let letter = queue.dead_letters().show(1).await.unwrap();
    assert_eq!((letter.cause, letter.attempts), (Cause::Expired, 1));
    assert_eq!(letter.answer.status, Some(503));
    assert_eq!(
        (letter.first_attempt, letter.last_attempt),
        (then, clock.wall())
    );
}

/// Little more than the least that can be configured, so that a few megabytes fill it.
fn narrow(on_full: OnFull) -> Settings {
    let mut settings = settings();
    settings.max_bytes = settings.journal_bytes * 5 + settings.segment_bytes + (5 << 20);
    settings.on_full = on_full;
    settings.delivery.batch_bytes = 256 << 10;
    settings
}

/// An event of 60 KB that does not compress well.
fn large(n: u64) -> everpost::Event {
    let mut state = n | 1 << 40;
    let noise: String = (0..60_000)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(
                b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"
                    [(state % 64) as usize],
            )
        })
        .collect();
    event_with(n, &noise)
}

#[tokio::test]
async fn a_full_queue_refuses_loses_nothing_and_takes_again() {
    let world = World::new().await;
    world.sandbox.always(Fault::status(503));
    let queue = world.open(narrow(OnFull::Reject)).await;
    let mut n = 0;
    let refused = loop {
        match queue.append(large(n + 1)).await {
            Ok(receipt) => assert_eq!(receipt.seq, n + 1),
            Err(error) => break error,
        }
        n += 1;
        assert!(n < 1_000, "there is no bound");
    };
    let AppendError::Full { used, max, .. } = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(*max, narrow(OnFull::Reject).max_bytes);
    assert!(used <= max, "{refused} {:?}", queue.status());
    assert!(refused.hint().contains("max_bytes"), "{}", refused.hint());
    let status = queue.status();
    assert_eq!(status.ledger.appended, n);
    assert!(status.disk_bytes <= status.max_bytes, "{status:?}");
    queue.close(Duration::ZERO).await.unwrap();

    // The bound holds as well when all that was in memory has gone to the segments.
    let mut settings = narrow(OnFull::Reject);
    settings.tail_bytes = 4 << 10;
    let queue = world.open(settings).await;
    let mut refused = 0;
    for _ in 0..50 {
        // What was counted at its worst in memory may have turned out smaller on disk.
        match queue.append(large(n + 1)).await {
            Ok(_) => n += 1,
            Err(error) => {
                assert!(matches!(error, AppendError::Full { .. }), "{error}");
                refused += 1;
            }
        }
        let status = queue.status();
        assert!(status.disk_bytes <= status.max_bytes, "{status:?}");
    }
    assert!(refused > 0, "there is no bound");
    world.sandbox.clear();
    drained(&queue).await;
    assert_eq!(queue.append(large(n + 1)).await.unwrap().seq, n + 1);
    drained(&queue).await;
    world.sandbox.check_order(ids(1..=n + 1)).unwrap();
    assert!(world.sandbox.duplicates().is_empty());
}

#[tokio::test]
async fn dropping_the_oldest_keeps_the_newest_and_books_what_it_cost() {
    let world = World::new().await;
    let settings = narrow(OnFull::DropOldest);
    let batch = settings.delivery.batch_bytes / 60_000;
    let queue = world.open(settings).await;
    // The server takes its time over the first batch.
    world.sandbox.script([Fault::Hang]);
    for n in 1..=120 {
        queue.append(large(n)).await.unwrap();
        let status = queue.status();
        assert!(status.disk_bytes <= status.max_bytes, "{status:?}");
    }
    let evicted = queue.status().ledger.evicted;
    assert!(evicted > 0);
    world.sandbox.release();
    let status = drained(&queue).await;
    let books = status.ledger;
    assert_eq!((books.evicted, books.dead, books.lost), (evicted, 0, 0));
    assert_eq!(books.delivered, 120 - evicted);
    // What was on its way when it was given up arrived all the same; the rest is the newest.
    let accepted = world.sandbox.ids();
    let on_its_way = accepted.len() as u64 - books.delivered;
    assert!(on_its_way <= batch, "{on_its_way}");
    world
        .sandbox
        .check_order(ids((1..=on_its_way).chain(evicted + 1..=120)))
        .unwrap();
    assert!(world.sandbox.duplicates().is_empty());
}

#[tokio::test]
async fn producers_wait_for_room_and_each_keeps_its_order() {
    const PRODUCERS: u64 = 6;
    const EACH: u64 = 20;
    let world = World::new().await;
    let queue = world.open(narrow(OnFull::Block)).await;
    world.sandbox.script([Fault::Hang]);
    let mut producers = tokio::task::JoinSet::new();
    for producer in 0..PRODUCERS {
        let queue = queue.clone();
        producers.spawn(async move {
            let mut receipts = Vec::new();
            for n in 0..EACH {
                let n = producer * EACH + n;
                let receipt = queue.append(large(n)).await.unwrap();
                assert_eq!(receipt.id, id(n));
                receipts.push((receipt.seq, n));
            }
            assert!(receipts.is_sorted());
            receipts
        });
    }
    // As many as fit come in while the server does nothing, and no more.
    until(&queue, |status| status.ledger.appended >= 15).await;
    let hangs = world.sandbox.wait_for(|stats| stats.hanging == 1);
    within(hangs).await.unwrap();
    assert!(producers.try_join_next().is_none());
    world.sandbox.release();
    let mut watch = queue.watch();
    let watching = tokio::spawn(async move {
        loop {
            let status = watch.current();
            assert!(status.disk_bytes <= status.max_bytes, "{status:?}");
            if !watch.changed().await {
                return;
            }
        }
    });
    let mut receipts: Vec<_> = within(producers.join_all()).await.concat();
    let status = drained(&queue).await;
    assert_eq!(status.ledger.delivered, PRODUCERS * EACH);
    receipts.sort_unstable();
    let seqs: BTreeSet<u64> = receipts.iter().map(|(seq, _)| *seq).collect();
    assert!(seqs.into_iter().eq(1..=PRODUCERS * EACH));
    let in_order = ids(receipts.iter().map(|(_, n)| *n));
    world.sandbox.check_order(in_order).unwrap();
    assert!(world.sandbox.duplicates().is_empty());
    queue.close(Duration::ZERO).await.unwrap();
    within(watching).await.unwrap();
}

#[tokio::test]
async fn an_append_that_is_dropped_while_it_waits_for_room_appends_nothing() {
    let world = World::new().await;
    world.sandbox.always(Fault::Hang);
    let queue = world.open(narrow(OnFull::Reject)).await;
    let mut taken = 0;
    while let Ok(receipt) = queue.append(large(taken + 1)).await {
        taken = receipt.seq;
    }
    queue.close(Duration::ZERO).await.unwrap();
    let queue = world.open(narrow(OnFull::Block)).await;
    let dropped = taken + 1;
    let append = tokio::spawn({
        let queue = queue.clone();
        async move { queue.append(large(dropped)).await }
    });
    tokio::task::yield_now().await;
    // Asked after the append, and so answered after it was looked at.
    assert!(
        queue
            .dead_letters()
            .list(..)
            .take(1)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(!append.is_finished());
    append.abort();
    assert!(append.await.unwrap_err().is_cancelled());
    world.sandbox.clear();
    world.sandbox.release();
    drained(&queue).await;
    let next = queue.append(large(dropped + 1)).await.unwrap();
    assert_eq!(next.seq, dropped, "the number was given to no event");
    drained(&queue).await;
    world
        .sandbox
        .check_order(ids((1..dropped).chain([dropped + 1])))
        .unwrap();
}

#[tokio::test]
async fn producers_that_wait_at_a_close_are_told_and_can_append_again() {
    let world = World::new().await;
    let queue = world.open(narrow(OnFull::Block)).await;
    world.sandbox.always(Fault::Hang);
    let mut producers = tokio::task::JoinSet::new();
    for n in 1..=80 {
        let queue = queue.clone();
        producers.spawn(async move { (n, queue.append(large(n)).await) });
    }
    until(&queue, |status| status.ledger.appended >= 15).await;
    let closed = within(queue.close(Duration::from_millis(50)))
        .await
        .unwrap();
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for (n, answer) in within(producers.join_all()).await {
        match answer {
            Ok(receipt) => taken.push((receipt.seq, n)),
            Err(AppendError::Closed) => refused.push(n),
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(taken.len() as u64, closed.status.ledger.appended);
    assert!(!refused.is_empty());
    taken.sort_unstable();

    world.sandbox.clear();
    let queue = world.open(narrow(OnFull::Block)).await;
    for n in &refused {
        queue.append(large(*n)).await.unwrap();
    }
    drained(&queue).await;
    let order = taken.iter().map(|(_, n)| *n).chain(refused);
    world.sandbox.check_order(ids(order)).unwrap();
    assert!(world.sandbox.duplicates().is_empty());
}
