//! Each fault, as a client meets it, and whether the batch was taken.

use std::time::Duration;

use everpost::sandbox::{Fault, Reply, Sandbox};

use super::raw::{Client, End, batch, post, send, usual_client};

/// Longer than any test may take: what waits for it waits for ever.
const NEVER: Duration = Duration::from_secs(1 << 32);

async fn start(script: impl IntoIterator<Item = Fault>) -> Sandbox {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.script(script);
    sandbox
}

/// Sends one request on its own connection and reads to the end of that.
async fn send_to_end(sandbox: &Sandbox) -> (String, End) {
    let mut client = Client::connect(sandbox).await;
    client.write(post(sandbox, &batch(&["a"]))).await;
    client.read_to_end().await
}

#[tokio::test]
async fn an_answer_replaces_the_sandboxes_own_and_takes_nothing() {
    let reply = Reply::status(429)
        .retry_after(Duration::from_secs(2))
        .header("x-more", "1")
        .errors(["Slow down."]);
    let sandbox = start([
        reply.into(),
        Fault::status(503),
        Reply::status(503)
            .header("Retry-After", "soon")
            .body("down")
            .into(),
        Fault::status(204),
        Fault::None,
    ])
    .await;
    let mut client = Client::connect(&sandbox).await;
    let request = post(&sandbox, &batch(&["a"]));

    let response = client.ask(&request).await;
    assert_eq!(response.status, 429);
    assert_eq!(response.header("retry-after"), Some("2"));
    assert_eq!(response.header("x-more"), Some("1"));
    assert_eq!(response.errors(), ["Slow down."]);

    let response = client.ask(&request).await;
    assert_eq!(response.status, 503);
    assert_eq!(response.errors(), ["Service Unavailable."]);

    let response = client.ask(&request).await;
    assert_eq!(response.header("retry-after"), Some("soon"));
    assert_eq!(response.body, "down");

    assert_eq!(client.ask(&request).await.status, 204);
    assert_eq!(sandbox.stats().accepted, 0);

    assert_eq!(client.ask(&request).await.status, 200);
    assert_eq!(sandbox.stats().accepted, 1);
}

#[tokio::test]
async fn a_reply_that_http_cannot_carry_says_so() {
    let sandbox = start([
        Reply::status(503).header("bad name", "x").into(),
        Reply::status(503).header("x", "a\nb").into(),
        Fault::status(100),
        Fault::status(1000),
    ])
    .await;
    for text in [
        "the scripted reply has a header HTTP cannot carry. name=`bad name`",
        "the scripted reply has a header HTTP cannot carry. name=`x`",
        "the scripted reply has a status HTTP cannot end with. status=`100`",
        "the scripted reply has a status HTTP cannot end with. status=`1000`",
    ] {
        let response = send(&sandbox, &batch(&["a"])).await;
        assert_eq!(response.status, 500);
        assert_eq!(response.errors(), [text]);
    }
}

#[tokio::test]
async fn a_captive_portal_says_success_in_html_and_takes_nothing() {
    let sandbox = start([Reply::captive_portal().into()]).await;
    let response = send(&sandbox, &batch(&["a"])).await;
    assert_eq!(response.status, 200);
    let content_type = response.header("content-type");
    assert_eq!(content_type, Some("text/html; charset=utf-8"));
    assert!(response.body.starts_with("<!doctype html>"));
    assert_eq!(sandbox.stats().accepted, 0);
}

#[tokio::test]
async fn a_redirect_points_elsewhere_and_takes_nothing() {
    let sandbox = start([Reply::redirect(307, "http://127.0.0.1:1/trap").into()]).await;
    let response = send(&sandbox, &batch(&["a"])).await;
    assert_eq!(response.status, 307);
    let location = response.header("location");
    assert_eq!(location, Some("http://127.0.0.1:1/trap"));
    assert_eq!(response.body, "");
    assert_eq!(sandbox.stats().accepted, 0);
}

