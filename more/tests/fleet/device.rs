//! Devices: one spool and one stream, in the situations that a device meets.

use std::fs;
use std::path::Path;
use std::time::Duration;

use everpost::nats::Names;
use everpost::{Cause, Event, Outcome, PauseReason, Queue, Sink as _};

use crate::ground::{
    Ground, append, backing_off, close, drained, event, name, paused, request, settings,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_stands_in_the_stream_once_also_after_a_restart() {
    let Some(ground) = Ground::one().await else {
        return;
    };
    for round in 0..3 {
        let queue = ground.open("s").await;
        append(&queue, "s", round * 100 + 1..=round * 100 + 100).await;
        drained(&queue).await;
        close(queue).await;
    }
    ground.assert_once("s", 300).await;
}

/// What was in before the word about it came is not sent again, by the next process either.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_already_is_found_and_not_sent_again() {
    let Some(ground) = Ground::one().await else {
        return;
    };
    let events: Vec<Event> = (1..=8).map(|n| event("s", n)).collect();
    let sink = || ground.target("s").build().unwrap();
    let first = sink();
    assert_eq!(first.knock().await, Outcome::delivered());
    let sent = first.deliver(request(1, &events[..5])).await;
    assert_eq!(sent, Outcome::delivered());
    for (from, through) in [(1, 5), (1, 8), (4, 8), (8, 8)] {
        let part = &events[from - 1..through];
        let again = sink().deliver(request(from as u64, part)).await;
        assert_eq!(again, Outcome::delivered(), "{from}..={through}");
    }
    // Its own knowledge is of an earlier day: the guard says so, and it looks up.
    let more = first.deliver(request(6, &events[5..])).await;
    assert_eq!(more, Outcome::delivered());
    ground.assert_once("s", 8).await;
}

