//! Faults of the way: whatever the network does, everything arrives in order, the books balance,
//! and only what the API took without its answer getting through is there twice.

use std::time::Duration;

use everpost::sandbox::{Fault, Reply, Sandbox};
use everpost::{FlusherState, PauseReason, Settings};

use crate::common::{World, drained, events, ids, settings, until, within};

/// What a client waits that is not to wait long.
const IMPATIENT: Duration = Duration::from_millis(150);

fn batches_of(events: u32) -> Settings {
    let mut settings = settings();
    settings.delivery.batch_events = events;
    settings
}

/// Whether a fault takes the batch and lets no client know.
fn loses_the_answer(fault: &Fault) -> bool {
    match fault {
        Fault::AcceptThenReset | Fault::AcceptThenAnswer(_) | Fault::Delay(_) => true,
        Fault::Drip(pause) => *pause >= IMPATIENT / 10,
        _ => false,
    }
}

/// The ids of events whose answer was lost, in order.
fn owed_twice(sandbox: &Sandbox) -> Vec<String> {
    let requests = sandbox.requests();
    let lost = |number: u64| {
        let request = requests.iter().find(|request| request.number == number);
        loses_the_answer(&request.unwrap().fault)
    };
    let accepted = sandbox.accepted();
    let mut ids: Vec<String> = accepted
        .iter()
        .filter(|accepted| lost(accepted.request()))
        .map(|accepted| accepted.id().unwrap().to_owned())
        .collect();
    ids.sort();
    ids.dedup();
    ids
}

fn seen_twice(sandbox: &Sandbox) -> Vec<String> {
    let duplicates = sandbox.duplicates().into_iter();
    duplicates.map(|duplicate| duplicate.id).collect()
}

