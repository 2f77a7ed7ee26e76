//! Any receiver over HTTP: what a request carries, where its secrets come from, what an answer may
//! not keep of them.

use std::time::Duration;

use everpost::http::{Auth, Builder, Compression, Format, Http, Method, SecretRef, SecretSource};
use everpost::{Event, Queue, Sink, Verdict};

use crate::server::{Reply, Server, json, reply};
use crate::set_up::{CREDENTIALS, PATIENT, request};

fn taken() -> Reply {
    json("200 OK", r#"{"taken":1}"#)
}

fn builder(server: &Server) -> Builder {
    Http::builder(format!("http://{}/in?token=query-hunter2", server.address))
}

fn lines(head: &str) -> Vec<String> {
    head.lines().map(|line| line.to_lowercase()).collect()
}

#[tokio::test]
async fn a_request_carries_what_was_set() {
    let server = Server::start(vec![taken(), taken()]).await;
    let sink = builder(&server)
        .method(Method::Put)
        .format(Format::Lines)
        .header("X-Site", "north 7")
        .secret_header("X-Key", SecretSource::value("header-hunter2"))
        .auth(Auth::Basic {
            user: "me".to_owned(),
            password: SecretSource::value("pass-hunter2"),
        })
        .idempotency_header(Some("X-Request-Name".to_owned()))
        .build()
        .unwrap();
    let batch = request(&["{\"a\":1}", "2"]);
    let name = batch.batch().idempotency_key();
    assert_eq!(
        sink.deliver(batch.clone()).await.verdict,
        Verdict::Delivered
    );
    assert_eq!(sink.deliver(batch).await.verdict, Verdict::Delivered);
    for (head, body) in server.requests() {
        let lines = lines(&head);
        assert_eq!(lines[0], "put /in?token=query-hunter2 http/1.1");
        for expected in [
            "content-type: application/x-ndjson",
            "x-site: north 7",
            "x-key: header-hunter2",
            "authorization: basic bwu6cgfzcy1odw50zxiy",
            &format!("x-request-name: {name}"),
        ] {
            assert!(
                lines.iter().any(|line| line == expected),
                "{expected}: {lines:?}"
            );
        }
        assert_eq!(body, b"{\"a\":1}\n2\n");
    }
    assert!(!format!("{sink:?}").contains("hunter2"), "{sink:?}");
    assert_eq!(sink.url(), format!("http://{}/in", server.address));
}

#[tokio::test]
async fn a_secret_that_is_renewed_in_its_file_is_used_at_once() {
    let server = Server::start(vec![taken(), taken(), taken()]).await;
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("secret");
    std::fs::write(&file, "first-secret\n").unwrap();
    let sink = builder(&server)
        .auth(Auth::Bearer(SecretRef::File(file.clone()).into()))
        .build()
        .unwrap();
    sink.deliver(request(&["1"])).await;
    std::fs::write(&file, "second-secret").unwrap();
    sink.deliver(request(&["1"])).await;
    let handle = sink.secret_handle("Authorization").unwrap();
    handle.replace("third-secret").unwrap();
    assert!(handle.replace("no\nheader").is_err());
    sink.deliver(request(&["1"])).await;
    for ((head, _), secret) in server.requests().iter().zip(["first", "second", "third"]) {
        let expected = format!("authorization: bearer {secret}-secret");
        assert!(lines(head).contains(&expected), "{head}");
    }
}

#[tokio::test]
async fn a_secret_that_is_not_there_pauses_without_a_request() {
    let server = Server::start(vec![taken()]).await;
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("secret");
    let bearer = || Auth::Bearer(SecretSource::file(&file));
    let error = builder(&server).auth(bearer()).build().unwrap_err();
    assert!(
        error.to_string().contains("header=`authorization`"),
        "{error}"
    );
    let sink = builder(&server)
        .auth(bearer())
        .wait_for_secrets()
        .build()
        .unwrap();
    let hindrance = sink.hindrance().await.unwrap();
    assert!(hindrance.answer.detail.unwrap().contains("no such file"));
    assert_eq!(sink.deliver(request(&["1"])).await.verdict, CREDENTIALS);
    assert!(server.requests().is_empty());
    std::fs::write(&file, "there-it-is").unwrap();
    sink.changed().await;
    assert_eq!(sink.hindrance().await, None);
    assert_eq!(
        sink.deliver(request(&["1"])).await.verdict,
        Verdict::Delivered
    );
}

/// A receiver that shows a request in its answer, as many do to help, wrote a secret header and the
/// password into the log, the status and the dead letters.
#[tokio::test]
async fn what_an_answer_repeats_of_any_secret_is_struck_out() {
    let echoed = "key=header-hunter2, query=token=query-hunter2, Basic bWU6cGFzcy1odW50ZXIy, \
                  pass-hunter2, more=second-hunter2";
    let body = format!(r#"{{"errors":["{echoed}"],"message":"{echoed}"}}"#);
    for answer in [
        json("400 Bad Request", &body),
        reply("400 Bad Request", "Content-Type: text/plain\r\n", echoed),
        reply("200 OK", "Content-Type: text/plain\r\n", echoed),
    ] {
        let server = Server::start(vec![answer]).await;
        let sink = builder(&server)
            .secret_header("X-Key", SecretSource::value("header-hunter2"))
            .secret_header("X-More", SecretSource::value("second-hunter2"))
            .auth(Auth::Basic {
                user: "me".to_owned(),
                password: SecretSource::value("pass-hunter2"),
            })
            .build()
            .unwrap();
        let outcome = sink.deliver(request(&["1"])).await;
        let kept = format!("{outcome:?}");
        assert!(kept.contains("more="), "{kept}");
        for secret in ["hunter2", "odW50ZXIy"] {
            assert!(!kept.contains(secret), "{kept}");
        }
    }
}

#[tokio::test]
async fn a_form_of_one_event_is_sent_one_by_one() {
    let server = Server::start(vec![taken(), taken(), taken()]).await;
    let sink = builder(&server).format(Format::Single).build().unwrap();
    // Also where nothing asked how many it takes.
    assert_eq!(
        sink.deliver(request(&["1", "2"])).await.verdict,
        Verdict::Divide
    );
    let home = tempfile::tempdir().unwrap();
    let queue = Queue::builder(home.path().join("spool"))
        .sink(sink.boxed())
        .open()
        .await
        .unwrap();
    queue.pause().await.unwrap();
    for text in ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"] {
        queue.append(Event::json(text).unwrap()).await.unwrap();
    }
    queue.resume().await.unwrap();
    assert!(queue.close(PATIENT).await.unwrap().drained);
    let bodies: Vec<_> = server
        .requests()
        .into_iter()
        .map(|(_, body)| body)
        .collect();
    assert_eq!(bodies, [b"{\"n\":1}", b"{\"n\":2}", b"{\"n\":3}"]);
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_when_it_is_set() {
    let server = Server::start(Vec::new()).await;
    let secret = || SecretSource::value("hunter2");
    let new = || builder(&server);
    for (builder, part) in [
        (
            new().header("Authorization", "x"),
            "set it as a secret header",
        ),
        (new().header("content-type", "x"), "header=`content-type`"),
        (new().header("a b", "x"), "header=`a b`"),
        (new().header("a", "x\ny"), "header=`a`"),
        (
            new().secret_header("X-A", secret()).header("x-a", "1"),
            "set twice. header=`x-a`",
        ),
        (
            new()
                .auth(Auth::Bearer(secret()))
                .secret_header("authorization", secret()),
            "set twice. header=`authorization`",
        ),
        (
            new().auth(Auth::Basic {
                user: "a:b".to_owned(),
                password: secret(),
            }),
            "colon",
        ),
        (
            new().secret_header("x", SecretSource::value(" ")),
            "secret is empty",
        ),
        (new().sign_with(secret()), "whsec_"),
        (
            new().format(Format::Loki {
                labels: Default::default(),
            }),
            "label",
        ),
    ] {
        let error = builder.build().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_compressed_body_says_so() {
    let server = Server::start(vec![taken(), taken()]).await;
    for (compression, head_bytes) in [
        (Compression::Gzip, &[0x1f, 0x8b][..]),
        (Compression::Zstd, &[0x28, 0xb5, 0x2f, 0xfd]),
    ] {
        let sink = builder(&server).compression(compression).build().unwrap();
        sink.deliver(request(&["1"])).await;
        let (head, body) = server.requests().pop().unwrap();
        let name = if compression == Compression::Gzip {
            "gzip"
        } else {
            "zstd"
        };
        assert!(
            lines(&head).contains(&format!("content-encoding: {name}")),
            "{head}"
        );
        assert!(body.starts_with(head_bytes));
    }
}

/// What is signed is what is sent, at the time it is sent: a request that waited for an hour to be
/// sent again would be refused as a replay if it kept its first signature.
#[tokio::test]
async fn each_sending_is_signed_at_its_own_time() {
    let server = Server::start(vec![taken(), taken()]).await;
    let clock = crate::set_up::Standing::at(1_000);
    let sink = builder(&server)
        .sign_with(SecretSource::value(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ))
        .clock(clock.clone())
        .build()
        .unwrap();
    let mut batch = request(&["1"]);
    let prepared = sink.prepare(batch.batch());
    batch = batch.with_prepared(prepared);
    sink.deliver(batch.clone()).await;
    *clock.0.lock().unwrap() += Duration::from_secs(3_600);
    sink.deliver(batch).await;
    let of = |head: &str, name: &str| {
        let mut lines = head.lines();
        let line = lines.find(|line| line.to_lowercase().starts_with(name));
        line.unwrap().split_once(": ").unwrap().1.to_owned()
    };
    let heads: Vec<_> = server
        .requests()
        .into_iter()
        .map(|(head, _)| head)
        .collect();
    let ids: Vec<_> = heads.iter().map(|head| of(head, "webhook-id")).collect();
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[0], of(&heads[0], "idempotency-key"));
    let times: Vec<_> = heads
        .iter()
        .map(|head| of(head, "webhook-timestamp"))
        .collect();
    assert_eq!(times, ["1000", "4600"]);
    assert_ne!(
        of(&heads[0], "webhook-signature"),
        of(&heads[1], "webhook-signature")
    );
}
