//! Commands without time to open the spool, and those that are told twice to end.

use std::process::Command;

use everpost::exit;
use everpost::sandbox::Sandbox;

use crate::set_up::Place;

/// A drain without time said "0 events still pending" and ended with 6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_without_time_is_enough_for_nothing_and_for_nothing_else() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.go_away().await.unwrap();
    let place = Place::with(&sandbox);
    place.feed(&["append"], "").expect(exit::DONE);
    let drained = place.run(&["drain", "--deadline", "0s", "--json"]);
    assert_eq!(drained.expect(exit::DONE).json()["end"], "drained");
    let service = place.serve(&[]);
    place.run(&["drain", "--deadline", "0s"]).expect(exit::DONE);
    service.stop().expect(exit::DONE);
    place.append(1, 1);
    let drained = place.run(&["drain", "--deadline", "0s", "--json"]);
    assert_eq!(drained.expect(exit::PENDING).json()["end"], "deadline");
}

/// The second signal came upon a queue that the first had all but closed, and `run` ended with 1
/// and "queue is closed".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_signals_in_a_row_end_the_service_as_one() {
    let sandbox = Sandbox::start().await.unwrap();
    for _ in 0..10 {
        let place = Place::with(&sandbox);
        let service = place.serve(&[]);
        service.running.signal("-TERM");
        // It may have ended already.
        let pid = service.running.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).output().unwrap();
        let ended = service.running.end().expect(exit::DONE);
        assert_eq!(ended.out, "closed; 0 events pending\n");
    }
}
