//! Settings, and times, that are odd.

use super::*;

#[tokio::test]
async fn every_setting_out_of_range_is_named_and_no_file_is_made() {
    type Spoil = fn(&mut Settings);
    let cases: [(&str, Spoil); 25] = [
        ("journal_bytes", |s| s.journal_bytes = 16 << 10 >> 1),
        ("journal_bytes", |s| s.journal_bytes = u64::MAX),
        ("max_event_bytes", |s| s.max_event_bytes = 0),
        ("max_event_bytes", |s| {
            s.max_event_bytes = s.journal_bytes / 4 + 1
        }),
        ("tail_bytes", |s| s.tail_bytes = s.journal_bytes + 1),
        ("tail_bytes", |s| s.tail_bytes = 0),
        ("chunk_bytes", |s| s.chunk_bytes = 1),
        ("segment_bytes", |s| s.segment_bytes = s.chunk_bytes - 1),
        ("intake_bytes", |s| s.intake_bytes = 0),
        ("max_bytes", |s| s.max_bytes = 1 << 19),
        ("max_age", |s| s.max_age = Some(Duration::from_millis(999))),
        ("sync_every", |s| {
            let sync_every = Duration::ZERO;
            s.durability = Durability::Written { sync_every };
        }),
        ("batch_events", |s| s.delivery.batch_events = 0),
        ("batch_bytes", |s| s.delivery.batch_bytes = 0),
        ("backoff_multiplier", |s| {
            s.delivery.backoff_multiplier = 0.5
        }),
        ("backoff_multiplier", |s| {
            s.delivery.backoff_multiplier = f64::INFINITY;
        }),
        ("backoff_jitter", |s| s.delivery.backoff_jitter = f64::NAN),
        ("backoff_jitter", |s| s.delivery.backoff_jitter = -0.1),
        ("backoff_min", |s| s.delivery.backoff_min = Duration::ZERO),
        ("backoff_max", |s| s.delivery.backoff_max = Duration::MAX),
        ("backoff_max", |s| s.delivery.backoff_max = Duration::ZERO),
        ("retry_after_max", |s| {
            s.delivery.retry_after_max = Duration::ZERO
        }),
        ("breaker_refusals", |s| s.delivery.breaker_refusals = 0),
        ("probe_min", |s| s.delivery.probe_min = Duration::ZERO),
        ("probe_max", |s| s.delivery.probe_max = Duration::ZERO),
    ];
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    for (field, spoil) in cases {
        let mut settings = settings();
        spoil(&mut settings);
        let error = Queue::builder(&spool).settings(settings).open().await;
        let error = Error::from(error.unwrap_err());
        let Error::Settings { problems } = &error else {
            panic!("{error:?}")
        };
        let named = format!("`{field}");
        assert!(problems.iter().any(|p| p.starts_with(&named)), "{error}");
        assert!(error.to_string().contains("must be"), "{error}");
        assert_hint(&error, "fields named");
    }
    assert!(!spool.exists());
}

#[tokio::test]
async fn settings_may_change_from_opening_to_opening() {
    let world = World::new().await;
    let mut n = 0;
    world.sandbox.go_away().await.unwrap();
    for (journal, tail, on_full) in [
        (512 << 10, 256 << 10, OnFull::Reject),
        (64 << 10, 4 << 10, OnFull::Block),
        (2 << 20, 1 << 20, OnFull::DropOldest),
        (16 << 10, 16 << 10, OnFull::Reject),
    ] {
        let mut settings = settings_that_wait();
        settings.journal_bytes = journal;
        settings.tail_bytes = tail;
        settings.max_event_bytes = 4 << 10;
        settings.on_full = on_full;
        let queue = world.open(settings).await;
        assert_eq!(queue.status().pending, n);
        for _ in 0..100 {
            n += 1;
            queue
                .append(event_with(n, &"x".repeat(1_500)))
                .await
                .unwrap();
        }
        let closed = within(queue.close(Duration::ZERO)).await.unwrap();
        assert_books(&closed.status);
    }
    world.sandbox.come_back().await.unwrap();
    let queue = world.open(settings()).await;
    drained(&queue).await;
    world.sandbox.check_order(ids(1..=n)).unwrap();
}

#[tokio::test]
async fn odd_times_and_repeated_ids_are_taken_as_they_are() {
    let world = World::new().await;
    let queue = world.open(settings()).await;
    let before_1970 = UNIX_EPOCH - Duration::from_secs(1);
    let far = UNIX_EPOCH + Duration::from_secs(1 << 40);
    let odd = [
        event(1).with_time(before_1970),
        event(2).with_time(far),
        event(2).with_time(SystemTime::UNIX_EPOCH),
    ];
    let receipts = queue.append_all(odd).await.unwrap();
    assert!(
        receipts
            .iter()
            .map(|r| (r.seq, r.id))
            .eq([(1, id(1)), (2, id(2)), (3, id(2)),])
    );
    let status = drained(&queue).await;
    assert_eq!(status.ledger.delivered, 3);
    assert_eq!(world.sandbox.stats().accepted, 3);
}
