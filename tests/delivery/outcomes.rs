//! The outcome table: what each status means, seen at the queue.

use everpost::sandbox::{Exchange, Fault, Reply, Sandbox};
use everpost::{Cause, FlusherState, PauseReason};

use crate::common::{World, drained, event, events, id, ids, settings, settings_that_wait, until};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    Delivered,
    Retry,
    Divide,
    Poison,
    Pause(PauseReason),
}

/// The table once more, written down from the promise and not from the code.
fn expected(status: u16) -> Expected {
    match status {
        200..=299 => Expected::Delivered,
        300..=399 => Expected::Pause(PauseReason::Address),
        401..=403 => Expected::Pause(PauseReason::Credentials),
        404 | 405 | 407 | 410 | 426 | 451 => Expected::Pause(PauseReason::Address),
        408 | 421 | 423 | 425 | 429 => Expected::Retry,
        413 | 414 | 431 => Expected::Divide,
        400..=499 => Expected::Poison,
        _ => Expected::Retry,
    }
}

fn statuses(wanted: impl Fn(Expected) -> bool) -> Vec<u16> {
    let all = (200..=599).chain([600, 999]);
    all.filter(|status| wanted(expected(*status))).collect()
}

/// How many events each request since then carried.
fn sizes(sandbox: &Sandbox) -> Vec<usize> {
    let requests = sandbox.requests();
    requests.iter().map(|request| request.events).collect()
}

fn header<'a>(request: &'a Exchange, name: &str) -> &'a str {
    let found = request.headers.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| value.as_str()).unwrap()
}

#[tokio::test]
async fn every_success_settles_the_batch_with_one_request() {
    let world = World::new().await;
    let queue = world.open(settings()).await;
    let mut n = 0;
    for status in statuses(|expected| expected == Expected::Delivered) {
        world.sandbox.forget();
        let reply = Reply::status(status);
        world.sandbox.script([Fault::AcceptThenAnswer(reply)]);
        queue.append_all(events([n + 1, n + 2])).await.unwrap();
        let seen = drained(&queue).await;
        n += 2;
        assert_eq!(seen.ledger.delivered, n, "{status}");
        assert_eq!(seen.last_answer.unwrap().status, Some(status));
        assert_eq!(sizes(&world.sandbox), [2], "{status}");
        world.sandbox.check_order(ids([n - 1, n])).unwrap();
    }
    assert_eq!(n, 200);
}

#[tokio::test]
async fn every_temporary_failure_sends_the_same_batch_again() {
    let world = World::new().await;
    let queue = world.open(settings_that_wait()).await;
    let mut statuses = statuses(|expected| expected == Expected::Retry);
    assert_eq!(statuses.len(), 107);
    // After these requests are spaced out, which would make the others wait.
    statuses.sort_by_key(|status| [429, 503].contains(status));
    for (n, status) in (0..).step_by(3).zip(statuses) {
        world.sandbox.forget();
        world.sandbox.script([Fault::status(status)]);
        queue.append_all(events(n..n + 3)).await.unwrap();
        let waits = |state: &FlusherState| match state {
            FlusherState::BackingOff {
                attempt,
                last_error,
                ..
            } => *attempt == 1 && last_error.status == Some(status),
            _ => false,
        };
        let seen = until(&queue, |now| waits(&now.flusher)).await;
        assert_eq!((seen.pending, seen.dead_letters), (3, 0), "{status}");
        // A second failure is counted on.
        world.sandbox.script([Fault::status(status)]);
        queue.wake().await.unwrap();
        let twice = |state: &FlusherState| {
            assert!(!matches!(state, FlusherState::Paused { .. }), "{state:?}");
            matches!(state, FlusherState::BackingOff { attempt: 2, .. })
        };
        until(&queue, |now| twice(&now.flusher)).await;
        queue.wake().await.unwrap();
        let seen = drained(&queue).await;
        assert_eq!(seen.dead_letters, 0, "{status}");
        let requests = world.sandbox.requests();
        let [first, second, third] = requests.as_slice() else {
            panic!("{status}: {} requests", requests.len())
        };
        for again in [second, third] {
            assert!(first.body.is_some() && first.body == again.body, "{status}");
            let key = header(first, "idempotency-key");
            assert_eq!(key, header(again, "idempotency-key"), "{status}");
        }
        world.sandbox.check_order(ids(n..n + 3)).unwrap();
        assert!(world.sandbox.duplicates().is_empty(), "{status}");
    }
}

#[tokio::test]
async fn an_outage_of_any_length_costs_nothing_but_time() {
    let world = World::new().await;
    let queue = world.open(settings()).await;
    world.sandbox.always(Fault::status(503));
    queue.append_all(events(1..=9)).await.unwrap();
    let many = |state: &FlusherState| match state {
        FlusherState::BackingOff { attempt, .. } => *attempt >= 60,
        _ => false,
    };
    until(&queue, |status| many(&status.flusher)).await;
    world.sandbox.clear();
    let status = drained(&queue).await;
    assert_eq!((status.ledger.delivered, status.dead_letters), (9, 0));
    world.sandbox.check_order(ids(1..=9)).unwrap();
    assert!(world.sandbox.duplicates().is_empty());
}

