//! A slow link that is seen to go on. Over loopback the system takes megabytes at once, since a segment
//! has 64 KB there; with the segments of a real network it takes some 90 KB ahead, and the rest as
//! fast as the link is.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everpost::botanalytics::{Botanalytics, Builder, KeySource};
use everpost::{Event, EventId, Queue};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval};

const TAKEN: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
const TICKS_PER_SECOND: usize = 50;
const EVENTS: u64 = 600;

/// Takes every request, at so many bytes a second and no faster.
struct SlowReceiver {
    base_url: String,
    bodies: Arc<Mutex<String>>,
}

impl SlowReceiver {
    fn start(bytes_per_second: usize) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_tcp_mss(1_460).unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        socket.set_nonblocking(true).unwrap();
        let here: SocketAddr = ([127, 0, 0, 1], 0).into();
        socket.bind(&here.into()).unwrap();
        socket.listen(8).unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        let base_url = format!("http://{}/v2", listener.local_addr().unwrap());
        let bodies: Arc<Mutex<String>> = Arc::default();
        let receiver = Self {
            base_url,
            bodies: Arc::clone(&bodies),
        };
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
                bodies
                    .lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&bytes));
                // The client may be gone.
                let _ = stream.write_all(TAKEN).await;
            }
        });
        receiver
    }

    /// Sends 600 events of 2 KB there, and says how many went out.
    async fn is_drained(&self, set_up: fn(Builder) -> Builder) -> usize {
        let dir = tempfile::tempdir().unwrap();
        let key = "eyJhbGciOiJIUzI1NiJ9.eyJjaGFubmVsIjoidW5pdmVyc2FsIn0.SECRETSIGNATURE";
        let sink = Botanalytics::builder(KeySource::value(key)).base_url(&self.base_url);
        let sink = set_up(sink).build().unwrap();
        let queue = Queue::builder(dir.path().join("spool")).sink(sink);
        let queue = queue.open().await.unwrap();
        queue
            .append_all((1..=EVENTS).map(event).collect::<Vec<_>>())
            .await
            .unwrap();
        let mut watch = queue.watch();
        let status = watch.wait_for(|status| status.pending == 0).await.unwrap();
        assert_eq!((status.ledger.delivered, status.dead_letters), (EVENTS, 0));
        let bodies = self.bodies.lock().unwrap();
        let mut rest = bodies.as_str();
        for n in 1..=EVENTS {
            let Some((_, after)) = rest.split_once(&id(n).to_string()) else {
                panic!("event {n} is missing or out of order");
            };
            rest = after;
        }
        bodies.matches("xxxx\"").count()
    }
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

fn id(n: u64) -> EventId {
    EventId::from_uuid(uuid::Uuid::from_u128(u128::from(n) | 7 << 76 | 2 << 62))
}

fn event(n: u64) -> Event {
    let text = "x".repeat(2_000);
    let json = format!(
        r#"{{"id":"{}","message":{{"timestamp":1764000000000,"content":{{"texts":[{{"text":"{text}"}}]}}}}}}"#,
        id(n)
    );
    Event::json(json).unwrap().with_id(id(n))
}

/// A batch of 1 MB takes more than five seconds, which is more than the time limit, and the link never
/// rests: the whole length of an upload was counted, so that nothing was delivered before the batch
/// had shrunk, and what had been sent until then was sent for nothing. Now no event goes out twice.
#[tokio::test]
async fn an_upload_that_goes_on_is_waited_for_beyond_the_time_limit() {
    let receiver = SlowReceiver::start(200_000);
    let sent = receiver
        .is_drained(|sink| sink.request_timeout(Duration::from_millis(1_500)))
        .await;
    assert_eq!(sent, EVENTS as usize, "some events went out twice");
}

/// The same with every time limit as it is by default, so that 20 KB a second take more than a minute:
/// as long as the link needs. It is ten times as fast unless `SLOW_WAY=whole` is set.
#[tokio::test]
async fn twenty_kilobytes_a_second_deliver_everything_with_defaults() {
    let is_whole = std::env::var("SLOW_WAY").is_ok_and(|asked| asked == "whole");
    let bytes_per_second = if is_whole { 20_000 } else { 200_000 };
    let receiver = SlowReceiver::start(bytes_per_second);
    assert_eq!(receiver.is_drained(|sink| sink).await, EVENTS as usize);
}
