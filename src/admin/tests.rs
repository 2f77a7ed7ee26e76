//! The routes, by real sockets: who may do what, from which page, and to exactly which letters.

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

/// Every endpoint; without the token the first status, with it the second.
#[tokio::test]
async fn without_the_token_everything_is_seen_but_events_and_nothing_is_done() {
    let stand = Stand::start().await;
    stand.settle(&["good", "bad hunter2", "bad"]).await;
    let act = |action: &str| json!({ "action": action, "filter": { "group": uuid::Uuid::nil() }, "up_to": 3, "count": 0 });
    let c = |path: &str| format!("{CHANNEL}{path}");
    for (method, path, body, without, with) in [
        ("GET", "/".to_owned(), Value::Null, 200, 200),
        ("GET", "/page.js".to_owned(), Value::Null, 200, 200),
        ("GET", "/api/channels".to_owned(), Value::Null, 200, 200),
        ("GET", "/api/log".to_owned(), Value::Null, 200, 200),
        ("GET", c("/history"), Value::Null, 200, 200),
        ("GET", c("/letters"), Value::Null, 200, 200),
        ("GET", c("/letters?q=hunter2"), Value::Null, 200, 200),
        (
            "GET",
            c("/letters?q=hunter2&in=content"),
            Value::Null,
            403,
            200,
        ),
        ("GET", c("/letters/survey"), Value::Null, 200, 200),
        (
            "GET",
            c("/letters/survey?q=h&in=both"),
            Value::Null,
            403,
            200,
        ),
        ("GET", c("/letters/export"), Value::Null, 403, 200),
        ("POST", c("/letters/ticket"), json!({}), 403, 200),
        ("POST", c("/letters/act"), act("retry"), 403, 202),
        ("POST", c("/letters/act"), act("discard"), 403, 202),
        ("POST", c("/letters/stop"), json!({}), 403, 202),
        ("GET", c("/control/status"), Value::Null, 200, 200),
        ("GET", c("/control/incidents"), Value::Null, 200, 200),
        ("GET", c("/control/recovery"), Value::Null, 200, 200),
        ("GET", c("/control/readyz"), Value::Null, 200, 200),
        ("GET", c("/control/events"), Value::Null, 403, 200),
        ("GET", c("/control/dead"), Value::Null, 403, 200),
        ("GET", c("/control/dead/2"), Value::Null, 403, 200),
        (
            "POST",
            c("/control/incidents/acknowledge"),
            Value::Null,
            403,
            200,
        ),
        ("POST", c("/control/pause"), Value::Null, 403, 202),
        ("POST", c("/control/resume"), Value::Null, 403, 202),
        ("POST", c("/control/wake"), Value::Null, 403, 202),
        ("POST", c("/control/drain"), Value::Null, 403, 200),
        (
            "POST",
            c("/control/events?form=event"),
            json!("good"),
            403,
            200,
        ),
        ("POST", c("/control/dead/3/retry"), Value::Null, 403, 200),
        ("DELETE", c("/control/dead/2"), Value::Null, 403, 204),
        (
            "GET",
            "/api/channels/none/history".to_owned(),
            Value::Null,
            404,
            404,
        ),
        ("GET", "/api/none".to_owned(), Value::Null, 404, 404),
        ("POST", "/".to_owned(), Value::Null, 405, 405),
    ] {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let refused = stand.ask(method, &path, "", &body).await;
        assert_eq!(
            refused.status, without,
            "{method} {path} without: {refused:?}"
        );
        // The receiver repeats the event in its answer; the event itself is nowhere.
        assert!(
            !refused.body.contains("\"event\""),
            "{method} {path}: {refused:?}"
        );
        let done = stand.ask(method, &path, &stand.bearer(), &body).await;
        assert_eq!(done.status, with, "{method} {path} with: {done:?}");
    }
    stand.close().await;
}

#[tokio::test]
async fn a_wrong_token_is_no_token_and_a_page_without_one_only_shows() {
    let stand = Stand::start().await;
    let pause = format!("{CHANNEL}/control/pause");
    for wrong in [
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer {}0", stand.token),
        format!("Bearer {}", &stand.token[1..]),
        format!("Basic {}", stand.token),
        format!("Bearer {0}\r\nauthorization: Bearer {0}", stand.token),
    ] {
        let header = format!("authorization: {wrong}\r\n");
        for path in ["/api/channels", &pause] {
            let got = stand.ask("POST", path, &header, "").await;
            assert_eq!(
                (got.status, &got.json()["kind"]),
                (401, &"wrong_token".into())
            );
        }
    }
    let plain = Admin::builder()
        .channel(Shown::new("a/{b}", stand.queue.clone()))
        .build();
    let port = plain
        .serve(TcpListener::bind("127.0.0.1:0").unwrap())
        .unwrap();
    let got = ask(
        port.address().tcp().unwrap(),
        "POST",
        &pause,
        &stand.bearer(),
        "",
    )
    .await;
    assert_eq!(got.status, 401);
    assert!(
        got.json()["hint"]
            .as_str()
            .unwrap()
            .contains("--admin-token")
    );
    let got = ask(port.address().tcp().unwrap(), "POST", &pause, "", "").await;
    assert_eq!(
        (got.status, &got.json()["kind"]),
        (403, &"read_only".into())
    );
    port.close().await.unwrap();
    stand.close().await;
}

