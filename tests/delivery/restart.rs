//! Across restarts: what waited is delivered in order, and what was remembered is still known.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use everpost::clock::Clock;
use everpost::sandbox::{Fault, Reply, Sandbox};
use everpost::{Error, FlusherState, PauseReason, Queue, Status};

use crate::common::{
    World, assert_books, drained, event, events, id, ids, settings, settings_that_wait, until,
    within,
};
use crate::still_clock::StillClock;

fn pause_reason(status: &Status) -> Option<PauseReason> {
    match &status.flusher {
        FlusherState::Paused { reason, .. } => Some(*reason),
        _ => None,
    }
}

/// Lets go of a queue without closing it, and waits until its spool is free.
async fn abandon(queue: Queue) {
    let mut watch = queue.watch();
    drop(queue);
    within(async { while watch.changed().await {} }).await;
}

#[tokio::test]
async fn what_waits_at_a_close_is_delivered_after_the_next_opening() {
    let world = World::new().await;
    world.sandbox.go_away().await.unwrap();
    let mut appended = 0;
    for round in 1..=4 {
        let queue = world.open(settings()).await;
        assert_eq!(queue.recovery().notes, [""; 0], "round {round}");
        let before = queue.status();
        assert_books(&before);
        assert_eq!(before.pending, appended, "round {round}");
        let more = events(appended + 1..=appended + 100);
        queue.append_all(more).await.unwrap();
        appended += 100;
        let closed = within(queue.close(Duration::ZERO)).await.unwrap();
        assert!(!closed.drained);
        assert_books(&closed.status);
        assert_eq!(closed.status.pending, appended);
    }
    world.sandbox.come_back().await.unwrap();
    let queue = world.open(settings()).await;
    let status = drained(&queue).await;
    assert_eq!(status.ledger.delivered, 400);
    world.sandbox.check_order(ids(1..=400)).unwrap();
    assert!(world.sandbox.duplicates().is_empty());
    let closed = queue.close(Duration::ZERO).await.unwrap();
    assert!(closed.drained);

    // The books go on where they were, and nothing is sent again.
    world.sandbox.forget();
    let queue = world.open(settings()).await;
    let receipt = queue.append(event(401)).await.unwrap();
    assert_eq!(receipt.seq, 401);
    assert_eq!(drained(&queue).await.ledger.delivered, 401);
    world.sandbox.check_order(ids([401])).unwrap();
}

#[tokio::test]
async fn what_waits_when_the_last_handle_is_dropped_is_delivered_later() {
    let world = World::new().await;
    world.sandbox.always(Fault::status(503));
    for first in [1, 51] {
        let queue = world.open(settings()).await;
        queue.append_all(events(first..first + 50)).await.unwrap();
        abandon(queue).await;
    }
    world.sandbox.clear();
    let queue = world.open(settings()).await;
    assert_eq!(drained(&queue).await.ledger.delivered, 100);
    world.sandbox.check_order(ids(1..=100)).unwrap();
    assert!(world.sandbox.duplicates().is_empty());
}

#[tokio::test]
async fn a_batch_in_flight_at_the_end_is_the_only_one_there_can_be_twice() {
    let world = World::new().await;
    let mut settings = settings();
    settings.delivery.batch_events = 10;
    let queue = world.open(settings.clone()).await;
    world.sandbox.script([
        Fault::None,
        Fault::None,
        Fault::Delay(Duration::from_secs(3600)),
    ]);
    queue.append_all(events(1..=100)).await.unwrap();
    within(world.sandbox.wait_for_accepted(30)).await.unwrap();
    abandon(queue).await;
    let queue = world.open(settings).await;
    assert_eq!(queue.status().ledger.delivered, 20);
    drained(&queue).await;
    world.sandbox.check_order(ids(1..=100)).unwrap();
    let twice: Vec<_> = world.sandbox.duplicates().into_iter().collect();
    assert!(twice.iter().all(|duplicate| duplicate.times == 2));
    assert!(twice.into_iter().map(|d| d.id).eq(ids(21..=30)));
}

