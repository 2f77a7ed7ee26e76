//! The shipped sink against real sockets.

mod sink_server;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use everpost::botanalytics::{Botanalytics, Builder, KeyError, KeySource, Proxy};
use everpost::clock::Clock;
use everpost::sink::classify::{Classifier, Rule};
use everpost::{Batch, Error, Event, Outcome, PauseReason, Sink, StoredEvent, Verdict};
use sink_server::{Reply, Server, json, reply};

const RETRY: Verdict = Verdict::Retry { not_before: None };
const CREDENTIALS: Verdict = Verdict::Pause(PauseReason::Credentials);
const ADDRESS: Verdict = Verdict::Pause(PauseReason::Address);

/// Long enough for a busy machine, short enough that a hang fails the test.
const PATIENT: Duration = Duration::from_secs(20);
/// What a test waits where waiting is what it looks at.
const IMPATIENT: Duration = Duration::from_millis(200);

fn key_of(claims: &str) -> String {
    let claims = URL_SAFE_NO_PAD.encode(claims);
    format!("eyJhbGciOiJIUzI1NiJ9.{claims}.SECRETSIGNATURE")
}

fn key() -> String {
    key_of(r#"{"channel":"universal"}"#)
}

fn batch(texts: &[&'static str]) -> Batch {
    let events = (1..)
        .zip(texts)
        .map(|(seq, text)| StoredEvent {
            seq,
            event: Event::json(*text).unwrap(),
        })
        .collect();
    Batch::new(events).unwrap()
}

fn builder(base_url: String) -> Builder {
    Botanalytics::builder(KeySource::value(key()))
        .base_url(base_url)
        .request_timeout(PATIENT)
}

/// Delivers one event to a server that gives this one reply.
async fn ask(reply: Reply) -> Outcome {
    let server = Server::start(vec![reply]).await;
    let sink = builder(server.base_url()).build().unwrap();
    sink.deliver(&batch(&["{}"])).await
}

fn detail(outcome: &Outcome) -> &str {
    outcome.answer.detail.as_deref().unwrap_or_default()
}

/// A clock that stands still.
#[derive(Debug)]
struct Standing(Mutex<SystemTime>);

impl Standing {
    fn at(seconds: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(UNIX_EPOCH + Duration::from_secs(seconds))))
    }
}

