//! `fleet`: streams of real servers, made, checked and refused.

mod user;

use std::fs;
use std::io::Write as _;

use everpost::exit;
use everpost::sandbox::Sandbox;
use serde_json::{Value, json};

use crate::health::address;
use crate::nats::Nats;
use crate::set_up::{Ended, Place, Service, bad_message, message};

/// A command of a fleet on this server.
pub(crate) fn fleet(place: &Place, nats: &Nats, words: &[&str]) -> Ended {
    let address = nats.url();
    let mut args = vec!["fleet"];
    args.extend(words);
    args.extend(["--nats", &address]);
    place.run(&args)
}

/// What one server alone costs, accepted.
const ALONE: [&str; 4] = [
    "--replicas",
    "1",
    "--accept-few-replicas",
    "--accept-sync-unknown",
];

pub(crate) fn setup(place: &Place, nats: &Nats, words: &[&str]) -> Ended {
    let mut args = vec!["setup"];
    args.extend(words);
    args.extend(ALONE);
    fleet(place, nats, &args)
}

fn risks(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap();
    let names = findings.iter().map(|f| f["risk"].as_str().unwrap());
    let mut risks: Vec<&str> = names.collect();
    risks.sort_unstable();
    risks.dedup();
    risks
}

#[test]
fn streams_are_made_once_and_each_thing_that_costs_something_is_refused_by_its_name() {
    let Some(nats) = Nats::start("") else { return };
    let place = Place::new();

    // Three copies on one server cannot be had, and this one does not say that it syncs.
    let refused = fleet(&place, &nats, &["setup"]).expect(exit::USAGE);
    for said in [
        "few-servers",
        "sync-unknown",
        "--accept-sync-unknown",
        "costs:",
    ] {
        assert!(
            (refused.out.clone() + &refused.err).contains(said),
            "{said}: {refused:?}"
        );
    }
    let refused = fleet(&place, &nats, &["setup", "--replicas", "1", "--json"]);
    let refused = refused.expect(exit::USAGE);
    let report: Value = serde_json::from_str(&refused.out).unwrap();
    assert_eq!(risks(&report), ["few-replicas", "sync-unknown"]);
    assert_eq!(report["made"], json!([]));
    let missing = fleet(&place, &nats, &["check", "--json"]).expect(exit::UNEXPECTED);
    assert!(risks(&missing.json()).contains(&"missing"), "{missing:?}");

    let made = setup(&place, &nats, &["--partitions", "8", "--json"]).expect(exit::DONE);
    assert_eq!(
        made.json()["made"],
        json!(["EVENTS_CURSORS", "EVENTS_DEAD", "EVENTS"])
    );
    // The number of partitions need not be said again.
    let again = setup(&place, &nats, &["--json"]).expect(exit::DONE).json();
    assert_eq!(
        (&again["made"], &again["partitions"]),
        (&json!([]), &json!(8))
    );

    // What only the monitoring port tells.
    let monitor = nats.monitor();
    let seen = fleet(
        &place,
        &nats,
        &[
            "check",
            "--replicas",
            "1",
            "--monitor",
            &monitor,
            "--accept-few-replicas",
            "--accept-no-owner",
            "--json",
        ],
    );
    assert_eq!(
        risks(&seen.expect(exit::DONE).json()),
        ["few-replicas", "no-owner"]
    );

    // Another number of partitions is refused whatever is typed.
    let other = setup(&place, &nats, &["--partitions", "16", "--update", "--json"]);
    let other = other.expect(exit::USAGE);
    assert!(
        other.out.contains("it was made for 8 partitions, not 16"),
        "{other:?}"
    );
}

