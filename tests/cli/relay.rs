//! `relay`, as the clients of the API meet it: real sockets, a real process, killed with real signals.

mod starting;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use everpost::exit;
use everpost::sandbox::Sandbox;
use serde_json::{Value, json};

use crate::set_up::{Place, Running};

/// A relay under way, and where it listens.
pub(crate) struct Relaying {
    pub(crate) running: Running,
    address: SocketAddr,
}

impl Relaying {
    pub(crate) fn start(place: &Place, args: &[&str]) -> Self {
        let dir = place.path("relay");
        let dir = [
            "relay",
            "--dir",
            dir.to_str().unwrap(),
            "--listen",
            "127.0.0.1:0",
        ];
        let mut running = place.start(&[&dir[..], args].concat());
        let line = running.read_until(|line| line.starts_with("listening on "));
        let address = line.trim().trim_start_matches("listening on http://");
        let address = address.trim_end_matches("/v2").parse().unwrap();
        Self { running, address }
    }

    /// The key that it prints for a bot, with a sandbox.
    pub(crate) fn told_key(&mut self) -> String {
        const EXPORT: &str = "export BA_API_KEY=";
        let line = self.running.read_until(|line| line.starts_with(EXPORT));
        line.trim().trim_start_matches(EXPORT).to_owned()
    }

    pub(crate) fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        Client(BufReader::new(stream))
    }

    pub(crate) fn stop(self) -> crate::set_up::Ended {
        self.running.signal("-TERM");
        self.running.end()
    }
}

/// A connection that is kept.
pub(crate) struct Client(BufReader<TcpStream>);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Client {
    /// Sends a request; none if the connection broke before the answer was there.
    pub(crate) fn try_send(
        &mut self,
        first_line: &str,
        headers: &str,
        body: &str,
    ) -> Option<Answer> {
        let request = format!(
            "{first_line} HTTP/1.1\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.get_mut().write_all(request.as_bytes()).ok()?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            (self.0.read_line(&mut head).ok()? > 0).then_some(())?;
        }
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1);
        let length = length.map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).ok()?;
        Some(Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head,
            body: serde_json::from_slice(&body).unwrap_or_default(),
        })
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        self.0.get_mut()
    }

    pub(crate) fn send(&mut self, first_line: &str, headers: &str, body: &str) -> Answer {
        self.try_send(first_line, headers, body).unwrap()
    }

    pub(crate) fn post(&mut self, key: &str, body: &str) -> Answer {
        self.send("POST /v2/messages", &headers(key), body)
    }
}

pub(crate) fn headers(key: &str) -> String {
    format!("host: 127.0.0.1\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n")
}

pub(crate) fn key_of(channel: &str) -> String {
    let claims = json!({ "channel": channel }).to_string();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims);
    format!("e30.{claims}.c2ln")
}

