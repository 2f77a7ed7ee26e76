//! Probes, Prometheus and monitoring, against a service that runs.

mod check;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use everpost::exit;
use everpost::metrics::{Kind, METRICS};
use everpost::relay::{REQUEST_TIME, REQUESTS};
use everpost::sandbox::{Fault, Reply, Sandbox};
use serde_json::Value;

use crate::set_up::{Place, Service, bad_message, message};

/// A place whose service says where it listens.
pub(crate) async fn listening() -> (Sandbox, Place) {
    let sandbox = Sandbox::start().await.unwrap();
    let mut place = Place::with(&sandbox);
    place.set_env("EVERPOST_LOG", "info");
    (sandbox, place)
}

const ANY_PORT: [&str; 2] = ["--listen", "127.0.0.1:0"];

/// The address that the log names.
pub(crate) fn address(service: &mut Service) -> SocketAddr {
    let stderr = service.running.child.stderr.as_mut().unwrap();
    loop {
        let mut line = Vec::new();
        // Byte by byte, so that nothing of what follows is taken away.
        let mut byte = [0];
        while stderr.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.extend(byte);
        }
        assert!(!line.is_empty(), "the log ended");
        let line = String::from_utf8(line).unwrap();
        if let Some((_, address)) =
            line.split_once("listening for probes and for Prometheus address=")
        {
            return address.trim().parse().unwrap();
        }
    }
}

