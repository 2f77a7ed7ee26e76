//! The control socket: who may reach it, what each endpoint does, and that no client, however
//! rude, stands in the way of the queue.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![cfg(unix)]

use std::future::pending;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::time::Duration;

use everpost::botanalytics::Botanalytics;
use everpost::botanalytics::KeySource;
use everpost::control::{
    self, APPENDS_MAX, CONNECTIONS_MAX, Client, ClientError, Control, EVENTS_MAX, HEAD_BYTES_MAX,
    PAGE_BYTES, REQUEST_BYTES_MAX, SOCKET, WRITE_TIME, wire,
};
use everpost::sandbox::{Fault, Sandbox};
use everpost::{
    Cause, Error, Event, EventId, Fate, FlusherState, OpenError, Pace, PaceStatus, PauseReason,
    Queue, Settings, Status,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longer than anything here takes, unless it never ends.
const LONG: Duration = Duration::from_secs(60);

/// An owner that serves its spool.
struct Owner {
    dir: TempDir,
    queue: Queue,
    control: Control,
}

impl Owner {
    /// Without a sink: what is appended stays.
    async fn start() -> Self {
        Self::start_with(Settings::default(), None).await
    }

    async fn delivering(sandbox: &Sandbox) -> Self {
        Self::start_with(Settings::default(), Some(sandbox)).await
    }

    async fn start_with(settings: Settings, sandbox: Option<&Sandbox>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut builder = Queue::builder(dir.path().join("spool")).settings(settings);
        if let Some(sandbox) = sandbox {
            builder = builder.sink(
                Botanalytics::builder(KeySource::value(sandbox.key()))
                    .base_url(sandbox.base_url())
                    .build()
                    .unwrap(),
            );
        }
        let queue = builder.open().await.unwrap();
        let control = control::serve(&queue).await.unwrap();
        Self {
            dir,
            queue,
            control,
        }
    }

    fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    fn client(&self) -> Client {
        Client::new(self.spool())
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.control.path()).await.unwrap()
    }

    /// Sends these bytes and gives everything that comes back until the connection ends.
    async fn say(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        rest(&mut stream).await
    }

    /// The status and the body of the answer to a request in plain HTTP.
    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let answer = self.say(request(method, path, body).as_bytes()).await;
        split(&answer)
    }

    async fn close(self) {
        self.queue.close(Duration::ZERO).await.unwrap();
    }
}

fn request(method: &str, path: &str, body: &str) -> String {
    let bytes = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {bytes}\r\n\r\n{body}"
    )
}

fn split(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    (head[9..12].parse().unwrap(), body.to_owned())
}

