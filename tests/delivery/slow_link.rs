//! A link slower than a batch per time limit, through a real queue and real sockets: one that comes to
//! a stop under large requests, and one that takes everything ahead. One that is slow and seen to go
//! on is in `more/tests/slow_way.rs`, which needs a socket of its own kind.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use everpost::botanalytics::{Botanalytics, KeySource};
use everpost::http::Wire;
use everpost::{Batch, Event, Request, Settings, Sink, StoredEvent, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval};

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
    assert_eq!(times_in_order(&bodies, 600), 600);
}

/// How many events there are in the requests, one of each number up to `count` in order and perhaps
/// some more than once.
fn times_in_order(bodies: &str, count: u64) -> usize {
    let mut rest = bodies;
    for n in 1..=count {
        let id = crate::common::id(n).to_string();
        let Some((_, after)) = rest.split_once(&id) else {
            panic!("event {n} is missing or out of order");
        };
        rest = after;
    }
    bodies.matches("xxxx\"").count()
}

/// Whether all of a request has come.
fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim())
    });
    length.unwrap().parse() == Ok(body.len())
}

/// Takes every request, at so many bytes a second and one after the other, although the system takes
/// each whole at once: so it is before a proxy that buffers, or where the system has much room.
struct SlowReader {
    base_url: String,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl SlowReader {
    async fn start(bytes_per_second: usize) -> Self {
        const TICKS_PER_SECOND: usize = 50;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v2", listener.local_addr().unwrap());
        let bodies: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&bodies);
        tokio::spawn(async move {
            let mut pace = interval(Duration::from_secs(1) / TICKS_PER_SECOND as u32);
            // What the machine came too late for is not made up for.
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut part = vec![0; bytes_per_second / TICKS_PER_SECOND];
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = Vec::new();
                while !is_whole(&bytes) {
                    pace.tick().await;
                    match stream.read(&mut part).await {
                        Ok(0) | Err(_) => break,
                        Ok(read) => bytes.extend_from_slice(&part[..read]),
                    }
                }
                let text = String::from_utf8(bytes).unwrap();
                let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
                kept.lock().unwrap().extend(body);
                // The client may be gone.
                let _ = stream.write_all(TAKEN).await;
            }
        });
        Self { base_url, bodies }
    }
}

/// A batch takes a second, the time limit is less than half of that, and nothing is seen of how far
/// the batch has come. What is left by the client goes on arriving, and is in the way of
/// what is sent after it. Everything is delivered, and goes out again no more often than this: the
/// first batch twice as it is, before it is made smaller, and its halves after that.
#[tokio::test]
async fn a_way_that_takes_everything_ahead_costs_a_bounded_number_of_duplicates() {
    let world = World::new().await;
    let link = SlowReader::start(1_000_000).await;
    let sink = Botanalytics::builder(KeySource::value(world.sandbox.key()))
        .base_url(&link.base_url)
        .request_timeout(Duration::from_millis(400));
    let queue = world.open_to(sink.build().unwrap(), full_batches()).await;
    queue.append_all(messages(600)).await.unwrap();
    let status = drained(&queue).await;
    assert_eq!((status.ledger.delivered, status.dead_letters), (600, 0));
    let bodies = link.bodies.lock().unwrap().concat();
    let sent = times_in_order(&bodies, 600);
    assert!((601..=600 + 3 * 500).contains(&sent), "{sent} went out");
}

/// What is asked for is kept: with a limit of the whole time, a request that goes on is left, too.
#[tokio::test]
async fn a_limit_of_the_whole_time_is_kept_where_it_is_asked_for() {
    let link = SlowReader::start(100_000).await;
    let wire = Wire::default().total_timeout(Duration::from_millis(500));
    let world = World::new().await;
    let sink = Botanalytics::builder(KeySource::value(world.sandbox.key()));
    let sink = sink.base_url(&link.base_url).wire(wire).build().unwrap();
    let events = messages(500).into_iter().zip(1..);
    let events = events.map(|(event, seq)| StoredEvent { seq, event });
    let batch = Batch::new(events.collect()).unwrap();
    let outcome = sink.deliver(Request::new(batch)).await;
    assert_eq!(outcome.verdict, Verdict::Stalled);
}
