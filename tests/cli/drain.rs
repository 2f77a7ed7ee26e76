//! `drain` and the service.

use everpost::exit;
use everpost::sandbox::{Fault, Sandbox};

use crate::set_up::{Place, bad_message, message};

fn ids(range: std::ops::RangeInclusive<u64>) -> impl Iterator<Item = String> {
    range.map(|n| n.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_lines_arrive_once_and_in_order() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    place.append(1, 5_000);
    let drained = place.run(&["drain", "--json"]).expect(exit::DONE).json();
    assert_eq!(drained["end"], "drained");
    assert_eq!(
        (drained["delivered"].as_u64(), drained["pending"].as_u64()),
        (Some(5_000), Some(0))
    );
    sandbox.check_order(ids(1..=5_000)).unwrap();
    assert!(sandbox.duplicates().is_empty());
    let again = place.run(&["drain"]).expect(exit::DONE);
    assert!(
        again.out.starts_with("delivered 0 events; took "),
        "{again:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_takes_lines_in_and_delivers_them_once_and_in_order() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    let mut service = place.serve(&[]);
    let lines: String = (1..=5_000).map(message).collect();
    service.running.write(&lines);
    sandbox.wait_for_accepted(5_000).await.unwrap();
    let ended = service.stop().expect(exit::DONE);
    assert_eq!(ended.out, "closed; 0 events pending\n");
    sandbox.check_order(ids(1..=5_000)).unwrap();
    assert!(sandbox.duplicates().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_closes_within_its_deadline_and_says_what_remains() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.go_away().await.unwrap();
    let place = Place::with(&sandbox);
    place.append(1, 3);
    let ended = place.serve(&["--deadline", "50ms", "--json"]).stop();
    let report = ended.expect(exit::PENDING).json();
    assert_eq!(
        (report["drained"].as_bool(), report["pending"].as_u64()),
        (Some(false), Some(3))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_pauses_on_a_wrong_key_and_tries_at_once_with_a_right_one() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    place.append(1, 2);
    let key = sandbox.key().to_owned();
    assert!(sandbox.revoke_key(&key));
    for _ in 0..2 {
        // The second time it is paused from the beginning.
        let paused = place.run(&["drain"]).expect(exit::PAUSED);
        assert!(
            paused.err.ends_with(
                "everpost: delivery is paused: the key is not accepted (HTTP 401, Request is \
                 missing a valid Authorization header.); 2 events pending\n\
                 hint: put a valid key into BA_API_KEY or BA_API_KEY_FILE\n"
            ),
            "{}",
            paused.err
        );
    }
    let status = place.run(&["status", "--json"]).expect(exit::DONE).json();
    assert_eq!(status["paused"]["reason"], "credentials");
    sandbox.accept_key(key);
    place.run(&["drain"]).expect(exit::DONE);
    sandbox.check_order(ids(1..=2)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_on_request_holds_across_commands_until_it_is_resumed() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    for waiting in [0, 2] {
        place.append(1, waiting);
        place.run(&["pause"]).expect(exit::DONE);
        let status = place.run(&["status"]).expect(exit::DONE);
        assert!(
            status.out.contains("no owner answers; paused since"),
            "{}",
            status.out
        );
        place.run(&["resume"]).expect(exit::DONE);
        let status = place.run(&["status"]).expect(exit::DONE);
        assert!(!status.out.contains("paused"), "{}", status.out);
    }
    place.run(&["pause"]).expect(exit::DONE);
    let paused = place.run(&["drain"]).expect(exit::PAUSED);
    assert!(paused.err.contains("paused: on request"), "{}", paused.err);
    assert_eq!(sandbox.stats().requests, 0);
    place.run(&["resume"]).expect(exit::DONE);
    place.run(&["drain"]).expect(exit::DONE);
    sandbox.check_order(ids(1..=2)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_deadline_what_is_pending_is_kept() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    place.append(1, 3);
    sandbox.always(Fault::Hang);
    let ended = place
        .run(&["drain", "--deadline", "200ms"])
        .expect(exit::PENDING);
    assert!(
        ended
            .out
            .starts_with("delivered 0 events; 3 pending; took "),
        "{ended:?}"
    );
    sandbox.clear();
    place.run(&["drain"]).expect(exit::DONE);
    sandbox.check_order(ids(1..=3)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_ends_a_drain_and_nothing_is_lost() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    place.append(1, 900);
    sandbox.script([Fault::None, Fault::Hang]);
    let running = place.start(&["drain", "--json"]);
    sandbox.wait_for(|stats| stats.hanging == 1).await.unwrap();
    running.signal("-INT");
    let report = running.end().expect(exit::PENDING).json();
    assert_eq!(report["end"], "interrupted");
    assert_eq!(
        (report["delivered"].as_u64(), report["pending"].as_u64()),
        (Some(500), Some(400))
    );
    place.run(&["drain"]).expect(exit::DONE);
    sandbox.check_order(ids(1..=900)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_may_come_from_a_file() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut place = Place::with(&sandbox);
    let path = place.dir.path().join("key");
    std::fs::write(&path, format!("{}\n", sandbox.key())).unwrap();
    place.env.retain(|(name, _)| *name != "BA_API_KEY");
    place
        .feed(&["append"], &(message(1) + &bad_message(2)))
        .expect(exit::DONE);
    let without = place.run(&["drain"]).expect(exit::USAGE);
    assert!(without.err.contains("`BA_API_KEY`"), "{}", without.err);
    place
        .env
        .push(("BA_API_KEY_FILE", path.to_str().unwrap().to_owned()));
    let drained = place.run(&["drain"]).expect(exit::DONE);
    assert!(
        drained
            .out
            .starts_with("delivered 1 event; 1 set aside; see `everpost dead list`; took "),
        "{drained:?}"
    );
}
