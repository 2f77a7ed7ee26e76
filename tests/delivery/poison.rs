//! Events the API refuses: each is found, set aside and explained; its neighbours arrive.

use std::collections::BTreeSet;

use everpost::sandbox::Sandbox;
use everpost::{Cause, FlusherState, PauseReason, Status};

use crate::common::{World, drained, event, events, id, ids, settings, until};

const BATCH: u64 = 500;

/// Lets the API refuse the events of these numbers.
fn refuse(sandbox: &Sandbox, bad: impl IntoIterator<Item = u64>) {
    let bad: BTreeSet<String> = ids(bad).into_iter().collect();
    sandbox.reject_when(move |message| {
        let id = message.get("id")?.as_str()?;
        bad.contains(id)
            .then(|| format!("message {id} is not welcome"))
    });
}

/// xorshift64: enough to choose positions by.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn seed() -> u64 {
    let seed = id_of_now();
    println!("seed: {seed}");
    seed
}

/// Differs from run to run.
fn id_of_now() -> u64 {
    let id = everpost::Event::json("1").unwrap().id();
    (id.as_uuid().as_u128() as u64) | 1
}

#[tokio::test]
async fn one_bad_event_in_a_full_batch_costs_few_requests_and_nobody_else() {
    let world = World::new().await;
    let queue = world.open(settings()).await;
    let mut state = seed();
    let positions = [1, 2, BATCH / 2, BATCH / 2 + 1, BATCH - 1, BATCH];
    let chosen = (0..6).map(|_| random(&mut state) % BATCH + 1);
    let positions: Vec<u64> = positions.into_iter().chain(chosen).collect();
    // Beside the one request that would have been enough.
    let bound = 2.0 * (BATCH as f64).log2() + 2.0;
    for (round, position) in (0..).zip(positions) {
        world.sandbox.forget();
        let first = round * BATCH + 1;
        let bad = first + position - 1;
        refuse(&world.sandbox, [bad]);
        queue
            .append_all(events(first..first + BATCH))
            .await
            .unwrap();
        let status = drained(&queue).await;
        assert_eq!(status.ledger.dead, round + 1, "position {position}");
        assert_eq!(status.ledger.delivered, (round + 1) * (BATCH - 1));
        let extra = world.sandbox.stats().requests - 1;
        assert!(extra as f64 <= bound, "position {position}: {extra} more");
        let good = (first..first + BATCH).filter(|n| *n != bad);
        world.sandbox.check_order(ids(good)).unwrap();
        assert!(world.sandbox.duplicates().is_empty());
        let letter = queue.dead_letters().show(bad).await.unwrap();
        assert_eq!(letter.event.id(), id(bad));
        assert_eq!(letter.answer.status, Some(400));
        let said = letter.answer.errors.join(" ");
        assert!(said.contains("is not welcome"), "{said}");
    }
    let letters = queue.dead_letters().list(..).take(100).await.unwrap();
    assert_eq!(letters.len(), 12);
}

#[tokio::test]
async fn several_bad_events_are_all_found_and_the_others_keep_their_order() {
    let world = World::new().await;
    let queue = world.open(settings()).await;
    let mut state = seed();
    let mut bad: BTreeSet<u64> = (0..12).map(|_| random(&mut state) % 2_000 + 1).collect();
    // Neighbours, and both sides of where one batch ends and the next begins.
    bad.extend([7, 8, 9, BATCH, BATCH + 1, 1_000, 2_000]);
    refuse(&world.sandbox, bad.clone());
    for first in (1..=2_000).step_by(500) {
        queue.append_all(events(first..first + 500)).await.unwrap();
    }
    let status = drained(&queue).await;
    assert_eq!(status.ledger.dead, bad.len() as u64);
    world
        .sandbox
        .check_order(ids((1..=2_000).filter(|n| !bad.contains(n))))
        .unwrap();
    assert!(world.sandbox.duplicates().is_empty());
    let letters = queue.dead_letters().list(..).take(100).await.unwrap();
    let buried: BTreeSet<u64> = letters.iter().map(|letter| letter.seq).collect();
    assert_eq!(buried, bad);
    assert!(letters.iter().all(|letter| letter.cause == Cause::Refused));
}