/// An answer, read to the end of its connection.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    fn read(mut from: impl std::io::Read) -> Self {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("{text:?}"));
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        };
        Self {
            status: status.parse().unwrap(),
            headers: lines.map(header).collect(),
            body: body.to_owned(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json", "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Sends these bytes and reads the answer.
pub(crate) fn send(to: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    Answer::read(stream)
}

pub(crate) fn get(to: SocketAddr, path: &str) -> Answer {
    send(to, &format!("GET {path} HTTP/1.1\r\nhost: {to}\r\n\r\n"))
}

/// The same over the control socket.
pub(crate) fn get_inside(place: &Place, path: &str) -> Answer {
    let mut stream = UnixStream::connect(place.spool().join("control.sock")).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: everpost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    Answer::read(stream)
}

/// Reads the text format of Prometheus, version 0.0.4, strictly: each family is announced once, by
/// HELP and TYPE, before its samples, which stand together; names, labels and values are well
/// formed; no sample is there twice; histograms add up. Gives the value of each sample.
fn parse(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n'));
    let (mut samples, mut seen) = (BTreeMap::new(), BTreeSet::new());
    let (mut family, mut kind) = (String::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, meaning) = help.split_once(' ').unwrap();
            assert!(seen.insert(name.to_owned()), "announced twice: {line}");
            assert!(!meaning.is_empty() && !meaning.contains('\\'), "{line}");
            let next = lines.next().unwrap();
            let announced = next.strip_prefix("# TYPE ").unwrap();
            let (named, its_kind) = announced.split_once(' ').unwrap();
            assert_eq!(named, name);
            assert!(
                ["counter", "gauge", "histogram"].contains(&its_kind),
                "{next}"
            );
            (family, kind) = (name.to_owned(), its_kind.to_owned());
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = sample.split_once('{').unwrap();
        let own = match kind.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"]
                .iter()
                .any(|end| name.strip_suffix(end) == Some(&family)),
            _ => name == family,
        };
        assert!(own, "not announced: {line}");
        assert!(is_name(name), "{line}");
        check_labels(labels.strip_suffix('}').unwrap());
        let value: f64 = value.parse().unwrap();
        assert!(value.is_finite() && value >= 0.0, "{line}");
        assert!(samples.insert(sample.to_owned(), value).is_none(), "{line}");
    }
    samples
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// `a="x",b="y"`, where a backslash stands before `\`, `"` or `n`.
fn check_labels(mut text: &str) {
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").unwrap();
        assert!(is_name(name), "{text}");
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => assert!("\\\"n".contains(chars.next().unwrap().1), "{text}"),
                _ => {}
            }
        };
        let rest = &rest[end + 1..];
        text = match rest.strip_prefix(',') {
            Some(more) => more,
            None => {
                assert!(rest.is_empty(), "{text}");
                rest
            }
        };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_read_the_service_over_tcp_and_through_its_socket() {
    let (_sandbox, place) = listening().await;
    let mut service = place.serve(&ANY_PORT);
    let to = address(&mut service);
    for answer in [get(to, "/livez"), get_inside(&place, "/livez")] {
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["live"], true);
    }
    for answer in [get(to, "/readyz"), get_inside(&place, "/readyz")] {
        assert_eq!(answer.status, 200);
        let ready = answer.json();
        assert_eq!(
            (&ready["ready"], &ready["delivery"]),
            (&Value::Bool(true), &"idle".into())
        );
        assert_eq!(ready["pending"], 0);
    }
    let whole = get(to, "/readyz");
    assert!(!whole.headers.contains_key("access-control-allow-origin"));
    assert_eq!(whole.headers["cache-control"], "no-store");
    let head = send(to, &format!("HEAD /readyz HTTP/1.1\r\nhost: {to}\r\n\r\n"));
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.headers["content-length"], whole.body.len().to_string());
    // Delivery is told and does not count: an append is taken while it is paused.
    place.run(&["pause"]).expect(exit::DONE);
    place.append(1, 2);
    let ready = get(to, "/readyz").json();
    assert_eq!(
        (&ready["ready"], &ready["delivery"]),
        (&Value::Bool(true), &"paused".into())
    );
    assert_eq!(
        (&ready["paused"], &ready["pending"]),
        (&"requested".into(), &2.into())
    );
    service.stop().expect(exit::PENDING);
    assert!(TcpStream::connect(to).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_port_shows_nothing_else_and_knows_only_its_own_hosts() {
    let (_sandbox, place) = listening().await;
    let mut service = place.serve(&[&ANY_PORT[..], &["--listen-host", "Box.example"]].concat());
    let to = address(&mut service);
    let port = to.port();
    for path in [
        "/status",
        "/events",
        "/dead",
        "/api",
        "/livez/",
        "/metrics/x",
    ] {
        let answer = get(to, path);
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()["kind"], "no_such_endpoint");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PURGE"] {
        let request =
            format!("{method} /readyz HTTP/1.1\r\nhost: {to}\r\norigin: http://a.example\r\n\r\n");
        let answer = send(to, &request);
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.json()["kind"], "method_not_allowed");
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
    let ask = |host: &str| send(to, &format!("GET /livez HTTP/1.1\r\n{host}\r\n"));
    for good in ["127.0.0.1", "localhost", "box.example", "[::1]"] {
        assert_eq!(
            ask(&format!("host: {good}:{port}\r\n")).status,
            200,
            "{good}"
        );
    }
    // A page of evil.example, whose name was made to point here.
    for wrong in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
    ] {
        let answer = ask(&format!("host: {wrong}:{port}\r\n"));
        assert_eq!(
            (answer.status, &answer.json()["kind"]),
            (421, &"wrong_host".into()),
            "{wrong}"
        );
        assert!(
            answer.json()["hint"]
                .as_str()
                .unwrap()
                .contains("--listen-host")
        );
    }
    assert_eq!(ask("").status, 400);
    let twice = format!("host: {to}\r\nhost: evil.example\r\n");
    assert_eq!(ask(&twice).status, 400);
    let absolute = "GET http://evil.example/livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert_eq!(send(to, absolute).status, 421);
    assert_eq!(send(to, "GET /livez HTTP/1.0\r\n\r\n").status, 200);
    assert_eq!(send(to, "no request at all\r\n\r\n").status, 400);
    let long = format!(
        "GET /livez HTTP/1.1\r\nhost: {to}\r\nx: {}\r\n\r\n",
        "x".repeat(20 << 10)
    );
    let mut stream = TcpStream::connect(to).unwrap();
    // It is refused before it is read, which may break the pipe.
    let _ = stream.write_all(long.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "),
        "{answer:?}"
    );
    assert_eq!(get(to, "/livez").status, 200);
    service.stop().expect(exit::DONE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_say_nothing_hold_up_nobody_for_long() {
    let (_sandbox, place) = listening().await;
    let mut service = place.serve(&ANY_PORT);
    let to = address(&mut service);
    let silent: Vec<TcpStream> = (0..everpost::control::TCP_CONNECTIONS_MAX)
        .map(|_| TcpStream::connect(to).unwrap())
        .collect();
    let busy = get(to, "/livez");
    assert_eq!((busy.status, &busy.json()["kind"]), (503, &"busy".into()));
    place.append(1, 3);
    for mut stream in silent {
        // Cut off, with a word or without one.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(
            rest.is_empty() || rest.starts_with(b"HTTP/1.1 408 "),
            "{rest:?}"
        );
    }
    assert_eq!(get(to, "/livez").status, 200);
    service.stop().expect(exit::DONE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_numbers_agree_with_the_books_and_the_dashboard_shows_them() {
    let (sandbox, place) = listening().await;
    sandbox.script([Fault::status(503)]);
    let mut service = place.serve(&ANY_PORT);
    let to = address(&mut service);
    let appended = place.feed(&["append"], &(message(1) + &bad_message(2) + &message(3)));
    appended.expect(exit::DONE);
    place.run(&["wake"]).expect(exit::DONE);
    place.run(&["drain"]).expect(exit::DONE);
    let page = get(to, "/metrics");
    assert_eq!(page.status, 200);
    assert_eq!(
        page.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let samples = parse(&page.body);
    assert_eq!(parse(&get_inside(&place, "/metrics").body), samples);
    let spool = place.spool().display().to_string();
    let value = |name: &str| samples[&format!("{name}{{spool=\"{spool}\"}}")];
    assert_eq!(value("everpost_events_appended_total"), 3.0);
    assert_eq!(value("everpost_events_delivered_total"), 2.0);
    assert_eq!(value("everpost_events_dead_total"), 1.0);
    assert_eq!(value("everpost_dead_letters"), 1.0);
    assert_eq!(value("everpost_batches_retried_total"), 1.0);
    assert_eq!(value("everpost_events_pending"), 0.0);
    assert_eq!(
        value("everpost_request_seconds_count"),
        sandbox.stats().requests as f64
    );
    assert!(value("everpost_commit_seconds_count") >= 1.0);
    let state =
        |state| samples[&format!("everpost_flusher_state{{spool=\"{spool}\",state=\"{state}\"}}")];
    assert_eq!((state("idle"), state("sending")), (1.0, 0.0));
    for metric in METRICS {
        if metric.kind == Kind::Histogram {
            let bucket = |le: &str| {
                samples[&format!("{}_bucket{{spool=\"{spool}\",le=\"{le}\"}}", metric.name)]
            };
            assert_eq!(bucket("+Inf"), value(&format!("{}_count", metric.name)));
            assert!(bucket("0.0001") <= bucket("1") && bucket("1") <= bucket("30"));
        }
    }
    for name in dashboard_names() {
        // A relay shows them beside those of its queues.
        if [REQUESTS, REQUEST_TIME]
            .iter()
            .any(|known| name.starts_with(known))
        {
            continue;
        }
        let is_there = samples
            .keys()
            .any(|sample| sample.starts_with(&format!("{name}{{")));
        assert!(is_there, "the dashboard shows {name}");
    }
    // No event and no key.
    assert!(!page.body.contains("hi") || !page.body.contains("texts"));
    assert!(!page.body.contains(sandbox.key()));
    service.stop().expect(exit::DONE);
}

/// The names of samples in the queries of the dashboard.
fn dashboard_names() -> BTreeSet<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/grafana-dashboard.json");
    let text = std::fs::read_to_string(path).unwrap();
    let names = text
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("everpost_"))
        .map(str::to_owned)
        .collect::<BTreeSet<_>>();
    assert!(names.len() >= METRICS.len(), "{names:?}");
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_spool_a_lost_one_and_a_closing_service_are_not_ready_and_say_why() {
    let (sandbox, mut place) = listening().await;
    sandbox.go_away().await.unwrap();
    place.settings("max_bytes = 1048576\n");
    let mut service = place.serve(&[&ANY_PORT[..], &["--deadline", "1h"]].concat());
    let to = address(&mut service);
    let why = |answer: Answer| {
        assert_eq!(answer.status, 503, "{answer:?}");
        let json = answer.json();
        assert!(
            json["hint"].is_string() && json["reason"].is_string(),
            "{json}"
        );
        (
            json["ready"].clone(),
            json["kind"].as_str().unwrap().to_owned(),
        )
    };
    let lines: String = (1..=20_000).map(message).collect();
    for batch in ["64", "1"] {
        place
            .feed(&["append", "--batch", batch], &lines)
            .expect(exit::FULL);
    }
    assert_eq!(
        why(get(to, "/readyz")),
        (Value::Bool(false), "full".to_owned())
    );
    assert_eq!(get(to, "/livez").status, 200);
    let checked = place.run(&["status", "--check"]).expect(exit::FULL);
    assert!(
        checked.out.contains("no append is taken: spool is full"),
        "{checked:?}"
    );

    service.running.signal("-TERM");
    service.hear("STOPPING=1");
    assert_eq!(why(get(to, "/readyz")).1, "closed");
    service.running.signal("-TERM");
    service.running.end().expect(exit::PENDING);

    std::fs::remove_file(place.path("notify")).unwrap();
    let mut service = place.serve(&ANY_PORT);
    let to = address(&mut service);
    std::fs::rename(place.spool(), place.path("elsewhere")).unwrap();
    assert_eq!(why(get(to, "/readyz")).1, "not_owner");
    service.running.signal("-KILL");
    service.running.end();
}

#[test]
fn an_address_that_cannot_be_had_is_refused_before_a_spool_is_made() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (args, said) in [
        (&["--listen", &taken][..], "another process has this port"),
        (&["--listen", "0.0.0.0:0"], "add `--listen-public`"),
        (&["--listen", "[::]:0"], "add `--listen-public`"),
        (&["--listen", "9464"], "write 127.0.0.1:9464"),
        (&["--listen", "example.com:80"], "write 127.0.0.1:9464"),
        (&["--listen", "127.0.0.1:99999"], "write 127.0.0.1:9464"),
        (&["--listen-host", "http://a"], "without a scheme"),
    ] {
        let refused = place.run(&[&["run"], args].concat()).expect(exit::USAGE);
        assert!(refused.err.contains(said), "{args:?}: {}", refused.err);
        assert!(!place.spool().exists(), "{args:?}");
    }
}
