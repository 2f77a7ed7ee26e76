//! Receivers beside the API: `init --to`, and what `drain`, `run` and the rest make of it.

use std::fs;

use everpost::exit;
use everpost::sandbox::Sandbox;
use serde_json::{Value, json};

use crate::set_up::Place;

/// Stands in for any receiver.
async fn receiver() -> Sandbox {
    Sandbox::builder().any_receiver().start().await.unwrap()
}

/// An address below that of a sandbox.
fn at(sandbox: &Sandbox, rest: &str) -> String {
    format!("{}{rest}", sandbox.address())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readings_reach_a_webhook_as_lines_with_a_secret_from_its_file() {
    let sandbox = receiver().await;
    let place = Place::new();
    let to = format!("http://{}", at(&sandbox, "/in?shard=s3cret"));
    let header = format!("X-Api-Key={}", place.path("key").display());
    let made = place.run(&[
        "init",
        "--to",
        &to,
        "--form",
        "lines",
        "--header-file",
        &header,
        "--header",
        "X-Site=roof",
    ]);
    let made = made.expect(exit::DONE);
    assert!(!made.out.contains("s3cret"), "{made:?}");
    place
        .feed(&["append"], "{\"t\":1}\n{\"t\":2}\n")
        .expect(exit::DONE);

    // Without its secret nothing is sent, and the file is named.
    let stuck = place.run(&["drain"]).expect(exit::USAGE);
    assert!(
        stuck.err.contains(place.path("key").to_str().unwrap()),
        "{stuck:?}"
    );
    assert_eq!(sandbox.requests().len(), 0);

    fs::write(place.path("key"), "hunter2hunter2\n").unwrap();
    let drained = place.run(&["drain", "--json"]).expect(exit::DONE).json();
    assert_eq!(
        (&drained["end"], &drained["delivered"]),
        (&json!("drained"), &json!(2))
    );
    let events: Vec<_> = sandbox
        .accepted()
        .iter()
        .map(|e| e.json().unwrap().to_vec())
        .collect();
    assert_eq!(events, [b"{\"t\":1}", b"{\"t\":2}"]);
    let request = &sandbox.requests()[0];
    assert_eq!(request.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(request.header("x-api-key"), Some("hunter2hunter2"));
    assert_eq!(request.header("x-site"), Some("roof"));
    let config = place.run(&["config", "--json"]).expect(exit::DONE);
    assert!(
        !config.out.contains("s3cret") && !config.out.contains("hunter2"),
        "{config:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_delivers_to_otlp_and_loki_as_their_addresses_say() {
    let sandbox = receiver().await;
    for (to, with, path) in [
        ("otlp", "service.name=door", "/v1/logs"),
        ("loki", "job=door", "/loki/api/v1/push"),
    ] {
        sandbox.forget();
        let place = Place::new();
        let to = format!("{to}://{}", at(&sandbox, ""));
        place
            .run(&["init", "--to", &to, "--with", with])
            .expect(exit::DONE);
        let mut service = place.serve(&[]);
        service.running.write("{\"door\":\"open\"}\n");
        sandbox.wait_for_accepted(1).await.unwrap();
        service.stop().expect(exit::DONE);
        let request = &sandbox.requests()[0];
        assert_eq!(request.path, path);
        let body: Value = serde_json::from_slice(request.body.as_deref().unwrap()).unwrap();
        assert!(body.to_string().contains("door"), "{body}");
    }
}

/// A spool knew nothing of where its events were meant to go: whatever the next settings named got
/// them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_are_meant_for_one_receiver_go_to_no_other_unless_that_is_said() {
    let (meant, other) = (receiver().await, receiver().await);
    let mut place = Place::new();
    let to = format!("http://{}", at(&meant, "/in"));
    place.run(&["init", "--to", &to]).expect(exit::DONE);
    place.feed(&["append"], "{\"t\":1}\n").expect(exit::DONE);
    let elsewhere = format!("http://{}", at(&other, "/in"));
    place.settings(&format!("[service]\nreceiver = \"{elsewhere}\"\n"));
    for command in ["drain", "run"] {
        let refused = place.run(&[command]).expect(exit::USAGE);
        for word in [&to, &elsewhere, "settings.toml, line 2", "--redirect"] {
            assert!(refused.err.contains(word), "{word}: {refused:?}");
        }
    }
    assert_eq!((meant.requests().len(), other.requests().len()), (0, 0));
    place.run(&["drain", "--redirect"]).expect(exit::DONE);
    assert_eq!((meant.requests().len(), other.requests().len()), (0, 1));

    // What the spool does not say is the API, and not what some file names.
    let mut place = Place::new();
    place.run(&["init"]).expect(exit::DONE);
    place.feed(&["append"], "{\"t\":1}\n").expect(exit::DONE);
    place.settings(&format!("[service]\nreceiver = \"{elsewhere}\"\n"));
    let refused = place.run(&["drain"]).expect(exit::USAGE);
    assert!(
        refused.err.contains("meant for botanalytics"),
        "{refused:?}"
    );
    assert_eq!(other.requests().len(), 1);
}

#[test]
fn init_says_what_is_wrong_with_a_receiver_before_anything_is_made() {
    let place = Place::new();
    // The TLS of the operating system has its own files.
    let named = if cfg!(feature = "native-tls") {
        "by rustls"
    } else {
        "/no/such.pem"
    };
    let cases: [(&[&str], &str); 11] = [
        (&["--to", "ftp://x"], "address is not known"),
        (&["--to", "http://192.0.2.1/in"], "--allow-plain-http"),
        (&["--to", "https://u:p@x.example/in"], "credentials"),
        (
            &["--to", "https://x.example/in", "--form", "xml"],
            "there are array, lines",
        ),
        (
            &[
                "--to",
                "https://x.example/in",
                "--form",
                "cloud_events",
                "--with",
                "colour=red",
            ],
            "source and type",
        ),
        (
            &["--to", "https://x.example/in", "--with", "job=x"],
            "is nothing that the form needs",
        ),
        (
            &["--to", "https://x.example/in", "--header", "a b=c"],
            "header",
        ),
        (
            &["--to", "botanalytics", "--form", "lines"],
            "form of requests to botanalytics",
        ),
        (
            &["--to", "https://x.example/in", "--ca-file", "/no/such.pem"],
            named,
        ),
        (
            &[
                "--to",
                "https://x.example/in",
                "--client-cert",
                "/no/such.pem",
            ],
            "--client-key",
        ),
        (&["--form", "lines"], "--to"),
    ];
    for (words, said) in cases {
        let mut args = vec!["init"];
        args.extend(words);
        let refused = place.run(&args).expect(exit::USAGE);
        assert!(refused.err.contains(said), "{words:?}: {refused:?}");
        assert!(!place.spool().exists(), "{words:?}");
    }
}

#[test]
fn a_receiver_is_changed_by_force_alone_also_where_only_its_query_differs() {
    let place = Place::new();
    let init = |to: &str, more: &[&str]| {
        let mut args = vec!["init", "--to", to];
        args.extend(more);
        place.run(&args)
    };
    init("https://x.example/in?a=1", &[]).expect(exit::DONE);
    init("https://x.example/in?a=1", &[]).expect(exit::DONE);
    let refused = init("https://x.example/in?a=2", &[]).expect(exit::USAGE);
    assert!(
        refused.err.contains("differs in what is not shown"),
        "{refused:?}"
    );
    init("https://x.example/in?a=2", &["--force"]).expect(exit::DONE);
    init("botanalytics", &["--force"]).expect(exit::DONE);
    let config = place.run(&["config", "--json"]).expect(exit::DONE).json();
    assert_eq!(
        config["settings"]["service.receiver"]["value"],
        "botanalytics"
    );
}

#[test]
fn doctor_looks_along_the_way_to_the_receiver_of_the_spool() {
    let place = Place::new();
    // A port that nothing listens on.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let to = format!("http://{closed}/in");
    place
        .run(&["init", "--to", &to, "--bearer-env", "NO_SUCH_TOKEN"])
        .expect(exit::DONE);
    let checks = place
        .run(&["doctor", "--json"])
        .expect(exit::UNEXPECTED)
        .json();
    let verdict = |name: &str| {
        let checks = checks["checks"].as_array().unwrap();
        let found = checks.iter().find(|check| check["check"] == name);
        (
            found.unwrap()["verdict"].clone(),
            found.unwrap()["text"].to_string(),
        )
    };
    let (secrets, text) = verdict("secrets");
    assert!(
        secrets == "fail" && text.contains("NO_SUCH_TOKEN"),
        "{text}"
    );
    let (api, text) = verdict("api");
    assert!(
        api == "fail" && text.contains("connection refused"),
        "{text}"
    );
}

/// The relay speaks for the API: its clients were told that it had taken what went elsewhere.
#[test]
fn a_relay_refuses_a_spool_that_is_meant_for_another_receiver() {
    let place = Place::new();
    let dir = place.path("channels");
    let spool = dir.join("universal");
    let to = [
        "init",
        "--to",
        "https://x.example/in",
        "--spool",
        spool.to_str().unwrap(),
    ];
    place.run(&to).expect(exit::DONE);
    let dir = dir.to_str().unwrap();
    let relay = [
        "relay",
        "--dir",
        dir,
        "--listen",
        "127.0.0.1:0",
        "--channel",
        "universal",
    ];
    let refused = place.run(&relay).expect(exit::USAGE);
    assert!(
        refused.err.contains("x.example") && refused.err.contains("--to botanalytics"),
        "{refused:?}"
    );
}
