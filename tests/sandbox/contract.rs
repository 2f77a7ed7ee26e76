//! What is accepted, what is refused, and in which words.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everpost::clock::Clock;
use everpost::sandbox::Sandbox;
use serde_json::json;

use super::raw::{Client, batch, post, post_with, send, usual_client};

const NOT_JSON: &str = "Request payloads must be in JSON format.";
const NOT_ALLOWED: &str = "Request is missing a valid Authorization header.";

#[tokio::test]
async fn a_good_batch_is_taken_and_answered_with_a_request_id() {
    let sandbox = Sandbox::start().await.unwrap();
    let response = send(&sandbox, &batch(&["a", "b"])).await;
    assert_eq!(response.status, 200);
    assert_eq!(response.body, r#"{"request_id":"r-1"}"#);
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(sandbox.ids(), ["a", "b"]);
}

#[tokio::test]
async fn a_usual_client_is_served_on_a_connection_it_keeps() {
    let sandbox = Sandbox::start().await.unwrap();
    let client = usual_client();
    for n in 1..=3 {
        let response = client
            .post(format!("{}/messages", sandbox.base_url()))
            .bearer_auth(sandbox.key())
            .header("content-type", "application/json; charset=utf-8")
            .body(batch(&[&n.to_string()]))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        let body = response.text().await.unwrap();
        assert_eq!(body, format!(r#"{{"request_id":"r-{n}"}}"#));
    }
    sandbox.check_order(["1", "2", "3"]).unwrap();
}

#[tokio::test]
async fn events_are_kept_to_the_byte() {
    let sandbox = Sandbox::start().await.unwrap();
    let events = [
        "{\"timestamp\" : 1.0e3,\n \"z\":1, \"a\":1.10, \"id\":\"\\u0061\"}",
        r#"{"timestamp":1,"a":1,"a":2,"big":123456789012345678901234567890}"#,
    ];
    let body = format!(
        "{{ \"other\":[], \"messages\" : [ {{\"message\": {} }},{{\"x\":1,\"message\":{}}} ]}}",
        events[0], events[1]
    );
    let response = send(&sandbox, &body).await;
    assert_eq!(response.status, 200, "{}", response.body);
    let accepted = sandbox.accepted();
    assert_eq!(accepted.len(), 2);
    for (accepted, event) in accepted.iter().zip(events) {
        assert_eq!(accepted.json(), Some(event.as_bytes()));
        assert_eq!(accepted.request(), 1);
    }
    assert_eq!(accepted[0].id(), Some("a"));
    assert_eq!(accepted[1].id(), None);
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut client = Client::connect(&sandbox).await;
    for path in ["/", "/message", "/v2", "/v2/messages/1", "/v2/v2/messages"] {
        let request = post(&sandbox, &batch(&["a"])).replacen("/v2/messages", path, 1);
        let response = client.ask(request).await;
        assert_eq!(response.status, 404, "{path}");
        assert_eq!(response.errors(), ["Resource does not exist."]);
    }
    for method in ["GET", "PUT", "DELETE"] {
        let request = post(&sandbox, &batch(&["a"])).replacen("POST", method, 1);
        let response = client.ask(request).await;
        assert_eq!(response.status, 405, "{method}");
        assert_eq!(response.errors(), ["Method is not allowed."]);
        assert_eq!(response.header("allow"), Some("POST"));
    }
    assert_eq!(sandbox.stats().accepted, 0);
}

#[tokio::test]
async fn bodies_that_are_not_a_batch_are_refused() {
    let sandbox = Sandbox::start().await.unwrap();
    let not_a_list = "messages must be a list of objects with a message each";
    for (body, text) in [
        ("", NOT_JSON),
        ("{", NOT_JSON),
        ("hello", NOT_JSON),
        (r#"{"messages":[]} {}"#, NOT_JSON),
        (
            r#"{"messages":[{"message":{"timestamp":1e999}}]}"#,
            NOT_JSON,
        ),
        ("[]", not_a_list),
        ("{}", not_a_list),
        (r#"{"messages":{}}"#, not_a_list),
        (r#"{"messages":[1]}"#, not_a_list),
        (r#"{"messages":[{"event":{}}]}"#, not_a_list),
        (r#"{"messages":[]}"#, "messages must not be empty"),
        (
            r#"{"messages":[{"message":1}]}"#,
            "message must be an object",
        ),
        (
            r#"{"messages":[{"message":[]}]}"#,
            "message must be an object",
        ),
    ] {
        let response = send(&sandbox, body).await;
        assert_eq!(response.status, 400, "{body}");
        assert_eq!(response.errors(), [text], "{body}");
    }
    assert_eq!(sandbox.stats().accepted, 0);
}

#[tokio::test]
async fn the_content_type_must_be_json() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut client = Client::connect(&sandbox).await;
    for (content_type, status) in [
        ("text/plain", 400),
        ("application/jsonx", 400),
        ("", 400),
        ("APPLICATION/JSON ; charset=utf-8", 200),
    ] {
        let request = post_with(sandbox.key(), content_type, &batch(&["a"]));
        let response = client.ask(request).await;
        assert_eq!(response.status, status, "{content_type}");
        if status == 400 {
            assert_eq!(response.errors(), [NOT_JSON]);
        }
    }
}

#[tokio::test]
async fn one_bad_message_refuses_its_whole_batch_in_both_nestings() {
    let sandbox = Sandbox::start().await.unwrap();
    let good = json!({"message": {"id": "good", "timestamp": 1}});
    for (bad, text) in [
        (
            json!({"timestamp": 1, "content": {"texts": [{}]}}),
            "message.content.texts[0].text is required",
        ),
        (
            json!({"message": {"timestamp": 1, "content": {"texts": [{}]}}}),
            "message.message.content.texts[0].text is required",
        ),
        (
            json!({"sender": {"type": "user"}}),
            "message.timestamp is required",
        ),
    ] {
        let body = json!({"messages": [good, {"message": bad}, good]});
        let response = send(&sandbox, &body.to_string()).await;
        assert_eq!(response.status, 400);
        assert_eq!(response.errors(), [text]);
    }
    assert_eq!(sandbox.stats().accepted, 0);
    let nested = json!({"messages": [{"message": {"id": "n", "message": {"timestamp": 1}}}]});
    assert_eq!(send(&sandbox, &nested.to_string()).await.status, 200);
    assert_eq!(sandbox.ids(), ["n"]);
}

/// What the official clients were seen to send: the Python one drops the version from a base URL
/// without a final `/` and does not wrap Universal messages.
#[tokio::test]
async fn what_the_official_clients_send_is_taken() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut client = Client::connect(&sandbox).await;
    for path in ["/v2/messages", "/v2/messages/", "/messages", "/messages/"] {
        let request = post(&sandbox, &batch(&[path])).replacen("/v2/messages", path, 1);
        assert_eq!(client.ask(request).await.status, 200, "{path}");
    }
    sandbox.forget();
    let bare = json!({"messages": [
        {"id": "flat", "timestamp": 1},
        {"id": "nested", "message": {"timestamp": 1, "content": {"texts": [{"text": "hi"}]}}},
        {"message": {"id": "wrapped", "message": {"timestamp": 1}}},
        {"timestamp": 1},
    ]});
    assert_eq!(send(&sandbox, &bare.to_string()).await.status, 200);
    assert_eq!(sandbox.ids(), ["flat", "nested", "wrapped"]);
    let flat = r#"{"id":"flat","timestamp":1}"#;
    assert_eq!(sandbox.accepted()[0].json(), Some(flat.as_bytes()));
    assert_eq!(sandbox.requests()[0].events, 4);

    let bad = json!({"messages": [{"id": "a", "timestamp": "noon"}, {"timestamp": 1}]});
    let response = send(&sandbox, &bad.to_string()).await;
    let text = "message.timestamp must be a number of milliseconds that is not negative";
    assert_eq!(
        (response.status, response.errors()),
        (400, vec![text.to_owned()])
    );
    let why = sandbox.requests()[1].reason.clone();
    assert_eq!(why, Some(format!("number 1: {text}")));

    // The clients of the other channels wrap, so what is not wrapped is no message of theirs.
    let sandbox = Sandbox::builder().channel("rasa").start().await.unwrap();
    let bare = json!({"messages": [{"event": "user", "timestamp": 1}]});
    assert_eq!(send(&sandbox, &bare.to_string()).await.status, 400);
    let wrapped = json!({"messages": [{"message": {"event": "user", "timestamp": 1}, "id": "x"}]});
    assert_eq!(send(&sandbox, &wrapped.to_string()).await.status, 200);
    let event = sandbox.accepted()[0].json().unwrap().to_vec();
    assert_eq!(event, br#"{"event":"user","timestamp":1}"#);
}

#[tokio::test]
async fn every_refusal_has_its_reason() {
    let sandbox = Sandbox::builder()
        .max_body_bytes(1000)
        .start()
        .await
        .unwrap();
    let good = batch(&["a"]);
    let of = |text: &str| text.to_owned();
    for (request, reason) in [
        (
            post(&sandbox, &good).replacen("/v2/m", "/m/m", 1),
            "the only path is /v2/messages",
        ),
        (
            post(&sandbox, &good).replacen("POST", "GET", 1),
            "the only method is POST",
        ),
        (
            post_with("k", "application/json", &good),
            "the key is none that is accepted here",
        ),
        (
            post(&sandbox, &good).replacen("Bearer", "Token", 1),
            "the Authorization header is not `Bearer` and a key",
        ),
        (
            post_with(sandbox.key(), "text/plain", &good),
            "the Content-Type is not application/json",
        ),
        (post(&sandbox, "{"), "not JSON at line 1, column 1"),
        (
            post(&sandbox, &" ".repeat(1001)),
            "Request has more than 1000 bytes.",
        ),
        (post(&sandbox, &good), ""),
    ] {
        let mut client = Client::connect(&sandbox).await;
        client.ask(request).await;
        let exchange = sandbox.requests().pop().unwrap();
        assert_eq!(exchange.reason.unwrap_or_default(), of(reason));
    }
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_accepted() {
    use std::io;
    use std::sync::Mutex;
    let stored = std::sync::Arc::new(Mutex::new(Vec::new()));
    let into = std::sync::Arc::clone(&stored);
    let builder = Sandbox::builder().store(move |events| {
        if events.len() > 1 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let ids = events.iter().map(|event| event.id().unwrap().to_owned());
        into.lock().unwrap().extend(ids);
        Ok(())
    });
    let sandbox = builder.start().await.unwrap();
    for (ids, status) in [
        (&["a"][..], 200),
        (&["b", "c"], 500),
        (&["d"], 200),
        (&["a"], 200),
    ] {
        assert_eq!(send(&sandbox, &batch(ids)).await.status, status, "{ids:?}");
    }
    assert_eq!(*stored.lock().unwrap(), ["a", "d", "a"]);
    assert_eq!(sandbox.ids(), ["a", "d"]);
    let why = sandbox.requests()[1].reason.clone().unwrap();
    assert!(why.starts_with("it could not be stored: "), "{why}");
}

#[tokio::test]
async fn other_channels_take_any_object_and_have_their_ids_elsewhere() {
    let sandbox = Sandbox::builder()
        .channel("microsoft-bot-framework")
        .id_pointer("/activity/id")
        .start()
        .await
        .unwrap();
    let body = json!({"messages": [{"message": {"activity": {"id": "a1"}}}, {"message": {}}]});
    assert_eq!(send(&sandbox, &body.to_string()).await.status, 200);
    assert_eq!(sandbox.stats().accepted, 2);
    assert_eq!(sandbox.ids(), ["a1"]);
}

#[tokio::test]
async fn a_rule_of_the_test_refuses_what_it_names() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.reject_when(|message| (message["id"] == "bad").then(|| "no such user".to_owned()));
    let response = send(&sandbox, &batch(&["a", "bad"])).await;
    assert_eq!(response.status, 400);
    assert_eq!(response.errors(), ["no such user"]);
    assert_eq!(send(&sandbox, &batch(&["a"])).await.status, 200);
    sandbox.reject_nothing();
    assert_eq!(send(&sandbox, &batch(&["bad"])).await.status, 200);
    assert_eq!(sandbox.ids(), ["a", "bad"]);
}

#[tokio::test]
async fn what_is_too_large_is_read_to_its_end_and_refused() {
    let one = batch(&["a"]);
    let sandbox = Sandbox::builder()
        .max_body_bytes(one.len())
        .max_events(1)
        .start()
        .await
        .unwrap();
    let mut client = Client::connect(&sandbox).await;
    let huge = " ".repeat(5_000_000) + &one;
    let response = client.ask(post(&sandbox, &huge)).await;
    assert_eq!(response.status, 413);
    let text = format!("Request has more than {} bytes.", one.len());
    assert_eq!(response.errors(), [text]);
    assert_eq!(client.ask(post(&sandbox, &one)).await.status, 200);

    let sandbox = Sandbox::builder().max_events(1).start().await.unwrap();
    let response = send(&sandbox, &batch(&["a", "b"])).await;
    assert_eq!(response.status, 413);
    assert_eq!(response.errors(), ["Request has more than 1 messages."]);
    assert_eq!(sandbox.stats().accepted, 0);
}

#[tokio::test]
async fn only_keys_that_are_accepted_open_the_door() {
    let sandbox = Sandbox::start().await.unwrap();
    let second = sandbox.issue_key();
    assert_ne!(second, sandbox.key());
    sandbox.accept_key("plain");
    let mut client = Client::connect(&sandbox).await;
    let body = batch(&["a"]);
    for key in [sandbox.key(), &second, "plain"] {
        let request = post_with(key, "application/json", &body);
        assert_eq!(client.ask(&request).await.status, 200);
        assert!(sandbox.revoke_key(key));
        let response = client.ask(&request).await;
        assert_eq!(response.status, 401);
        assert_eq!(response.errors(), [NOT_ALLOWED]);
        assert!(!sandbox.revoke_key(key));
    }
    let none = "POST /v2/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    let response = client.ask(none).await;
    assert_eq!(response.status, 401);
    assert_eq!(response.errors(), [NOT_ALLOWED]);
}

#[tokio::test]
async fn an_expired_key_is_refused_by_the_clock_given() {
    #[derive(Debug)]
    struct Stopped;
    impl Clock for Stopped {
        fn wall(&self) -> SystemTime {
            UNIX_EPOCH + Duration::from_secs(1000)
        }
        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
    }
    let sandbox = Sandbox::builder().clock(Stopped).start().await.unwrap();
    for (seconds, status) in [(999, 401), (1000, 401), (1001, 200)] {
        let key = sandbox.issue_key_until(UNIX_EPOCH + Duration::from_secs(seconds));
        let mut client = Client::connect(&sandbox).await;
        let request = post_with(&key, "application/json", &batch(&["a"]));
        assert_eq!(client.ask(request).await.status, status, "{seconds}");
    }
}

#[tokio::test]
async fn a_key_of_the_users_replaces_the_one_made_up() {
    let sandbox = Sandbox::builder().key("mine").start().await.unwrap();
    assert_eq!(sandbox.key(), "mine");
    assert_eq!(send(&sandbox, &batch(&["a"])).await.status, 200);
}