pub(crate) fn wrapped(ids: &[&str]) -> String {
    let messages: Vec<String> = ids
        .iter()
        .map(|id| format!(r#"{{"message":{{"id":"{id}","timestamp":1, "x" : 1.50}}}}"#))
        .collect();
    format!(r#"{{"messages":[{}]}}"#, messages.join(","))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_any_client_of_the_api_sends_is_answered_as_the_api_does_and_delivered() {
    let sandbox = Sandbox::builder().keep_bodies(true).start().await.unwrap();
    let place = Place::with(&sandbox);
    let relay = Relaying::start(&place, &[]);
    let key = sandbox.key().to_owned();
    let mut client = relay.client();
    let uuid = "01980000-0000-7000-8000-000000000001";
    let answer = client.post(&key, &wrapped(&[uuid, "b"]));
    assert_eq!(
        (answer.status, &answer.body),
        (200, &json!({"request_id": uuid}))
    );
    // As the Python client sends it: neither the version nor the wrapper.
    let bare = r#"{"messages":[{"id":"c","timestamp":2}]}"#;
    for (path, body) in [
        ("/messages", bare.to_owned()),
        ("/messages/", wrapped(&["d"])),
        ("/v2/messages/", wrapped(&["e"])),
    ] {
        let answer = client.send(&format!("POST {path}"), &headers(&key), &body);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert!(answer.body["request_id"].is_string());
    }
    sandbox.wait_for_accepted(5).await.unwrap();
    sandbox.check_order([uuid, "b", "c", "d", "e"]).unwrap();
    let accepted = sandbox.accepted();
    let first = accepted[0].json().unwrap();
    assert_eq!(
        first,
        format!(r#"{{"id":"{uuid}","timestamp":1, "x" : 1.50}}"#).as_bytes(),
        "its bytes as they came"
    );
    drop(client);
    relay.stop().expect(exit::DONE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_of_the_api_is_refused_in_its_words_and_leaves_nothing() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    let relay = Relaying::start(&place, &["--validate"]);
    let (key, good) = (sandbox.key().to_owned(), wrapped(&["a"]));
    let good_headers = headers(&key);
    let post = "POST /v2/messages";
    let replaced = |old: &str, new: &str| good_headers.replace(old, new);
    let json_type = "content-type: application/json\r\n";
    let auth = format!("authorization: Bearer {key}\r\n");
    let many = wrapped(&vec!["a"; 10_001]);
    let bad = r#"{"messages":[{"message":{"id":"a","timestamp":1}},{"message":{"id":"b"}}]}"#;
    let cases: Vec<(u16, &str, String, &str, &str)> = vec![
        (
            404,
            "POST /v3/messages",
            good_headers.clone(),
            &good,
            "Resource",
        ),
        (404, "GET /", good_headers.clone(), "", "Resource"),
        (405, "GET /v2/messages", good_headers.clone(), "", "Method"),
        (401, post, replaced(&auth, ""), &good, "Authorization"),
        (
            401,
            post,
            replaced("Bearer", "Token"),
            &good,
            "Authorization",
        ),
        (
            401,
            post,
            format!("{good_headers}{auth}"),
            &good,
            "Authorization",
        ),
        (401, post, replaced(&key, "a.b"), &good, "three"),
        (401, post, replaced(&key, &key_of("rasa")), &good, "channel"),
        (400, post, replaced(json_type, ""), &good, "JSON"),
        (
            400,
            post,
            replaced("application/json", "text/plain"),
            &good,
            "JSON",
        ),
        (400, post, good_headers.clone(), "{", "not JSON at line 1"),
        (400, post, good_headers.clone(), "[1]", "messages must be"),
        (
            400,
            post,
            good_headers.clone(),
            r#"{"messages":[]}"#,
            "empty",
        ),
        (
            400,
            post,
            good_headers.clone(),
            r#"{"messages":[{"message":1}]}"#,
            "object",
        ),
        (
            400,
            post,
            good_headers.clone(),
            r#"{"messages":[{}]}"#,
            "message each",
        ),
        (
            400,
            post,
            good_headers.clone(),
            bad,
            "message 2: message.timestamp is required",
        ),
        (413, post, good_headers.clone(), &many, "10000 messages"),
        (
            421,
            post,
            replaced("127.0.0.1", "evil.example"),
            &good,
            "host",
        ),
        (
            400,
            post,
            replaced("host: 127.0.0.1\r\n", ""),
            &good,
            "host",
        ),
    ];
    for (status, line, headers, body, text) in cases {
        let answer = relay.client().send(line, &headers, body);
        assert_eq!(answer.status, status, "{line} {text}: {answer:?}");
        let errors = answer.body["errors"].to_string();
        assert!(errors.contains(text), "{text}: {answer:?}");
        assert!(!errors.contains(&key), "a key is shown: {errors}");
    }
    // More than it takes, said before it is sent.
    let large = format!("{good_headers}expect: 100-continue\r\n");
    let mut client = relay.client();
    let request = format!("{post} HTTP/1.1\r\n{large}content-length: 9000000\r\n\r\n");
    client.0.get_mut().write_all(request.as_bytes()).unwrap();
    let mut line = String::new();
    client.0.read_line(&mut line).unwrap();
    assert!(line.contains("413"), "{line}");
    assert_eq!(sandbox.stats().requests, 0);
    // Its spool is one like any other.
    let spool = place.path("relay/universal");
    let status = place.run(&["--spool", spool.to_str().unwrap(), "status", "--json"]);
    assert_eq!(status.json()["last_seq"], 0);
    drop(client);
    relay.stop().expect(exit::DONE);
}

/// The official clients keep nothing: whatever they were answered 200 for has to be somewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_what_was_answered_with_200_is_delivered_in_order_whenever_the_relay_is_killed() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    let key = sandbox.key().to_owned();
    let mut answered: Vec<String> = Vec::new();
    for round in 0..6 {
        let mut relay = Relaying::start(&place, &[]);
        let address = relay.address;
        let (key, killed_after) = (key.clone(), 10 + 7 * round);
        let (said, hear) = std::sync::mpsc::channel();
        let bot = std::thread::spawn(move || {
            let mut client = Client(BufReader::new(TcpStream::connect(address).unwrap()));
            for n in 0.. {
                let id = format!("{round}-{n}");
                let sent = client.try_send("POST /messages", &headers(&key), &wrapped(&[&id]));
                match sent {
                    Some(answer) if answer.status == 200 => drop(said.send(id)),
                    Some(answer) => panic!("{answer:?}"),
                    None => return,
                }
            }
        });
        answered.extend(hear.iter().take(killed_after));
        relay.running.child.kill().unwrap();
        bot.join().unwrap();
        answered.extend(hear.try_iter());
        relay.running.end();
    }
    let relay = Relaying::start(&place, &[]);
    let last = relay.client().post(&key, &wrapped(&["last"]));
    assert_eq!(last.status, 200);
    answered.push("last".to_owned());
    let all_there = |stats: &everpost::sandbox::Stats| stats.distinct >= answered.len() as u64;
    sandbox.wait_for(all_there).await.unwrap();
    relay.stop().expect(exit::DONE);
    let accepted = sandbox.accepted();
    let mut seen = BTreeSet::new();
    let firsts = accepted.iter().filter_map(|event| event.id());
    let firsts: Vec<&str> = firsts.filter(|id| seen.insert(*id)).collect();
    // One whose answer was cut off by the kill may be there too.
    let known: BTreeSet<&str> = answered.iter().map(String::as_str).collect();
    let delivered: Vec<&str> = firsts.into_iter().filter(|id| known.contains(id)).collect();
    assert_eq!(delivered, answered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_holds_requests_and_then_says_when_to_come_again() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.go_away().await.unwrap();
    let mut place = Place::with(&sandbox);
    place.settings(
        "max_bytes = \"1 MiB\"\njournal_bytes = \"64 KiB\"\nsegment_bytes = \"64 KiB\"\n\
         tail_bytes = \"16 KiB\"\nchunk_bytes = \"8 KiB\"\nmax_event_bytes = \"16 KiB\"\n\
         [delivery]\nbackoff_min = \"10ms\"\nbackoff_max = \"20ms\"\n",
    );
    let relay = Relaying::start(&place, &["--hold", "200ms"]);
    let key = sandbox.key().to_owned();
    let mut client = relay.client();
    let mut noise = fastrand_like(7);
    let mut taken = 0;
    let refused = loop {
        let text: String = (0..8_000).map(|_| noise()).collect();
        let body = format!(
            r#"{{"messages":[{{"message":{{"id":"{taken}","timestamp":1,"x":"{text}"}}}}]}}"#
        );
        let answer = client.post(&key, &body);
        match answer.status {
            200 => taken += 1,
            _ => break answer,
        }
    };
    assert!(taken > 10, "{taken}");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.head.contains("retry-after: 5\r\n"), "{refused:?}");
    assert!(
        refused.body["errors"][0]
            .as_str()
            .unwrap()
            .contains("max_bytes")
    );
    relay.stop().expect(exit::PENDING);

    // Held for long enough, it is taken as soon as there is room.
    let relay = Relaying::start(&place, &["--hold", "50s"]);
    let mut client = relay.client();
    let waits = std::thread::spawn(move || {
        let text: String = (0..8_000).map(|_| 'x').collect();
        let body =
            format!(r#"{{"messages":[{{"message":{{"id":"held","timestamp":1,"x":"{text}"}}}}]}}"#);
        client.post(&key, &body).status
    });
    sandbox.come_back().await.unwrap();
    assert_eq!(waits.join().unwrap(), 200);
    sandbox
        .wait_for(|stats| stats.distinct > taken)
        .await
        .unwrap();
    let ids = (0..taken).map(|n: u64| n.to_string());
    sandbox.check_order(ids.chain(["held".to_owned()])).unwrap();
    relay.stop().expect(exit::DONE);
}

/// Letters that do not compress, always the same ones.
pub(crate) fn fastrand_like(seed: u64) -> impl FnMut() -> char {
    let mut state = seed;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let at = usize::try_from(state >> 58).unwrap();
        char::from(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"[at])
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_door_is_opened_by_tokens_of_this_relay_and_by_the_key_that_it_delivers_with() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut place = Place::with(&sandbox);
    place.set_env("EVERPOST_RELAY_DIR", place.path("relay").to_str().unwrap());
    let token = |args: &[&str]| {
        let made = place.run(&[&["relay", "token"], args].concat());
        made.expect(exit::DONE).out.trim().to_owned()
    };
    let (own, other_channel) = (token(&[]), token(&["--channel", "rasa"]));
    let elsewhere = place.path("elsewhere");
    let foreign = token(&["--dir", elsewhere.to_str().unwrap()]);
    let relay = Relaying::start(&place, &["--tokens-only"]);
    let status = |key: &str, id| relay.client().post(key, &wrapped(&[id])).status;
    assert_eq!((status(&own, "a"), status(sandbox.key(), "b")), (200, 200));
    for wrong in [&other_channel, &foreign, &key_of("universal")] {
        assert_eq!(status(wrong, "c"), 401, "{wrong}");
    }
    relay.stop().expect(exit::DONE);
    // On loopback every key of the channel is good enough, if nothing else is typed.
    let relay = Relaying::start(&place, &[]);
    let status = relay
        .client()
        .post(&key_of("universal"), &wrapped(&["d"]))
        .status;
    assert_eq!(status, 200);
    relay.stop().expect(exit::DONE);
    sandbox.wait_for_accepted(3).await.unwrap();
    // What is delivered carries the channel's own key, and no other is on the disk.
    let files = walk(&place.path("relay"));
    for secret in [own.as_str(), sandbox.key(), &key_of("universal")] {
        let signature = secret.rsplit('.').next().unwrap().as_bytes();
        let holds = |bytes: &Vec<u8>| bytes.windows(signature.len()).any(|part| part == signature);
        assert!(signature.len() < 8 || !files.iter().any(holds));
    }
}

fn walk(dir: &std::path::Path) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else if path.is_file() {
            files.push(std::fs::read(path).unwrap());
        }
    }
    files
}
