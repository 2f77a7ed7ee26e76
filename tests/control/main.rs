//! The control socket: who may reach it, what each endpoint does, and that no client, however
//! rude, stands in the way of the queue.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![cfg(unix)]

mod appending;
mod bounds;
mod socket;
mod watching;

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

/// An owner that only takes events in refused a pause, which is for the owner that delivers after it.
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
    assert!(spool.join(SOCKET).exists(), "it was not removed");
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
