//! Clients that ask for too much, or do not go on.

use super::*;

#[tokio::test]
async fn requests_beyond_the_bounds_are_refused_and_append_nothing() {
    let owner = Owner::start().await;
    let many = "1\n".repeat(EVENTS_MAX + 1);
    let large = "x".repeat(REQUEST_BYTES_MAX + 1);
    for body in [&many, &large] {
        let (code, answer) = owner.ask("POST", "/events?form=lines", body).await;
        let error: wire::ErrorBody = serde_json::from_str(&answer).unwrap();
        assert_eq!((code, error.kind.as_str()), (413, "request_too_large"));
    }
    let event = Event::json(format!("\"{}\"", "x".repeat(300 << 10))).unwrap();
    let error = owner.client().append(&[event]).await.unwrap_err();
    assert_eq!(refusal(error), (413, "too_large".to_owned()));
    let event = Event::json(format!("\"{large}\"")).unwrap();
    let error = owner.client().append(&[event]).await.unwrap_err();
    assert_eq!(refusal(error), (413, "request_too_large".to_owned()));
    assert_eq!(owner.queue.status().last_seq, 0);
    owner.close().await;
}

#[tokio::test]
async fn garbage_and_huge_heads_are_turned_away() {
    let owner = Owner::start().await;
    let answer = owner.say(b"\x16\x03\x01 this is not HTTP\r\n\r\n").await;
    assert_eq!(split(&answer).0, 400, "{answer}");
    let field = format!("GET /status HTTP/1.1\r\nx: {}", "y".repeat(HEAD_BYTES_MAX));
    assert_eq!(split(&owner.say(field.as_bytes()).await).0, 431);
    let fields = format!("GET /status HTTP/1.1\r\n{}", "x: y\r\n".repeat(200));
    assert_eq!(
        split(&owner.say(format!("{fields}\r\n").as_bytes()).await).0,
        431
    );
    let path = format!("GET /{} HTTP/1.1\r\n\r\n", "y".repeat(HEAD_BYTES_MAX));
    let code = split(&owner.say(path.as_bytes()).await).0;
    assert!([414, 431].contains(&code), "{code}");
    assert_eq!(owner.client().status().await.unwrap().pending, 0);
    owner.close().await;
}

#[tokio::test]
async fn an_endless_body_ends_at_the_bound() {
    let owner = Owner::start().await;
    let mut stream = owner.connect().await;
    let head = b"POST /events HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let mut sent = 0;
    // Goes on until the owner stops listening.
    while stream.write_all(chunk.as_bytes()).await.is_ok() {
        sent += 0x10000;
        assert!(sent < 4 * REQUEST_BYTES_MAX, "the owner still listens");
    }
    assert_eq!(split(&rest(&mut stream).await).0, 413);
    assert_eq!(owner.queue.status().last_seq, 0);
    owner.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_in_the_middle_of_a_request_is_cut_off() {
    let owner = Owner::start().await;
    assert_eq!(owner.say(b"").await, "", "not a word");
    assert_eq!(owner.say(b"GET /sta").await, "", "half a head");
    let idle = request("GET", "/status", "").replace("connection: close\r\n", "");
    let answer = owner.say(idle.as_bytes()).await;
    assert_eq!(split(&answer).0, 200, "an idle connection ends too");
    let half = request("POST", "/events", "\"twelve bytes\"");
    let (code, body) = split(&owner.say(&half.as_bytes()[..half.len() - 5]).await);
    let error: wire::ErrorBody = serde_json::from_str(&body).unwrap();
    assert_eq!((code, error.kind.as_str()), (408, "too_slow"));
    // Nothing more will come from here, in the middle of a body.
    let mut stream = owner.connect().await;
    stream
        .write_all(&half.as_bytes()[..half.len() - 5])
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    rest(&mut stream).await;
    assert_eq!(owner.queue.status().last_seq, 0);
    owner.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_answer_is_cut_off() {
    let owner = Owner::start().await;
    let text = format!("\"{}\"", "x".repeat(200 << 10));
    for _ in 0..6 {
        let event = Event::json(text.clone()).unwrap();
        owner.queue.append(event).await.unwrap();
    }
    let mut stream = owner.connect().await;
    let ask = request("GET", "/events", "");
    stream.write_all(ask.as_bytes()).await.unwrap();
    // The answer has begun; from here on the client does not read.
    assert_eq!(stream.read_u8().await.unwrap(), b'H');
    timeout(WRITE_TIME * 2, pending::<()>()).await.unwrap_err();
    let got = rest(&mut stream).await.len();
    assert!(got < 900 << 10, "{got} bytes came after all");
    owner.close().await;
}

#[tokio::test]
async fn appends_that_wait_for_room_are_bounded_and_do_not_hide_the_status() {
    let mut settings = Settings::default();
    settings.on_full = everpost::OnFull::Block;
    settings.journal_bytes = 16 << 10;
    settings.max_event_bytes = 4 << 10;
    settings.tail_bytes = 4 << 10;
    settings.chunk_bytes = 4 << 10;
    settings.segment_bytes = 256 << 10;
    settings.max_bytes = (5 * 16 + 256 + 4096) << 10;
    let owner = Owner::start_with(settings, None).await;
    let client = owner.client();
    let event = || Event::json(format!("\"{}\"", noise(4000))).unwrap();
    // Fills the spool until one append waits: it is not answered when a look that was asked for
    // after it is.
    let mut filler = Box::pin(owner.queue.append(event()));
    loop {
        tokio::select! {
            biased;
            _ = &mut filler => filler = Box::pin(owner.queue.append(event())),
            looked = owner.queue.events(..).take(1) => {
                looked.unwrap();
                tokio::select! {
                    biased;
                    _ = &mut filler => filler = Box::pin(owner.queue.append(event())),
                    () = std::future::ready(()) => break,
                }
            }
        }
    }
    let mut appends = JoinSet::new();
    for _ in 0..=APPENDS_MAX {
        let client = client.clone();
        appends.spawn(async move { client.append(&[event()]).await });
    }
    let first = timeout(LONG, appends.join_next()).await;
    let first = first.expect("one is answered while the others wait");
    let error = first.unwrap().unwrap().unwrap_err();
    assert_eq!(refusal(error), (503, "busy".to_owned()));
    assert!(client.status().await.unwrap().pending > 0);
    drop(filler);
    owner.close().await;
}

/// Text that does not compress: xorshift64*, from a fixed seed.
fn noise(bytes: usize) -> String {
    let mut x: u64 = 20_261_123;
    let mut text = String::new();
    while text.len() < bytes {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        text.push_str(&format!("{:016x}", x.wrapping_mul(0x2545_f491_4f6c_dd1d)));
    }
    text
}
