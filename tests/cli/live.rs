//! Commands on a spool that another process owns.

use everpost::sandbox::{Fault, Sandbox};
use everpost::{Event, Queue, exit};

use crate::set_up::{Place, bad_message, message};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_works_on_a_running_service() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    let service = place.serve(&[]);

    let appended = place.feed(&["append", "--ack"], &(message(1) + &bad_message(2)));
    assert_eq!(appended.expect(exit::DONE).out, "ACK 0\nACK 1\n");
    let drained = place.run(&["drain", "--json"]).expect(exit::DONE).json();
    assert_eq!(drained["end"], "drained");
    let letters = place
        .run(&["dead", "list", "--json"])
        .expect(exit::DONE)
        .lines();
    assert_eq!(letters[0]["seq"], 2);
    place
        .run(&["dead", "discard", "2", "--yes"])
        .expect(exit::DONE);

    place.run(&["pause"]).expect(exit::DONE);
    place.append(3, 700);
    let paused = place.run(&["drain"]).expect(exit::PAUSED);
    assert!(paused.err.contains("700 events pending"), "{}", paused.err);
    let status = place.run(&["status", "--json"]).expect(exit::DONE).json();
    assert_eq!(status["live"], true);
    assert_eq!(status["flusher"]["state"], "paused");
    assert_eq!(status["flusher"]["reason"], "requested");
    assert_eq!(status["pending"], 700);
    assert_eq!(place.run(&["peek", "-n", "3", "--json"]).lines().len(), 3);
    assert_eq!(place.run(&["export"]).expect(exit::DONE).lines().len(), 700);
    place.run(&["resume"]).expect(exit::DONE);
    place.run(&["wake"]).expect(exit::DONE);
    place.run(&["drain"]).expect(exit::DONE);
    sandbox
        .check_order([1].into_iter().chain(3..703).map(|n| n.to_string()))
        .unwrap();

    let level = place
        .feed(&["append", "--level", "written", "--wait", "0"], "1\n")
        .expect(exit::IN_USE);
    assert!(level.err.contains("its owner decides"), "{}", level.err);
    let second = place.run(&["run", "--wait", "0"]).expect(exit::IN_USE);
    assert!(
        second.err.contains("in use by another process"),
        "{}",
        second.err
    );
    place.run(&["verify"]).expect(exit::DONE);
    service.stop().expect(exit::DONE);
    place.run(&["verify"]).expect(exit::DONE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pace_of_a_running_service_is_shown_and_set_and_ends_with_it() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    place.append(1, 1);
    let typed = ["pace", "--rate-events", "1"];
    let refused = place.run(&typed).expect(exit::USAGE);
    assert!(refused.err.contains("none answers"), "{}", refused.err);
    let shown = place.run(&["pace"]).expect(exit::DONE).out;
    assert_eq!(
        shown,
        "no owner answers; the next one begins with: as fast as the receiver answers\n"
    );
    let service = place.serve(&[]);
    let shown = place.run(&["pace"]).expect(exit::DONE).out;
    assert_eq!(shown, "as fast as the receiver answers\n");
    let shown = place.run(&typed).expect(exit::DONE).out;
    assert!(shown.starts_with("at most 1 events/s"), "{shown}");
    let shown = place.run(&["pace", "--rate-bytes", "1MiB"]).out;
    assert!(
        shown.starts_with("at most 1 events/s and 1.0 MiB/s"),
        "{shown}"
    );
    place.append(2, 3);
    let status = place.run(&["status"]).expect(exit::DONE).out;
    assert!(
        status.contains("\npace         at most 1 events/s"),
        "{status}"
    );
    let off = [
        "pace",
        "--rate-events",
        "off",
        "--rate-bytes",
        "off",
        "--json",
    ];
    let shown = place.run(&off).expect(exit::DONE).json();
    assert_eq!(shown["live"], true);
    assert!(shown["rate_events"].is_null() && shown["rate_bytes"].is_null());
    place.run(&typed).expect(exit::DONE);
    service.stop().expect(exit::DONE);
    let again = place.serve(&[]);
    let shown = place.run(&["pace"]).expect(exit::DONE).out;
    assert_eq!(shown, "as fast as the receiver answers\n");
    place
        .run(&["pace", "--rate-events", "0"])
        .expect(exit::USAGE);
    again.stop().expect(exit::DONE);
    sandbox.check_order((1..=4).map(|n| n.to_string())).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_sees_the_service_work_and_stop() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    let service = place.serve(&[]);
    let mut watcher = place.start(&["status", "--watch", "--json"]);
    watcher.read_until(|line| line.contains("\"state\":\"idle\""));
    sandbox.always(Fault::status(503));
    place.append(1, 2);
    watcher.read_until(|line| line.contains("\"state\":\"backing_off\""));
    sandbox.clear();
    place.run(&["wake"]).expect(exit::DONE);
    watcher.read_until(|line| line.contains("\"delivered\":2"));
    service.stop().expect(exit::DONE);
    watcher.read_until(|line| line.contains("\"live\":false"));
    watcher.signal("-INT");
    watcher.end().expect(exit::DONE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_an_owner_that_does_not_answer_looking_works_and_the_rest_names_its_pid() {
    let mut place = Place::new();
    place.set_env("EVERPOST_WAIT", "0");
    let queue = Queue::builder(place.spool()).open().await.unwrap();
    queue.append(Event::json("1").unwrap()).await.unwrap();
    let pid = format!("pid=`{}`", std::process::id());
    let looking: [&[&str]; 7] = [
        &["status"],
        &["peek"],
        &["export"],
        &["dead", "list"],
        &["incidents"],
        &["verify"],
        &["repair"],
    ];
    for args in looking {
        let ended = place.run(args).expect(exit::DONE);
        assert_eq!(ended.err, "", "{args:?}");
    }
    assert_eq!(place.run(&["export"]).lines().len(), 1);
    let woken = place.run(&["wake"]).expect(exit::DONE);
    assert!(woken.out.starts_with("no owner answers; "), "{woken:?}");
    let args: [&[&str]; 6] = [
        &["append"],
        &["drain"],
        &["pause"],
        &["dead", "discard", "--all", "--yes"],
        &["incidents", "--all"],
        &["repair", "--apply"],
    ];
    for args in args {
        let ended = place.run(args).expect(exit::IN_USE);
        assert!(ended.err.contains(&pid), "{args:?}: {}", ended.err);
        assert_eq!(ended.err.lines().count(), 2, "{}", ended.err);
    }
}