#[tokio::test]
async fn a_pause_on_request_outlives_a_restart_and_only_a_resume_ends_it() {
    let world = World::new().await;
    let queue = world.open(settings()).await;
    queue.pause().await.unwrap();
    let requested = |status: &Status| pause_reason(status) == Some(PauseReason::Requested);
    until(&queue, requested).await;
    queue.append_all(events(1..=5)).await.unwrap();
    queue.close(Duration::from_secs(60)).await.unwrap();

    let queue = world.open(settings()).await;
    let status = until(&queue, requested).await;
    assert_eq!(status.pending, 5);
    queue.wake().await.unwrap();
    queue.append(event(6)).await.unwrap();
    abandon(queue).await;
    assert_eq!(world.sandbox.stats().requests, 0);

    let queue = world.open(settings()).await;
    until(&queue, requested).await;
    queue.resume().await.unwrap();
    drained(&queue).await;
    world.sandbox.check_order(ids(1..=6)).unwrap();
    queue.close(Duration::ZERO).await.unwrap();

    // The end of the pause outlives a restart as well.
    let queue = world.open(settings()).await;
    queue.append(event(7)).await.unwrap();
    drained(&queue).await;
}

#[tokio::test]
async fn a_pause_for_credentials_is_known_after_a_restart_and_probed_at_once() {
    let world = World::new().await;
    let queue = world.open(settings()).await;
    world.sandbox.revoke_key(world.sandbox.key());
    queue.append_all(events(1..=5)).await.unwrap();
    let credentials = |status: &Status| pause_reason(status) == Some(PauseReason::Credentials);
    let FlusherState::Paused { since, .. } = until(&queue, credentials).await.flusher else {
        panic!("not paused")
    };
    let closed = within(queue.close(Duration::from_secs(3600))).await;
    assert!(!closed.unwrap().drained);

    let queue = world.open(settings()).await;
    let probed = |status: &Status| credentials(status) && status.requests == 1;
    let status = until(&queue, probed).await;
    let FlusherState::Paused {
        since: still,
        last_error,
        ..
    } = status.flusher
    else {
        panic!("not paused")
    };
    let apart = since.duration_since(still).unwrap_or_default();
    assert!(still <= since && apart < Duration::from_millis(1));
    assert_eq!(last_error.status, Some(401));
    queue.close(Duration::ZERO).await.unwrap();

    // The key is mended while no program runs.
    world.sandbox.accept_key(world.sandbox.key());
    let queue = world.open(settings()).await;
    assert_eq!(drained(&queue).await.dead_letters, 0);
    world.sandbox.check_order(ids(1..=5)).unwrap();
}

#[tokio::test]
async fn a_long_wait_that_the_receiver_asked_for_outlives_a_restart() {
    let world = World::new().await;
    let clock = Arc::new(StillClock::new());
    let open = async || {
        let sink = world.sink_builder().clock(clock.clone()).build().unwrap();
        let builder = Queue::builder(world.spool()).settings(settings());
        builder
            .clock(clock.clone())
            .sink(sink)
            .open()
            .await
            .unwrap()
    };
    let until_when = |status: &Status| match status.flusher {
        FlusherState::BackingOff { until, .. } => Some(until),
        _ => None,
    };
    let queue = open().await;
    let busy = Reply::status(503).retry_after(Duration::from_secs(900));
    world.sandbox.script([Fault::Answer(busy)]);
    queue.append_all(events(1..=5)).await.unwrap();
    let then = until_when(&until(&queue, |now| until_when(now).is_some()).await);
    assert_eq!(then, Some(clock.wall() + Duration::from_secs(900)));
    queue.close(Duration::ZERO).await.unwrap();
    let tried = world.sandbox.stats().requests;

    clock.advance(Duration::from_secs(600));
    let queue = open().await;
    let now = until_when(&until(&queue, |now| until_when(now).is_some()).await);
    assert_eq!(now, then);
    queue.close(Duration::ZERO).await.unwrap();
    // A close tries once more, whatever the receiver asked for.
    assert!(world.sandbox.stats().requests <= tried + 1);

    clock.advance(Duration::from_secs(600));
    let queue = open().await;
    drained(&queue).await;
    world.sandbox.check_order(ids(1..=5)).unwrap();
}

fn refuse_even(sandbox: &Sandbox) {
    let even = ids((2..=10).step_by(2));
    sandbox.reject_when(move |message| {
        let id = message.get("id")?.as_str()?;
        even.iter().any(|n| n == id).then(|| "even".to_owned())
    });
}