#[tokio::test]
async fn a_page_of_another_origin_gets_nothing_at_either_door() {
    let stand = Stand::start().await;
    let pause = format!("{CHANNEL}/control/pause");
    let bearer = stand.bearer();
    for (to, right) in [(stand.tcp, bearer.as_str()), (stand.trusted, "")] {
        let same = format!("{right}origin: http://{to}\r\nsec-fetch-site: same-origin\r\n");
        assert_eq!(ask(to, "POST", &pause, &same, "").await.status, 202);
        assert_eq!(ask(to, "POST", &pause, right, "").await.status, 202);
        for other in [
            "origin: http://evil.example\r\n",
            "origin: null\r\n",
            "origin: http://127.0.0.1:1\r\n",
            "sec-fetch-site: cross-site\r\n",
            "sec-fetch-site: same-site\r\n",
        ] {
            let headers = format!("{right}{other}");
            for (method, path) in [
                ("POST", pause.as_str()),
                ("GET", "/api/channels"),
                ("GET", "/api/live"),
                ("OPTIONS", "/api/channels"),
            ] {
                let got = ask(to, method, path, &headers, "").await;
                assert_eq!(
                    (got.status, &got.json()["kind"]),
                    (403, &"wrong_origin".into())
                );
                assert!(!got.head.contains("access-control-"), "{got:?}");
            }
            // A link there may lead here.
            assert_eq!(ask(to, "GET", "/", &headers, "").await.status, 200);
        }
        for host in ["evil.example", "localhost.evil.example", "everpost.evil"] {
            for path in ["/", "/api/channels", "/none"] {
                let got = ask(to, "GET", path, &format!("{right}host: {host}\r\n"), "").await;
                assert_eq!(got.status, 421, "{host} {path}");
            }
        }
        for host in ["localhost:1", "box.example", "[::1]:1"] {
            let got = ask(
                to,
                "GET",
                "/api/channels",
                &format!("{right}host: {host}\r\n"),
                "",
            )
            .await;
            assert_eq!(got.status, 200, "{host}");
        }
    }
    let named = "host: everpost\r\n";
    assert_eq!(ask(stand.trusted, "GET", "/", named, "").await.status, 200);
    assert_eq!(ask(stand.tcp, "GET", "/", named, "").await.status, 421);
    stand.close().await;
}

#[tokio::test]
async fn every_answer_binds_the_browser() {
    let stand = Stand::start().await;
    for (method, path, headers) in [
        ("GET", "/", ""),
        ("HEAD", "/", ""),
        ("GET", "/page.css", ""),
        ("GET", "/api/channels", ""),
        ("GET", "/none", ""),
        ("DELETE", "/", ""),
        ("GET", "/", "host: evil.example\r\n"),
        ("GET", "/api/channels", "authorization: none\r\n"),
    ] {
        let got = stand.ask(method, path, headers, "").await;
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; \
             connect-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; \
             form-action 'none'\r\n",
            "x-content-type-options: nosniff\r\n",
            "referrer-policy: no-referrer\r\n",
            "cache-control: no-store\r\n",
        ] {
            assert!(
                format!("{}\r\n", got.head).contains(header),
                "{path}: {got:?}"
            );
        }
    }
    let page = stand.ask("GET", "/", "", "").await;
    assert!(page.head.contains("content-type: text/html; charset=utf-8"));
    stand.close().await;
}