#[tokio::test]
async fn a_gateway_may_give_up_on_a_batch_that_was_taken() {
    let sandbox = start([Fault::AcceptThenAnswer(Reply::status(504))]).await;
    let response = send(&sandbox, &batch(&["a"])).await;
    assert_eq!(response.status, 504);
    assert_eq!(sandbox.ids(), ["a"]);
}

#[tokio::test]
async fn a_hanging_request_is_answered_when_released() {
    let sandbox = start([Fault::Hang]).await;
    let mut client = Client::connect(&sandbox).await;
    client.write(post(&sandbox, &batch(&["a"]))).await;
    let stats = sandbox.wait_for(|stats| stats.hanging == 1).await.unwrap();
    assert_eq!((stats.accepted, stats.answered), (0, 0));
    sandbox.release();
    assert_eq!(client.read_response().await.status, 200);
    assert_eq!(sandbox.stats().hanging, 0);
    assert_eq!(sandbox.ids(), ["a"]);
}

#[tokio::test]
async fn a_hanging_request_whose_client_leaves_is_never_taken() {
    let sandbox = start([Fault::Hang]).await;
    let mut client = Client::connect(&sandbox).await;
    client.write(post(&sandbox, &batch(&["a"]))).await;
    sandbox.wait_for(|stats| stats.hanging == 1).await.unwrap();
    drop(client);
    sandbox.wait_for(|stats| stats.hanging == 0).await.unwrap();
    sandbox.release();
    assert_eq!(send(&sandbox, &batch(&["b"])).await.status, 200);
    assert_eq!(sandbox.ids(), ["b"]);
}

#[tokio::test]
async fn a_reset_before_the_request_leaves_it_unread() {
    let sandbox = start([Fault::ResetBefore]).await;
    let mut client = Client::connect(&sandbox).await;
    client.write("P").await;
    assert_eq!(client.read_to_end().await, (String::new(), End::Reset));
    let requests = sandbox.requests();
    assert_eq!(requests[0].fault, Fault::ResetBefore);
    assert_eq!(
        (requests[0].method.as_str(), requests[0].status),
        ("", None)
    );
    assert_eq!(send(&sandbox, &batch(&["a"])).await.status, 200);
}

#[tokio::test]
async fn a_reset_before_the_request_meets_the_next_one_on_an_open_connection() {
    let sandbox = start([Fault::None, Fault::ResetBefore]).await;
    let mut client = Client::connect(&sandbox).await;
    let request = post(&sandbox, &batch(&["a"]));
    assert_eq!(client.ask(&request).await.status, 200);
    client.write("P").await;
    assert_eq!(client.read_to_end().await, (String::new(), End::Reset));
    assert_eq!(sandbox.stats().accepted, 1);
}

#[tokio::test]
async fn a_reset_within_the_request_waits_for_its_bytes() {
    let sandbox = start([Fault::ResetAt(300), Fault::ResetAt(1 << 40)]).await;
    let request = post(&sandbox, &batch(&["a", "b", "c", "d"]));
    let (first, rest) = request.split_at(299);
    assert!(!rest.is_empty());
    let mut client = Client::connect(&sandbox).await;
    client.write(first).await;
    // The head has been read by now, so the connection has outlived the first bytes.
    let head_read = |sandbox: &Sandbox| sandbox.requests().iter().any(|r| !r.method.is_empty());
    while !head_read(&sandbox) {
        tokio::task::yield_now().await;
    }
    client.write(&rest[..1]).await;
    assert_eq!(client.read_to_end().await, (String::new(), End::Reset));

    let shorter = send_to_end(&sandbox).await;
    assert_eq!(shorter, (String::new(), End::Reset));
    assert_eq!(sandbox.requests()[1].events, 1, "it was read to its end");
    assert_eq!(sandbox.stats().accepted, 0);
}

