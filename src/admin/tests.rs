//! The routes, by real sockets: who may do what, from which page, and to exactly which letters.

mod access;
mod letters;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use axum::Router;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::{Admin, LIST_MAX, Shown, Token};
use crate::error::OpenError;
use crate::event::Event;
use crate::outcome::{Answer, Outcome, Verdict};
use crate::queue::Queue;
use crate::serving::{self, Bounds};
use crate::settings::Settings;
use crate::sink::{Request, Sink};

/// Refuses each event whose text begins with `bad`, and says its text again.
pub(super) struct Refusing;

impl Sink for Refusing {
    async fn deliver(&self, request: Request) -> Outcome {
        let mut events = request.events().iter();
        match events.find(|stored| stored.event.json_bytes().starts_with(b"\"bad")) {
            None => Outcome::new(Verdict::Delivered, Answer::from_status(200)),
            Some(bad) => {
                let text = String::from_utf8_lossy(bad.event.json_bytes());
                let mut answer = Answer::from_status(400);
                answer.errors = vec![format!("refused: {text}")];
                Outcome::new(Verdict::Poison, answer)
            }
        }
    }
}

/// A queue that delivers by this sink, and never pauses for what is refused.
pub(super) async fn open(sink: impl Sink) -> (TempDir, Queue) {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.delivery.breaker_refusals = u32::MAX;
    let builder = Queue::builder(dir.path().join("spool")).settings(settings);
    let queue = builder.sink(sink).open().await.unwrap();
    (dir, queue)
}

/// A page over one queue, behind both doors.
struct Stand {
    dir: TempDir,
    queue: Queue,
    admin: Admin,
    tcp: SocketAddr,
    trusted: SocketAddr,
    token: String,
    _ports: [serving::Port; 2],
}

#[derive(Debug)]
struct Got {
    status: u16,
    head: String,
    body: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    fn lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap();
        self.body.lines().map(parse).collect()
    }
}

fn serve(routes: Router) -> serving::Port {
    let bounds = Bounds {
        name: "a test",
        connections_max: 16,
        turned_away_max: 0,
        head_bytes_max: 16 << 10,
        head_time: Duration::from_secs(60),
        connection_time: Some(Duration::from_secs(60)),
        write_time: Duration::from_secs(30),
        grace: Duration::ZERO,
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    serving::Port::serve(listener, routes, Router::new(), bounds).unwrap()
}

impl Stand {
    async fn start() -> Self {
        let (dir, queue) = open(Refusing).await;
        let token = Token::open(dir.path()).unwrap();
        let admin = Admin::builder()
            .channel(Shown::new("a/{b}", queue.clone()))
            .token(token.clone())
            .host("box.example")
            .build();
        let ports = [serve(admin.router()), serve(admin.trusted_router())];
        Self {
            dir,
            queue,
            admin,
            tcp: ports[0].address().tcp().unwrap(),
            trusted: ports[1].address().tcp().unwrap(),
            token: token.expose().to_owned(),
            _ports: ports,
        }
    }

    /// Appends these texts and waits until all have left.
    async fn settle(&self, texts: &[&str]) {
        let events = texts
            .iter()
            .map(|text| Event::from_serialize(text).unwrap());
        self.queue.append_all(events).await.unwrap();
        let settled = self.queue.watch().wait_for(|now| now.pending == 0).await;
        settled.unwrap();
    }

    async fn get(&self, path: &str) -> Got {
        self.ask("GET", path, &self.bearer(), "").await
    }

    async fn post(&self, path: &str, body: &Value) -> Got {
        self.ask("POST", path, &self.bearer(), &body.to_string())
            .await
    }

    fn bearer(&self) -> String {
        format!("authorization: Bearer {}\r\n", self.token)
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Got {
        ask(self.tcp, method, path, headers, body).await
    }

    async fn close(self) {
        self.queue.close(Duration::ZERO).await.unwrap();
    }

    /// Waits until a set is done, and gives what came of it.
    async fn job(&self) -> Value {
        loop {
            let view = self.get("/api/channels").await.json();
            let job = view["channels"][0]["job"].clone();
            if job["is_running"] == false {
                return job;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// The path of the only channel, whose name is no plain part of one.
const CHANNEL: &str = "/api/channels/a%2F%7Bb%7D";

async fn ask(to: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Got {
    let host = if headers.contains("host: ") {
        String::new()
    } else {
        format!("host: {to}\r\n")
    };
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\n{host}{headers}content-length: {length}\r\n\r\n{body}"
    );
    let asked = spawn_blocking(move || {
        let mut stream = TcpStream::connect(to).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    });
    let text = asked.await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let body = if head.contains("transfer-encoding: chunked") {
        dechunked(body)
    } else {
        body.to_owned()
    };
    Got {
        status: head[9..12].parse().unwrap(),
        head: head.to_owned(),
        body,
    }
}

fn dechunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, more)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body.push_str(&more[..size]);
        rest = more[size..].trim_start_matches("\r\n");
        if size == 0 {
            break;
        }
    }
    body
}

#[tokio::test]
async fn live_news_tell_each_change_and_no_event() {
    let stand = Stand::start().await;
    let address = stand.tcp;
    let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let listener = spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let timeout = Some(Duration::from_secs(60));
        stream.set_read_timeout(timeout).unwrap();
        write!(stream, "GET /api/live HTTP/1.1\r\nhost: {address}\r\n\r\n").unwrap();
        // Unlike `read`, the iterator goes on where a call ends with `EINTR`.
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if said.send(line + "\n").is_err() {
                break;
            }
        }
    });
    let mut text = String::new();
    let mut hear = async |wanted: &str| {
        while !text.contains(wanted) {
            let news = timeout(Duration::from_secs(60), heard.recv());
            text += &news.await.unwrap().unwrap();
        }
        text.clone()
    };
    let begun = hear("event: channel").await;
    assert!(begun.contains("content-type: text/event-stream"), "{begun}");
    hear("\"appended\":0").await;
    stand.settle(&["good hunter2", "bad"]).await;
    hear("\"dead_letters\":1").await;
    let log = format!("{CHANNEL}/control/pause");
    assert_eq!(
        stand.ask("POST", &log, &stand.bearer(), "").await.status,
        202
    );
    let all = hear("event: log").await;
    assert!(
        !all.contains("hunter2") && !all.contains(&stand.token),
        "{all}"
    );
    drop(heard);
    drop(stand._ports);
    stand.queue.close(Duration::ZERO).await.unwrap();
    listener.await.unwrap();
}