impl Clock for Standing {
    fn wall(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

#[tokio::test]
async fn the_request_is_as_documented_to_the_byte() {
    let server = Server::start(vec![json("200 OK", r#"{"request_id":"r-1"}"#)]).await;
    let sink = builder(server.base_url() + "/").build().unwrap();
    let batch = batch(&[r#" {"b":1.00,"a":"é"} "#, "{}"]);
    let outcome = sink.deliver(&batch).await;
    assert_eq!(outcome.verdict, Verdict::Delivered);
    assert_eq!(outcome.answer.status, Some(200));
    assert_eq!(outcome.answer.request_id.as_deref(), Some("r-1"));

    let requests = server.requests();
    let (head, body) = &requests[0];
    let expected = r#"{"messages":[{"message": {"b":1.00,"a":"é"} },{"message":{}}]}"#;
    assert_eq!(std::str::from_utf8(body).unwrap(), expected);
    let mut lines: Vec<&str> = head.trim_end().split("\r\n").collect();
    assert_eq!(lines.remove(0), "POST /v2/messages HTTP/1.1");
    lines.sort_unstable();
    let expected = [
        "accept: application/json".to_owned(),
        format!("authorization: Bearer {}", key()),
        format!("content-length: {}", body.len()),
        "content-type: application/json".to_owned(),
        format!("host: {}", server.address),
        format!("idempotency-key: {}", batch.idempotency_key()),
        format!("user-agent: everpost/{}", env!("CARGO_PKG_VERSION")),
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn the_same_batch_is_sent_the_same_way_again() {
    let replies = vec![Reply::Reset, json("503 Busy", ""), json("200 OK", "{}")];
    let server = Server::start(replies).await;
    let sink = builder(server.base_url()).build().unwrap();
    let batch = batch(&["[1]", "[2]"]);
    for expected in [RETRY, RETRY, Verdict::Delivered] {
        assert_eq!(sink.deliver(&batch).await.verdict, expected);
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
    sink.deliver(&batch(&["1"])).await;
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
        ("201 Created", Verdict::Delivered),
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
    let batch = batch(&["1"]);
    assert_eq!(sink.deliver(&batch).await.verdict, Verdict::Delivered);
    assert_eq!(sink.deliver(&batch).await.verdict, Verdict::Poison);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_key_goes_nowhere_else() {
    for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
        let elsewhere = Server::start(vec![json("200 OK", "{}")]).await;
        let location = format!("Location: http://{}/x?token=s\r\n", elsewhere.address);
        let outcome = ask(reply(status, &location, "")).await;
        assert_eq!(outcome.verdict, ADDRESS, "{status}");
        let shown = detail(&outcome);
        assert!(shown.contains(&elsewhere.address.to_string()), "{shown}");
        assert!(!shown.contains("token"), "{shown}");
        assert!(elsewhere.requests().is_empty(), "{status} was followed");
    }
}

#[tokio::test]
async fn a_captive_portal_is_no_delivery() {
    let page = "<html><body>Log in</body></html>";
    for portal in [
        reply("200 OK", "Content-Type: text/html\r\n", page),
        reply("200 OK", "Content-Type: application/json\r\n", page),
        reply("200 OK", "Content-Type: text/html\r\n", ""),
        reply("204 No Content", "Content-Type: text/html\r\n", ""),
    ] {
        let outcome = ask(portal).await;
        assert_eq!(outcome.verdict, RETRY);
        assert!(detail(&outcome).contains("captive portal"), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_damaged_body_does_not_undo_a_delivery() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let bodies = [
        format!("{head}Content-Length: 1000\r\n\r\n{{\"request_id\":\"r"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\n{{\"req"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\nnonsense"),
        format!("{head}Content-Length: 3\r\n\r\n\0\0\0"),
        format!("{head}Content-Length: 0\r\n\r\n"),
        format!("{head}\r\n"),
        "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
    ];
    for body in bodies {
        let outcome = ask(Reply::Bytes(body.clone().into_bytes())).await;
        assert_eq!(outcome.verdict, Verdict::Delivered, "{body:?}");
    }
}

#[tokio::test]
async fn a_huge_body_is_read_to_a_bound() {
    // What the answer says after the first 64 KiB is not seen; what it says before is.
    for (blanks, request_id) in [(60_000, Some("r-1")), (70_000, None)] {
        let body = " ".repeat(blanks) + r#"{"request_id":"r-1"}"#;
        let outcome = ask(json("200 OK", &body)).await;
        assert_eq!(outcome.verdict, Verdict::Delivered);
        assert_eq!(outcome.answer.request_id.as_deref(), request_id, "{blanks}");
    }
    let mut endless = b"HTTP/1.1 500 Oops\r\nContent-Length: 100000000\r\n\r\n".to_vec();
    endless.resize(8 * 1024 * 1024, b'x');
    let outcome = ask(Reply::Bytes(endless)).await;
    assert_eq!(outcome.verdict, RETRY);
    assert!(detail(&outcome).len() < 600, "{}", detail(&outcome).len());
}

#[tokio::test]
async fn a_body_that_stalls_after_a_success_is_a_delivery() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"req".to_vec();
    let server = Server::start(vec![Reply::Hang(head)]).await;
    let sink = builder(server.base_url())
        .read_timeout(IMPATIENT)
        .build()
        .unwrap();
    let outcome = sink.deliver(&batch(&["1"])).await;
    assert_eq!(outcome.verdict, Verdict::Delivered);
}

#[tokio::test]
async fn faults_of_the_network_are_tried_again_and_named() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("http://{}/v2", closed.local_addr().unwrap());
    drop(closed);
    let sink = builder(base_url).build().unwrap();
    let refused = sink.deliver(&batch(&["{}"])).await;
    let cases = [
        (refused, "connection refused"),
        (ask(Reply::Reset).await, "connection reset"),
        (ask(Reply::ResetAtOnce).await, "connection reset"),
        (ask(Reply::Bytes(vec![])).await, "connection closed"),
        (
            ask(Reply::Bytes(b"HTTP/1.1 2".to_vec())).await,
            "connection closed",
        ),
        (
            ask(Reply::Bytes(b"SSH-2.0-x\r\n".to_vec())).await,
            "invalid HTTP",
        ),
    ];
    for (outcome, expected) in cases {
        assert_eq!(outcome.verdict, RETRY, "{expected}");
        assert_eq!(outcome.answer.status, None, "{expected}");
        assert!(detail(&outcome).contains(expected), "{outcome:?}");
    }
}

#[tokio::test]
async fn silence_ends_at_the_time_limit() {
    for set in [Builder::request_timeout, Builder::read_timeout] {
        let server = Server::start(vec![Reply::Hang(vec![])]).await;
        let sink = set(builder(server.base_url()), IMPATIENT).build().unwrap();
        let outcome = sink.deliver(&batch(&["1"])).await;
        assert_eq!(outcome.verdict, RETRY);
        assert_eq!(detail(&outcome), "no answer in time");
    }
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
            let outcome = sink.deliver(&batch(&["1"])).await;
            let not_before = seconds.map(Duration::from_secs);
            assert_eq!(outcome.verdict, Verdict::Retry { not_before }, "{value}");
        }
    }
}

#[tokio::test]
async fn a_replaced_key_is_used_from_the_next_request_on() {
    let replies = vec![json("401 Unauthorized", "{}"), json("200 OK", "{}")];
    let server = Server::start(replies).await;
    let sink = builder(server.base_url()).build().unwrap();
    let batch = batch(&["1"]);
    assert_eq!(sink.deliver(&batch).await.verdict, CREDENTIALS);

    let new = key_of(r#"{"channel":"universal","new":true}"#);
    sink.key_handle().replace(new.clone()).unwrap();
    tokio::time::timeout(PATIENT, sink.changed()).await.unwrap();
    assert_eq!(sink.deliver(&batch).await.verdict, Verdict::Delivered);
    let heads: Vec<String> = server.requests().into_iter().map(|r| r.0).collect();
    assert!(heads[0].contains(&format!("authorization: Bearer {}\r\n", key())));
    assert!(heads[1].contains(&format!("authorization: Bearer {new}\r\n")));
}

#[tokio::test]
async fn a_waiting_delivery_is_woken_by_a_new_key() {
    let sink = builder("http://127.0.0.1:1".into()).build().unwrap();
    let handle = sink.key_handle();
    let waiting = tokio::spawn(async move { sink.changed().await });
    tokio::task::yield_now().await;
    handle.replace(key()).unwrap();
    tokio::time::timeout(PATIENT, waiting)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn an_expired_key_pauses_before_the_request() {
    let server = Server::start(vec![json("200 OK", "{}")]).await;
    let clock = Standing::at(999);
    let sink = builder(server.base_url())
        .key(KeySource::value(key_of(
            r#"{"channel":"universal","exp":1000}"#,
        )))
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .build()
        .unwrap();
    *clock.0.lock().unwrap() += Duration::from_secs(1);
    let outcome = sink.deliver(&batch(&["1"])).await;
    assert_eq!(outcome.verdict, CREDENTIALS);
    assert!(detail(&outcome).contains("key has expired"), "{outcome:?}");
    assert!(server.requests().is_empty(), "nothing was sent");

    // The clock is set right, and the same key will do.
    *clock.0.lock().unwrap() -= Duration::from_secs(1);
    assert_eq!(
        sink.deliver(&batch(&["1"])).await.verdict,
        Verdict::Delivered
    );
}

#[tokio::test]
async fn a_key_file_that_goes_bad_pauses_and_recovers() {
    let server = Server::start(vec![json("200 OK", "{}")]).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    std::fs::write(&path, key()).unwrap();
    let sink = builder(server.base_url())
        .key(KeySource::file(&path))
        .channel("universal")
        .build()
        .unwrap();
    for bad in ["", "nonsense", &key_of(r#"{"channel":"rasa"}"#)] {
        std::fs::write(&path, bad).unwrap();
        let outcome = sink.deliver(&batch(&["1"])).await;
        assert_eq!(outcome.verdict, CREDENTIALS, "{bad:?}");
    }
    std::fs::write(&path, key() + "\n").unwrap();
    assert_eq!(
        sink.deliver(&batch(&["1"])).await.verdict,
        Verdict::Delivered
    );
    assert_eq!(server.requests().len(), 1);
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

#[tokio::test]
async fn the_key_is_never_shown() {
    let echo = format!(r#"{{"errors":["bad token {}"],"request_id":"{0}"}}"#, key());
    let server = Server::start(vec![
        json("401 Unauthorized", &echo),
        reply("502 Bad", "", &format!("proxy saw Bearer {}", key())),
        reply(
            "302 Found",
            &format!("Location: https://x/{}\r\n", key()),
            "",
        ),
        Reply::Reset,
    ])
    .await;
    let set_up = builder(server.base_url()).proxy(Proxy::Url("http://u:SECRETPW@p".into()));
    let mut shown = format!("{set_up:?}");
    let sink = set_up.build().unwrap();
    shown += &format!("{sink:?} {:?}", sink.key_handle());
    for _ in 0..4 {
        shown += &format!("{:?}", sink.deliver(&batch(&["1"])).await);
    }
    shown += &format!("{:?}", sink.key_handle().replace(key() + "x y"));
    for secret in ["SECRET", "eyJ"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(shown.contains("bad token [key]"), "{shown}");
}

/// A proxy that wants a login answers CONNECT itself, before TLS begins.
#[cfg(any(feature = "rustls", feature = "native-tls"))]
#[tokio::test]
async fn a_proxy_that_wants_a_login_pauses_and_sees_no_key() {
    let proxy = Server::start(vec![
        reply("407 Proxy Authentication Required", "", ""),
        reply("502 Bad Gateway", "", ""),
    ])
    .await;
    let sink = builder("https://api.invalid/v2".into())
        .proxy(Proxy::Url(format!("http://{}", proxy.address)))
        .build()
        .unwrap();
    assert_eq!(sink.deliver(&batch(&["1"])).await.verdict, ADDRESS);
    assert_eq!(sink.deliver(&batch(&["1"])).await.verdict, RETRY);
    for (head, _) in proxy.requests() {
        assert!(head.starts_with("CONNECT api.invalid:443 "), "{head}");
        assert!(!head.contains("eyJ"), "{head}");
    }
}

/// A server without TLS, a name that cannot exist: faults of the way, not of the events.
#[cfg(any(feature = "rustls", feature = "native-tls"))]
#[tokio::test]
async fn faults_of_tls_and_names_are_tried_again() {
    let plain = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec();
    let server = Server::start(vec![Reply::Greeting(plain)]).await;
    // No label of a name is longer than 63 bytes.
    let no_name = "x".repeat(64);
    for base_url in [
        format!("https://{}/v2", server.address),
        format!("https://{no_name}.invalid/v2"),
    ] {
        let sink = builder(base_url.clone())
            .proxy(Proxy::None)
            .build()
            .unwrap();
        let outcome = sink.deliver(&batch(&["1"])).await;
        assert_eq!(outcome.verdict, RETRY, "{base_url}");
        assert!(!detail(&outcome).is_empty(), "{base_url}");
        assert!(!detail(&outcome).contains("/v2"), "{outcome:?}");
        assert!(!detail(&outcome).contains("/v2"), "{outcome:?}");
    }
}
