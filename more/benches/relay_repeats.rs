//! What it costs that a request can come again: `cargo bench --bench relay_repeats`.
//!
//! A relay in this process, and clients that keep their connections, with a message of 300 bytes a
//! request: without a key and with one, in rounds that alternate, so that a slow minute of the disk hits
//! both. Prints requests a second, the median of the rounds with the least and the most, and the ratio.

#![expect(clippy::print_stdout, reason = "it is run to be read")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use everpost::Queue;
use everpost::relay::{Channel, Relay, RepeatWindows, Repeats, Rules, Tokens};
use tokio::time::Instant;

/// Rounds of each kind.
const ROUNDS: usize = 9;

/// How long a round takes.
const ROUND: Duration = Duration::from_secs(2);

/// So that no two requests are under one key.
static KEY: AtomicU64 = AtomicU64::new(0);

type Failed = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let dir = tempfile::tempdir_in(".")?;
    let queue = Queue::builder(dir.path().join("universal")).open().await?;
    let tokens = Tokens::open(dir.path())?;
    let token = tokens.mint("universal")?;
    let repeats = Repeats::open(&dir.path().join("repeats"), RepeatWindows::new())?;
    let channel = Channel::new("universal", queue.clone()).repeats(repeats);
    let relay = Relay::builder(tokens).rules(Rules::new()).channel(channel);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let port = relay.build().serve(listener)?;
    for clients in [1, 64] {
        let mut rates = [Vec::new(), Vec::new()];
        // The first round of each only warms up.
        for round in 0..=ROUNDS {
            for (kind, rates) in rates.iter_mut().enumerate() {
                let token = token.expose().to_owned();
                let posted = move || post_all(address, &token, kind == 1, clients);
                let rate = tokio::task::spawn_blocking(posted).await?;
                if round > 0 {
                    rates.push(rate);
                }
            }
        }
        let [without, with] = rates.map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            [rates[ROUNDS / 2], rates[0], rates[ROUNDS - 1]]
        });
        for (kind, [median, least, most]) in [("without a key", without), ("with a key", with)] {
            println!("{clients} clients, {kind}: {median:.0} a second ({least:.0} to {most:.0})");
        }
        println!(
            "{clients} clients: {:.2} of it with a key",
            with[0] / without[0]
        );
    }
    port.close().await?;
    queue.close(Duration::ZERO).await?;
    Ok(())
}

/// Requests a second.
fn post_all(address: SocketAddr, token: &str, has_key: bool, clients: usize) -> f64 {
    let begun = Instant::now();
    let count = std::thread::scope(|scope| {
        let post = |_| scope.spawn(move || post(address, token, has_key, begun + ROUND));
        let posting: Vec<_> = (0..clients).map(post).collect();
        let counts = posting.into_iter().map(|one| one.join());
        counts.map(|count| count.unwrap_or_default()).sum::<u32>()
    });
    f64::from(count) / begun.elapsed().as_secs_f64()
}

/// Posts one after the other; panics if one is not taken.
fn post(address: SocketAddr, token: &str, has_key: bool, until: Instant) -> u32 {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{error}"));
    let _ = stream.set_nodelay(true);
    let text = "where is my order ".repeat(12);
    let body = format!(r#"{{"messages":[{{"message":{{"timestamp":1,"text":"{text}"}}}}]}}"#);
    let mut count = 0;
    let mut answer = [0; 1024];
    while Instant::now() < until {
        let key = match has_key {
            true => format!(
                "idempotency-key: {}\r\n",
                KEY.fetch_add(1, Ordering::Relaxed)
            ),
            false => String::new(),
        };
        let request = format!(
            "POST /v2/messages HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\n{key}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let sent = stream.write_all(request.as_bytes());
        let read = sent.and_then(|()| stream.read(&mut answer));
        let length = read.unwrap_or_else(|error| panic!("{error}"));
        // It is short, and comes in one piece.
        let head = answer.get(..length).unwrap_or_default();
        assert!(
            head.starts_with(b"HTTP/1.1 200 "),
            "{}",
            head.escape_ascii()
        );
        count += 1;
    }
    count
}