#[tokio::test]
async fn what_a_receiver_says_stays_a_text_in_json() {
    let stand = Stand::start().await;
    let hostile = "bad </script><img src=x onerror=alert(1)>\u{202e}\u{0}\r\n\r\nevent: log";
    stand.settle(&[hostile]).await;
    for path in [format!("{CHANNEL}/letters"), "/api/channels".to_owned()] {
        let got = stand.get(&path).await;
        assert!(
            got.head.contains("content-type: application/json"),
            "{got:?}"
        );
        assert!(!got.body.contains('\n') && !got.body.contains('\0'));
    }
    let letters = stand.get(&format!("{CHANNEL}/letters")).await.json();
    let said = letters["letters"][0]["answer"]["errors"][0]
        .as_str()
        .unwrap();
    assert!(
        said.contains("</script><img src=x onerror=alert(1)>"),
        "{said}"
    );
    stand.close().await;
}

#[tokio::test]
async fn probes_find_beside_the_page_what_they_find_without_it() {
    let stand = Stand::start().await;
    let admin = Admin::builder()
        .channel(Shown::new("one", stand.queue.clone()))
        .beside_probes_of(&stand.queue)
        .build();
    let port = admin
        .serve(TcpListener::bind("127.0.0.1:0").unwrap())
        .unwrap();
    for (path, part) in [
        ("/livez", "\"live\":true"),
        ("/readyz", "\"ready\":true"),
        ("/metrics", "everpost_"),
        ("/", "<!doctype html>"),
    ] {
        let got = ask(port.address().tcp().unwrap(), "GET", path, "", "").await;
        assert_eq!(got.status, 200, "{path}");
        assert!(got.body.contains(part), "{got:?}");
    }
    assert_eq!(
        ask(port.address().tcp().unwrap(), "POST", "/livez", "", "")
            .await
            .status,
        405
    );
    assert_eq!(ask(stand.tcp, "GET", "/livez", "", "").await.status, 404);
    port.close().await.unwrap();
    stand.close().await;
}

#[tokio::test]
async fn the_page_holds_no_queue_open_once_it_is_dropped() {
    let stand = Stand::start().await;
    let Stand {
        dir,
        queue,
        admin,
        _ports,
        ..
    } = stand;
    for port in _ports {
        port.close().await.unwrap();
    }
    // Not closed: the last handle is the end of it, and a task of the page must have none.
    drop((admin, queue));
    let opened = async {
        loop {
            match Queue::builder(dir.path().join("spool")).open().await {
                Err(OpenError::InUse { .. }) => tokio::task::yield_now().await,
                opened => break opened.unwrap(),
            }
        }
    };
    let again = timeout(Duration::from_secs(60), opened).await.unwrap();
    again.close(Duration::ZERO).await.unwrap();
}
