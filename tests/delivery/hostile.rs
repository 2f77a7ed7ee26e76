//! Answers that no honest API gives, byte for byte, to the whole queue: interim answers in
//! great number, redirects in a circle. Nothing is condemned or lost, and once the API answers,
//! everything arrives in order.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use everpost::botanalytics::{Botanalytics, KeySource};
use everpost::{FlusherState, PauseReason, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{World, drained, events, settings, until, within};

const TAKEN: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// Answers each connection with the next of these bytes, and then takes everything.
struct Raw {
    base_url: String,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl Raw {
    async fn start(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v2", listener.local_addr().unwrap());
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&bodies);
        tokio::spawn(async move {
            let mut answers = answers.into_iter();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let body = request(&mut stream).await;
                let answer = answers.next();
                if answer.is_none() {
                    seen.lock().unwrap().push(body);
                }
                let answer = answer.unwrap_or_else(|| TAKEN.to_owned());
                // The client may have had enough before everything is written.
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { base_url, bodies }
    }

    /// Whether exactly these events came, in order, in what was taken.
    fn took(&self, numbers: std::ops::RangeInclusive<u64>) -> bool {
        let bodies = self.bodies.lock().unwrap().concat();
        let mut rest = bodies.as_str();
        numbers.into_iter().all(|n| {
            let found = rest.split_once(&format!("\"text\":\"message {n}\""));
            rest = found.map_or("", |(_, after)| after);
            found.is_some()
        }) && !rest.contains("\"text\"")
    }
}

/// Reads one request; gives its body.
async fn request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_lowercase();
            let length = head
                .lines()
                .find_map(|l| l.strip_prefix("content-length: "));
            if length.is_some_and(|length| body.len() >= length.parse().unwrap()) {
                return body.to_owned();
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap() == 0 {
            return String::new();
        }
    }
}

/// Twelve events through these answers, with no word from the receiver.
async fn survives(answers: Vec<String>, settings: Settings) {
    let world = World::new().await;
    let raw = Raw::start(answers).await;
    let key = KeySource::value(world.sandbox.key());
    let sink = Botanalytics::builder(key).base_url(&raw.base_url);
    let queue = world.open_to(sink.build().unwrap(), settings).await;
    queue.append_all(events(1..=12)).await.unwrap();
    let status = drained(&queue).await;
    assert_eq!((status.ledger.delivered, status.dead_letters), (12, 0));
    assert!(raw.took(1..=12), "{:?}", raw.bodies);
    within(queue.close(Duration::ZERO)).await.unwrap();
}

#[tokio::test]
async fn interim_answers_are_no_answers() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let hints = [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\n",
        interim,
    ];
    // Followed by the answer; by nothing; by themselves, again and again.
    let answers = vec![
        hints.concat(),
        interim.repeat(10_000),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_owned(),
        hints.concat() + "HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    ];
    survives(answers, settings()).await;
}

#[tokio::test]
async fn a_redirect_in_a_circle_is_met_once_and_waits_for_a_word() {
    let circle = "HTTP/1.1 302 Found\r\nLocation: /v2/messages\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let world = World::new().await;
    let raw = Raw::start(vec![circle.to_owned(); 3]).await;
    let key = KeySource::value(world.sandbox.key());
    let sink = Botanalytics::builder(key).base_url(&raw.base_url);
    let queue = world.open_to(sink.build().unwrap(), settings()).await;
    queue.append_all(events(1..=12)).await.unwrap();
    for met in 1..=3 {
        let status = until(&queue, |status| {
            let address = |state: &FlusherState| {
                matches!(
                    state,
                    FlusherState::Paused {
                        reason: PauseReason::Address,
                        ..
                    }
                )
            };
            status.requests == met && address(&status.flusher)
        })
        .await;
        assert_eq!((status.pending, status.dead_letters), (12, 0));
        queue.resume().await.unwrap();
    }
    assert_eq!(drained(&queue).await.ledger.delivered, 12);
    assert!(raw.took(1..=12), "{:?}", raw.bodies);
}
