//! A port with small bounds, and clients with real sockets.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::extract::Request;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::*;

/// Long enough for whatever is done at once.
const PATIENT: Duration = Duration::from_secs(60);

fn bounds() -> Bounds {
    Bounds {
        name: "the port of a test",
        connections_max: 1,
        turned_away_max: 1,
        head_bytes_max: 16 << 10,
        // Longer than any test waits: a silent connection does not end by itself.
        head_time: 60 * PATIENT,
        write_time: PATIENT,
        connection_time: None,
        grace: PATIENT,
    }
}

/// Routes of which one asks for a permit before it answers, and busy ones.
fn port(bounds: Bounds) -> (Port, SocketAddr, Arc<Semaphore>) {
    let permits = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&permits);
    let slow = async move |request: Request| {
        let via: &Via = request.extensions().get().unwrap();
        tokio::select! {
            permit = held.acquire() => permit.map_or("closed", |permit| {
                permit.forget();
                "taken"
            }),
            () = via.closing() => "told",
        }
    };
    let routes = Router::new()
        .route("/slow", get(slow))
        .fallback(async || "quick");
    let busy = Router::new().fallback(async || "busy");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (
        Port::serve(listener, routes, busy, bounds).unwrap(),
        address,
        permits,
    )
}

async fn ask(stream: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
}

/// What is answered up to one of these words.
async fn hear(stream: &mut TcpStream, words: &[&str]) -> String {
    let mut heard = String::new();
    while !words.iter().any(|word| heard.ends_with(word)) {
        let mut bytes = [0; 1_024];
        let read = timeout(PATIENT, stream.read(&mut bytes)).await;
        let count = read.expect("no answer").unwrap();
        assert!(count > 0, "it ended after {heard:?}");
        heard += std::str::from_utf8(&bytes[..count]).unwrap();
    }
    heard
}

/// Whether the other side has ended the connection, or does so.
async fn ends(stream: &mut TcpStream) -> bool {
    let read = timeout(PATIENT, stream.read(&mut [0])).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn a_head_that_does_not_come_is_waited_for_no_longer_than_it_may_take() {
    let head_time = Duration::from_millis(100);
    let (port, address, _) = port(Bounds {
        head_time,
        ..bounds()
    });
    for half in ["", "GET / HTTP/1.1\r\nhost: loc"] {
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(half.as_bytes()).await.unwrap();
        assert!(ends(&mut slow).await, "{half:?}");
    }
    port.close().await.unwrap();
}

#[tokio::test]
async fn a_full_port_says_so_and_has_no_patience_with_those_whom_it_turns_away() {
    let (port, address, permits) = port(bounds());
    let mut served = TcpStream::connect(address).await.unwrap();
    ask(&mut served, "/slow").await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    // It waits until the silent one is gone, and then its own place is no better.
    let mut late = TcpStream::connect(address).await.unwrap();
    ask(&mut late, "/").await;
    hear(&mut late, &["busy"]).await;
    assert!(ends(&mut silent).await && ends(&mut late).await);
    permits.add_permits(1);
    hear(&mut served, &["taken"]).await;
    // It was answered a moment ago, and is kept; after a longer silence it makes way.
    let let_in = async {
        loop {
            let mut next = TcpStream::connect(address).await.unwrap();
            ask(&mut next, "/").await;
            if hear(&mut next, &["quick", "busy"]).await.ends_with("quick") {
                break;
            }
        }
    };
    timeout(PATIENT, let_in).await.expect("it is never let in");
    assert!(ends(&mut served).await);
    port.close().await.unwrap();
}

#[tokio::test]
async fn a_port_that_goes_answers_what_is_under_way_and_whoever_was_let_in() {
    let (port, address, _) = port(Bounds {
        connections_max: 8,
        ..bounds()
    });
    let mut held = TcpStream::connect(address).await.unwrap();
    ask(&mut held, "/slow").await;
    let mut kept = TcpStream::connect(address).await.unwrap();
    ask(&mut kept, "/").await;
    hear(&mut kept, &["quick"]).await;
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    // Nothing was accepted of this one: the port has not run since.
    let late = std::net::TcpStream::connect(address).unwrap();
    late.set_nonblocking(true).unwrap();
    let mut late = TcpStream::from_std(late).unwrap();
    let closing = tokio::spawn(port.close());
    let heard = hear(&mut held, &["told"]).await;
    assert!(heard.contains("connection: close"), "{heard}");
    for stream in [&mut kept, &mut late] {
        ask(stream, "/").await;
        let heard = hear(stream, &["quick"]).await;
        assert!(heard.contains("connection: close"), "{heard}");
        assert!(ends(stream).await);
    }
    assert!(ends(&mut half).await);
    closing.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
