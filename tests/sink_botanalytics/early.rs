//! Invariant I15: an answer settles only what it can speak for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use everpost::{Batch, Event, Request, Sink, StoredEvent, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::set_up::{IMPATIENT, RETRY, builder, detail, request};

const TAKEN: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// One event of so many bytes.
fn large(bytes: usize) -> Request {
    let json = format!("\"{}\"", "x".repeat(bytes));
    let event = Event::json(json).unwrap();
    Request::new(Batch::new(vec![StoredEvent { seq: 1, event }]).unwrap())
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v2", listener.local_addr().unwrap());
    (listener, base_url)
}

/// Reads the first 100 bytes of the next connection.
async fn beginning(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.read_exact(&mut [0; 100]).await.unwrap();
    stream
}

/// A load balancer that was going down said 200 to the first bytes of a megabyte and reset the
/// connection: the batch was settled, and had been taken by nothing.
#[tokio::test]
async fn i15_a_success_before_the_whole_request_was_sent_delivers_nothing() {
    for then_resets in [true, false] {
        let (listener, base_url) = listen().await;
        let server = tokio::spawn(async move {
            let mut stream = beginning(&listener).await;
            stream.write_all(TAKEN.as_bytes()).await.unwrap();
            if then_resets {
                stream.set_zero_linger().unwrap();
                return None;
            }
            Some(stream)
        });
        let sink = builder(base_url).build().unwrap();
        let outcome = sink.deliver(large(1 << 20)).await;
        assert_eq!(outcome.verdict, RETRY, "{outcome:?}");
        assert_eq!(outcome.answer.status, Some(200));
        let expected = "answered before the whole request was sent";
        assert_eq!(detail(&outcome), expected);
        // The connection is left, so that the rest of the request holds up nothing.
        if let Some(mut stream) = server.await.unwrap() {
            while stream.read(&mut [0; 65536]).await.is_ok_and(|n| n > 0) {}
        }
    }
}

/// For a refusal the beginning is enough: it tells nothing about events that it has not seen.
#[tokio::test]
async fn a_refusal_may_come_before_the_whole_request_was_sent() {
    for (status, expected) in [
        ("413 Too Large", Verdict::Divide),
        ("503 Busy", RETRY),
        ("408 Too Slow", Verdict::Stalled),
    ] {
        let (listener, base_url) = listen().await;
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        tokio::spawn(async move {
            let mut stream = beginning(&listener).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            // Held open until the client leaves.
            while stream.read(&mut [0; 65536]).await.is_ok_and(|n| n > 0) {}
        });
        let sink = builder(base_url).build().unwrap();
        let outcome = sink.deliver(large(1 << 20)).await;
        assert_eq!(outcome.verdict, expected, "{status}");
    }
}

#[tokio::test]
async fn a_large_request_that_is_read_to_its_end_is_delivered() {
    // Around each bound inside: one piece, several, and several of which the last is held back.
    for bytes in [
        0,
        65_000,
        65_537,
        131_000,
        131_200,
        200_000,
        1 << 20,
        3 << 20,
    ] {
        let (listener, base_url) = listen().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\"}]}") {
                stream.read_buf(&mut request).await.unwrap();
            }
            stream.write_all(TAKEN.as_bytes()).await.unwrap();
            request.len()
        });
        let sink = builder(base_url).build().unwrap();
        let outcome = sink.deliver(large(bytes)).await;
        assert_eq!(outcome.verdict, Verdict::Delivered, "{bytes} {outcome:?}");
        assert!(server.await.unwrap() > bytes);
    }
}

/// Takes the first request and gives it two answers, the second one at once or when more is asked
/// on that connection; refuses what comes on any other. Counts connections.
fn answers_twice(listener: TcpListener, at_once: bool) -> Arc<AtomicUsize> {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let number = counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"]}") {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                if number > 0 {
                    let refusal = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
                    stream.write_all(refusal).await.unwrap();
                    return;
                }
                // The client may be gone.
                let count = 1 + usize::from(at_once);
                let _ = stream.write_all(TAKEN.repeat(count).as_bytes()).await;
                while stream.read_buf(&mut request).await.unwrap_or(0) > 0 {
                    let _ = stream.write_all(TAKEN.as_bytes()).await;
                }
            });
        }
    });
    connections
}

/// A proxy gave two answers to one request. The second came when the next request had gone out on
/// the same connection, and was taken for its answer.
#[tokio::test]
async fn i15_a_second_answer_is_never_taken_for_the_next_requests() {
    for at_once in [true, false] {
        let (listener, base_url) = listen().await;
        let connections = answers_twice(listener, at_once);
        let sink = builder(base_url).build().unwrap();
        let first = sink.deliver(request(&["1"])).await;
        assert_eq!(first.verdict, Verdict::Delivered);
        for round in 1..4 {
            let outcome = sink.deliver(request(&["2"])).await;
            assert_eq!(outcome.verdict, RETRY, "taken for the answer");
            assert_eq!(outcome.answer.status, Some(503));
            assert_eq!(connections.load(Ordering::SeqCst), round + 1);
        }
    }
}

/// What is said before anything was asked is no answer.
#[tokio::test]
async fn i15_an_answer_that_was_there_before_the_request_delivers_nothing() {
    let (listener, base_url) = listen().await;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(TAKEN.as_bytes()).await.unwrap();
            tokio::spawn(async move {
                while stream.read(&mut [0; 65536]).await.is_ok_and(|n| n > 0) {}
            });
        }
    });
    let sink = builder(base_url).build().unwrap();
    let outcome = sink.deliver(large(1 << 20)).await;
    assert_ne!(outcome.verdict, Verdict::Delivered, "{outcome:?}");
}

/// Only where a connection stood is a limit that was met a word about the size of the batch.
#[tokio::test]
async fn time_that_runs_out_on_a_standing_connection_is_a_stall() {
    let (listener, base_url) = listen().await;
    let reads_on = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(beginning(&listener).await);
        }
    });
    let sink = builder(base_url).request_timeout(IMPATIENT).build();
    let sink = sink.unwrap();
    for next in [request(&["1"]), large(8 << 20)] {
        let outcome = sink.deliver(next).await;
        assert_eq!(outcome.verdict, Verdict::Stalled);
        let told = detail(&outcome);
        assert!(told.starts_with("no answer in time"), "{told}");
    }
    reads_on.abort();
}

/// A connection that is cut while the request is being written did not bring it through either.
#[tokio::test]
async fn a_cut_in_the_midst_of_a_request_is_a_stall_and_one_after_it_is_not() {
    for (bytes, expected) in [(8 << 20, Verdict::Stalled), (1, RETRY)] {
        let (listener, base_url) = listen().await;
        tokio::spawn(async move {
            let stream = beginning(&listener).await;
            stream.set_zero_linger().unwrap();
        });
        let sink = builder(base_url).build().unwrap();
        let outcome = sink.deliver(large(bytes)).await;
        assert_eq!(outcome.verdict, expected, "{bytes} {outcome:?}");
    }
}
