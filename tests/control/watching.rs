//! A watch, a pause, a pace and a drain, followed from outside.

use super::*;

#[tokio::test]
async fn a_watcher_sees_pause_and_resume_and_the_end() {
    let sandbox = Sandbox::start().await.unwrap();
    let owner = Owner::delivering(&sandbox).await;
    let client = owner.client();
    let mut watch = client.watch().await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().pending, 0);
    client.pause().await.unwrap();
    let paused = loop {
        let status = watch.next().await.unwrap().unwrap();
        if let FlusherState::Paused { reason, .. } = status.flusher {
            break reason;
        }
    };
    assert_eq!(paused, PauseReason::Requested);
    client.append(&[message(1)]).await.unwrap();
    while watch.next().await.unwrap().unwrap().pending != 1 {}
    assert_eq!(sandbox.stats().accepted, 0);
    client.resume().await.unwrap();
    while watch.next().await.unwrap().unwrap().ledger.delivered != 1 {}
    owner.queue.close(Duration::ZERO).await.unwrap();
    let mut last = None;
    while let Some(status) = watch.next().await.unwrap() {
        last = Some(status);
    }
    assert_eq!(last.unwrap().flusher, FlusherState::Closed);
}

/// The owner said "accepted" before its flusher knew of it, so that a script that paused and then
/// changed something at the receiver could not know when that was safe.
#[tokio::test]
async fn a_pause_is_answered_after_the_request_in_flight_and_kept_by_then() {
    let sandbox = Sandbox::start().await.unwrap();
    let owner = Owner::delivering(&sandbox).await;
    let client = owner.client();
    sandbox.script([Fault::Hang]);
    client.append(&[message(1)]).await.unwrap();
    sandbox.wait_for(|stats| stats.hanging == 1).await.unwrap();
    let mut pause = pin!(client.pause());
    // Each question has the owner go on with everything else as well.
    for _ in 0..20 {
        tokio::select! {
            biased;
            answer = &mut pause => panic!("answered during a request: {answer:?}"),
            status = client.status() => assert_eq!(status.unwrap().pending, 1),
        }
    }
    sandbox.release();
    timeout(LONG, pause).await.unwrap().unwrap();
    let status = owner.queue.status();
    assert!(
        matches!(status.flusher, FlusherState::Paused { .. }),
        "{status:?}"
    );
    assert_eq!(status.pending, 0);
    owner.queue.close(Duration::ZERO).await.unwrap();
    let found = everpost::inspect::remembered_pause(&owner.spool()).unwrap();
    assert_eq!(
        found.map(|paused| paused.reason),
        Some(PauseReason::Requested)
    );
}

#[tokio::test]
async fn changes_faster_than_the_pace_are_told_as_one() {
    let owner = Owner::start().await;
    let mut watch = owner.client().watch().await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().last_seq, 0);
    let started = tokio::time::Instant::now();
    for n in 1..=300 {
        owner.queue.append(message(n)).await.unwrap();
    }
    let mut lines = 0;
    while watch.next().await.unwrap().unwrap().last_seq != 300 {
        lines += 1;
    }
    let allowed = started.elapsed().as_millis() / 100 + 2;
    assert!(lines <= allowed, "{lines} lines, {allowed} allowed");
    owner.close().await;
}

#[tokio::test]
async fn a_pace_is_set_through_the_socket_seen_and_taken_back() {
    let sandbox = Sandbox::start().await.unwrap();
    let owner = Owner::delivering(&sandbox).await;
    let client = owner.client();
    let wanted = Pace {
        rate_events: Some(1),
        rate_bytes: Some(1 << 20),
    };
    client.set_pace(wanted).await.unwrap();
    assert_eq!(client.status().await.unwrap().pace.pace(), wanted);
    let events: Vec<_> = (1..=3).map(message).collect();
    client.append(&events).await.unwrap();
    let mut watch = owner.queue.watch();
    let held = watch.wait_for(|status| status.pace.next.is_some()).await;
    let held = held.unwrap();
    assert_eq!((held.pending, held.flusher), (2, FlusherState::Sending));
    client.set_pace(Pace::default()).await.unwrap();
    sandbox.wait_for_accepted(3).await.unwrap();
    assert_eq!(owner.queue.status().pace, PaceStatus::default());
    owner.close().await;
}

#[tokio::test]
async fn a_drain_tells_its_progress_and_leaves_the_queue_open() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.go_away().await.unwrap();
    let owner = Owner::delivering(&sandbox).await;
    let client = owner.client();
    for n in 1..=3 {
        client.append(&[message(n)]).await.unwrap();
    }
    let mut backing_off = owner.queue.watch();
    backing_off
        .wait_for(|status| matches!(status.flusher, FlusherState::BackingOff { .. }))
        .await
        .unwrap();
    let mut lines = client.drain(LONG).await.unwrap();
    let first = lines.next().await.unwrap().unwrap();
    assert!(!first.done && !first.drained, "{first:?}");
    assert_eq!(first.status.pending, 3);
    sandbox.come_back().await.unwrap();
    client.wake().await.unwrap();
    let mut last = first;
    while let Some(line) = lines.next().await.unwrap() {
        assert!(!last.done, "a line after the last");
        last = line;
    }
    assert!(last.done && last.drained, "{last:?}");
    assert_eq!(last.status.ledger.delivered, 3);
    client.append(&[message(4)]).await.unwrap();
    sandbox.wait_for_accepted(4).await.unwrap();
    owner.close().await;
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline_and_at_once_if_nothing_is_pending() {
    let sandbox = Sandbox::start().await.unwrap();
    let owner = Owner::delivering(&sandbox).await;
    let client = owner.client();
    let line = client.drain(LONG).await.unwrap().next().await.unwrap();
    assert!(line.is_some_and(|line| line.done && line.drained));
    client.pause().await.unwrap();
    // It was answered once it held.
    let state = owner.queue.status().flusher;
    assert!(matches!(state, FlusherState::Paused { .. }), "{state:?}");
    client.append(&[message(1)]).await.unwrap();
    let mut lines = client.drain(Duration::from_millis(1)).await.unwrap();
    let mut last = None;
    while let Some(line) = lines.next().await.unwrap() {
        last = Some(line);
    }
    let last = last.unwrap();
    assert!(last.done && !last.drained, "{last:?}");
    assert_eq!(last.status.pending, 1);
    owner.close().await;
}

/// Also the bound on connections: all are taken by drains whose clients then go away.
#[tokio::test]
async fn a_drain_ends_with_its_client_and_makes_place_for_the_next() {
    let sandbox = Sandbox::start().await.unwrap();
    let owner = Owner::delivering(&sandbox).await;
    let client = owner.client();
    owner.queue.pause().await.unwrap();
    owner.queue.append(message(1)).await.unwrap();
    let mut drains = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut lines = client.drain(LONG).await.unwrap();
        assert!(!lines.next().await.unwrap().unwrap().done);
        drains.push(lines);
    }
    let error = client.status().await.unwrap_err();
    assert_eq!(refusal(error), (503, "busy".to_owned()));
    // The queue itself does not care.
    owner.queue.append(message(2)).await.unwrap();
    drop(drains);
    let served = async { while client.status().await.is_err() {} };
    timeout(LONG, served).await.expect("there is place again");
    owner.close().await;
}
