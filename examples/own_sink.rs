//! A sink of one's own: events go to a TCP socket, one line of JSON each.
//!
//! ```text
//! cargo run --example own_sink
//! ```
//!
//! The receiver is a thread at the end of this file. It breaks off its first connection in the
//! midst of the batch, as receivers do; the queue sends that batch again.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use everpost::{Event, Outcome, Queue, Request, Sink};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Sends each batch on a connection of its own, and takes `ok` for an answer.
struct Lines {
    address: String,
}

impl Lines {
    async fn send(&self, request: &Request) -> io::Result<String> {
        let mut stream = TcpStream::connect(&self.address).await?;
        for stored in request.events() {
            stream.write_all(stored.event.json_bytes()).await?;
            stream.write_all(b"\n").await?;
        }
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

impl Sink for Lines {
    async fn deliver(&self, request: Request) -> Outcome {
        match timeout(Duration::from_secs(10), self.send(&request)).await {
            Ok(Ok(answer)) if answer == "ok" => Outcome::delivered(),
            Ok(Ok(_)) => Outcome::retry().because("the receiver did not say ok"),
            Ok(Err(error)) => Outcome::retry().because(error.to_string()),
            Err(_) => Outcome::stalled().because("no answer in time"),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let receiver = thread::spawn(move || receive(&listener));

    let home = tempfile::tempdir()?;
    let queue = Queue::builder(home.path().join("spool"))
        .sink(Lines { address })
        .open()
        .await?;
    for n in 1..=3 {
        queue.append(Event::from_serialize(&("hello", n))?).await?;
    }
    let closed = queue.close(Duration::from_secs(30)).await?;
    let lines = receiver.join().map_err(|_| "the receiver panicked")??;
    println!("{} requests", closed.status.requests);
    print!("{lines}");
    if !closed.drained || !lines.ends_with("[\"hello\",3]\n") {
        return Err(format!("not everything was delivered: {:?}", closed.status).into());
    }
    Ok(())
}

/// Breaks off the first connection, and answers the others until the third event has come.
fn receive(listener: &TcpListener) -> io::Result<String> {
    drop(listener.accept()?);
    let mut lines = String::new();
    while !lines.contains(",3]") {
        let (mut stream, _) = listener.accept()?;
        for line in BufReader::new(&stream).lines() {
            lines += &(line? + "\n");
        }
        stream.write_all(b"ok")?;
    }
    Ok(lines)
}
