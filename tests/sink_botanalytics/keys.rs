//! Keys on the wire: replaced, expired, gone bad, never shown.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use everpost::botanalytics::KeySource;
use everpost::clock::Clock;
use everpost::http::Proxy;
use everpost::{Sink, Verdict};

use crate::server::{Reply, Server, json, reply};
use crate::set_up::{CREDENTIALS, PATIENT, Standing, builder, detail, key, key_of, request};

#[tokio::test]
async fn a_replaced_key_is_used_from_the_next_request_on() {
    let replies = vec![json("401 Unauthorized", "{}"), json("200 OK", "{}")];
    let server = Server::start(replies).await;
    let sink = builder(server.base_url()).build().unwrap();
    let request = request(&["1"]);
    assert_eq!(sink.deliver(request.clone()).await.verdict, CREDENTIALS);

    let new = key_of(r#"{"channel":"universal","new":true}"#);
    sink.key_handle().replace(new.clone()).unwrap();
    tokio::time::timeout(PATIENT, sink.changed()).await.unwrap();
    assert_eq!(
        sink.deliver(request.clone()).await.verdict,
        Verdict::Delivered
    );
    let heads: Vec<String> = server.requests().into_iter().map(|r| r.0).collect();
    assert!(heads[0].contains(&format!("authorization: Bearer {}\r\n", key())));
    assert!(heads[1].contains(&format!("authorization: Bearer {new}\r\n")));
}

#[tokio::test]
async fn a_waiting_delivery_is_woken_by_a_new_key() {
    let sink = builder("http://127.0.0.1:1".into()).build().unwrap();
    let handle = sink.key_handle();
    let waiting = tokio::spawn(async move { sink.changed().await });
    tokio::task::yield_now().await;
    handle.replace(key()).unwrap();
    tokio::time::timeout(PATIENT, waiting)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn an_expired_key_pauses_before_the_request() {
    let server = Server::start(vec![json("200 OK", "{}")]).await;
    let clock = Standing::at(999);
    let sink = builder(server.base_url())
        .key(KeySource::value(key_of(
            r#"{"channel":"universal","exp":1000}"#,
        )))
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .build()
        .unwrap();
    *clock.0.lock().unwrap() += Duration::from_secs(1);
    let outcome = sink.deliver(request(&["1"])).await;
    assert_eq!(outcome.verdict, CREDENTIALS);
    assert!(detail(&outcome).contains("key has expired"), "{outcome:?}");
    assert!(server.requests().is_empty(), "nothing was sent");

    // The clock is set right, and the same key will do.
    *clock.0.lock().unwrap() -= Duration::from_secs(1);
    assert_eq!(
        sink.deliver(request(&["1"])).await.verdict,
        Verdict::Delivered
    );
}

#[tokio::test]
async fn a_key_file_that_goes_bad_pauses_and_recovers() {
    let server = Server::start(vec![json("200 OK", "{}")]).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    std::fs::write(&path, key()).unwrap();
    let sink = builder(server.base_url())
        .key(KeySource::file(&path))
        .channel("universal")
        .build()
        .unwrap();
    for bad in ["", "nonsense", &key_of(r#"{"channel":"rasa"}"#)] {
        std::fs::write(&path, bad).unwrap();
        let outcome = sink.deliver(request(&["1"])).await;
        assert_eq!(outcome.verdict, CREDENTIALS, "{bad:?}");
    }
    std::fs::write(&path, key() + "\n").unwrap();
    assert_eq!(
        sink.deliver(request(&["1"])).await.verdict,
        Verdict::Delivered
    );
    assert_eq!(server.requests().len(), 1);
}

/// Only the whole key was struck out: its signature alone, or the base64 of the header that carried
/// it, was kept with the answer.
#[tokio::test]
async fn pieces_of_the_key_are_struck_out_of_whatever_an_answer_says() {
    let dump = STANDARD.encode(format!("Bearer {}", key()));
    let signature = "SECRETSIGNATURE";
    let said = format!(r#"{{"errors":["{signature}","{dump}"],"warnings":[{{"{signature}":1}}]}}"#);
    let replies = vec![
        json("200 OK", &format!(r#"{{"request_id":"{signature}"}}"#)),
        json("400 Bad Request", &said),
        reply("502 Bad", "", &dump),
        reply(
            "302 Found",
            &format!("Location: https://x/{signature}\r\n"),
            "",
        ),
    ];
    let server = Server::start(replies).await;
    let sink = builder(server.base_url()).build().unwrap();
    for _ in 0..4 {
        let shown = format!("{:?}", sink.deliver(request(&["1"])).await);
        assert!(shown.contains("[key]"), "{shown}");
        for piece in [signature.as_bytes(), &dump.as_bytes()[12..]]
            .concat()
            .windows(8)
        {
            let held = shown.as_bytes().windows(8).any(|run| run == piece);
            assert!(!held, "{shown}");
        }
    }
}

#[tokio::test]
async fn the_key_is_never_shown() {
    let echo = format!(r#"{{"errors":["bad token {}"],"request_id":"{0}"}}"#, key());
    let server = Server::start(vec![
        json("401 Unauthorized", &echo),
        reply("502 Bad", "", &format!("proxy saw Bearer {}", key())),
        reply(
            "302 Found",
            &format!("Location: https://x/{}\r\n", key()),
            "",
        ),
        Reply::Reset,
    ])
    .await;
    let set_up = builder(server.base_url()).proxy(Proxy::Url("http://u:SECRETPW@p".into()));
    let mut shown = format!("{set_up:?}");
    let sink = set_up.build().unwrap();
    shown += &format!("{sink:?} {:?}", sink.key_handle());
    for _ in 0..4 {
        shown += &format!("{:?}", sink.deliver(request(&["1"])).await);
    }
    shown += &format!("{:?}", sink.key_handle().replace(key() + "x y"));
    for secret in ["SECRET", "eyJ"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(shown.contains("bad token [key]"), "{shown}");
}