#[test]
fn a_stream_that_was_changed_is_named_and_mended_only_when_that_is_said() {
    let Some(nats) = Nats::start("") else { return };
    let place = Place::new();
    setup(&place, &nats, &["--partitions", "4"]).expect(exit::DONE);
    let mut config = nats.stream("EVENTS");
    for (key, value) in [
        ("retention", json!("interest")),
        ("discard", json!("old")),
        ("max_age", json!(86_400_000_000_000_u64)),
        ("max_msgs_per_subject", json!(9)),
        ("allow_atomic", json!(false)),
        ("allow_direct", json!(false)),
        ("subjects", json!(["events.>"])),
        ("max_bytes", json!(1_000_000)),
    ] {
        config[key] = value;
    }
    nats.request("$JS.API.STREAM.UPDATE.EVENTS", &config);
    let found = fleet(&place, &nats, &["check", "--json"]).expect(exit::UNEXPECTED);
    let expected = [
        "discard-old",
        "few-replicas",
        "few-servers",
        "max-age",
        "no-atomic",
        "no-direct",
        "per-subject",
        "retention",
        "subjects",
        "sync-unknown",
    ];
    assert_eq!(risks(&found.json()), expected);
    // Without --update nothing of it is changed, and each has to be accepted.
    setup(&place, &nats, &[]).expect(exit::USAGE);
    let all: Vec<String> = expected
        .iter()
        .map(|risk| format!("--accept-{risk}"))
        .collect();
    let mut words: Vec<&str> = all.iter().map(String::as_str).collect();
    words.retain(|word| !ALONE.contains(word) && *word != "--accept-few-servers");
    setup(&place, &nats, &words).expect(exit::DONE);
    assert_eq!(nats.stream("EVENTS")["discard"], "old");
    let mended = setup(&place, &nats, &["--update", "--json"]).expect(exit::DONE);
    assert_eq!(mended.json()["changed"], json!(["EVENTS"]));
    let config = nats.stream("EVENTS");
    assert_eq!(
        (&config["discard"], &config["max_bytes"]),
        (&json!("new"), &json!(1_000_000))
    );
    assert_eq!(config["subjects"].as_array().unwrap().len(), 4);
}

#[test]
fn what_keeps_a_command_from_the_servers_is_told_with_what_to_type() {
    let Some(nats) = Nats::start("authorization { users = [{ user: ops, password: hunter2 }] }\n")
    else {
        return;
    };
    let place = Place::new();
    let refused = fleet(&place, &nats, &["check"]).expect(exit::UNEXPECTED);
    assert!(refused.err.contains("credentials file"), "{refused:?}");
    let address = nats.url().replace("//", "//ops:hunter2@");
    let refused = place
        .run(&["fleet", "check", "--nats", &address])
        .expect(exit::USAGE);
    assert!(
        refused.err.contains(".creds") && !refused.err.contains("hunter2"),
        "{refused:?}"
    );
    let file = place.path("ops.creds");
    fs::File::create(&file)
        .unwrap()
        .write_all(b"hunter2\n")
        .unwrap();
    let file = file.to_str().unwrap();
    let refused = fleet(&place, &nats, &["check", "--credentials-file", file]);
    let refused = refused.expect(exit::UNEXPECTED);
    assert!(
        refused.err.contains("ops.creds") && !refused.err.contains("hunter2"),
        "{refused:?}"
    );
    drop(nats);
    let gone = place.run(&["fleet", "check", "--nats", "nats://127.0.0.1:1"]);
    let gone = gone.expect(exit::UNEXPECTED);
    assert!(gone.err.contains("no server can be reached"), "{gone:?}");
    let plain = place.run(&["fleet", "check", "--nats", "http://127.0.0.1:1"]);
    assert!(plain.expect(exit::USAGE).err.contains("nats://HOST"));
}

/// Makes a spool that delivers into the stream of this server, of four partitions.
pub(crate) fn device(place: &Place, nats: &Nats, words: &[&str]) -> Ended {
    let url = nats.url();
    let mut args = vec!["init", "--to", &url, "--partitions", "4"];
    args.extend(words);
    place.run(&args)
}

