//! What is sent, and what a sound answer means.

use std::time::Duration;

use everpost::botanalytics::{Botanalytics, KeyError, KeySource};
use everpost::classify::{Classifier, Rule};
use everpost::{Error, Sink, Verdict};

use crate::server::{Reply, Server, json, reply};
use crate::set_up::{ADDRESS, CREDENTIALS, RETRY, Standing, ask, builder, key, request};

#[tokio::test]
async fn the_request_is_as_documented_to_the_byte() {
    let server = Server::start(vec![json("200 OK", r#"{"request_id":"r-1"}"#)]).await;
    let sink = builder(server.base_url() + "/").build().unwrap();
    let request = request(&[r#" {"b":1.00,"a":"\u00e9"} "#, "{}"]);
    let outcome = sink.deliver(request.clone()).await;
    assert_eq!(outcome.verdict, Verdict::Delivered);
    assert_eq!(outcome.answer.status, Some(200));
    assert_eq!(outcome.answer.request_id.as_deref(), Some("r-1"));

    let requests = server.requests();
    let (head, body) = &requests[0];
    let expected = r#"{"messages":[{"message": {"b":1.00,"a":"\u00e9"} },{"message":{}}]}"#;
    assert_eq!(std::str::from_utf8(body).unwrap(), expected);
    let mut lines: Vec<&str> = head.trim_end().split("\r\n").collect();
    assert_eq!(lines.remove(0), "POST /v2/messages HTTP/1.1");
    lines.sort_unstable();
    let expected = [
        "accept: application/json".to_owned(),
        format!("authorization: Bearer {}", key()),
        "connection: close".to_owned(),
        format!("content-length: {}", body.len()),
        "content-type: application/json".to_owned(),
        format!("host: {}", server.address),
        format!("idempotency-key: {}", request.batch().idempotency_key()),
        format!("user-agent: everpost/{}", env!("CARGO_PKG_VERSION")),
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn the_same_batch_is_sent_the_same_way_again() {
    let replies = vec![Reply::Reset, json("503 Busy", ""), json("200 OK", "{}")];
    let server = Server::start(replies).await;
    let sink = builder(server.base_url()).build().unwrap();
    let request = request(&["[1]", "[2]"]);
    for expected in [RETRY, RETRY, Verdict::Delivered] {
        assert_eq!(sink.deliver(request.clone()).await.verdict, expected);
    }
    let requests = server.requests();
    assert_eq!(requests[0], requests[1]);
    assert_eq!(requests[1], requests[2]);
}

#[tokio::test]
async fn client_headers_are_sent_only_when_asked_for() {
    let server = Server::start(vec![json("200 OK", "{}")]).await;
    let sink = builder(server.base_url())
        .client_id("mine", "1.2")
        .build()
        .unwrap();
    sink.deliver(request(&["1"])).await;
    let head = &server.requests()[0].0;
    assert!(
        head.contains("x-botanalytics-client-id: mine\r\n"),
        "{head}"
    );
    assert!(
        head.contains("x-botanalytics-client-version: 1.2\r\n"),
        "{head}"
    );

    let bad = builder(server.base_url()).client_id("a\nb", "1").build();
    assert!(matches!(bad, Err(Error::Sink { .. })), "{bad:?}");
}

#[tokio::test]
async fn statuses_mean_what_the_table_says() {
    let cases = [
        ("201 Created", Verdict::Poison),
        ("400 Bad Request", Verdict::Poison),
        ("401 Unauthorized", CREDENTIALS),
        ("404 Not Found", ADDRESS),
        ("407 Proxy Authentication Required", ADDRESS),
        ("408 Request Timeout", RETRY),
        ("413 Too Large", Verdict::Divide),
        ("422 Unprocessable", Verdict::Poison),
        ("500 Oops", RETRY),
        ("599 Odd", RETRY),
        ("999 Odder", RETRY),
    ];
    for (status, expected) in cases {
        let outcome = ask(json(status, r#"{"errors":["no, not so"]}"#)).await;
        assert_eq!(outcome.verdict, expected, "{status}");
        assert_eq!(outcome.answer.errors, ["no, not so"], "{status}");
        assert_eq!(outcome.answer.status, status[..3].parse().ok());
    }
}

#[tokio::test]
async fn the_classifier_can_be_changed() {
    let server = Server::start(vec![json("409 Conflict", "{}"), json("401 No", "{}")]).await;
    let sink = builder(server.base_url())
        .classifier(Classifier::strict().with(409, Rule::Deliver))
        .build()
        .unwrap();
    let request = request(&["1"]);
    assert_eq!(
        sink.deliver(request.clone()).await.verdict,
        Verdict::Delivered
    );
    assert_eq!(sink.deliver(request.clone()).await.verdict, Verdict::Poison);
}

#[tokio::test]
async fn retry_after_is_read_in_each_form() {
    let cases = [
        ("120", Some(120)),
        ("Sun, 06 Nov 1994 08:49:40 GMT", Some(3)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
        ("99999999999999999999999", Some(u64::MAX)),
        ("soon", None),
    ];
    for (value, seconds) in cases {
        let header = format!("Retry-After: {value}\r\n");
        for status in ["429 Slow Down", "503 Busy"] {
            let server = Server::start(vec![reply(status, &header, "")]).await;
            let sink = builder(server.base_url())
                .clock(Standing::at(784_111_777))
                .build()
                .unwrap();
            let outcome = sink.deliver(request(&["1"])).await;
            let not_before = seconds.map(Duration::from_secs);
            assert_eq!(outcome.verdict, Verdict::Retry { not_before }, "{value}");
        }
    }
}

#[test]
fn what_cannot_work_is_refused_when_the_sink_is_built() {
    let local = || builder("http://localhost:1/v2".into());
    let sink_errors = [
        builder("http://example.com/v2".into()),
        builder("http://user:pw@localhost/v2".into()),
        builder("nonsense".into()),
        local().request_timeout(Duration::ZERO),
        local().connect_timeout(Duration::ZERO),
        local().read_timeout(Duration::ZERO),
    ];
    for builder in sink_errors {
        let error = builder.build().unwrap_err();
        assert!(matches!(error, Error::Sink { .. }), "{error:?}");
    }
    let key_errors = [
        (local().key(KeySource::value("")), KeyError::Empty),
        (
            local().channel("rasa"),
            KeyError::WrongChannel {
                expected: "rasa".into(),
                found: "universal".into(),
            },
        ),
    ];
    for (builder, expected) in key_errors {
        let error = builder.build().unwrap_err();
        assert!(
            matches!(&error, Error::Key(found) if *found == expected),
            "{error:?}"
        );
    }
}

/// A process cannot safely change its own environment, so this test runs itself again in another.
#[test]
fn the_environment_is_read_as_documented() {
    const CHILD: &str = "EVERPOST_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        println!("{:?}", Botanalytics::from_env());
        return;
    }
    let key = key();
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: [Case<'_>; 6] = [
        (
            &[
                ("BA_API_KEY", &key),
                ("BA_BASE_URL", "http://localhost:1/v9"),
                ("BA_REQUEST_TIMEOUT", "1500"),
            ],
            &["http://localhost:1/v9/messages", "request: 1.5s"],
        ),
        (
            &[
                ("BA_API_KEY", &key),
                ("BA_BASE_URL", ""),
                ("BA_REQUEST_TIMEOUT", ""),
            ],
            &[
                "https://api.beta.botanalytics.co/v2/messages",
                "request: 30s",
            ],
        ),
        (&[], &["NotSet", "BA_API_KEY"]),
        (&[("BA_API_KEY", "")], &["Key(Empty)"]),
        (
            &[("BA_API_KEY", &key), ("BA_REQUEST_TIMEOUT", "30s")],
            &["BA_REQUEST_TIMEOUT", "milliseconds"],
        ),
        (
            &[("BA_API_KEY", &key), ("BA_REQUEST_TIMEOUT", "0")],
            &["time limit is zero"],
        ),
    ];
    for (variables, expected) in cases {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "--nocapture"]);
        child.arg("requests::the_environment_is_read_as_documented");
        for name in ["BA_API_KEY", "BA_BASE_URL", "BA_REQUEST_TIMEOUT"] {
            child.env_remove(name);
        }
        child.env(CHILD, "1").envs(variables.iter().copied());
        let output = child.output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        for part in expected {
            assert!(shown.contains(part), "{part} missing in: {shown}");
        }
        assert!(!shown.contains("eyJ"), "{shown}");
    }
}