/// A delivery that is dropped midway, at whatever moment, leaves nothing that is taken for certain.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_is_dropped_costs_nothing() {
    let Some(ground) = Ground::one().await else {
        return;
    };
    let sink = ground.target("s").build().unwrap();
    let events: Vec<Event> = (1..=400).map(|n| event("s", n)).collect();
    for (number, part) in (0_u64..).zip(events.chunks(10)) {
        let request = request(number * 10 + 1, part);
        let moment = Duration::from_micros(number * 97 % 2_500);
        let _ = tokio::time::timeout(moment, sink.deliver(request.clone())).await;
        assert_eq!(sink.deliver(request).await, Outcome::delivered());
    }
    ground.assert_once("s", 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_a_batch_may_come_late_and_stands_there_once() {
    let Some(mut ground) = Ground::with(3, "").await else {
        return;
    };
    let mut count = 0;
    for round in 1..=2 {
        let queue = ground.open("s").await;
        append(&queue, "s", [count + 1]).await;
        drained(&queue).await;
        let leader = tokio::task::block_in_place(|| ground.cluster.wait_leader("EVENTS"));
        let others: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
        for node in &others {
            ground.cluster.node(*node).kill();
        }
        append(&queue, "s", count + 2..=count + 40).await;
        let words = backing_off(&queue).await;
        println!("round {round}: {words}");
        // Sent again and again, while the first may still become true.
        crate::ground::until(&queue, |status| status.requests >= 5).await;
        for node in others {
            ground.cluster.node(node).start();
        }
        count += 40;
        drained(&queue).await;
        close(queue).await;
    }
    tokio::task::block_in_place(|| ground.cluster.wait_ready());
    ground.assert_once("s", count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_is_left_alone_until_it_has_room() {
    let Some(ground) = Ground::one().await else {
        return;
    };
    let mut config = ground.config();
    config.max_messages = 5;
    ground.context.update_stream(&config).await.unwrap();
    let queue = ground.open("s").await;
    append(&queue, "s", 1..=3).await;
    drained(&queue).await;
    append(&queue, "s", 4..=9).await;
    let words = backing_off(&queue).await;
    assert!(words.contains("the stream is full"), "{words}");
    ground.assert_once("s", 3).await;
    config.max_messages = -1;
    ground.context.update_stream(&config).await.unwrap();
    queue.wake().await.unwrap();
    drained(&queue).await;
    close(queue).await;
    ground.assert_once("s", 9).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_purge_a_spool_goes_on_behind_what_was_acknowledged() {
    let Some(ground) = Ground::one().await else {
        return;
    };
    let queue = ground.open("s").await;
    append(&queue, "s", 1..=10).await;
    drained(&queue).await;
    let stream = ground.context.get_stream("EVENTS").await.unwrap();
    stream.purge().await.unwrap();
    append(&queue, "s", 11..=20).await;
    drained(&queue).await;
    close(queue).await;
    let places: Vec<u64> = ground.stored().await.iter().map(|s| s.place).collect();
    assert_eq!(places, (11..=20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_there_is_told_after_a_while_and_waited_for() {
    let Some(ground) = Ground::one().await else {
        return;
    };
    ground.context.delete_stream("EVENTS").await.unwrap();
    let target = ground
        .target("s")
        .with_time_limit(Duration::from_millis(150));
    let queue = ground.open_to("s", target).await;
    append(&queue, "s", 1..=10).await;
    let words = backing_off(&queue).await;
    assert!(words.contains("no such stream or partition"), "{words}");
    paused(&queue, PauseReason::Address).await;
    ground.context.create_stream(ground.config()).await.unwrap();
    queue.resume().await.unwrap();
    drained(&queue).await;
    close(queue).await;
    ground.assert_once("s", 10).await;
}

/// The stream lists its subjects one by one, so that nothing goes where no worker reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_counts_other_partitions_is_told_and_feeds_none() {
    let Some(ground) = Ground::one().await else {
        return;
    };
    let names = Names::new("EVENTS", 512).unwrap();
    let is_elsewhere = |spool: &String| names.partition(&name(spool)) >= 4;
    let spool = (0..100)
        .map(|n| format!("s{n}"))
        .find(is_elsewhere)
        .unwrap();
    let target = ground
        .target(&spool)
        .with_names(names)
        .with_time_limit(Duration::from_millis(150));
    let queue = ground.open_to(&spool, target).await;
    append(&queue, &spool, 1..=10).await;
    let words = paused(&queue, PauseReason::Address).await;
    assert!(words.contains("no such stream or partition"), "{words}");
    assert_eq!(queue.status().pending, 10);
    close(queue).await;
    assert!(ground.stored().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_no_message_can_hold_is_set_aside_and_the_others_go_on() {
    let Some(ground) = Ground::with(1, "max_payload: 65536").await else {
        return;
    };
    let queue = ground.open("s").await;
    append(&queue, "s", 1..=3).await;
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(60_000));
    queue.append(Event::json(large).unwrap()).await.unwrap();
    append(&queue, "s", 5..=7).await;
    let status = drained(&queue).await;
    assert_eq!((status.ledger.delivered, status.ledger.dead), (6, 1));
    let letter = queue.dead_letters().show(4).await.unwrap();
    assert_eq!(letter.cause, Cause::TooLarge);
    close(queue).await;
    let places: Vec<u64> = ground.stored().await.iter().map(|s| s.place).collect();
    assert_eq!(places, [1, 2, 3, 5, 6, 7]);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}

/// The copy gives the places that the stream has already to other events. A sink that believed the
/// places alone would drop those.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_restored_from_an_old_copy_of_its_spool_loses_nothing() {
    let Some(ground) = Ground::one().await else {
        return;
    };
    let builder = Queue::builder(ground.spool("s")).settings(settings());
    let queue = builder.open().await.unwrap();
    append(&queue, "s", 1..=10).await;
    close(queue).await;
    copy(&ground.spool("s"), &ground.spool("copy"));
    let queue = ground.open("s").await;
    append(&queue, "s", 11..=50).await;
    drained(&queue).await;
    close(queue).await;

    let queue = ground.open_to("copy", ground.target("s")).await;
    let made: Vec<Event> = (0..20).map(|n| event("new", n)).collect();
    queue.append_all(made.clone()).await.unwrap();
    drained(&queue).await;
    append(&queue, "s", 31..=40).await;
    drained(&queue).await;
    close(queue).await;
    let stored = ground.stored().await;
    for event in &made {
        let found = stored.iter().filter(|s| s.id == event.id());
        assert_eq!(found.count(), 1, "{:?}", event.id());
    }
    let behind: Vec<u64> = stored[50..].iter().map(|s| s.place).collect();
    assert_eq!(
        behind,
        (1..=40).collect::<Vec<_>>(),
        "all of the copy, in order"
    );
    for (old, again) in stored[..10].iter().zip(&stored[50..60]) {
        assert_eq!(old.id, again.id, "the same event under the same id");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_write_under_one_name_are_told_and_lose_nothing() {
    let Some(ground) = Ground::one().await else {
        return;
    };
    let one = ground.open_to("one", ground.target("s")).await;
    let two = ground.open_to("two", ground.target("s")).await;
    let mut told = None;
    for n in 1..=10 {
        append(&one, "one", [n]).await;
        drained(&one).await;
        append(&two, "two", [n]).await;
        let status = crate::ground::until(&two, |status| {
            status.pending == 0 || matches!(status.flusher, everpost::FlusherState::Paused { .. })
        });
        if status.await.pending > 0 {
            told = Some(paused(&two, PauseReason::Address).await);
            break;
        }
    }
    let words = told.expect("the second was told");
    assert!(words.contains("a name of its own"), "{words}");
    // Once the first has ended, the second goes on.
    close(one).await;
    two.resume().await.unwrap();
    let count = drained(&two).await.last_seq;
    close(two).await;
    let stored = ground.stored().await;
    for (spool, count) in [("one", count), ("two", count)] {
        for n in 1..=count {
            let json = event(spool, n);
            let found = stored.iter().filter(|s| s.payload == json.json_bytes());
            assert!(found.count() >= 1, "{spool} {n}");
        }
    }
}