/// Five batches of four; the second meets the fault, twice.
async fn survives(fault: Fault, request_timeout: Option<Duration>) {
    let world = World::new().await;
    let mut sink = world.sink_builder();
    if let Some(timeout) = request_timeout {
        sink = sink.request_timeout(timeout);
    }
    let queue = world.open_to(sink.build().unwrap(), batches_of(4)).await;
    world
        .sandbox
        .script([Fault::None, fault.clone(), fault.clone()]);
    queue.append_all(events(1..=20)).await.unwrap();
    let status = drained(&queue).await;
    assert_eq!(status.ledger.delivered, 20, "{fault}");
    assert_eq!(status.dead_letters, 0, "{fault}");
    assert_eq!(world.sandbox.stats().script_left, 0, "{fault}");
    world.sandbox.check_order(ids(1..=20)).unwrap();
    let twice = match loses_the_answer(&fault) {
        true => ids(5..=8),
        false => vec![],
    };
    assert_eq!(seen_twice(&world.sandbox), twice, "{fault}");
    let closed = queue.close(Duration::ZERO).await.unwrap();
    assert!(closed.drained, "{fault}");
    println!("\nPROVED faults=2 acknowledged=20 lost=0 reordered=0");
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_batch_is_taken_makes_no_duplicate() {
    for fault in [
        Fault::ResetBefore,
        Fault::ResetAt(1),
        Fault::ResetAt(100),
        Fault::ResetAt(600),
        Fault::ResetAt(u64::MAX),
        Fault::ResetAfter,
        Fault::Close,
        Fault::Garbage,
        Fault::Refuse(Duration::from_millis(20)),
    ] {
        survives(fault, None).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_makes_duplicates_of_exactly_that_batch() {
    survives(Fault::AcceptThenReset, None).await;
    let gateway = Fault::AcceptThenAnswer(Reply::status(504));
    survives(gateway, None).await;
    let late = Fault::Delay(Duration::from_secs(3600));
    survives(late, Some(IMPATIENT)).await;
}

#[tokio::test]
async fn a_server_that_keeps_silent_is_left_at_the_time_limit() {
    survives(Fault::Hang, Some(IMPATIENT)).await;
}

#[tokio::test]
async fn an_answer_that_drips_is_read_in_time_or_left_at_the_limit() {
    survives(Fault::Drip(Duration::from_millis(1)), None).await;
    survives(Fault::Drip(IMPATIENT / 10), Some(IMPATIENT)).await;
}

#[tokio::test]
async fn a_known_status_counts_although_its_body_is_cut_or_endless() {
    for fault in [Fault::Truncate, Fault::Flood(5_000_000), Fault::Flood(0)] {
        survives(fault, None).await;
    }
}

#[tokio::test]
async fn a_captive_portal_takes_nothing() {
    survives(Fault::Answer(Reply::captive_portal()), None).await;
}

#[tokio::test]
async fn while_connections_are_refused_everything_waits() {
    let world = World::new().await;
    let queue = world.open(batches_of(4)).await;
    world.sandbox.go_away().await.unwrap();
    for n in 1..=20 {
        queue.append_all(events([n])).await.unwrap();
    }
    let refused = |state: &FlusherState| match state {
        FlusherState::BackingOff {
            attempt,
            last_error,
            ..
        } => {
            assert_eq!(last_error.status, None);
            let told = last_error.detail.as_deref().unwrap_or_default();
            *attempt > 10 && told.starts_with("connection refused (127.0.0.1:")
        }
        _ => false,
    };
    let status = until(&queue, |status| refused(&status.flusher)).await;
    assert_eq!((status.pending, status.dead_letters), (20, 0));
    world.sandbox.come_back().await.unwrap();
    assert_eq!(drained(&queue).await.ledger.delivered, 20);
    world.sandbox.check_order(ids(1..=20)).unwrap();
    assert!(world.sandbox.duplicates().is_empty());
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_nothing_goes_to_its_place() {
    let world = World::new().await;
    let elsewhere = Sandbox::builder()
        .key(world.sandbox.key())
        .start()
        .await
        .unwrap();
    let queue = world.open(batches_of(4)).await;
    for (n, status) in (1..).step_by(4).zip([301, 302, 303, 307, 308]) {
        let there = format!("{}/messages", elsewhere.base_url());
        let redirect = Reply::redirect(status, &there);
        world.sandbox.script([Fault::Answer(redirect)]);
        queue.append_all(events(n..n + 4)).await.unwrap();
        let paused = |state: &FlusherState| match state {
            FlusherState::Paused {
                reason, last_error, ..
            } => {
                assert_eq!(*reason, PauseReason::Address);
                let detail = last_error.detail.as_deref().unwrap();
                assert!(detail.contains(&there), "{detail}");
                true
            }
            _ => false,
        };
        let seen = until(&queue, |status| paused(&status.flusher)).await;
        assert_eq!((seen.pending, seen.dead_letters), (4, 0), "{status}");
        queue.resume().await.unwrap();
        drained(&queue).await;
    }
    world.sandbox.check_order(ids(1..=20)).unwrap();
    assert_eq!(elsewhere.stats().requests, 0);
}

#[tokio::test]
async fn through_flapping_at_every_request_everything_arrives_in_order() {
    let world = World::new().await;
    let sink = world.sink_builder().request_timeout(IMPATIENT);
    let queue = world.open_to(sink.build().unwrap(), batches_of(5)).await;
    let quick = [
        Fault::ResetBefore,
        Fault::AcceptThenReset,
        Fault::status(503),
        Fault::ResetAt(300),
        Fault::Garbage,
        Fault::AcceptThenAnswer(Reply::status(502)),
        Fault::Truncate,
        Fault::Close,
        Fault::Answer(Reply::captive_portal()),
        Fault::ResetAfter,
        Fault::status(408),
    ];
    let slow = [Fault::Hang, Fault::Delay(Duration::from_secs(60))];
    let many = quick.iter().cycle().take(200).cloned();
    world.sandbox.script(slow.into_iter().chain(many));
    for first in (1..=300).step_by(30) {
        queue.append_all(events(first..first + 30)).await.unwrap();
    }
    let status = drained(&queue).await;
    assert_eq!((status.ledger.delivered, status.dead_letters), (300, 0));
    world.sandbox.check_order(ids(1..=300)).unwrap();
    let twice = seen_twice(&world.sandbox);
    assert!(twice.len() > 30, "{}", twice.len());
    assert_eq!(twice, owed_twice(&world.sandbox));
    let stats = world.sandbox.stats();
    assert_eq!(stats.distinct, 300);
    println!(
        "\nPROVED faults=202 acknowledged=300 duplicates={} lost=0 reordered=0",
        twice.len()
    );
}

#[tokio::test]
async fn an_api_that_restarts_all_the_time_gets_everything() {
    let world = World::new().await;
    let queue = world.open(batches_of(3)).await;
    let mut n = 0;
    for round in 1..=20 {
        queue.append_all(events(n + 1..=n + 9)).await.unwrap();
        n += 9;
        // At least one more batch gets through before it goes away again.
        let more = round * 3;
        within(world.sandbox.wait_for_accepted(more)).await.unwrap();
        world.sandbox.go_away().await.unwrap();
        world.sandbox.come_back().await.unwrap();
    }
    assert_eq!(drained(&queue).await.ledger.delivered, n);
    world.sandbox.check_order(ids(1..=n)).unwrap();
    println!("\nPROVED faults=20 acknowledged={n} lost=0 reordered=0");
}
