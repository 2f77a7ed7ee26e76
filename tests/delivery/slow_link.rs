//! A link slower than a batch per time limit, through a real queue and real sockets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use everpost::botanalytics::{Botanalytics, KeySource};
use everpost::{Event, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{World, drained, event_with, settings};

const TAKEN: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// What gets through the link within the time limit of a request.
const THROUGH: usize = 200 << 10;

/// Reads requests one after the other over a link that is too slow for the large ones: of those it
/// reads what gets through, and then as good as nothing until the client has had enough.
struct Link {
    base_url: String,
    bodies: Arc<Mutex<Vec<String>>>,
    stalled: Arc<Mutex<usize>>,
}

impl Link {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v2", listener.local_addr().unwrap());
        let link = Self {
            base_url,
            bodies: Arc::default(),
            stalled: Arc::default(),
        };
        let (bodies, stalled) = (Arc::clone(&link.bodies), Arc::clone(&link.stalled));
        tokio::spawn(async move {
            // What hangs stays open until the test ends.
            let mut held = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                match request(&mut stream).await {
                    Some(body) => {
                        bodies.lock().unwrap().push(body);
                        // The client may be gone.
                        let _ = stream.write_all(TAKEN).await;
                    }
                    None => {
                        *stalled.lock().unwrap() += 1;
                        held.push(stream);
                    }
                }
            }
        });
        link
    }
}

/// The body of a request; none if it does not get through.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    while bytes.len() < THROUGH {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return None;
        }
        if bytes.ends_with(b"]}") {
            let text = String::from_utf8(bytes).unwrap();
            return Some(text.split_once("\r\n\r\n").unwrap().1.to_owned());
        }
    }
    None
}

fn messages(count: u64) -> Vec<Event> {
    let text = "x".repeat(2_000);
    (1..=count).map(|n| event_with(n, &text)).collect()
}

/// As many as fit by default, and waits of a millisecond.
fn full_batches() -> Settings {
    let mut settings = settings();
    settings.journal_bytes = 4 << 20;
    settings.tail_bytes = 2 << 20;
    settings
}

/// 600 events of 2 KB, and a link that brings no request of 500 through in time: the same 500
/// were sent again and again, and nothing was ever delivered.
#[tokio::test]
async fn a_link_slower_than_a_batch_delivers_everything_in_order() {
    let world = World::new().await;
    let link = Link::start().await;
    let sink = Botanalytics::builder(KeySource::value(world.sandbox.key()))
        .base_url(&link.base_url)
        .request_timeout(Duration::from_millis(300));
    let queue = world.open_to(sink.build().unwrap(), full_batches()).await;
    queue.append_all(messages(600)).await.unwrap();
    let status = drained(&queue).await;
    assert_eq!((status.ledger.delivered, status.dead_letters), (600, 0));
    assert!(*link.stalled.lock().unwrap() >= 2, "the link is slow");

    let bodies = link.bodies.lock().unwrap().concat();
    let mut rest = bodies.as_str();
    for n in 1..=600 {
        let id = crate::common::id(n).to_string();
        let Some((_, after)) = rest.split_once(&id) else {
            panic!("event {n} is missing or out of order");
        };
        rest = after;
    }
}
