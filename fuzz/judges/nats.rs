//! What a server of NATS says to a sink that connects, looks up and writes a batch.
//!
//! The input is what it says, in turns that a zero byte ends: the first before anything is said to it,
//! each further one after the client has said something. In it `@` stands for the inbox of the client,
//! and `#` for the id of the batch that it wrote last, so that answers can be right.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use everpost::nats::Target;
use everpost::{Answer, Batch, Event, Outcome, Request, Sink, StoredEvent, Verdict};

/// Where both sides wait for each other, the sink gives up after it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Before that the server hangs up, or most inputs would be spent waiting.
const SILENCE: Duration = Duration::from_millis(50);

/// What a server says, to the byte, before it closes.
pub fn nats(bytes: &[u8]) {
    let (Ok(listener), Some(batch)) = (TcpListener::bind("127.0.0.1:0"), batch()) else {
        panic!("no socket to listen on");
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        panic!("no runtime");
    };
    let port = listener.local_addr().map_or(0, |address| address.port());
    let sink = "trial".parse().and_then(|spool| {
        let target = Target::parse(&format!("nats://127.0.0.1:{port}"), spool)?;
        target.with_time_limit(PATIENCE).build()
    });
    let Ok(sink) = sink else {
        panic!("{sink:?}");
    };
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| serve(listener, bytes));
        let outcome = runtime.block_on(sink.deliver(Request::new(batch)));
        // The connection ends with it, and so does the server's thread.
        drop(sink);
        drop(runtime);
        outcome
    });
    check(&outcome, bytes);
}

fn batch() -> Option<Batch> {
    let event = Event::json("{}").ok()?;
    Batch::new(vec![StoredEvent { seq: 1, event }])
}

/// Speaks to one connection, and lets no other in. What goes wrong with it, the other side sees.
fn serve(listener: TcpListener, bytes: &[u8]) {
    let Ok((mut stream, _)) = listener.accept() else {
        return;
    };
    drop(listener);
    // Without it the other side waits, and nothing else changes.
    let _ = stream.set_read_timeout(Some(SILENCE));
    let mut heard = String::new();
    for (number, turn) in bytes.split(|byte| *byte == 0).enumerate() {
        if number > 0 && !listen(&mut stream, &mut heard) {
            break;
        }
        let said = filled(turn, &heard);
        if stream.write_all(&said).is_err() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.set_read_timeout(None);
    // Closed with bytes unread, the connection would be reset and take what was said with it.
    let _ = stream.read_to_end(&mut Vec::new());
}

/// Until the client has logged in or asked for something.
fn listen(stream: &mut TcpStream, heard: &mut String) -> bool {
    let before = heard.len();
    let mut some = [0; 4096];
    loop {
        match stream.read(&mut some) {
            Ok(read) if read > 0 => {
                let said = some.get(..read).unwrap_or_default();
                heard.push_str(&String::from_utf8_lossy(said));
            }
            _ => return false,
        }
        let new = heard.get(before..).unwrap_or_default();
        if new.ends_with("\r\n") && ["PING\r\n", "PUB "].iter().any(|word| new.contains(word)) {
            return true;
        }
    }
}

/// With what the client has said put in.
fn filled(turn: &[u8], heard: &str) -> Vec<u8> {
    let after = |what: &str, end: char| {
        let (_, rest) = heard.rsplit_once(what)?;
        rest.split(end).next()
    };
    let inbox = after("SUB ", '*').unwrap_or("@");
    let id = after("Nats-Batch-Id: ", '\r').unwrap_or("#");
    let mut said = Vec::new();
    for byte in turn {
        match byte {
            b'@' => said.extend_from_slice(inbox.as_bytes()),
            b'#' => said.extend_from_slice(id.as_bytes()),
            byte => said.push(*byte),
        }
    }
    said
}

fn check(outcome: &Outcome, bytes: &[u8]) {
    let Outcome { verdict, answer } = outcome;
    check_texts(answer);
    assert_ne!(*verdict, Verdict::Poison, "no server condemns an event");
    if *verdict == Verdict::Delivered {
        // The id of the event is made anew each time, so no look-up can name it.
        let says = |what: &[u8]| bytes.windows(what.len()).any(|some| some == what);
        let is_about_it = says(b"#") && says(b"count") && says(b"seq");
        assert!(is_about_it, "delivered without a word about the batch");
    }
}

/// What is kept of an answer is bounded and fit for a log line.
fn check_texts(answer: &Answer) {
    assert!(answer.errors.is_empty() && answer.warnings.len() <= 8);
    for text in answer.warnings.iter().chain(&answer.detail) {
        assert!(text.chars().count() <= 1_000, "{} bytes", text.len());
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}
