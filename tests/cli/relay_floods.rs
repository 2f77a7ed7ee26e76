//! Clients of `relay` that are slow, many, or up to no good.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use everpost::exit;
use tokio::time::Instant;

use crate::relay::{headers, key_of, wrapped};
use crate::relay_doors::{Open, connect, exchange, post, read_answer, taken};
use crate::set_up::{PATIENT, Place};

const LISTEN: [&str; 2] = ["--listen", "127.0.0.1:0"];

/// Sends this and gives the statuses of all that is answered; `is_cut` if the client goes away in the
/// midst of it, instead of after the first answer.
fn statuses(mut stream: TcpStream, request: &str, is_cut: bool) -> Vec<u16> {
    // The relay may have seen enough before all of it is sent.
    let _ = stream.write_all(request.as_bytes());
    let mut found = Vec::new();
    if !is_cut {
        found.extend(read_answer(&stream).map(|answer| answer.status));
    }
    let _ = stream.shutdown(Shutdown::Write);
    while let Some(answer) = read_answer(&stream) {
        found.push(answer.status);
    }
    found
}

/// A request must not be two for one reader and one for another.
#[test]
fn no_request_is_hidden_in_another_and_none_is_taken_twice() {
    let place = Place::new();
    let relay = Open::start(&place, 1, &LISTEN);
    let key = key_of("universal");
    let body = wrapped(&["a"]);
    let inner = post(&key, &wrapped(&["smuggled"]));
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let head = format!("POST /v2/messages HTTP/1.1\r\n{}", headers(&key));
    let (te, whole) = ("transfer-encoding: chunked\r\n", body.len());
    let cl = |length: usize| format!("content-length: {length}\r\n");
    // With what is sent, and what may be answered: one answer, or none if there is no 200 among these.
    let cases: Vec<(&str, String, &[u16])> = vec![
        (
            "length, then chunks",
            format!("{head}{}{te}\r\n{chunked}{inner}", cl(3)),
            &[200, 400],
        ),
        (
            "chunks, then length",
            format!("{head}{te}{}\r\n{chunked}{inner}", cl(3)),
            &[200, 400],
        ),
        (
            "two lengths",
            format!("{head}{}{}\r\n{body}{inner}", cl(whole), cl(3)),
            &[400],
        ),
        (
            "a list of lengths",
            format!("{head}content-length: {whole}, {whole}\r\n\r\n{body}{inner}"),
            &[400],
        ),
        (
            "a length with a sign",
            format!("{head}content-length: +{whole}\r\n\r\n{body}{inner}"),
            &[400],
        ),
        (
            "a negative length",
            format!("{head}content-length: -1\r\n\r\n{body}{inner}"),
            &[400],
        ),
        (
            "a folded header",
            format!("{head}x: 1\r\n {}\r\n{body}{inner}", cl(whole)),
            &[400],
        ),
        (
            "a space before the colon",
            format!("{head}content-length : {whole}\r\n\r\n{body}{inner}"),
            &[400],
        ),
        (
            "a folded encoding",
            format!("{head}transfer-encoding:\r\n chunked\r\n\r\n{chunked}{inner}"),
            &[400],
        ),
        (
            "an unknown encoding",
            format!(
                "{head}transfer-encoding: xchunked\r\n{}\r\n{chunked}{inner}",
                cl(3)
            ),
            &[400],
        ),
        (
            "chunks and more",
            format!("{head}transfer-encoding: chunked, identity\r\n\r\n{chunked}{inner}"),
            &[400],
        ),
        (
            "a zero in a header",
            format!("{head}x: \0\r\n{}\r\n{body}{inner}", cl(whole)),
            &[400],
        ),
        (
            "chunks of version 1.0",
            format!("{}{te}\r\n{chunked}{inner}", head.replace("1.1", "1.0")),
            &[400],
        ),
        (
            "a bad size",
            format!("{head}{te}\r\nxyz\r\n{body}\r\n0\r\n\r\n{inner}"),
            &[400],
        ),
        (
            "a size with a sign",
            format!("{head}{te}\r\n-1\r\n{body}\r\n0\r\n\r\n{inner}"),
            &[400],
        ),
        (
            "a size of hex",
            format!("{head}{te}\r\n0x{:x}\r\n{body}\r\n0\r\n\r\n{inner}", whole),
            &[400],
        ),
        (
            "a size beyond all",
            format!("{head}{te}\r\nfffffffffffffffff\r\n{body}\r\n0\r\n\r\n{inner}"),
            &[400],
        ),
        (
            "a size that is too small",
            format!("{head}{te}\r\n3\r\n{body}\r\n0\r\n\r\n{inner}"),
            &[400],
        ),
        (
            "a bare line feed after a size",
            format!("{head}{te}\r\n{:x}\n{body}\r\n0\r\n\r\n{inner}", whole),
            &[400],
        ),
        (
            "cut off before the last chunk",
            format!("{head}{te}\r\n{:x}\r\n{body}\r\n", whole),
            &[400],
        ),
        ("cut off in the head", head.clone(), &[400]),
        (
            "cut off in the body",
            format!("{head}{}\r\n{body}", cl(whole + 1)),
            &[400],
        ),
    ];
    let mut good = 0;
    for (name, request, may) in cases {
        let is_cut = name.starts_with("cut off");
        let found = statuses(connect(relay.address(0)), &request, is_cut);
        assert!(found.len() <= 1, "{name}: {found:?}");
        let may_be = |one| may.contains(one);
        assert!(found.iter().all(may_be), "{name}: {found:?}");
        good += usize::from(found == [200]);
    }
    assert_eq!(
        good, 2,
        "of two lengths, the chunks are read, and the connection ends"
    );
    // The line feed alone is a line's end for some; then for the whole head, or the request is none.
    let bare = format!("{head}{}\r\n{body}", cl(whole)).replace("\r\n", "\n");
    let found = statuses(connect(relay.address(0)), &bare, false);
    assert!(found == [200] || found == [400], "{found:?}");
    good += usize::from(found == [200]);
    // Two that say so are two.
    let mut client = connect(relay.address(0));
    client
        .write_all(format!("{inner}{inner}").as_bytes())
        .unwrap();
    for _ in 0..2 {
        assert_eq!(read_answer(&client).unwrap().status, 200);
    }
    drop(client);
    relay.stop().expect(exit::DONE);
    assert_eq!(
        taken(&place),
        good + 2,
        "what was answered with 200, and nothing else"
    );
}