async fn rest(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    // A reset after the answer is as good an end as any.
    let end = timeout(LONG, stream.read_to_end(&mut bytes)).await;
    assert!(end.is_ok(), "the connection does not end");
    String::from_utf8(bytes).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn id(n: u64) -> EventId {
    EventId::from_uuid(uuid::Uuid::from_u128(u128::from(n)))
}

/// A message the sandbox accepts.
fn message(n: u64) -> Event {
    let json = format!(
        r#"{{"id":"{}","timestamp":{n},"content":{{"texts":[{{"text":"{n}"}}]}}}}"#,
        id(n)
    );
    Event::json(json).unwrap().with_id(id(n))
}

fn refusal(error: ClientError) -> (u16, String) {
    match error {
        ClientError::Refused { status, kind, .. } => (status, kind),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_directory_and_the_socket_are_for_their_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    std::fs::set_permissions(&spool, PermissionsExt::from_mode(0o775)).unwrap();
    let queue = Queue::builder(&spool).open().await.unwrap();
    let control = control::serve(&queue).await.unwrap();
    assert_eq!(control.path(), spool.join(SOCKET));
    assert_eq!(mode(&spool), 0o700);
    assert_eq!(mode(control.path()), 0o600);
    let kind = std::fs::metadata(control.path()).unwrap().file_type();
    assert!(kind.is_socket());
    queue.close(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_client_that_waits_for_an_event_is_told_and_holds_up_no_close() {
    let sandbox = Sandbox::start().await.unwrap();
    let owner = Owner::delivering(&sandbox).await;
    let client = owner.client();
    owner.queue.append(message(1)).await.unwrap();
    let settled = client.settled(1, LONG).await.unwrap();
    let Fate::Delivered { request_id } = &settled.fate else {
        panic!("{settled:?}");
    };
    assert!(request_id.is_some());
    assert_eq!(client.fate(1).await.unwrap(), settled);
    assert_eq!(client.fate(2).await.unwrap().fate, Fate::Unknown);
    let unknown = client.fate_of_id(id(1)).await.unwrap();
    assert_eq!((unknown.seq, unknown.fate), (None, Fate::Unknown));
    owner.queue.pause().await.unwrap();
    owner.queue.append(message(2)).await.unwrap();
    let found = client.fate_of_id(id(2)).await.unwrap();
    assert_eq!((found.seq, found.fate), (Some(2), Fate::Pending));
    let waited = client.settled(2, Duration::from_millis(1)).await.unwrap();
    assert_eq!(waited.fate, Fate::Pending);
    let waits = tokio::spawn({
        let client = client.clone();
        async move { client.settled(2, LONG).await }
    });
    // The answer has begun once its first line is there; those that wait are cut off by a close.
    let asked = request("GET", "/fate/2?wait_ms=60000", "");
    let mut stream = owner.connect().await;
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut begun = String::new();
    while !begun.contains("pending") {
        let mut bytes = [0; 1024];
        let read = stream.read(&mut bytes).await.unwrap();
        begun.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    let within = Duration::from_secs(20);
    timeout(within, owner.close()).await.expect("it waits");
    let ended = timeout(LONG, waits).await.unwrap().unwrap().unwrap_err();
    let is_gone = matches!(
        &ended,
        ClientError::Broken { .. } | ClientError::NoOwner { .. }
    ) || matches!(&ended, ClientError::Refused { kind, .. } if kind == "closed");
    assert!(is_gone, "{ended:?}");
}

#[tokio::test]
async fn the_socket_is_gone_once_the_queue_or_the_control_is_closed_or_dropped() {
    let owner = Owner::start().await;
    let path = owner.control.path().to_owned();
    owner.control.close().await.unwrap();
    assert!(!path.exists());
    let again = control::serve(&owner.queue).await.unwrap();
    assert!(path.exists());
    drop(again);
    assert!(!path.exists());
    let client = Client::new(owner.dir.path().join("spool"));
    let error = client.status().await.unwrap_err();
    assert!(matches!(error, ClientError::NoOwner { .. }), "{error}");
    let last = control::serve(&owner.queue).await.unwrap();
    assert!(path.exists());
    owner.queue.close(Duration::ZERO).await.unwrap();
    assert!(!path.exists());
    last.close().await.unwrap();
    let error = control::serve(&owner.queue).await.unwrap_err();
    assert!(matches!(error, Error::Closed), "{error}");
}

#[tokio::test]
async fn a_closed_control_does_not_take_away_the_socket_of_the_next_owner() {
    let owner = Owner::start().await;
    let spool = owner.spool();
    owner.queue.close(Duration::ZERO).await.unwrap();
    let next = Queue::builder(&spool).open().await.unwrap();
    let _serving = control::serve(&next).await.unwrap();
    owner.control.close().await.unwrap();
    drop(owner.queue);
    let client = Client::new(&spool);
    assert_eq!(client.status().await.unwrap().pending, 0);
}

/// A watcher holds up the close of the first, and by then the second is there.
#[tokio::test]
async fn a_control_that_closes_slowly_leaves_its_successor_alone() {
    let owner = Owner::start().await;
    let mut watch = owner.client().watch().await.unwrap();
    watch.next().await.unwrap();
    let path = owner.control.path().to_owned();
    let mut closing = Box::pin(owner.control.close());
    while path.exists() {
        tokio::select! {
            biased;
            _ = &mut closing => panic!("the watcher is still there"),
            () = tokio::task::yield_now() => {}
        }
    }
    let next = control::serve(&owner.queue).await.unwrap();
    closing.await.unwrap();
    assert!(watch.next().await.is_err(), "the watcher was cut off");
    let client = Client::new(owner.dir.path().join("spool"));
    assert_eq!(client.status().await.unwrap().pending, 0);
    drop(next);
    owner.queue.close(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_queue_serves_one_socket() {
    let owner = Owner::start().await;
    let error = control::serve(&owner.queue).await.unwrap_err();
    assert!(error.to_string().contains("serves one already"), "{error}");
    assert_eq!(owner.client().status().await.unwrap().pending, 0);
    owner.close().await;
}

/// There was no socket for it, and the owner could not be reached.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_path_too_long_for_a_socket_is_reached_through_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("x".repeat(120));
    let queue = Queue::builder(&spool).open().await.unwrap();
    let control = control::serve(&queue).await.unwrap();
    let client = Client::new(&spool);
    client.append(&[message(1)]).await.unwrap();
    assert_eq!(client.status().await.unwrap().pending, 1);
    assert_eq!(mode(control.path()), 0o600);
    queue.close(Duration::ZERO).await.unwrap();
    assert!(!control.path().exists());
    let error = client.status().await.unwrap_err();
    assert!(matches!(error, ClientError::NoOwner { .. }), "{error:?}");
}

/// A request on a connection that the owner had let in, but asked as it closed, was cut off: it
/// could have been done or not.
#[tokio::test]
async fn what_is_asked_of_an_owner_that_closes_is_refused_for_certain() {
    let owner = Owner::start().await;
    let mut stream = owner.connect().await;
    let hello = "GET /status HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(hello.as_bytes()).await.unwrap();
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    let path = owner.control.path().to_owned();
    let spool = owner.spool();
    let mut closing = Box::pin(owner.queue.close(Duration::ZERO));
    while path.exists() {
        tokio::select! {
            biased;
            _ = &mut closing => panic!("a client was let in and says nothing yet"),
            () = tokio::task::yield_now() => {}
        }
    }
    let append = "POST /events HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n1";
    stream.write_all(append.as_bytes()).await.unwrap();
    let (answer, closed) = tokio::join!(rest(&mut stream), closing);
    closed.unwrap();
    let answer = &answer[answer.find("HTTP/1.1 503").expect("it is refused")..];
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert!(answer.contains("\"kind\":\"closed\""), "{answer}");
    let next = Queue::builder(spool).open().await.unwrap();
    assert_eq!(next.status().last_seq, 0, "and not done");
}

#[tokio::test]
async fn what_is_no_socket_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::builder(dir.path()).open().await.unwrap();
    std::fs::write(dir.path().join(SOCKET), "precious").unwrap();
    let error = control::serve(&queue).await.unwrap_err();
    assert!(error.to_string().contains("something else"), "{error}");
    let text = std::fs::read_to_string(dir.path().join(SOCKET)).unwrap();
    assert_eq!(text, "precious");
}

#[tokio::test]
async fn the_status_is_the_status() {
    let owner = Owner::start().await;
    let client = owner.client();
    owner.queue.append(message(1)).await.unwrap();
    let told = client.status().await.unwrap();
    let known = owner.queue.status();
    let json = |status: &Status| serde_json::to_value(status).unwrap();
    assert_eq!(json(&told), json(&known));
    assert_eq!(told.flusher, FlusherState::Absent);
    let (code, body) = owner.ask("GET", "/status", "").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((code, &body), (200, &json(&known)));
    assert_eq!(body["flusher"]["state"], "absent");
    assert!(body["oldest_pending_ms"].is_u64(), "{body}");
    let found = client.recovery().await.unwrap();
    assert_eq!(found.replayed, 0);
    owner.close().await;
}

#[tokio::test]
async fn an_event_appended_through_the_socket_is_kept_to_the_byte() {
    let owner = Owner::start().await;
    let text = " {\"a\" : 1.00,\n\t\"a\":2}\n";
    let path = format!("/events?id={}&time_ms=7", id(5));
    let (code, body) = owner.ask("POST", &path, text).await;
    let receipt = format!("{{\"seq\":1,\"id\":\"{}\"}}\n", id(5));
    assert_eq!((code, body), (200, receipt));
    let event = Event::json(text).unwrap();
    owner
        .client()
        .append(std::slice::from_ref(&event))
        .await
        .unwrap();
    let stored = owner.queue.events(..).take(9).await.unwrap();
    assert_eq!(&stored[0].event.json_bytes()[..], text.as_bytes());
    assert_eq!(
        (stored[0].event.id(), stored[0].event.time_ms()),
        (id(5), 7)
    );
    assert_eq!(stored[1].event, event);
    owner.close().await;
}

#[tokio::test]
async fn lines_and_entries_are_one_commit_each_and_blank_lines_are_none() {
    let owner = Owner::start().await;
    let (code, body) = owner
        .ask(
            "POST",
            "/events?form=lines",
            "{\"n\":1}\r\n\n  {\"n\":2}\n3",
        )
        .await;
    assert_eq!((code, body.lines().count()), (200, 3));
    let named = format!(
        "{{\"seq\":99,\"id\":\"{}\",\"time_ms\":5,\"event\":{{\"n\":4}}}}",
        id(4)
    );
    let entries = format!("{named}\n{{\"event\":[5]}}\n");
    let (code, body) = owner.ask("POST", "/events?form=entries", &entries).await;
    assert_eq!((code, body.lines().count()), (200, 2));
    let lines = owner.client().peek(0, 10).await.unwrap();
    let texts: Vec<_> = lines.iter().map(|line| line.event.as_str()).collect();
    assert_eq!(texts, ["{\"n\":1}", "{\"n\":2}", "3", "{\"n\":4}", "[5]"]);
    assert_eq!((lines[3].seq, lines[3].id, lines[3].time_ms), (4, id(4), 5));
    assert_eq!(
        owner.ask("POST", "/events?form=lines", "\n").await,
        (200, String::new())
    );
    owner.close().await;
}

#[tokio::test]
async fn one_bad_line_refuses_all_and_is_named_but_not_repeated() {
    let owner = Owner::start().await;
    for (form, body) in [
        ("event", "{\"a\":secret}"),
        ("lines", "{}\n\n{\"a\":secret}\n{}"),
        (
            "entries",
            "{\"event\":1}\n\n{\"event\":1,\"id\":\"secret\"}",
        ),
        ("entries", "{\"event\":1}\n\n{\"event\":{\"secret\"}}"),
    ] {
        let path = format!("/events?form={form}");
        let (code, answer) = owner.ask("POST", &path, body).await;
        let error: wire::ErrorBody = serde_json::from_str(&answer).unwrap();
        assert_eq!((code, error.kind.as_str()), (400, "invalid_event"));
        assert!(!answer.contains("secret"), "{answer}");
        assert_eq!(
            error.error.contains("line=`3`"),
            form != "event",
            "{answer}"
        );
        assert!(!error.hint.is_empty());
    }
    assert_eq!(owner.queue.status().last_seq, 0);
    owner.close().await;
}

#[tokio::test]
async fn what_is_not_documented_is_refused_with_a_kind() {
    let owner = Owner::start().await;
    for (method, path, code, kind) in [
        ("GET", "/nothing", 404, "no_such_endpoint"),
        ("POST", "/status", 405, "method_not_allowed"),
        ("DELETE", "/events", 405, "method_not_allowed"),
        ("GET", "/events?afer=1", 400, "bad_request"),
        ("GET", "/events?after=-1", 400, "bad_request"),
        ("POST", "/events?form=xml", 400, "bad_request"),
        ("POST", "/events?id=7", 400, "bad_request"),
        ("POST", "/events?form=lines&time_ms=7", 400, "bad_request"),
        ("GET", "/dead/first", 400, "bad_request"),
        ("GET", "/fate/first", 400, "bad_request"),
        ("GET", "/fate/1?wait=1", 400, "bad_request"),
        ("GET", "/fate/1?wait_ms=604800001", 400, "bad_request"),
        ("POST", "/fate/1", 405, "method_not_allowed"),
        ("GET", "/dead/7", 404, "no_such_letter"),
        ("POST", "/dead/7/retry", 404, "no_such_letter"),
        ("DELETE", "/dead/7", 404, "no_such_letter"),
        ("POST", "/incidents/7/acknowledge", 404, "no_such_incident"),
        ("POST", "/incidents/all/acknowledge", 400, "bad_request"),
        ("GET", "/incidents/acknowledge", 405, "method_not_allowed"),
        ("POST", "/wake", 409, "no_sink"),
        ("POST", "/drain", 409, "no_sink"),
        ("POST", "/pace?rate_events=5", 409, "no_sink"),
        ("POST", "/pace?rate_events=0", 400, "bad_request"),
        ("POST", "/pace?rate=5", 400, "bad_request"),
        ("GET", "/pace", 405, "method_not_allowed"),
        ("POST", "/drain?deadline_ms=604800001", 400, "bad_request"),
    ] {
        let (found, body) = owner.ask(method, path, "").await;
        let error: wire::ErrorBody = serde_json::from_str(&body).expect(path);
        assert_eq!((found, error.kind.as_str()), (code, kind), "{path}: {body}");
    }
    owner.close().await;
}

/// An owner that only takes events in refused a pause, which is for whoever delivers after it.
#[tokio::test]
async fn an_owner_without_a_sink_keeps_a_pause_for_the_next_owner() {
    let owner = Owner::start().await;
    let spool = owner.queue.spool().to_owned();
    owner.client().pause().await.unwrap();
    let paused = || everpost::inspect::look(&spool).unwrap().paused();
    let kept = paused().map(|paused| paused.reason);
    assert_eq!(kept, Some(everpost::PauseReason::Requested));
    assert_eq!(owner.queue.status().flusher, FlusherState::Absent);
    owner.client().resume().await.unwrap();
    assert!(paused().is_none());
    owner.close().await;
}

#[tokio::test]
async fn a_list_goes_on_from_its_last_line_without_holes() {
    let owner = Owner::start().await;
    // Every third is long, so that pages end in front of a long one with short ones behind it.
    let long = "x".repeat(PAGE_BYTES / 5);
    let event = |n: u64| {
        let text = if n.is_multiple_of(3) { &long } else { "short" };
        Event::json(format!("\"{n}{text}\"")).unwrap()
    };
    for n in 1..=40 {
        owner.queue.append(event(n)).await.unwrap();
    }
    let client = owner.client();
    let (mut seqs, mut pages) = (Vec::new(), 0);
    loop {
        let page = client
            .peek(seqs.last().copied().unwrap_or(0), 100)
            .await
            .unwrap();
        if page.is_empty() {
            break;
        }
        pages += 1;
        seqs.extend(page.iter().map(|line| line.seq));
    }
    assert_eq!(seqs, (1..=40).collect::<Vec<_>>());
    assert!(pages > 2, "{pages}");
    assert_eq!(client.peek(3, 5).await.unwrap().len(), 5);
    assert_eq!(client.peek(0, 0).await.unwrap().len(), 0);
    owner.close().await;
}

#[tokio::test]
async fn requests_beyond_the_bounds_are_refused_and_append_nothing() {
    let owner = Owner::start().await;
    let many = "1\n".repeat(EVENTS_MAX + 1);
    let large = "x".repeat(REQUEST_BYTES_MAX + 1);
    for body in [&many, &large] {
        let (code, answer) = owner.ask("POST", "/events?form=lines", body).await;
        let error: wire::ErrorBody = serde_json::from_str(&answer).unwrap();
        assert_eq!((code, error.kind.as_str()), (413, "request_too_large"));
    }
    let event = Event::json(format!("\"{}\"", "x".repeat(300 << 10))).unwrap();
    let error = owner.client().append(&[event]).await.unwrap_err();
    assert_eq!(refusal(error), (413, "too_large".to_owned()));
    let event = Event::json(format!("\"{large}\"")).unwrap();
    let error = owner.client().append(&[event]).await.unwrap_err();
    assert_eq!(refusal(error), (413, "request_too_large".to_owned()));
    assert_eq!(owner.queue.status().last_seq, 0);
    owner.close().await;
}

#[tokio::test]
async fn garbage_and_huge_heads_are_turned_away() {
    let owner = Owner::start().await;
    let answer = owner.say(b"\x16\x03\x01 this is not HTTP\r\n\r\n").await;
    assert_eq!(split(&answer).0, 400, "{answer}");
    let field = format!("GET /status HTTP/1.1\r\nx: {}", "y".repeat(HEAD_BYTES_MAX));
    assert_eq!(split(&owner.say(field.as_bytes()).await).0, 431);
    let fields = format!("GET /status HTTP/1.1\r\n{}", "x: y\r\n".repeat(200));
    assert_eq!(
        split(&owner.say(format!("{fields}\r\n").as_bytes()).await).0,
        431
    );
    let path = format!("GET /{} HTTP/1.1\r\n\r\n", "y".repeat(HEAD_BYTES_MAX));
    let code = split(&owner.say(path.as_bytes()).await).0;
    assert!([414, 431].contains(&code), "{code}");
    assert_eq!(owner.client().status().await.unwrap().pending, 0);
    owner.close().await;
}

#[tokio::test]
async fn an_endless_body_ends_at_the_bound() {
    let owner = Owner::start().await;
    let mut stream = owner.connect().await;
    let head = b"POST /events HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let mut sent = 0;
    // Goes on until the owner stops listening.
    while stream.write_all(chunk.as_bytes()).await.is_ok() {
        sent += 0x10000;
        assert!(sent < 4 * REQUEST_BYTES_MAX, "the owner still listens");
    }
    assert_eq!(split(&rest(&mut stream).await).0, 413);
    assert_eq!(owner.queue.status().last_seq, 0);
    owner.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_in_the_middle_of_a_request_is_cut_off() {
    let owner = Owner::start().await;
    assert_eq!(owner.say(b"").await, "", "not a word");
    assert_eq!(owner.say(b"GET /sta").await, "", "half a head");
    let idle = request("GET", "/status", "").replace("connection: close\r\n", "");
    let answer = owner.say(idle.as_bytes()).await;
    assert_eq!(split(&answer).0, 200, "an idle connection ends too");
    let half = request("POST", "/events", "\"twelve bytes\"");
    let (code, body) = split(&owner.say(&half.as_bytes()[..half.len() - 5]).await);
    let error: wire::ErrorBody = serde_json::from_str(&body).unwrap();
    assert_eq!((code, error.kind.as_str()), (408, "too_slow"));
    // Nothing more will come from here, in the middle of a body.
    let mut stream = owner.connect().await;
    stream
        .write_all(&half.as_bytes()[..half.len() - 5])
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    rest(&mut stream).await;
    assert_eq!(owner.queue.status().last_seq, 0);
    owner.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_answer_is_cut_off() {
    let owner = Owner::start().await;
    let text = format!("\"{}\"", "x".repeat(200 << 10));
    for _ in 0..6 {
        let event = Event::json(text.clone()).unwrap();
        owner.queue.append(event).await.unwrap();
    }
    let mut stream = owner.connect().await;
    let ask = request("GET", "/events", "");
    stream.write_all(ask.as_bytes()).await.unwrap();
    // The answer has begun; from here on nobody reads.
    assert_eq!(stream.read_u8().await.unwrap(), b'H');
    timeout(WRITE_TIME * 2, pending::<()>()).await.unwrap_err();
    let got = rest(&mut stream).await.len();
    assert!(got < 900 << 10, "{got} bytes came after all");
    owner.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_and_the_owner_append_at_once_in_order_and_without_gaps() {
    let owner = Owner::start().await;
    let mut tasks = Vec::new();
    for lane in 0..2u64 {
        let client = owner.client();
        tasks.push(tokio::spawn(async move {
            let mut seqs = Vec::new();
            for n in 0..40 {
                let pair = [
                    message(lane * 1000 + n * 2),
                    message(lane * 1000 + n * 2 + 1),
                ];
                seqs.extend(client.append(&pair).await.unwrap().iter().map(|r| r.seq));
            }
            seqs
        }));
    }
    let queue = owner.queue.clone();
    tasks.push(tokio::spawn(async move {
        let mut seqs = Vec::new();
        for n in 0..80 {
            seqs.push(queue.append(message(2000 + n)).await.unwrap().seq);
        }
        seqs
    }));
    let mut all = Vec::new();
    for task in tasks {
        let seqs = task.await.unwrap();
        assert!(seqs.is_sorted(), "{seqs:?}");
        all.extend(seqs);
    }
    all.sort_unstable();
    assert_eq!(all, (1..=240).collect::<Vec<_>>());
    let spool = owner.spool();
    owner.queue.close(Duration::ZERO).await.unwrap();
    let again = Queue::builder(spool).open().await.unwrap();
    let stored = again.events(..).take(500).await.unwrap();
    let lane = |from: u64| -> Vec<EventId> {
        let ids = stored.iter().map(|stored| stored.event.id());
        ids.filter(|found| (id(from)..id(from + 1000)).contains(found))
            .collect()
    };
    for from in [0, 1000, 2000] {
        assert_eq!(lane(from), (from..from + 80).map(id).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_watcher_sees_pause_and_resume_and_the_end() {
    let sandbox = Sandbox::start().await.unwrap();
    let owner = Owner::delivering(&sandbox).await;
    let client = owner.client();
    let mut watch = client.watch().await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().pending, 0);
    client.pause().await.unwrap();
    let paused = loop {
        let status = watch.next().await.unwrap().unwrap();
        if let FlusherState::Paused { reason, .. } = status.flusher {
            break reason;
        }
    };
    assert_eq!(paused, PauseReason::Requested);
    client.append(&[message(1)]).await.unwrap();
    while watch.next().await.unwrap().unwrap().pending != 1 {}
    assert_eq!(sandbox.stats().accepted, 0);
    client.resume().await.unwrap();
    while watch.next().await.unwrap().unwrap().ledger.delivered != 1 {}
    owner.queue.close(Duration::ZERO).await.unwrap();
    let mut last = None;
    while let Some(status) = watch.next().await.unwrap() {
        last = Some(status);
    }
    assert_eq!(last.unwrap().flusher, FlusherState::Closed);
}

/// The owner said "accepted" before its flusher knew of it, so that a script that paused and then
/// changed something at the receiver could not know when that was safe.
#[tokio::test]
async fn a_pause_is_answered_after_the_request_in_flight_and_kept_by_then() {
    let sandbox = Sandbox::start().await.unwrap();
    let owner = Owner::delivering(&sandbox).await;
    let client = owner.client();
    sandbox.script([Fault::Hang]);
    client.append(&[message(1)]).await.unwrap();
    sandbox.wait_for(|stats| stats.hanging == 1).await.unwrap();
    let mut pause = pin!(client.pause());
    // Each question has the owner go on with everything else as well.
    for _ in 0..20 {
        tokio::select! {
            biased;
            answer = &mut pause => panic!("answered during a request: {answer:?}"),
            status = client.status() => assert_eq!(status.unwrap().pending, 1),
        }
    }
    sandbox.release();
    timeout(LONG, pause).await.unwrap().unwrap();
    let status = owner.queue.status();
    assert!(
        matches!(status.flusher, FlusherState::Paused { .. }),
        "{status:?}"
    );
    assert_eq!(status.pending, 0);
    owner.queue.close(Duration::ZERO).await.unwrap();
    let found = everpost::inspect::remembered_pause(&owner.spool()).unwrap();
    assert_eq!(
        found.map(|paused| paused.reason),
        Some(PauseReason::Requested)
    );
}

#[tokio::test]
async fn changes_faster_than_the_pace_are_told_as_one() {
    let owner = Owner::start().await;
    let mut watch = owner.client().watch().await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().last_seq, 0);
    let started = tokio::time::Instant::now();
    for n in 1..=300 {
        owner.queue.append(message(n)).await.unwrap();
    }
    let mut lines = 0;
    while watch.next().await.unwrap().unwrap().last_seq != 300 {
        lines += 1;
    }
    let allowed = started.elapsed().as_millis() / 100 + 2;
    assert!(lines <= allowed, "{lines} lines, {allowed} allowed");
    owner.close().await;
}

#[tokio::test]
async fn a_pace_is_set_through_the_socket_seen_and_taken_back() {
    let sandbox = Sandbox::start().await.unwrap();
    let owner = Owner::delivering(&sandbox).await;
    let client = owner.client();
    let wanted = Pace {
        rate_events: Some(1),
        rate_bytes: Some(1 << 20),
    };
    client.set_pace(wanted).await.unwrap();
    assert_eq!(client.status().await.unwrap().pace.pace(), wanted);
    let events: Vec<_> = (1..=3).map(message).collect();
    client.append(&events).await.unwrap();
    let mut watch = owner.queue.watch();
    let held = watch.wait_for(|status| status.pace.next.is_some()).await;
    let held = held.unwrap();
    assert_eq!((held.pending, held.flusher), (2, FlusherState::Sending));
    client.set_pace(Pace::default()).await.unwrap();
    sandbox.wait_for_accepted(3).await.unwrap();
    assert_eq!(owner.queue.status().pace, PaceStatus::default());
    owner.close().await;
}

#[tokio::test]
async fn a_drain_tells_its_progress_and_leaves_the_queue_open() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.go_away().await.unwrap();
    let owner = Owner::delivering(&sandbox).await;
    let client = owner.client();
    for n in 1..=3 {
        client.append(&[message(n)]).await.unwrap();
    }
    let mut backing_off = owner.queue.watch();
    backing_off
        .wait_for(|status| matches!(status.flusher, FlusherState::BackingOff { .. }))
        .await
        .unwrap();
    let mut lines = client.drain(LONG).await.unwrap();
    let first = lines.next().await.unwrap().unwrap();
    assert!(!first.done && !first.drained, "{first:?}");
    assert_eq!(first.status.pending, 3);
    sandbox.come_back().await.unwrap();
    client.wake().await.unwrap();
    let mut last = first;
    while let Some(line) = lines.next().await.unwrap() {
        assert!(!last.done, "a line after the last");
        last = line;
    }
    assert!(last.done && last.drained, "{last:?}");
    assert_eq!(last.status.ledger.delivered, 3);
    client.append(&[message(4)]).await.unwrap();
    sandbox.wait_for_accepted(4).await.unwrap();
    owner.close().await;
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline_and_at_once_if_nothing_is_pending() {
    let sandbox = Sandbox::start().await.unwrap();
    let owner = Owner::delivering(&sandbox).await;
    let client = owner.client();
    let line = client.drain(LONG).await.unwrap().next().await.unwrap();
    assert!(line.is_some_and(|line| line.done && line.drained));
    client.pause().await.unwrap();
    // It was answered once it held.
    let state = owner.queue.status().flusher;
    assert!(matches!(state, FlusherState::Paused { .. }), "{state:?}");
    client.append(&[message(1)]).await.unwrap();
    let mut lines = client.drain(Duration::from_millis(1)).await.unwrap();
    let mut last = None;
    while let Some(line) = lines.next().await.unwrap() {
        last = Some(line);
    }
    let last = last.unwrap();
    assert!(last.done && !last.drained, "{last:?}");
    assert_eq!(last.status.pending, 1);
    owner.close().await;
}

/// Also the bound on connections: all are taken by drains whose clients then go away.
#[tokio::test]
async fn a_drain_ends_with_its_client_and_makes_place_for_the_next() {
    let sandbox = Sandbox::start().await.unwrap();
    let owner = Owner::delivering(&sandbox).await;
    let client = owner.client();
    owner.queue.pause().await.unwrap();
    owner.queue.append(message(1)).await.unwrap();
    let mut drains = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut lines = client.drain(LONG).await.unwrap();
        assert!(!lines.next().await.unwrap().unwrap().done);
        drains.push(lines);
    }
    let error = client.status().await.unwrap_err();
    assert_eq!(refusal(error), (503, "busy".to_owned()));
    // The queue itself does not care.
    owner.queue.append(message(2)).await.unwrap();
    drop(drains);
    let served = async { while client.status().await.is_err() {} };
    timeout(LONG, served).await.expect("there is place again");
    owner.close().await;
}

#[tokio::test]
async fn appends_that_wait_for_room_are_bounded_and_do_not_hide_the_status() {
    let mut settings = Settings::default();
    settings.on_full = everpost::OnFull::Block;
    settings.journal_bytes = 16 << 10;
    settings.max_event_bytes = 4 << 10;
    settings.tail_bytes = 4 << 10;
    settings.chunk_bytes = 4 << 10;
    settings.segment_bytes = 256 << 10;
    settings.max_bytes = (5 * 16 + 256 + 4096) << 10;
    let owner = Owner::start_with(settings, None).await;
    let client = owner.client();
    let event = || Event::json(format!("\"{}\"", noise(4000))).unwrap();
    // Fills the spool until one append waits: it is not answered when a look that was asked for
    // after it is.
    let mut filler = Box::pin(owner.queue.append(event()));
    loop {
        tokio::select! {
            biased;
            _ = &mut filler => filler = Box::pin(owner.queue.append(event())),
            looked = owner.queue.events(..).take(1) => {
                looked.unwrap();
                tokio::select! {
                    biased;
                    _ = &mut filler => filler = Box::pin(owner.queue.append(event())),
                    () = std::future::ready(()) => break,
                }
            }
        }
    }
    let mut appends = JoinSet::new();
    for _ in 0..=APPENDS_MAX {
        let client = client.clone();
        appends.spawn(async move { client.append(&[event()]).await });
    }
    let first = timeout(LONG, appends.join_next()).await;
    let first = first.expect("one is answered while the others wait");
    let error = first.unwrap().unwrap().unwrap_err();
    assert_eq!(refusal(error), (503, "busy".to_owned()));
    assert!(client.status().await.unwrap().pending > 0);
    drop(filler);
    owner.close().await;
}

/// Text that does not compress: xorshift64*, from a fixed seed.
fn noise(bytes: usize) -> String {
    let mut x: u64 = 20_261_123;
    let mut text = String::new();
    while text.len() < bytes {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        text.push_str(&format!("{:016x}", x.wrapping_mul(0x2545_f491_4f6c_dd1d)));
    }
    text
}

#[tokio::test]
async fn dead_letters_are_listed_shown_retried_and_discarded() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.reject_when(|_| Some("no such intent".to_owned()));
    let owner = Owner::delivering(&sandbox).await;
    let client = owner.client();
    for n in 1..=3 {
        client.append(&[message(n)]).await.unwrap();
    }
    let mut watch = owner.queue.watch();
    watch.wait_for(|s| s.dead_letters == 3).await.unwrap();
    let letters = client.dead_letters(0, 10).await.unwrap();
    let seqs: Vec<_> = letters.iter().map(|letter| letter.seq).collect();
    assert_eq!(seqs, [1, 2, 3]);
    assert_eq!(client.dead_letters(1, 1).await.unwrap()[0].seq, 2);
    let letter = client.dead_letter(2).await.unwrap();
    assert_eq!((letter.id, letter.cause), (id(2), Cause::Refused));
    assert_eq!(letter.answer.status, Some(400));
    assert_eq!(letter.answer.errors.len(), 1, "{:?}", letter.answer);
    assert_eq!(
        letter.event.as_str().as_bytes(),
        &message(2).json_bytes()[..]
    );
    sandbox.reject_nothing();
    let receipt = client.retry(2).await.unwrap();
    assert_eq!((receipt.seq, receipt.id), (4, id(2)));
    sandbox.wait_for_accepted(1).await.unwrap();
    client.discard(3).await.unwrap();
    let error = client.discard(3).await.unwrap_err();
    assert_eq!(refusal(error), (404, "no_such_letter".to_owned()));
    let left = client.dead_letters(0, 10).await.unwrap();
    assert_eq!(left.iter().map(|l| l.seq).collect::<Vec<_>>(), [1]);
    owner.close().await;
}

#[tokio::test]
async fn no_answer_holds_the_key() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.always(Fault::status(401));
    let owner = Owner::delivering(&sandbox).await;
    owner.queue.append(message(1)).await.unwrap();
    let mut watch = owner.queue.watch();
    watch
        .wait_for(|status| matches!(status.flusher, FlusherState::Paused { .. }))
        .await
        .unwrap();
    let (_, body) = owner.ask("GET", "/status", "").await;
    assert!(body.contains("credentials"), "{body}");
    for path in ["/status", "/events", "/dead", "/recovery", "/nothing"] {
        let (_, body) = owner.ask("GET", path, "").await;
        assert!(!body.contains(sandbox.key()), "{path}");
    }
    let (_, body) = owner.ask("POST", "/drain?deadline_ms=1", "").await;
    assert!(!body.contains(sandbox.key()), "/drain");
    owner.close().await;
}

/// Serves a spool until it is killed; in an ordinary run it does nothing.
#[tokio::test]
async fn the_program() {
    let Ok(spool) = std::env::var("CONTROL_SPOOL") else {
        return;
    };
    let queue = Queue::builder(spool).open().await.unwrap();
    let _control = control::serve(&queue).await.unwrap();
    writeln!(std::io::stdout(), "\nSERVING").unwrap();
    pending::<()>().await;
}

#[tokio::test]
async fn what_a_killed_owner_acknowledged_is_safe_and_its_socket_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let mut program = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_program", "--nocapture"])
        .env("CONTROL_SPOOL", &spool)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(program.stdout.take().unwrap()).lines();
    lines
        .map_while(Result::ok)
        .find(|line| line == "SERVING")
        .expect("the program serves");
    let client = Client::new(&spool);
    let receipts = client.append(&[message(1), message(2)]).await.unwrap();
    assert_eq!(receipts.len(), 2);
    let error = Queue::builder(&spool).open().await.unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    program.kill().unwrap();
    program.wait().unwrap();
    assert!(spool.join(SOCKET).exists(), "nobody removed it");
    let error = client.status().await.unwrap_err();
    assert!(matches!(error, ClientError::NoOwner { .. }), "{error}");
    let queue = Queue::builder(&spool).open().await.unwrap();
    let _control = control::serve(&queue).await.unwrap();
    let ids: Vec<_> = client
        .peek(0, 9)
        .await
        .unwrap()
        .iter()
        .map(|l| l.id)
        .collect();
    assert_eq!(ids, [id(1), id(2)]);
    queue.close(Duration::ZERO).await.unwrap();
}

/// What an owner found was in its status, but could not be acknowledged while it ran.
#[tokio::test]
async fn incidents_are_listed_and_acknowledged_one_by_one_or_all() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let queue = Queue::builder(&spool).open().await.unwrap();
    queue.append(Event::json("1").unwrap()).await.unwrap();
    queue.close(Duration::ZERO).await.unwrap();
    for entry in std::fs::read_dir(spool.join("journal")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let queue = Queue::builder(&spool).open().await.unwrap();
    let control = control::serve(&queue).await.unwrap();
    let client = Client::new(&spool);
    let listed = client.incidents().await.unwrap();
    assert!(listed.len() > 1, "{listed:?}");
    assert_eq!(listed, queue.status().incidents);
    assert_eq!(client.acknowledge(Some(1)).await.unwrap(), 1);
    assert_eq!(client.acknowledge(Some(1)).await.unwrap(), 0);
    let unknown = client.acknowledge(Some(77)).await.unwrap_err();
    assert_eq!(refusal(unknown), (404, "no_such_incident".to_owned()));
    let rest = listed.len() as u64 - 1;
    assert_eq!(client.status().await.unwrap().incidents, listed[1..]);
    assert_eq!(client.acknowledge(None).await.unwrap(), rest);
    assert!(client.status().await.unwrap().incidents.is_empty());
    let after = client.incidents().await.unwrap();
    assert_eq!(after.len(), listed.len());
    assert!(
        after
            .iter()
            .all(|incident| incident.acknowledged_ms.is_some())
    );
    control.close().await.unwrap();
    queue.close(Duration::ZERO).await.unwrap();
}
