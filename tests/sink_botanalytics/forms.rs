//! Each form of a body from a queue to a receiver that reads it, over real sockets.

use std::path::Path;
use std::time::Duration;

use everpost::http::{Auth, Compression, Format, Http, Receiver, SecretSource};
use everpost::sandbox::{Fault, Sandbox};
use everpost::{Delivery, Event, Ledger, Queue, Settings, Sink, Verdict};
use serde_json::Value;

use crate::set_up::{PATIENT, request};

const FORMS: [&str; 7] = [
    "array",
    "lines",
    "single",
    "wrapped",
    "cloud_events",
    "otlp",
    "loki",
];

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Waits are short, since each test of an outage has some.
fn settings() -> Settings {
    Settings {
        delivery: Delivery {
            batch_events: 8,
            backoff_min: Duration::from_millis(1),
            backoff_max: Duration::from_millis(5),
            ..Delivery::default()
        },
        ..Settings::default()
    }
}

async fn queue(spool: &Path, sink: Http) -> Queue {
    let queue = Queue::builder(spool).settings(settings()).sink(sink).open();
    queue.await.unwrap()
}

fn sink(sandbox: &Sandbox, form: &str, compression: Compression) -> Http {
    Http::builder(format!("http://{}/in", sandbox.address()))
        .format(form.parse().unwrap())
        .compression(compression)
        .sign_with(SecretSource::value(SECRET))
        .build()
        .unwrap()
}

async fn sandbox() -> Sandbox {
    let builder = Sandbox::builder().any_receiver();
    builder
        .signing_secret(SECRET)
        .unwrap()
        .start()
        .await
        .unwrap()
}

/// The number in an event as its receiver has it.
fn number(value: &Value) -> u64 {
    let of_log = value.pointer("/body/kvlistValue/values/0/value/intValue");
    let of_log = of_log.and_then(|number| number.as_str()?.parse().ok());
    of_log.or_else(|| value.get("n")?.as_u64()).unwrap()
}

fn numbers(sandbox: &Sandbox) -> Vec<u64> {
    let accepted = sandbox.accepted();
    let firsts = accepted.iter().filter(|event| !event.is_repeat());
    let values = firsts.map(|event| serde_json::from_slice(event.json().unwrap()).unwrap());
    values.map(|value: Value| number(&value)).collect()
}

async fn append(queue: &Queue, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        let event = Event::json(format!("{{\"n\":{n},\"id\":\"e-{n}\"}}")).unwrap();
        queue.append(event).await.unwrap();
    }
}

async fn settled(queue: &Queue) -> Ledger {
    let mut watch = queue.watch();
    let settled = watch.wait_for(|status| status.pending == 0);
    let status = tokio::time::timeout(PATIENT, settled).await.unwrap();
    status.unwrap().ledger
}

#[tokio::test]
async fn each_form_arrives_whole_and_in_order_also_through_lost_answers() {
    let compressions = [Compression::None, Compression::Gzip, Compression::Zstd];
    for (form, compression) in FORMS.into_iter().zip(compressions.into_iter().cycle()) {
        let home = tempfile::tempdir().unwrap();
        let sandbox = sandbox().await;
        sandbox.script([Fault::AcceptThenReset, Fault::status(503)]);
        let sink = sink(&sandbox, form, compression);
        let queue = queue(&home.path().join("spool"), sink).await;
        append(&queue, 1..=20).await;
        let closed = queue.close(PATIENT).await.unwrap();
        assert!(closed.drained, "{form}");
        assert_eq!(numbers(&sandbox), (1..=20).collect::<Vec<_>>(), "{form}");
        // What came twice was recognised: one batch at most.
        let stats = sandbox.stats();
        assert_eq!(stats.distinct, 20, "{form}");
        assert!(stats.accepted <= 28, "{form}: {stats:?}");
    }
}

#[tokio::test]
async fn a_refused_event_is_a_dead_letter_in_each_form_and_the_others_arrive() {
    for form in FORMS {
        let home = tempfile::tempdir().unwrap();
        let sandbox = sandbox().await;
        sandbox.reject_when(|value| (number(value) == 11).then(|| "not eleven".to_owned()));
        let sink = sink(&sandbox, form, Compression::None);
        let spool = home.path().join("spool");
        let queue = queue(&spool, sink).await;
        append(&queue, 1..=20).await;
        let ledger = settled(&queue).await;
        assert_eq!((ledger.delivered, ledger.dead), (19, 1), "{form}");
        let letter = queue.dead_letters().show(11).await.unwrap();
        let said = format!("{:?}", letter.answer);
        assert!(said.contains("not eleven"), "{form}: {said}");
        let expected: Vec<u64> = (1..=20).filter(|n| *n != 11).collect();
        assert_eq!(numbers(&sandbox), expected, "{form}");
        // A receiver that takes the good ones of a bad request has those again on the way to it: in
        // a batch of eight, seven, and then three, and then one.
        let repeats = sandbox.stats().accepted - sandbox.stats().distinct;
        let bound = if ["otlp", "loki"].contains(&form) {
            11
        } else {
            0
        };
        assert!(repeats <= bound, "{form}: {repeats}");
        queue.close(Duration::ZERO).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_not_signed_with_the_secret_is_not_taken() {
    let sandbox = sandbox().await;
    let url = format!("http://{}/in", sandbox.address());
    let unsigned = Http::builder(url.as_str()).build().unwrap();
    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let signed = |secret: &str| {
        let secret = SecretSource::value(secret.to_owned());
        Http::builder(url.as_str())
            .sign_with(secret)
            .build()
            .unwrap()
    };
    for (sink, status) in [
        (unsigned, 401),
        (signed(other), 401),
        (signed(SECRET), 200),
        (signed(&format!("{other} {SECRET}")), 200),
    ] {
        let outcome = sink.deliver(request(&["{\"id\":\"a\"}"])).await;
        assert_eq!(outcome.answer.status, Some(status), "{outcome:?}");
    }
}

/// A receiver that was described as data is the sink of the API, key and all.
#[tokio::test]
async fn the_api_takes_what_its_preset_sends() {
    let sandbox = Sandbox::start().await.unwrap();
    let sink = Http::builder(format!("{}/messages", sandbox.base_url()))
        .format(Format::messages())
        .auth(Auth::ChannelKey {
            key: SecretSource::value(sandbox.key().to_owned()),
            channel: Some("universal".to_owned()),
        })
        .build()
        .unwrap();
    let outcome = sink
        .deliver(request(&[r#"{"id":"a","timestamp":1}"#]))
        .await;
    assert_eq!(outcome.verdict, Verdict::Delivered, "{outcome:?}");
    let error = Receiver::parse("botanalytics")
        .unwrap()
        .build()
        .unwrap_err();
    assert!(error.to_string().contains("BA_API_KEY"), "{error}");
}
