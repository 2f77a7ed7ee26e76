//! A key that is not good (any longer): nothing is lost, and a new one ends it at once.

use std::time::Duration;

use everpost::botanalytics::KeySource;
use everpost::sandbox::Fault;
use everpost::{FlusherState, PauseReason, Status};

use crate::common::{HOUR, World, drained, events, ids, settings, until, within};

fn is_paused(status: &Status) -> bool {
    matches!(status.flusher, FlusherState::Paused { .. })
}

#[tokio::test]
async fn a_revoked_key_condemns_nothing_and_its_successor_delivers_everything_at_once() {
    let world = World::new().await;
    let mut settings = settings();
    settings.delivery.batch_events = 50;
    assert_eq!(settings.delivery.probe_min, HOUR);
    let sink = world.sink();
    let keys = sink.key_handle();
    let queue = world.open_to(sink, settings).await;
    queue.append_all(events(1..=200)).await.unwrap();
    drained(&queue).await;

    assert!(world.sandbox.revoke_key(world.sandbox.key()));
    queue.append_all(events(201..=500)).await.unwrap();
    let status = until(&queue, is_paused).await;
    let FlusherState::Paused {
        reason,
        last_error,
        next_probe,
        ..
    } = &status.flusher
    else {
        panic!("{status:?}")
    };
    assert_eq!(*reason, PauseReason::Credentials);
    assert_eq!(last_error.status, Some(401));
    let said = "Request is missing a valid Authorization header.";
    assert_eq!(last_error.errors, [said]);
    assert!(next_probe.is_some());
    assert_eq!((status.pending, status.dead_letters), (300, 0));

    // Appends go on, and nothing is sent meanwhile.
    let requests = world.sandbox.stats().requests;
    queue.append_all(events(501..=600)).await.unwrap();
    let status = until(&queue, |status| status.pending == 400).await;
    assert!(is_paused(&status));
    assert_eq!(world.sandbox.stats().requests, requests);

    keys.replace(world.sandbox.issue_key()).unwrap();
    let status = drained(&queue).await;
    assert_eq!((status.ledger.delivered, status.ledger.dead), (600, 0));
    world.sandbox.check_order(ids(1..=600)).unwrap();
    assert!(world.sandbox.duplicates().is_empty());
    until(&queue, |status| status.flusher == FlusherState::Idle).await;
}

#[tokio::test]
async fn a_key_replaced_by_another_bad_one_goes_on_waiting() {
    let world = World::new().await;
    let sink = world.sink();
    let keys = sink.key_handle();
    let queue = world.open_to(sink, settings()).await;
    world.sandbox.revoke_key(world.sandbox.key());
    queue.append_all(events(1..=5)).await.unwrap();
    until(&queue, is_paused).await;
    for tries in 2..=4 {
        let key = world.sandbox.issue_key();
        world.sandbox.revoke_key(&key);
        keys.replace(key).unwrap();
        let answered = world.sandbox.wait_for(|stats| stats.answered == tries);
        within(answered).await.unwrap();
    }
    assert!(is_paused(
        &until(&queue, |status| status.requests == 4).await
    ));
    // One that is malformed is refused on the spot and changes nothing.
    keys.replace("no key").unwrap_err();
    keys.replace(world.sandbox.issue_key()).unwrap();
    assert_eq!(drained(&queue).await.dead_letters, 0);
    world.sandbox.check_order(ids(1..=5)).unwrap();
}

#[tokio::test]
async fn a_key_replaced_while_its_predecessor_is_being_refused_is_not_missed() {
    let world = World::new().await;
    let sink = world.sink();
    let keys = sink.key_handle();
    let queue = world.open_to(sink, settings()).await;
    world.sandbox.revoke_key(world.sandbox.key());
    world.sandbox.script([Fault::Hang]);
    queue.append_all(events(1..=5)).await.unwrap();
    let hangs = world.sandbox.wait_for(|stats| stats.hanging == 1);
    within(hangs).await.unwrap();
    keys.replace(world.sandbox.issue_key()).unwrap();
    world.sandbox.release();
    assert_eq!(drained(&queue).await.dead_letters, 0);
    assert_eq!(world.sandbox.stats().requests, 2);
    world.sandbox.check_order(ids(1..=5)).unwrap();
}

#[tokio::test]
async fn a_key_renewed_in_its_file_is_found_by_a_probe() {
    let world = World::new().await;
    let file = world.dir.path().join("key");
    std::fs::write(&file, world.sandbox.key()).unwrap();
    let sink = world.sink_builder().key(KeySource::file(&file));
    let mut settings = settings();
    settings.delivery.probe_min = Duration::from_millis(1);
    settings.delivery.probe_max = Duration::from_millis(5);
    let queue = world.open_to(sink.build().unwrap(), settings).await;
    world.sandbox.revoke_key(world.sandbox.key());
    queue.append_all(events(1..=5)).await.unwrap();
    until(&queue, is_paused).await;
    // For a while there is no file at all.
    std::fs::remove_file(&file).unwrap();
    let unreadable = |status: &Status| {
        let detail = status.last_answer.as_ref().and_then(|a| a.detail.clone());
        detail.is_some_and(|detail| detail.contains("cannot be read"))
    };
    until(&queue, unreadable).await;
    std::fs::write(&file, world.sandbox.issue_key()).unwrap();
    assert_eq!(drained(&queue).await.dead_letters, 0);
    world.sandbox.check_order(ids(1..=5)).unwrap();
}
