//! `fleet run` and `fleet status --watch` as processes that live for a while: signals, the watchdog, and
//! what is said in clear.

use everpost::exit;
use everpost::sandbox::{Fault, Sandbox};
use serde_json::Value;

use crate::fleet::{device, settled, setup, worker};
use crate::nats::Nats;
use crate::set_up::{Place, message};

/// Whatever the words, nothing goes to another machine in clear unless a person says so.
#[test]
fn another_machine_is_spoken_to_in_clear_only_if_that_is_said() {
    let Some(nats) = Nats::start("") else { return };
    let place = Place::new();
    setup(&place, &nats, &["--partitions", "4"]).expect(exit::DONE);
    // This machine by an address that is not known to be it.
    let away = nats.url().replace("127.0.0.1", "0.0.0.0");
    let run = |words: &[&str], more: &[&str]| {
        let words = [&["fleet"], words, &["--nats", &away], more].concat();
        place.run(&words)
    };
    let alone = [
        "--replicas",
        "1",
        "--accept-few-replicas",
        "--accept-sync-unknown",
    ];
    let commands: [&[&str]; 6] = [
        &[&["setup"][..], &alone].concat(),
        &[&["check", "--accept-no-owner"][..], &alone].concat(),
        &["status"],
        &["dead", "list"],
        &["rewind", "--yes"],
        &["run", "--to", "https://127.0.0.1:1/in"],
    ];
    for words in commands {
        let refused = run(words, &[]).expect(exit::USAGE);
        for said in ["the server does not speak TLS", "--allow-plain"] {
            assert!(refused.err.contains(said), "{words:?}: {refused:?}");
        }
    }
    for words in &commands[..5] {
        run(words, &["--allow-plain"]).expect(exit::DONE);
    }
    let insists = nats.url().replace("nats://", "tls://");
    let insists = place.run(&["fleet", "status", "--nats", &insists, "--allow-plain"]);
    let refused = insists.expect(exit::USAGE);
    assert!(refused.err.contains("begins with `tls://`"), "{refused:?}");
}

/// The batch under way is the receiver's to answer, and whatever becomes of it, it is sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_a_worker_at_once_and_nothing_is_lost() {
    let Some(nats) = Nats::start("") else { return };
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    setup(&place, &nats, &["--partitions", "4"]).expect(exit::DONE);
    device(&place, &nats, &["--as", "sensor-7"]).expect(exit::DONE);
    let lines: String = (1..=5).map(message).collect();
    place.feed(&["append"], &lines).expect(exit::DONE);
    place.run(&["drain"]).expect(exit::DONE);

    sandbox.always(Fault::Hang);
    let words = ["--to", "botanalytics", "--deadline", "60s"];
    let service = worker(&place, &nats, &words);
    sandbox.wait_for(|stats| stats.hanging == 1).await.unwrap();
    service.running.signal("-INT");
    service.hear("STOPPING=1");
    service.running.signal("-INT");
    // With the deadline it would be another code.
    let ended = service.running.end().expect(exit::PENDING);
    assert!(ended.out.contains("left to the lease"), "{ended:?}");
    assert_eq!(sandbox.stats().accepted, 0);

    sandbox.clear();
    let service = worker(&place, &nats, &words);
    let books = settled(&place, &nats, 5);
    assert_eq!(books["delivered"], 5, "{books}");
    assert_eq!(sandbox.ids(), ["1", "2", "3", "4", "5"]);
    service.stop().expect(exit::DONE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_watchdog_hears_from_a_worker_until_it_ends() {
    let Some(nats) = Nats::start("") else { return };
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    setup(&place, &nats, &["--partitions", "4"]).expect(exit::DONE);
    let url = nats.url();
    let args = ["--nats", &url, "--to", "botanalytics"];
    let service = place.serve_command(&["fleet", "run"], &args, |command| {
        command.env("WATCHDOG_USEC", "60000")
    });
    for _ in 0..3 {
        service.hear("WATCHDOG=1");
    }
    service.running.signal("-TERM");
    let last = std::iter::repeat_with(|| service.heard()).find(|word| word != "WATCHDOG=1");
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
    service.running.end().expect(exit::DONE);
}

#[test]
fn a_watch_shows_the_books_anew_each_second_until_a_signal() {
    let Some(nats) = Nats::start("") else { return };
    let place = Place::new();
    setup(&place, &nats, &["--partitions", "4"]).expect(exit::DONE);
    device(&place, &nats, &["--as", "sensor-7"]).expect(exit::DONE);
    let url = nats.url();
    let mut stored = 0;
    for json in [true, false] {
        let mut args = vec!["fleet", "status", "--watch", "--nats", &url];
        args.extend(json.then_some("--json"));
        let mut watch = place.start(&args);
        let shows = |line: &str, wanted: u64| match json {
            true => serde_json::from_str::<Value>(line).unwrap()["stored"] == wanted,
            false => line.starts_with(&format!("stored       {wanted} event")),
        };
        // Twice as it is, so that it does not only tell what has changed.
        for _ in 0..2 {
            watch.read_until(|line| shows(line, stored));
        }
        stored += 1;
        place.feed(&["append"], &message(stored)).expect(exit::DONE);
        place.run(&["drain"]).expect(exit::DONE);
        watch.read_until(|line| shows(line, stored));
        watch.signal("-INT");
        let ended = watch.end().expect(exit::DONE);
        assert_eq!(ended.err, "");
        if json {
            // Whole lines, to the last.
            ended.lines();
        }
    }
}