#[tokio::test]
async fn exactly_the_set_that_was_counted_is_discarded_or_none() {
    let stand = Stand::start().await;
    stand
        .settle(&["bad a 1", "bad b 1", "bad a 2", "good", "bad a 3"])
        .await;
    let survey = stand.get(&format!("{CHANNEL}/letters/survey")).await.json();
    assert_eq!(
        (&survey["matched"], &survey["next"]),
        (&json!(4), &Value::Null)
    );
    let mut groups = survey["groups"].as_array().unwrap().iter();
    let group = groups.find(|group| group["count"] == 3).unwrap();
    assert_eq!(group["text"], "refused: \"bad a #\"");
    let filter = json!({ "group": group["group"] });
    let up_to = &survey["up_to"];
    let act = |count: u64| json!({ "action": "discard", "filter": filter, "up_to": up_to, "count": count });
    // Behind what was counted: not meant, although the filter lets it through.
    stand.settle(&["bad a 4"]).await;
    let path = format!("{CHANNEL}/letters/act");
    for count in [0, 2, 4] {
        let got = stand.post(&path, &act(count)).await;
        assert_eq!(
            (got.status, &got.json()["kind"]),
            (409, &"set_changed".into())
        );
        assert!(
            got.json()["error"]
                .as_str()
                .unwrap()
                .contains("3 letters instead of")
        );
    }
    assert_eq!(stand.queue.status().dead_letters, 5, "nothing was done");
    assert_eq!(stand.post(&path, &act(3)).await.status, 202);
    let job = stand.job().await;
    assert_eq!(
        (&job["done"], &job["of"], &job["error"]),
        (&json!(3), &json!(3), &Value::Null)
    );
    let left = stand.get(&format!("{CHANNEL}/letters")).await.json();
    let seqs: Vec<_> = left["letters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| &l["seq"])
        .collect();
    assert_eq!(seqs, [&json!(2), &json!(6)]);
    // The same again is another set by now.
    assert_eq!(stand.post(&path, &act(3)).await.status, 409);
    let entries = stand.get("/api/log").await.json();
    assert_eq!(entries[0]["what"], "discarded dead letters");
    assert_eq!(
        (&entries[0]["count"], &entries[0]["by"]),
        (&json!(3), &json!("token"))
    );
    assert_eq!(entries[0]["from"], "127.0.0.1");
    stand.close().await;
}

#[tokio::test]
async fn what_is_retried_and_refused_again_is_not_retried_for_ever() {
    let stand = Stand::start().await;
    stand.settle(&["bad 1", "bad 2", "bad 3"]).await;
    let all = json!({ "action": "retry", "up_to": 3, "count": 3 });
    let path = format!("{CHANNEL}/letters/act");
    assert_eq!(stand.post(&path, &all).await.status, 202);
    assert_eq!(stand.job().await["done"], 3);
    let settled = stand
        .queue
        .watch()
        .wait_for(|now| now.ledger.dead == 6)
        .await;
    assert_eq!(settled.unwrap().letters.retried, 3);
    for wrong in [
        json!({ "action": "burn", "up_to": 3, "count": 3 }),
        json!({ "action": "retry", "up_to": 3 }),
        json!({ "action": "retry", "up_to": 3, "count": 3, "filter": { "gruop": "x" } }),
        json!({ "action": "retry", "up_to": 3, "count": 3, "more": 1 }),
    ] {
        let got = stand.post(&path, &wrong).await;
        assert_eq!(
            (got.status, &got.json()["kind"]),
            (400, &"bad_request".into()),
            "{wrong}"
        );
    }
    stand.close().await;
}

#[tokio::test]
async fn pages_are_bounded_and_go_on_where_they_ended() {
    let stand = Stand::start().await;
    let texts: Vec<String> = (0..LIST_MAX + 30).map(|n| format!("bad {n}")).collect();
    stand
        .settle(&texts.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let (mut after, mut seqs) = (json!(0), Vec::new());
    while !after.is_null() {
        let path = format!("{CHANNEL}/letters?max=1000000&after={after}");
        let page = stand.get(&path).await.json();
        let letters = page["letters"].as_array().unwrap();
        assert!(letters.len() <= LIST_MAX);
        assert!(letters.iter().all(|letter| letter.get("event").is_none()));
        seqs.extend(letters.iter().map(|letter| letter["seq"].as_u64().unwrap()));
        after = page["next"].clone();
    }
    assert_eq!(seqs, (1..=LIST_MAX as u64 + 30).collect::<Vec<_>>());
    let one = stand
        .get(&format!("{CHANNEL}/letters?q=%22bad%20229%22"))
        .await
        .json();
    assert_eq!(one["letters"][0]["seq"], 230);
    let long = format!("{CHANNEL}/letters?q={}", "x".repeat(300));
    assert_eq!(stand.get(&long).await.status, 400);
    stand.close().await;
}

#[tokio::test]
async fn a_ticket_is_for_one_download_of_what_it_was_given_for() {
    let stand = Stand::start().await;
    stand.settle(&["bad <b>", "bad 2"]).await;
    let (to, filter) = (
        format!("{CHANNEL}/letters/ticket"),
        json!({ "q": "<b>", "in": "content" }),
    );
    let given = stand.post(&to, &filter);
    let path = given.await.json()["path"].as_str().unwrap().to_owned();
    // As a browser does: without the token, and nothing else is let through by it.
    let got = stand.ask("GET", &format!("{path}&q=none"), "", "").await;
    assert_eq!(got.status, 200, "{got:?}");
    assert!(got.head.contains("content-type: application/x-ndjson"));
    assert!(
        got.head.contains(
            "content-disposition: attachment; filename=\"dead-letters-a%2F%7Bb%7D.jsonl\""
        )
    );
    let lines = got.lines();
    assert_eq!((lines.len(), &lines[0]["event"]), (1, &json!("bad <b>")));
    assert_eq!(stand.ask("GET", &path, "", "").await.status, 403, "once");
    let all = stand
        .get(&format!("{CHANNEL}/letters/export"))
        .await
        .lines();
    assert_eq!(all.len(), 2);
    stand.close().await;
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