#[tokio::test]
async fn a_reset_after_the_request_takes_nothing() {
    let sandbox = start([Fault::ResetAfter]).await;
    assert_eq!(send_to_end(&sandbox).await, (String::new(), End::Reset));
    assert_eq!(sandbox.requests()[0].events, 1, "it was read to its end");
    assert_eq!(sandbox.stats().accepted, 0);
}

#[tokio::test]
async fn a_reset_after_taking_the_batch_makes_a_duplicate() {
    let sandbox = start([Fault::AcceptThenReset]).await;
    assert_eq!(send_to_end(&sandbox).await, (String::new(), End::Reset));
    assert_eq!(sandbox.ids(), ["a"]);
    assert_eq!(sandbox.requests()[0].status, None);
    assert_eq!(send(&sandbox, &batch(&["a"])).await.status, 200);
    assert_eq!(sandbox.duplicates()[0].times, 2);
}

#[tokio::test]
async fn a_batch_that_is_refused_anyway_is_not_taken_by_a_fault_that_takes() {
    let sandbox = start([Fault::AcceptThenReset]).await;
    let mut client = Client::connect(&sandbox).await;
    client.write(post(&sandbox, "{}")).await;
    assert_eq!(client.read_to_end().await.1, End::Reset);
    assert_eq!(sandbox.stats().accepted, 0);
}

#[tokio::test]
async fn a_closed_connection_ends_in_good_order_without_an_answer() {
    let sandbox = start([Fault::Close]).await;
    assert_eq!(send_to_end(&sandbox).await, (String::new(), End::Closed));
    assert_eq!(sandbox.stats().accepted, 0);
}

#[tokio::test]
async fn a_delayed_answer_comes_after_the_batch_was_taken() {
    let sandbox = start([Fault::Delay(NEVER), Fault::Delay(Duration::from_millis(1))]).await;
    let mut client = Client::connect(&sandbox).await;
    client.write(post(&sandbox, &batch(&["a"]))).await;
    let stats = sandbox.wait_for_accepted(1).await.unwrap();
    assert_eq!(stats.answered, 0);
    drop(client);
    assert_eq!(send(&sandbox, &batch(&["b"])).await.status, 200);
    assert_eq!(sandbox.ids(), ["a", "b"]);
}

#[tokio::test]
async fn a_dripping_answer_comes_byte_by_byte() {
    let sandbox = start([Fault::Drip(NEVER), Fault::Drip(Duration::ZERO)]).await;
    let mut client = Client::connect(&sandbox).await;
    client.write(post(&sandbox, &batch(&["a"]))).await;
    assert_eq!(client.read_byte().await, b'H');
    assert_eq!(sandbox.ids(), ["a"]);
    let nothing = tokio::time::timeout(Duration::ZERO, client.read_byte()).await;
    assert!(nothing.is_err(), "the second byte waits for its time");

    let (text, end) = send_to_end(&sandbox).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\n{\"request_id\":\"r-2\"}"), "{text}");
    assert_eq!(end, End::Closed);
}

#[tokio::test]
async fn a_truncated_answer_promises_more_than_it_holds() {
    let sandbox = start([Fault::Truncate, Fault::Truncate]).await;
    let (text, end) = send_to_end(&sandbox).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("\r\ncontent-length: 20\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\n{\"request_"), "{text}");
    assert_eq!(end, End::Closed);
    assert_eq!(sandbox.ids(), ["a"]);

    let client = usual_client();
    let response = client
        .post(format!("{}/messages", sandbox.base_url()))
        .bearer_auth(sandbox.key())
        .header("content-type", "application/json")
        .body(batch(&["b"]))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.bytes().await.is_err());
}