#[tokio::test]
async fn dead_letters_outlive_restarts_and_can_be_shown_retried_and_discarded() {
    let world = World::new().await;
    let queue = world.open(settings()).await;
    refuse_even(&world.sandbox);
    queue.append_all(events(1..=10)).await.unwrap();
    let status = drained(&queue).await;
    assert_eq!((status.ledger.dead, status.dead_letters), (5, 5));
    let before = queue.dead_letters().list(..).take(100).await.unwrap();
    queue.close(Duration::ZERO).await.unwrap();

    let queue = world.open(settings()).await;
    let letters = queue.dead_letters();
    assert_eq!(letters.list(..).take(100).await.unwrap(), before);
    assert!(before.iter().map(|letter| letter.seq).eq([2, 4, 6, 8, 10]));
    let page = letters.list(5..).take(2).await.unwrap();
    assert!(page.iter().map(|letter| letter.seq).eq([6, 8]));
    let shown = letters.show(6).await.unwrap();
    assert_eq!(shown, before[2]);
    assert_eq!(shown.answer.errors.len(), 1);

    // Retried under the old rule it is refused again, under a new number.
    let again = letters.retry(2).await.unwrap();
    assert_eq!((again.seq, again.id), (11, id(2)));
    let status = drained(&queue).await;
    assert_eq!((status.ledger.dead, status.dead_letters), (6, 5));
    let missing = letters.show(2).await.unwrap_err();
    assert!(matches!(missing, Error::NoSuchLetter { seq: 2 }));
    assert!(missing.hint().contains("list"), "{}", missing.hint());
    letters.discard(4).await.unwrap();
    letters.discard(4).await.unwrap_err();
    letters.retry(4).await.unwrap_err();
    queue.close(Duration::ZERO).await.unwrap();

    let queue = world.open(settings()).await;
    let letters = queue.dead_letters();
    world.sandbox.reject_nothing();
    let rest = letters.list(..).take(100).await.unwrap();
    assert!(rest.iter().map(|letter| letter.seq).eq([6, 8, 10, 11]));
    for letter in &rest {
        let receipt = letters.retry(letter.seq).await.unwrap();
        assert_eq!(receipt.id, letter.event.id());
        assert!(receipt.seq > 11);
    }
    let status = drained(&queue).await;
    let books = status.ledger;
    assert_eq!((books.appended, books.delivered, books.dead), (15, 9, 6));
    assert_eq!(status.dead_letters, 0);
    world
        .sandbox
        .check_order(ids([1, 3, 5, 7, 9, 6, 8, 10, 2]))
        .unwrap();
    assert!(world.sandbox.duplicates().is_empty());
    queue.close(Duration::ZERO).await.unwrap();

    let queue = world.open(settings()).await;
    assert_eq!(queue.status().ledger, books);
    assert_eq!(queue.dead_letters().list(..).take(1).await.unwrap(), []);
}

#[tokio::test]
async fn a_letter_retried_without_a_sink_is_delivered_by_the_next_owner() {
    let world = World::new().await;
    let queue = world.open(settings()).await;
    refuse_even(&world.sandbox);
    queue.append_all(events(1..=2)).await.unwrap();
    drained(&queue).await;
    queue.close(Duration::ZERO).await.unwrap();

    let builder = Queue::builder(world.spool()).settings(settings());
    let queue = builder.open().await.unwrap();
    assert_eq!(queue.status().flusher, FlusherState::Absent);
    assert_eq!(queue.dead_letters().retry(2).await.unwrap().seq, 3);
    let closed = queue.close(Duration::ZERO).await.unwrap();
    assert!(!closed.drained);

    world.sandbox.reject_nothing();
    let queue = world.open(settings()).await;
    drained(&queue).await;
    world.sandbox.check_order(ids([1, 2])).unwrap();
}

#[tokio::test]
async fn the_books_balance_through_restarts_in_the_midst_of_everything() {
    let world = World::new().await;
    refuse_even(&world.sandbox);
    let mut settings = settings();
    settings.delivery.batch_events = 3;
    let faults = [
        Fault::status(503),
        Fault::None,
        Fault::ResetAfter,
        Fault::None,
    ];
    let mut n = 0;
    for round in 0..12 {
        let queue = world.open(settings.clone()).await;
        let opened = queue.status();
        assert_books(&opened);
        assert_eq!(opened.ledger.appended, n, "round {round}");
        world.sandbox.script(faults.clone());
        queue.append_all(events(n + 1..=n + 10)).await.unwrap();
        n += 10;
        let goal = opened.ledger.settled() + 4;
        until(&queue, |status| status.ledger.settled() >= goal).await;
        if round % 2 == 0 {
            abandon(queue).await;
        } else {
            let closed = within(queue.close(Duration::ZERO)).await.unwrap();
            assert_books(&closed.status);
        }
    }
    let queue = world.open(settings).await;
    let status = drained(&queue).await;
    assert_eq!((status.ledger.delivered, status.ledger.dead), (115, 5));
    let odd_then_all = (1..=10).step_by(2).chain(11..=120);
    world.sandbox.check_order(ids(odd_then_all)).unwrap();
}