/// More connections than there are places, on which nothing is asked, or half of it for ever.
#[test]
fn connections_on_which_nothing_is_asked_keep_no_one_out() {
    let place = Place::new();
    let relay = Open::start(&place, 1, &LISTEN);
    let address = relay.address(0);
    let key = key_of("universal");
    // A good client that was there before, and asks all the time.
    let mut early = connect(address);
    let mut idle = Vec::new();
    let mut asked = 0;
    for number in 0..600 {
        let mut stream = connect(address);
        match number % 3 {
            0 => {}
            1 => stream
                .write_all(b"POST /v2/messages HTTP/1.1\r\nhost: loc")
                .unwrap(),
            _ => {
                let whole = post(&key, &wrapped(&["half"]));
                let half = &whole.as_bytes()[..whole.len() - 10];
                stream.write_all(half).unwrap();
            }
        }
        idle.push(stream);
        if number % 100 == 0 {
            let answer = exchange(&mut early, &post(&key, &wrapped(&["early"])));
            assert_eq!(answer.unwrap().status, 200);
            asked += 1;
        }
    }
    let since = Instant::now();
    loop {
        let began = Instant::now();
        let answer = exchange(connect(address), &post(&key, &wrapped(&["late"]))).unwrap();
        assert!(
            began.elapsed() < Duration::from_secs(15),
            "{:?}",
            began.elapsed()
        );
        if answer.status == 200 {
            asked += 1;
            break;
        }
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(since.elapsed() < PATIENT, "never let in");
    }
    drop(idle);
    relay.stop().expect(exit::DONE);
    assert_eq!(taken(&place), asked);
}