#[tokio::test]
async fn every_refusal_sets_the_one_event_aside_with_what_was_said() {
    let world = World::new().await;
    let queue = world.open(settings()).await;
    let statuses = statuses(|expected| expected == Expected::Poison);
    assert_eq!(statuses.len(), 100 - 3 - 6 - 5 - 3);
    let mut delivered = 0;
    for (dead, status) in (0..).zip(statuses) {
        world.sandbox.forget();
        let n = dead * 3 + 1;
        let reply = Reply::status(status).errors(["no such field", "`text` is missing"]);
        // The batch, its first half, the first event alone.
        world.sandbox.script(vec![Fault::Answer(reply); 3]);
        let appended = events(n..n + 3);
        queue.append_all(appended.clone()).await.unwrap();
        let seen = drained(&queue).await;
        delivered += 2;
        let books = seen.ledger;
        assert_eq!((books.dead, books.delivered), (dead + 1, delivered));
        assert_eq!(sizes(&world.sandbox), [3, 2, 1, 1, 1], "{status}");
        world.sandbox.check_order(ids([n + 1, n + 2])).unwrap();
        let letter = queue.dead_letters().show(n).await.unwrap();
        assert_eq!((letter.seq, letter.cause), (n, Cause::Refused), "{status}");
        assert_eq!(letter.event, appended[0]);
        assert_eq!(letter.answer.status, Some(status));
        let said = ["no such field", "`text` is missing"];
        assert_eq!(letter.answer.errors, said, "{status}");
        assert_eq!(letter.attempts, 3, "{status}");
        assert!(letter.first_attempt <= letter.last_attempt);
    }
}

#[tokio::test]
async fn every_fault_of_the_token_or_the_address_pauses_and_condemns_nothing() {
    let world = World::new().await;
    let queue = world.open(settings()).await;
    let statuses = statuses(|expected| matches!(expected, Expected::Pause(_)));
    assert_eq!(statuses.len(), 100 + 3 + 6);
    for (n, status) in (0..).step_by(2).zip(statuses) {
        let Expected::Pause(expected) = expected(status) else {
            continue;
        };
        world.sandbox.forget();
        world.sandbox.script([Fault::status(status)]);
        queue.append_all(events([n, n + 1])).await.unwrap();
        let paused = |state: &FlusherState| matches!(state, FlusherState::Paused { .. });
        let seen = until(&queue, |now| paused(&now.flusher)).await;
        let FlusherState::Paused {
            reason,
            last_error,
            next_probe,
            ..
        } = seen.flusher
        else {
            panic!("{:?}", seen.flusher)
        };
        assert_eq!(reason, expected, "{status}");
        assert_eq!(last_error.status, Some(status));
        // A 304 has no body to say anything in.
        assert_eq!(last_error.errors.is_empty(), status == 304, "{status}");
        assert!(next_probe.is_some(), "{status}");
        assert_eq!((seen.pending, seen.dead_letters), (2, 0), "{status}");
        queue.resume().await.unwrap();
        let seen = drained(&queue).await;
        assert_eq!(seen.dead_letters, 0, "{status}");
        assert_eq!(sizes(&world.sandbox), [2, 2], "{status}");
        world.sandbox.check_order(ids([n, n + 1])).unwrap();
    }
}

#[tokio::test]
async fn a_pause_ends_by_itself_once_a_probe_succeeds() {
    let world = World::new().await;
    let mut settings = settings();
    settings.delivery.probe_min = std::time::Duration::from_millis(1);
    settings.delivery.probe_max = std::time::Duration::from_millis(5);
    let queue = world.open(settings).await;
    world.sandbox.always(Fault::status(404));
    queue.append_all(events(1..=10)).await.unwrap();
    let probed = world.sandbox.wait_for(|stats| stats.answered >= 20);
    crate::common::within(probed).await.unwrap();
    world.sandbox.clear();
    let status = drained(&queue).await;
    assert_eq!((status.ledger.delivered, status.dead_letters), (10, 0));
    world.sandbox.check_order(ids(1..=10)).unwrap();
    let idle = |state: &FlusherState| matches!(state, FlusherState::Idle);
    until(&queue, |status| idle(&status.flusher)).await;
}