#[test]
fn a_device_delivers_into_the_stream_under_a_name_of_its_own_and_nowhere_else() {
    let Some(nats) = Nats::start("") else { return };
    let mut place = Place::new();
    // Its name is made once.
    device(&place, &nats, &[]).expect(exit::DONE);
    let name = |place: &Place| {
        let config = place.run(&["config", "--json"]).expect(exit::DONE).json();
        let value = &config["settings"]["service.receiver"]["value"];
        value["spool"].as_str().unwrap().to_owned()
    };
    let made = name(&place);
    device(&place, &nats, &[]).expect(exit::DONE);
    assert_eq!(name(&place), made);
    let other = Place::new();
    device(&other, &nats, &[]).expect(exit::DONE);
    assert_ne!(name(&other), made, "two devices of one machine");
    let refused = device(&place, &nats, &["--as", "sensor-7"]).expect(exit::USAGE);
    assert!(refused.err.contains("--force"), "{refused:?}");
    device(&place, &nats, &["--as", "sensor-7", "--force"]).expect(exit::DONE);

    place
        .feed(&["append"], "{\"t\":1}\n{\"t\":2}\n")
        .expect(exit::DONE);
    // Without the stream everything is kept.
    place
        .run(&["drain", "--deadline", "0s"])
        .expect(exit::PENDING);
    let doctor = place.run(&["doctor"]).expect(exit::UNEXPECTED);
    assert!(doctor.out.contains("fail  stream"), "{doctor:?}");
    setup(&place, &nats, &["--partitions", "4"]).expect(exit::DONE);
    let drained = place.run(&["drain", "--json"]).expect(exit::DONE).json();
    assert_eq!(drained["delivered"], 2, "{drained}");
    let doctor = place.run(&["doctor"]);
    assert!(doctor.out.contains("ok    stream"), "{doctor:?}");
    let state = nats.request(
        "$JS.API.STREAM.INFO.EVENTS",
        &json!({"subjects_filter": ">"}),
    );
    let subjects = state["state"]["subjects"].as_object().unwrap();
    let subjects: Vec<_> = subjects.iter().collect();
    assert_eq!(subjects.len(), 1, "{subjects:?}");
    assert!(subjects[0].0.ends_with(".sensor-7"), "{subjects:?}");

    // What is meant for one name in the stream does not go out under another.
    place.feed(&["append"], "{\"t\":3}\n").expect(exit::DONE);
    let elsewhere = format!(
        "[service.receiver]\nservers = \"{}\"\nspool = \"sensor-8\"\nnames = {{ stream = \"EVENTS\", partitions = 4 }}\n",
        nats.url()
    );
    place.settings(&elsewhere);
    for command in ["drain", "run"] {
        let refused = place.run(&[command]).expect(exit::USAGE);
        for said in ["sensor-7", "sensor-8", "--redirect"] {
            assert!(refused.err.contains(said), "{said}: {refused:?}");
        }
    }
    let dir = place.path("relay");
    let dir = dir.to_str().unwrap();
    let relay = place.run(&["relay", "--dir", dir, "--channel", "universal", "--check"]);
    let relay = relay.expect(exit::USAGE);
    assert!(relay.err.contains("sensor-8"), "{relay:?}");
}

#[test]
fn init_says_what_is_wrong_with_a_stream_before_anything_is_made() {
    let place = Place::new();
    let cases: [(&[&str], &str); 6] = [
        (&["--to", "nats://u:hunter2@a"], "credentials"),
        (&["--to", "nats://a", "--as", "a.b"], "--as"),
        (&["--to", "nats://a", "--partitions", "0"], "512"),
        (
            &["--to", "nats://a", "--form", "lines"],
            "--form is for receivers over HTTP",
        ),
        (
            &["--to", "https://a.example/in", "--as", "x"],
            "--as is for a stream",
        ),
        (&["--as", "x"], "--to"),
    ];
    for (words, said) in cases {
        let mut args = vec!["init"];
        args.extend(words);
        let refused = place.run(&args).expect(exit::USAGE);
        assert!(
            refused.err.contains(said) && !refused.err.contains("hunter2"),
            "{words:?}: {refused:?}"
        );
        assert!(!place.spool().exists(), "{words:?}");
    }
}

/// A worker of this fleet, before this sandbox.
pub(crate) fn worker(place: &Place, nats: &Nats, words: &[&str]) -> Service {
    let mut args = vec!["--nats"];
    let url = nats.url();
    args.push(&url);
    args.extend(words);
    place.serve_command(&["fleet", "run"], &args, |command| {
        command.env("EVERPOST_LOG", "info")
    })
}