#[tokio::test]
async fn a_queue_that_waits_for_hours_sends_at_once_after_a_restart() {
    let world = World::new().await;
    world.sandbox.script([Fault::status(500)]);
    let queue = world.open(settings_that_wait()).await;
    queue.append_all(events(1..=5)).await.unwrap();
    let waits = |status: &Status| matches!(status.flusher, FlusherState::BackingOff { .. });
    until(&queue, waits).await;
    abandon(queue).await;
    let queue = world.open(settings_that_wait()).await;
    drained(&queue).await;
    world.sandbox.check_order(ids(1..=5)).unwrap();
}

#[tokio::test]
async fn events_keep_their_time_and_bytes_through_a_restart() {
    let world = World::new().await;
    let builder = Queue::builder(world.spool()).settings(settings());
    let queue = builder.open().await.unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::from_millis(1_234_567_890_123);
    let odd = format!(
        " {{\t\"id\" : \"{}\",\"message\":{{\"timestamp\":1.0e3, \"extra\":[1.00,-0]}}}} ",
        id(1)
    );
    let event = everpost::Event::json(odd.clone()).unwrap();
    let event = event.with_id(id(1)).with_time(then);
    queue.append(event).await.unwrap();
    queue.close(Duration::ZERO).await.unwrap();
    let queue = world.open(settings()).await;
    assert_eq!(queue.status().pending, 1);
    drained(&queue).await;
    let accepted = world.sandbox.accepted();
    assert_eq!(accepted.len(), 1);
    assert_eq!(accepted[0].json(), Some(odd.trim().as_bytes()));
}

/// A loop over one page of a hundred letters was called "all"; the others stayed.
#[tokio::test]
async fn all_letters_are_more_than_a_page_and_none_is_taken_twice() {
    let world = World::new().await;
    let mut settings = settings();
    settings.delivery.breaker_refusals = u32::MAX;
    let queue = world.open(settings).await;
    world.sandbox.reject_when(|_| Some("no".to_owned()));
    queue.append_all(events(1..=40)).await.unwrap();
    drained(&queue).await;
    let letters = queue.dead_letters();
    assert_eq!(letters.list(..).collect().await.unwrap().len(), 40);

    // Each is refused again, perhaps before the last of them was retried.
    assert_eq!(letters.retry_all().await.unwrap(), 40);
    let status = drained(&queue).await;
    assert_eq!((status.ledger.appended, status.dead_letters), (80, 40));
    let left = letters.list(..).collect().await.unwrap();
    assert!(left.iter().map(|letter| letter.seq).eq(41..=80));
    assert_eq!(letters.discard_all().await.unwrap(), 40);
    assert_eq!(queue.status().dead_letters, 0);

    queue.close(Duration::ZERO).await.unwrap();
    let not_all = letters.discard_all().await.unwrap_err();
    assert_eq!(not_all.done, 0);
    assert!(matches!(not_all.error, Error::Closed), "{not_all}");
}

#[test]
fn a_queue_is_read_in_ranges_also_without_async() {
    let dir = tempfile::tempdir().unwrap();
    let queue = everpost::blocking::Queue::open(dir.path().join("spool")).unwrap();
    queue.append_all(events(1..=600)).unwrap();
    let seqs = |events: everpost::blocking::Pages<_>| {
        let seq = |stored: Result<everpost::StoredEvent, _>| stored.unwrap().seq;
        events.map(seq).collect::<Vec<_>>()
    };
    assert!(seqs(queue.events(..)).into_iter().eq(1..=600));
    assert!(seqs(queue.events(250..=520)).into_iter().eq(250..=520));
    assert_eq!(seqs(queue.events(600..)), [600]);
    assert_eq!(seqs(queue.events(601..)), [0; 0]);
    assert_eq!(seqs(queue.events(7..7)), [0; 0]);
    assert_eq!(queue.dead_letters().retry_all().unwrap(), 0);
    queue.close(Duration::ZERO).unwrap();
    let mut events = queue.events(..);
    assert!(matches!(events.next(), Some(Err(Error::Closed))));
    assert!(events.next().is_none(), "an error is told once");
}
