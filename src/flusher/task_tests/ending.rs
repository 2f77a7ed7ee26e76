//! How the task ends: closed, without handles, by a panic, with its log or its runtime.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_sink_surfaces_and_the_events_stay() {
    let bench = Bench::new(2, steady(), ScriptedSink::new(|_, _| Reply::Panic)).await;
    let view = bench.until(FlusherView::has_ended).await;
    let FlusherState::Failed { message } = view.state else {
        panic!("{:?}", view.state);
    };
    assert_eq!(message, "the sink is broken");
    bench.task.await.unwrap();
    for _ in 0..2 {
        let error = bench.flusher.close(secs(1)).await.unwrap_err();
        assert!(
            matches!(&error, Error::Panicked { message, .. } if message == "the sink is broken")
        );
    }
    assert_eq!(ledger(&bench.log).await.pending(), 2);
}

#[tokio::test(start_paused = true)]
async fn closing_keeps_its_deadline_when_the_receiver_hangs() {
    let bench = Bench::new(
        2,
        steady(),
        ScriptedSink::new(|_, _| Reply::Gate(outcome(DELIVERED))),
    )
    .await;
    bench.sink.calls(1).await;
    let started = Instant::now();
    assert!(!bench.flusher.close(secs(10)).await.unwrap());
    let took = started.elapsed();
    assert!(
        took >= secs(10) && took <= secs(10) + Duration::from_millis(2),
        "{took:?}"
    );
    bench.task.await.unwrap();
    bench.sink.shut();
    bench.sink.gate.add_permits(9);
    assert_eq!(ledger(&bench.log).await.pending(), 2);
    assert_eq!(bench.flusher.view().state, FlusherState::Closed);
    assert!(
        !bench.flusher.close(Duration::MAX).await.unwrap(),
        "a second close says the same"
    );
}

// In real time, which does not run on by itself while the log works; nothing waits for it.
#[tokio::test]
async fn closing_drains_what_is_there() {
    let bench = Bench::new(
        50,
        Delivery {
            batch_events: 7,
            ..steady()
        },
        fails(0, RETRY),
    )
    .await;
    assert!(bench.flusher.close(secs(3600)).await.unwrap());
    assert_eq!(ledger(&bench.log).await.delivered, 50);
    assert!(bench.flusher.view().drained);
    bench.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_in_mid_send_ends_it_without_sending_more() {
    let bench = Bench::new(
        2,
        steady(),
        ScriptedSink::new(|_, _| Reply::Gate(outcome(DELIVERED))),
    )
    .await;
    bench.sink.calls(1).await;
    let other = bench.flusher.clone();
    let mut views = other.views();
    drop(bench.flusher);
    tokio::task::yield_now().await;
    assert_eq!(other.view().state, FlusherState::Sending);
    drop(other);
    views.wait_for(FlusherView::has_ended).await.unwrap();
    bench.task.await.unwrap();
    bench.sink.shut();
    bench.sink.gate.add_permits(9);
    assert_eq!(ledger(&bench.log).await.pending(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_closes_or_breaks_ends_the_flusher() {
    let bench = Bench::new(0, steady(), fails(0, RETRY)).await;
    bench.until(is_idle).await;
    bench.log.close().await.unwrap();
    bench.until(|view| view.state == FlusherState::Closed).await;
    bench.task.await.unwrap();

    let bench = Bench::new(0, steady(), fails(0, RETRY)).await;
    let broken: Result<(), Error> = bench.log.run(|_| panic!("boom")).await;
    broken.unwrap_err();
    bench.until(FlusherView::has_ended).await;
    let error = bench.flusher.close(secs(3600)).await.unwrap_err();
    assert!(error.to_string().contains("boom"), "{error}");
}

#[test]
fn a_runtime_that_ends_in_mid_send_leaves_a_flusher_that_says_so() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let bench = runtime.block_on(async {
        let sink = ScriptedSink::new(|_, _| Reply::Gate(outcome(DELIVERED)));
        let bench = Bench::new(1, steady(), sink).await;
        bench.sink.calls(1).await;
        bench
    });
    drop(runtime);
    assert_eq!(bench.flusher.view().state, FlusherState::Closed);
    let drained = pollster::block_on(bench.flusher.close(secs(9))).unwrap();
    assert!(!drained);
    assert_eq!(pollster::block_on(ledger(&bench.log)).pending(), 1);
}
