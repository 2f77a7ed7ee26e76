//! What can go wrong on the way, and what must not come of it.

use everpost::botanalytics::Builder;
use everpost::classify::Classifier;
use everpost::http::Proxy;
use everpost::{Sink, Verdict};

use crate::server::{Reply, Server, json, reply};
use crate::set_up::{
    ADDRESS, CREDENTIALS, IMPATIENT, PATIENT, PROMPT, RETRY, ask, builder, detail, request,
};

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_key_goes_nowhere_else() {
    for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
        let elsewhere = Server::start(vec![json("200 OK", "{}")]).await;
        let location = format!("Location: http://{}/x?token=s\r\n", elsewhere.address);
        let outcome = ask(reply(status, &location, "")).await;
        assert_eq!(outcome.verdict, ADDRESS, "{status}");
        let shown = detail(&outcome);
        assert!(shown.contains(&elsewhere.address.to_string()), "{shown}");
        assert!(!shown.contains("token"), "{shown}");
        assert!(elsewhere.requests().is_empty(), "{status} was followed");
    }
}

#[tokio::test]
async fn a_captive_portal_is_no_delivery() {
    let page = "<html><body>Log in</body></html>";
    for portal in [
        reply("200 OK", "Content-Type: text/html\r\n", page),
        reply("200 OK", "Content-Type: application/json\r\n", page),
        reply("200 OK", "Content-Type: text/html\r\n", ""),
        reply("204 No Content", "Content-Type: text/html\r\n", ""),
    ] {
        let outcome = ask(portal).await;
        assert_eq!(outcome.verdict, RETRY);
        assert!(detail(&outcome).contains("captive portal"), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_page_for_people_condemns_no_event() {
    let page = "<html><body>Bad Request</body></html>";
    for refusal in [
        reply("400 Bad Request", "Content-Type: text/html\r\n", page),
        reply(
            "400 Bad Request",
            "Content-Type: application/json\r\n",
            page,
        ),
        reply("422 No", "Content-Type: text/html; charset=utf-8\r\n", ""),
        reply("418 Teapot", "Content-Type: application/xhtml+xml\r\n", "?"),
    ] {
        let outcome = ask(refusal).await;
        assert_eq!(outcome.verdict, ADDRESS, "{outcome:?}");
        let expected = "HTML instead of JSON: something in the way, or a wrong address";
        assert_eq!(detail(&outcome), expected);
    }
    // Where the status condemns nothing, it goes on to decide.
    for (status, verdict) in [
        ("401 Unauthorized", CREDENTIALS),
        ("413 Too Large", Verdict::Divide),
        ("502 Bad Gateway", RETRY),
    ] {
        let outcome = ask(reply(status, "Content-Type: text/html\r\n", page)).await;
        assert_eq!(outcome.verdict, verdict);
    }
}

#[tokio::test]
async fn a_page_for_people_condemns_no_event_by_the_literal_rule_either() {
    let page = reply("404 Not Found", "Content-Type: text/html\r\n", "<p>404");
    let server = Server::start(vec![page]).await;
    let sink = builder(server.base_url()).classifier(Classifier::strict());
    let outcome = sink.build().unwrap().deliver(request(&["1"])).await;
    assert_eq!(outcome.verdict, ADDRESS);
}

#[tokio::test]
async fn what_is_no_page_for_people_refuses_as_its_status_says() {
    for (content_type, body) in [
        ("text/html", r#"{"errors":["no"]}"#),
        ("application/json", r#"{"errors":["no"]}"#),
        ("text/plain", "no"),
        ("application/json", ""),
    ] {
        let head = format!("Content-Type: {content_type}\r\n");
        let outcome = ask(reply("400 Bad Request", &head, body)).await;
        assert_eq!(outcome.verdict, Verdict::Poison, "{content_type} {body}");
    }
}

#[tokio::test]
async fn a_damaged_body_does_not_undo_a_delivery() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let bodies = [
        format!("{head}Content-Length: 1000\r\n\r\n{{\"request_id\":\"r"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\n{{\"req"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\nnonsense"),
        format!("{head}\r\n"),
        "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
    ];
    for body in bodies {
        let outcome = ask(Reply::Bytes(body.clone().into_bytes())).await;
        assert_eq!(outcome.verdict, Verdict::Delivered, "{body:?}");
    }
}

#[tokio::test]
async fn a_huge_body_is_read_to_a_bound() {
    // What the answer says after the first 64 KiB is not seen; what it says before is.
    for (blanks, request_id) in [(60_000, Some("r-1")), (70_000, None)] {
        let body = " ".repeat(blanks) + r#"{"request_id":"r-1"}"#;
        let outcome = ask(json("200 OK", &body)).await;
        assert_eq!(outcome.verdict, Verdict::Delivered);
        assert_eq!(outcome.answer.request_id.as_deref(), request_id, "{blanks}");
    }

    // What never ends is left when there is enough of it, long before patience runs out.
    let mut endless = b"HTTP/1.1 500 Oops\r\nContent-Length: 100000000\r\n\r\n".to_vec();
    endless.resize(128 * 1024, b'x');
    let asking = tokio::time::timeout(PROMPT, ask(Reply::Hang(endless)));
    let outcome = asking.await.unwrap();
    assert_eq!(outcome.verdict, RETRY);
    assert!(detail(&outcome).len() < 600, "{}", detail(&outcome).len());
}

#[tokio::test]
async fn a_body_that_stalls_after_a_success_is_a_delivery() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"req".to_vec();
    let server = Server::start(vec![Reply::Hang(head)]).await;
    let sink = builder(server.base_url())
        .read_timeout(IMPATIENT)
        .build()
        .unwrap();
    let outcome = sink.deliver(request(&["1"])).await;
    assert_eq!(outcome.verdict, Verdict::Delivered);
}

#[tokio::test]
async fn faults_of_the_network_are_tried_again_and_named() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tried = closed.local_addr().unwrap();
    drop(closed);
    let sink = builder(format!("http://{tried}/v2")).build().unwrap();
    let refused = sink.deliver(request(&["{}"])).await;
    // Where it was tried, and nothing else of the address.
    assert_eq!(detail(&refused), format!("connection refused ({tried})"));
    let cases = [
        (refused, "connection refused"),
        (ask(Reply::Reset).await, "connection reset"),
        (ask(Reply::ResetAtOnce).await, "connection reset"),
        (ask(Reply::Bytes(vec![])).await, "connection closed"),
        (
            ask(Reply::Bytes(b"HTTP/1.1 2".to_vec())).await,
            "connection closed",
        ),
        (
            ask(Reply::Bytes(b"SSH-2.0-x\r\n".to_vec())).await,
            "invalid HTTP",
        ),
    ];
    for (outcome, expected) in cases {
        assert_eq!(outcome.verdict, RETRY, "{expected}");
        assert_eq!(outcome.answer.status, None, "{expected}");
        assert!(detail(&outcome).contains(expected), "{outcome:?}");
    }
}

#[tokio::test]
async fn silence_ends_at_the_time_limit() {
    let limits: [fn(Builder) -> Builder; 2] = [
        |set_up| set_up.request_timeout(IMPATIENT).read_timeout(PATIENT),
        |set_up| set_up.request_timeout(PATIENT).read_timeout(IMPATIENT),
    ];
    for limit in limits {
        let server = Server::start(vec![Reply::Hang(vec![])]).await;
        let sink = limit(builder(server.base_url())).build().unwrap();
        let request = request(&["1"]);
        let delivery = tokio::time::timeout(PROMPT, sink.deliver(request.clone()));
        let outcome = delivery.await.unwrap();
        assert_eq!(outcome.verdict, Verdict::Stalled);
        let told = detail(&outcome);
        assert!(told.starts_with("no answer in time (127.0.0.1:"), "{told}");
    }
}

/// A proxy that wants a login answers CONNECT itself, before TLS begins.
#[cfg(any(feature = "rustls", feature = "native-tls"))]
#[tokio::test]
async fn a_proxy_that_wants_a_login_pauses_and_sees_no_key() {
    let proxy = Server::start(vec![
        reply("407 Proxy Authentication Required", "", ""),
        reply("502 Bad Gateway", "", ""),
    ])
    .await;
    let sink = builder("https://api.invalid/v2".into())
        .proxy(Proxy::Url(format!("http://{}", proxy.address)))
        .build()
        .unwrap();
    assert_eq!(sink.deliver(request(&["1"])).await.verdict, ADDRESS);
    assert_eq!(sink.deliver(request(&["1"])).await.verdict, RETRY);
    for (head, _) in proxy.requests() {
        assert!(head.starts_with("CONNECT api.invalid:443 "), "{head}");
        assert!(!head.contains("eyJ"), "{head}");
    }
}

/// A server without TLS, a name that cannot exist: faults of the way, not of the events.
#[cfg(any(feature = "rustls", feature = "native-tls"))]
#[tokio::test]
async fn faults_of_tls_and_names_are_tried_again() {
    let plain = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec();
    let server = Server::start(vec![Reply::Greeting(plain)]).await;
    // No label of a name is longer than 63 bytes.
    let no_name = "x".repeat(64);
    for base_url in [
        format!("https://{}/v2", server.address),
        format!("https://{no_name}.invalid/v2"),
    ] {
        let sink = builder(base_url.clone())
            .proxy(Proxy::None)
            .build()
            .unwrap();
        let outcome = sink.deliver(request(&["1"])).await;
        assert_eq!(outcome.verdict, RETRY, "{base_url}");
        assert!(!detail(&outcome).is_empty(), "{base_url}");
        assert!(!detail(&outcome).contains("/v2"), "{outcome:?}");
        assert!(!detail(&outcome).contains("/v2"), "{outcome:?}");
    }
}