#[tokio::test]
async fn every_answer_of_too_large_divides_the_batch_and_the_smaller_size_is_kept() {
    let statuses = statuses(|expected| expected == Expected::Divide);
    assert_eq!(statuses, [413, 414, 431]);
    for status in statuses {
        let world = World::new().await;
        let queue = world.open(settings()).await;
        world.sandbox.script([Fault::status(status)]);
        queue.append_all(events(1..=8)).await.unwrap();
        drained(&queue).await;
        queue.append_all(events(9..=16)).await.unwrap();
        let seen = drained(&queue).await;
        assert_eq!((seen.ledger.delivered, seen.dead_letters), (16, 0));
        assert_eq!(sizes(&world.sandbox), [8, 4, 4, 4, 4], "{status}");
        world.sandbox.check_order(ids(1..=16)).unwrap();

        // An event too large even alone is set aside; nothing else is.
        let reply = Reply::status(status).errors(["too much"]);
        world.sandbox.script([Fault::Answer(reply)]);
        let appended = queue.append(event(17)).await.unwrap();
        drained(&queue).await;
        let letter = queue.dead_letters().show(appended.seq).await.unwrap();
        assert_eq!((letter.cause, letter.attempts), (Cause::TooLarge, 1));
        assert_eq!(letter.answer.status, Some(status));
        assert_eq!(letter.answer.errors, ["too much"]);
        assert_eq!(letter.event.id(), id(17));
    }
}

#[tokio::test]
async fn limits_of_the_receiver_that_nobody_documented_are_found() {
    let world = World::with(Sandbox::builder().max_events(3).max_body_bytes(2_000)).await;
    let queue = world.open(settings()).await;
    let mut all = events(1..=40);
    all[20] = crate::common::event_with(21, &"x".repeat(3_000));
    queue.append_all(all).await.unwrap();
    let status = drained(&queue).await;
    assert_eq!((status.ledger.delivered, status.ledger.dead), (39, 1));
    let letters = queue.dead_letters().list(..).take(10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].seq, letters[0].cause), (21, Cause::TooLarge));
    let others = (1..=40).filter(|n| *n != 21);
    world.sandbox.check_order(ids(others)).unwrap();
    assert!(world.sandbox.duplicates().is_empty());
}

#[tokio::test]
async fn a_page_for_people_in_place_of_a_refusal_pauses_and_condemns_nothing() {
    let world = World::new().await;
    let queue = world.open(settings()).await;
    let statuses = statuses(|expected| expected == Expected::Poison);
    for (n, status) in (0..).zip(statuses) {
        let page = Reply::status(status)
            .header("content-type", "text/html")
            .body("<html><h1>Bad Request</h1><p>Your proxy does not like you.");
        world.sandbox.script([Fault::Answer(page)]);
        queue.append(event(n)).await.unwrap();
        let paused = |state: &FlusherState| matches!(state, FlusherState::Paused { .. });
        let seen = until(&queue, |now| paused(&now.flusher)).await;
        let FlusherState::Paused {
            reason, last_error, ..
        } = seen.flusher
        else {
            panic!("{:?}", seen.flusher)
        };
        assert_eq!(reason, PauseReason::Address, "{status}");
        assert_eq!(last_error.status, Some(status));
        let detail = last_error.detail.unwrap();
        assert!(detail.contains("HTML instead of JSON"), "{detail}");
        assert!(detail.contains("a wrong address"), "{detail}");
        queue.resume().await.unwrap();
        assert_eq!(drained(&queue).await.dead_letters, 0, "{status}");
    }
    assert_eq!(queue.status().ledger.dead, 0);
}

#[tokio::test]
async fn a_refusal_in_json_counts_whatever_its_type_is_called() {
    let world = World::new().await;
    let queue = world.open(settings()).await;
    let refusal = Reply::status(400)
        .header("content-type", "text/html")
        .body(r#"{"errors":["no"]}"#);
    world.sandbox.script([Fault::Answer(refusal)]);
    queue.append(event(1)).await.unwrap();
    assert_eq!(drained(&queue).await.ledger.dead, 1);
    let letter = queue.dead_letters().show(1).await.unwrap();
    assert_eq!(letter.answer.errors, ["no"]);
}

/// The API said 200 and named an error beside it: the batch was settled without a word.
#[tokio::test]
async fn errors_beside_a_success_are_never_a_silent_delivery() {
    let world = World::new().await;
    let queue = world.open(settings()).await;
    let refusal = Reply::status(200).errors(["no such channel"]);
    // The batch, its first half, the first event alone.
    world.sandbox.script(vec![Fault::Answer(refusal); 3]);
    queue.append_all(events(1..=3)).await.unwrap();
    let seen = drained(&queue).await;
    assert_eq!((seen.ledger.delivered, seen.ledger.dead), (2, 1));
    assert_eq!(sizes(&world.sandbox), [3, 2, 1, 1, 1]);
    world.sandbox.check_order(ids([2, 3])).unwrap();
    let letter = queue.dead_letters().show(1).await.unwrap();
    assert_eq!(letter.cause, Cause::Refused);
    assert_eq!(letter.answer.status, Some(200));
    assert_eq!(letter.answer.errors, ["no such channel"]);
}
