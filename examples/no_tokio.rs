//! A program without an async runtime: plain threads append, and the queue delivers on a thread
//! of its own.
//!
//! ```text
//! cargo run --example no_tokio
//! ```
//!
//! The API is a few lines of `std::net` at the end of this file. For the real one, make the sink
//! with `Botanalytics::from_env()`.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use everpost::blocking::Queue;
use everpost::botanalytics::message::{Message, Sender};
use everpost::botanalytics::{Botanalytics, KeySource};

const THREADS: u64 = 4;
const EACH: u64 = 25;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

pub(crate) fn main() -> Outcome<()> {
    let home = tempfile::tempdir()?;
    let api = Api::start()?;
    let sink = Botanalytics::builder(KeySource::value(KEY))
        .base_url(&api.base_url)
        .build()?;
    let queue = Queue::builder(home.path().join("spool"))
        .sink(sink)
        .open()?;

    std::thread::scope(|threads| {
        let workers: Vec<_> = (0..THREADS)
            .map(|worker| {
                threads.spawn({
                    let queue = &queue;
                    move || work(queue, worker)
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| "a worker panicked")?)
    })?;
    println!("{} messages are on disk", queue.status().last_seq);

    let closed = queue.close(Duration::from_secs(10))?;
    let books = closed.status.ledger;
    println!(
        "{} were delivered in {} requests",
        books.delivered, closed.status.requests
    );
    let requests = api.answered.load(Ordering::SeqCst);
    if !closed.drained || books.delivered != THREADS * EACH || requests == 0 {
        return Err(format!("not everything was delivered: {:?}", closed.status).into());
    }
    Ok(())
}

fn work(queue: &Queue, worker: u64) -> Outcome<()> {
    for n in 0..EACH {
        let message = Message::text(format!("message {n} of worker {worker}"))
            .thread(format!("t-{worker}"))
            .sender(Sender::user(format!("u-{worker}")));
        // When this returns, a power cut cannot take the message any more.
        queue.append(message.into_event()?)?;
    }
    Ok(())
}

/// A key of the right form: a header, `{"channel":"universal"}`, and a signature of nonsense.
const KEY: &str = "e30.eyJjaGFubmVsIjoidW5pdmVyc2FsIn0.c2lnbmF0dXJl";

/// Says yes to every request.
struct Api {
    base_url: String,
    answered: Arc<AtomicU64>,
}

impl Api {
    fn start() -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let base_url = format!("http://{}/v2", listener.local_addr()?);
        let answered = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&answered);
        // It ends with the program.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A connection that breaks is tried again by the queue.
                let _ = converse(&stream, &count);
            }
        });
        Ok(Self { base_url, answered })
    }
}

/// Answers the requests of one connection, one after the other.
fn converse(stream: &TcpStream, answered: &AtomicU64) -> std::io::Result<()> {
    let mut input = BufReader::new(stream);
    loop {
        let mut bytes = 0;
        loop {
            let mut line = String::new();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(length) = line.strip_prefix("content-length: ") {
                bytes = length.parse().map_err(std::io::Error::other)?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; bytes];
        input.read_exact(&mut body)?;
        let number = answered.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = format!("{{\"request_id\":\"r-{number}\"}}");
        let length = answer.len();
        write!(
            &mut &*stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{answer}"
        )?;
    }
}