#[tokio::test]
async fn a_flood_has_the_size_asked_for_or_none() {
    let sandbox = start([
        Fault::Flood(0),
        Fault::Flood(5),
        Fault::Flood(100_000),
        Fault::Flood(u64::MAX),
    ])
    .await;
    for size in [0, 5, 100_000] {
        let (text, end) = send_to_end(&sandbox).await;
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-type: application/json"), "{head}");
        assert_eq!(body.len(), size);
        assert!(r#"{"request_id":"rrr"#.starts_with(&body[..size.min(18)]));
        assert_eq!(end, End::Closed);
    }
    let mut client = Client::connect(&sandbox).await;
    client.write(post(&sandbox, &batch(&["b"]))).await;
    for _ in 0..10_000 {
        client.read_byte().await;
    }
    drop(client);
    assert_eq!(sandbox.ids(), ["a", "b"]);
    assert_eq!(send(&sandbox, &batch(&["c"])).await.status, 200);
}

#[tokio::test]
async fn garbage_is_not_http_and_takes_nothing() {
    let sandbox = start([Fault::Garbage, Fault::Garbage]).await;
    let (text, end) = send_to_end(&sandbox).await;
    assert_eq!(text, "\u{16}\u{3}\u{1} this is not HTTP\r\n\r\n");
    assert_eq!(end, End::Closed);

    let client = usual_client();
    let url = format!("{}/messages", sandbox.base_url());
    assert!(client.post(url).send().await.is_err());
    assert_eq!(sandbox.stats().accepted, 0);
}

#[tokio::test(start_paused = true)]
async fn a_scripted_outage_ends_by_itself() {
    let outage = Duration::from_secs(3600);
    let sandbox = Sandbox::start().await.unwrap();
    let mut other = Client::connect(&sandbox).await;
    assert_eq!(other.ask(post(&sandbox, &batch(&[]))).await.status, 400);
    sandbox.script([Fault::Refuse(outage)]);
    assert_eq!(send_to_end(&sandbox).await.0, "");
    // Blocking, so that the paused time cannot move meanwhile.
    assert!(std::net::TcpStream::connect(sandbox.address()).is_err());
    let cut = other.read_to_end().await.0;
    assert_eq!(
        cut, "",
        "every connection is cut with the one that met the fault"
    );

    tokio::time::advance(outage).await;
    tokio::task::yield_now().await;
    assert_eq!(send(&sandbox, &batch(&["a"])).await.status, 200);
    assert_eq!(sandbox.ids(), ["a"]);
}

#[tokio::test]
async fn a_script_is_used_up_in_order_across_connections() {
    let sandbox = start([Fault::status(500), Fault::ResetAfter]).await;
    sandbox.script([Fault::status(502)]);
    assert_eq!(sandbox.stats().script_left, 3);
    assert_eq!(send(&sandbox, &batch(&["a"])).await.status, 500);
    assert_eq!(send_to_end(&sandbox).await.1, End::Reset);
    assert_eq!(sandbox.stats().script_left, 1);
    assert_eq!(send(&sandbox, &batch(&["a"])).await.status, 502);
    assert_eq!(send(&sandbox, &batch(&["a"])).await.status, 200);
}

#[tokio::test]
async fn a_fault_that_stays_comes_after_the_script_until_cleared() {
    let sandbox = start([Fault::status(500)]).await;
    sandbox.always(Fault::status(503));
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(send(&sandbox, &batch(&["a"])).await.status);
    }
    assert_eq!(statuses, [500, 503, 503]);
    sandbox.script([Fault::status(500)]);
    sandbox.clear();
    assert_eq!(sandbox.stats().script_left, 0);
    assert_eq!(send(&sandbox, &batch(&["a"])).await.status, 200);
}

#[tokio::test]
async fn pipelined_requests_meet_a_fault_each() {
    let sandbox = start([Fault::status(500), Fault::status(502)]).await;
    let mut client = Client::connect(&sandbox).await;
    client.write(post(&sandbox, &batch(&["a"])).repeat(3)).await;
    for status in [500, 502, 200] {
        assert_eq!(client.read_response().await.status, status);
    }
    assert_eq!(sandbox.stats().requests, 3);
    assert_eq!(client.ask(post(&sandbox, &batch(&["b"]))).await.status, 200);
    assert_eq!(sandbox.stats().requests, 4);
}
