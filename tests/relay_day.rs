//! A day without a receiver, simulated: ten channels, whose bots go on sending, and one wrong key.

#![cfg(feature = "relay")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "delivery/still_clock.rs"]
#[expect(dead_code, reason = "other tests set it too")]
mod still_clock;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use everpost::admin::{Admin, Shown};
use everpost::botanalytics::{Botanalytics, KeySource};
use everpost::relay::{Channel, Relay, Rules, Tokens};
use everpost::sandbox::Sandbox;
use everpost::{FlusherState, Queue, Settings};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use still_clock::StillClock;

const HOURS: u64 = 24;
const HOUR: Duration = Duration::from_secs(3600);

/// The channel whose key is refused.
const WRONG: usize = 3;

fn key_of(channel: &str) -> String {
    let claims = format!(r#"{{"channel":"{channel}"}}"#);
    let claims = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(claims);
    format!("e30.{claims}.c2ln")
}

/// One request, and the JSON of its answer, which has to be a 200.
async fn ask(to: SocketAddr, line: &str, headers: &str, body: &str) -> Value {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

async fn open(dir: &std::path::Path, sink: Botanalytics, clock: &Arc<StillClock>) -> Queue {
    let mut settings = Settings::default();
    settings.delivery.backoff_min = Duration::from_millis(10);
    settings.delivery.backoff_max = Duration::from_millis(50);
    let builder = Queue::builder(dir).settings(settings).sink(sink);
    builder.clock(clock.clone()).open().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_without_a_receiver_costs_nothing_and_the_page_names_the_channel_with_a_wrong_key() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(StillClock::new());
    let mut relay = Relay::builder(Tokens::open(dir.path()).unwrap()).rules(Rules::new().any_key());
    let mut admin = Admin::builder();
    let (mut names, mut sandboxes, mut queues) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..10 {
        let name = format!("channel-{number}");
        let sandbox = Sandbox::builder().channel(&name).start().await.unwrap();
        let key = match number {
            WRONG => key_of(&name),
            _ => sandbox.key().to_owned(),
        };
        let sink = Botanalytics::builder(KeySource::value(key)).base_url(sandbox.base_url());
        let sink = sink.channel(&name).build().unwrap();
        sandbox.go_away().await.unwrap();
        let queue = open(&dir.path().join(&name), sink.clone(), &clock).await;
        relay = relay.channel(Channel::new(&name, queue.clone()).upstream(sink.clone()));
        admin = admin.channel(Shown::new(&name, queue.clone()).upstream(sink.url()));
        names.push(name);
        sandboxes.push(sandbox);
        queues.push(queue);
    }
    let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
    let port = relay.build().serve(listener()).unwrap();
    let page = admin.build().serve(listener()).unwrap();
    let (to, page_at) = (port.address().tcp().unwrap(), page.address().tcp().unwrap());

    for hour in 0..HOURS {
        for name in &names {
            let headers = format!(
                "authorization: Bearer {}\r\ncontent-type: application/json\r\n",
                key_of(name)
            );
            let message =
                format!(r#"{{"messages":[{{"message":{{"id":"{name}-{hour}","timestamp":1}}}}]}}"#);
            ask(to, "POST /v2/messages", &headers, &message).await;
        }
        clock.advance(HOUR);
    }
    for queue in &queues {
        assert_eq!(queue.status().pending, HOURS);
    }

    for sandbox in &sandboxes {
        sandbox.come_back().await.unwrap();
    }
    for (number, queue) in queues.iter().enumerate() {
        let settled = |status: &everpost::Status| match number {
            WRONG => matches!(status.flusher, FlusherState::Paused { .. }),
            _ => status.pending == 0 && status.flusher == FlusherState::Idle,
        };
        let status = queue.watch().wait_for(settled).await.unwrap();
        let expected = if number == WRONG { HOURS } else { 0 };
        assert_eq!(status.pending, expected, "{number}");
    }
    for (number, (name, sandbox)) in names.iter().zip(&sandboxes).enumerate() {
        if number != WRONG {
            let ids = (0..HOURS).map(|hour| format!("{name}-{hour}"));
            sandbox.check_order(ids).unwrap();
        }
    }
    let shown = ask(page_at, "GET /api/channels", "", "").await;
    for (number, channel) in shown["channels"].as_array().unwrap().iter().enumerate() {
        let said = &channel["sentences"][0];
        let expected = if number == WRONG {
            "key_refused"
        } else {
            "idle"
        };
        assert_eq!(said["kind"], expected, "{channel}");
        assert_eq!(channel["name"], names[number].as_str());
    }
    port.close().await.unwrap();
    page.close().await.unwrap();
    for queue in queues {
        queue.close(Duration::ZERO).await.unwrap();
    }
}