#[tokio::test]
async fn when_everything_is_refused_the_breaker_keeps_the_queue() {
    let world = World::new().await;
    let queue = world.open(settings()).await;
    let breaker = u64::from(settings().delivery.breaker_refusals);
    world.sandbox.reject_when(|_| Some("a bad release".into()));
    queue.append_all(events(1..=200)).await.unwrap();
    let paused = |status: &Status| match &status.flusher {
        FlusherState::Paused {
            reason, last_error, ..
        } => {
            assert_eq!(*reason, PauseReason::SystemicRejection);
            let said = last_error.errors.join(" ");
            assert!(said.contains("a bad release"), "{said}");
            true
        }
        _ => false,
    };
    let status = until(&queue, paused).await;
    let dead = status.ledger.dead;
    assert!((1..=breaker).contains(&dead), "{dead}");
    assert_eq!(status.pending, 200 - dead);
    assert_eq!(world.sandbox.stats().accepted, 0);

    // A probe that is refused sets nothing more aside.
    queue.wake().await.unwrap();
    let more = status.requests + 1;
    let status = until(&queue, |now| now.requests >= more && paused(now)).await;
    assert_eq!(status.ledger.dead, dead);

    world.sandbox.reject_nothing();
    queue.resume().await.unwrap();
    let status = drained(&queue).await;
    assert_eq!(status.ledger.dead, dead, "no good event follows the bad");
    world.sandbox.check_order(ids(dead + 1..=200)).unwrap();

    // And the letters, once retried, arrive behind the others.
    for letter in queue.dead_letters().list(..).take(100).await.unwrap() {
        queue.dead_letters().retry(letter.seq).await.unwrap();
    }
    let status = drained(&queue).await;
    assert_eq!(
        (status.dead_letters, status.ledger.appended),
        (0, 200 + dead)
    );
    let all = (dead + 1..=200).chain(1..=dead);
    world.sandbox.check_order(ids(all)).unwrap();
    assert!(world.sandbox.duplicates().is_empty());
}

#[tokio::test]
async fn the_breaker_is_open_after_a_resume_that_changed_nothing() {
    let world = World::new().await;
    let mut settings = settings();
    settings.delivery.breaker_refusals = 3;
    let queue = world.open(settings).await;
    world.sandbox.reject_when(|_| Some("no".into()));
    queue.append_all(events(1..=20)).await.unwrap();
    let paused = |status: &Status| matches!(status.flusher, FlusherState::Paused { .. });
    for rounds in 1..=3 {
        // A resume is a person's word that the events may be judged again: it costs at most as
        // many letters as the first time.
        let dead = |status: &Status| status.ledger.dead == 2 * rounds;
        until(&queue, |status| dead(status) && paused(status)).await;
        queue.resume().await.unwrap();
    }
    let status = until(&queue, |now| now.ledger.dead == 8 && paused(now)).await;
    assert_eq!(status.pending, 12);
}

#[tokio::test]
async fn a_message_the_api_cannot_take_is_explained_in_its_words() {
    let world = World::new().await;
    let queue = world.open(settings()).await;
    // A text without its text: what the documentation forbids.
    let typo = format!(
        r#"{{"id":"{}","message":{{"timestamp":1,"content":{{"texts":[{{"tex":"x"}}]}}}}}}"#,
        id(2)
    );
    let typo = everpost::Event::json(typo).unwrap().with_id(id(2));
    queue
        .append_all([event(1), typo.clone(), event(3)])
        .await
        .unwrap();
    drained(&queue).await;
    world.sandbox.check_order(ids([1, 3])).unwrap();
    let letter = queue.dead_letters().show(2).await.unwrap();
    assert_eq!(letter.event, typo);
    let said = letter.answer.errors.join(" ");
    assert!(said.contains("texts"), "{said}");
}