/// The books, once a worker has each partition and nothing is pending.
pub(crate) fn settled(place: &Place, nats: &Nats, stored: u64) -> Value {
    for _ in 0..600 {
        let books = fleet(place, nats, &["status", "--json"])
            .expect(exit::DONE)
            .json();
        let is_owned = books["unowned"] == json!([]);
        let is_empty = books["pending"] == 0 && books["stored"] == stored;
        if is_owned && is_empty && books["balanced"] == true {
            return books;
        }
    }
    panic!(
        "not settled: {:?}",
        fleet(place, nats, &["status", "--all"])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_carries_events_on_and_people_decide_on_what_was_refused() {
    let Some(nats) = Nats::start("") else { return };
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    let missing = fleet(&place, &nats, &["status"]).expect(exit::USAGE);
    assert!(missing.err.contains("fleet setup"), "{missing:?}");
    setup(&place, &nats, &["--partitions", "4"]).expect(exit::DONE);
    device(&place, &nats, &["--as", "sensor-7"]).expect(exit::DONE);
    let lines = [message(1), bad_message(2), message(3)].concat();
    place.feed(&["append"], &lines).expect(exit::DONE);
    place.run(&["drain"]).expect(exit::DONE);

    let mut service = worker(
        &place,
        &nats,
        &["--to", "botanalytics", "--listen", "127.0.0.1:0"],
    );
    sandbox.wait_for_accepted(2).await.unwrap();
    let books = settled(&place, &nats, 3);
    assert_eq!(
        (&books["delivered"], &books["dead"]),
        (&json!(2), &json!(1)),
        "{books}"
    );
    assert_eq!(sandbox.ids(), ["1", "3"]);
    let well = fleet(
        &place,
        &nats,
        &[
            "check",
            "--replicas",
            "1",
            "--accept-few-replicas",
            "--accept-sync-unknown",
            "--json",
        ],
    );
    assert_eq!(
        risks(&well.expect(exit::DONE).json()),
        ["few-replicas", "sync-unknown"]
    );

    // What it serves names no event and no key.
    let at = address(&mut service);
    let ask = |path: &str| {
        let mut stream = std::net::TcpStream::connect(at).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {at}\r\n\r\n").unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
        text
    };
    assert!(ask("/livez").contains("200 OK") && ask("/readyz").contains("\"ready\":true"));
    let delivered = |numbers: &str| -> f64 {
        let lines = numbers
            .lines()
            .filter(|line| line.starts_with("everpost_fleet_events_delivered_total{"));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    };
    // They follow within a third of the lease.
    let numbers = (0..10_000)
        .map(|_| ask("/metrics"))
        .find(|numbers| delivered(numbers) == 2.0);
    let numbers = numbers.unwrap_or_else(|| panic!("{}", ask("/metrics")));
    assert!(!numbers.contains(sandbox.key()), "{numbers}");

    // The letter, by the place of its event.
    let letters = fleet(&place, &nats, &["dead", "list", "--json"]).expect(exit::DONE);
    let letter = letters.json();
    assert_eq!(
        (&letter["seq"], &letter["spool"]),
        (&json!(2), &json!("sensor-7"))
    );
    let shown = fleet(&place, &nats, &["dead", "show", "2"]).expect(exit::DONE);
    assert!(
        shown.out.contains("\"tex\":\"hi\"") && shown.out.contains("sensor-7"),
        "{shown:?}"
    );
    fleet(&place, &nats, &["dead", "retry", "2"]).expect(exit::USAGE);
    fleet(&place, &nats, &["dead", "show", "9"]).expect(exit::USAGE);
    fleet(&place, &nats, &["dead", "retry", "2", "--yes"]).expect(exit::DONE);
    // It is refused again, at its new place.
    let books = settled(&place, &nats, 4);
    assert_eq!(
        (&books["dead"], &books["letters"]),
        (&json!(2), &json!(1)),
        "{books}"
    );
    let discarded = fleet(&place, &nats, &["dead", "discard", "--all", "--yes"]);
    discarded.expect(exit::DONE);
    assert_eq!(settled(&place, &nats, 4)["letters"], 0);

    let ended = service.stop().expect(exit::DONE);
    assert!(
        ended.out.contains("all partitions are given up"),
        "{ended:?}"
    );
    assert!(!ended.err.contains(sandbox.key()), "{ended:?}");
    let status = fleet(&place, &nats, &["status"]).expect(exit::DONE);
    for said in ["balance", "0 workers; 4 partitions without one", "sensor-7"] {
        let is_there = status.out.contains(said);
        assert_eq!(is_there, said != "sensor-7", "{said}: {status:?}");
    }
    // For a stream that was put back from a copy.
    fleet(&place, &nats, &["rewind"]).expect(exit::USAGE);
    fleet(&place, &nats, &["rewind", "--yes"]).expect(exit::DONE);
    let books = fleet(&place, &nats, &["status", "--json"])
        .expect(exit::DONE)
        .json();
    assert_eq!(
        (&books["pending"], &books["delivered"]),
        (&json!(4), &json!(0)),
        "{books}"
    );
}
