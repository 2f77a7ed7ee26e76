//! The layer around a flood, a full queue, a panic and its own echo: nothing is lost uncounted,
//! nothing waits, nothing goes round in circles.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/noise.rs"]
mod noise;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use everpost::blocking::Queue;
use everpost::layer::EverpostLayer;
use everpost::{AppendError, Error, Event, OnFull, Outcome, Request, Settings, Sink};
use serde_json::{Value, json};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::with_default;
use tracing_subscriber::prelude::*;

use noise::numbers;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// Room for little, so that a flood fills it.
fn small() -> Settings {
    let mut settings = Settings::default();
    settings.journal_bytes = 64 << 10;
    settings.max_event_bytes = 16 << 10;
    settings.tail_bytes = 16 << 10;
    settings.chunk_bytes = 4 << 10;
    settings.segment_bytes = 16 << 10;
    settings.intake_bytes = 64 << 10;
    settings.max_bytes = 5 << 20;
    settings
}

fn open(settings: Settings) -> (tempfile::TempDir, Queue) {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::builder(dir.path().join("spool"))
        .settings(settings)
        .open()
        .unwrap();
    (dir, queue)
}

/// The JSON of what waits in the queue.
fn appended(queue: &Queue) -> Vec<Value> {
    let stored = pollster::block_on(queue.as_async().events(..).take(1_000)).unwrap();
    stored
        .iter()
        .map(|stored| serde_json::from_slice(stored.event.json_bytes()).unwrap())
        .collect()
}

/// A text that does not compress, and is different for each `n`.
fn noise(n: u64) -> String {
    let words = numbers(n + 1).take(64);
    words.map(|word| format!("{word:016x}")).collect()
}

/// Logs from four threads at once, `each` events on each.
fn flood(dispatch: &tracing::Dispatch, each: u64) {
    std::thread::scope(|threads| {
        for thread in 0..4 {
            threads.spawn(move || {
                tracing::dispatcher::with_default(dispatch, || {
                    for n in 0..each {
                        tracing::info!(thread, n, noise = noise(thread * each + n), "flood");
                    }
                });
            });
        }
    });
}

#[test]
fn under_a_flood_every_event_is_appended_or_counted_as_refused() {
    let (_dir, queue) = open(small());
    let layer = EverpostLayer::new(queue.as_async());
    let log = layer.handle();
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
    // Incompressible, and more than the spool can hold.
    flood(&dispatch, 3_000);
    assert!(log.flush(LONG));
    let counts = log.counts();
    assert_eq!(counts.emitted, 12_000);
    assert_eq!(counts.waiting, 0);
    assert_eq!(counts.appended + counts.refused, counts.emitted);
    assert_eq!(counts.appended, queue.status().ledger.appended);
    assert!(counts.appended > 0, "{counts:?}");
    assert!(
        counts.refused > 0,
        "the spool has no room for so many: {counts:?}"
    );
}

#[test]
fn a_queue_that_blocks_never_blocks_the_program() {
    let (dir, filled) = open(small());
    let mut n = 0;
    let full = loop {
        let text = json!({ "noise": noise(n) });
        match filled.append(Event::from_serialize(&text).unwrap()) {
            Ok(_) => n += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, AppendError::Full { .. }), "{full:?}");
    filled.close(Duration::ZERO).unwrap();
    let mut settings = small();
    settings.on_full = OnFull::Block;
    let queue = Queue::builder(dir.path().join("spool"))
        .settings(settings)
        .open()
        .unwrap();
    let layer = EverpostLayer::new(queue.as_async());
    let log = layer.handle();
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
    // The spool is full, and the intake behind it fills; this returns all the same.
    flood(&dispatch, 1_000);
    let full = log.counts();
    assert_eq!(full.emitted, 4_000);
    assert_eq!(full.appended + full.refused + full.waiting, 4_000);
    assert!(full.refused > 0, "{full:?}");
    assert!(!log.flush(Duration::ZERO), "some wait for room: {full:?}");

    queue.close(Duration::ZERO).unwrap();
    assert!(log.flush(LONG));
    let counts = log.counts();
    assert_eq!(counts.appended + counts.refused, 4_000, "{counts:?}");
    assert_eq!(n + counts.appended, queue.status().ledger.appended);
}

#[test]
fn after_the_queue_is_closed_events_are_refused_and_counted() {
    let (_dir, queue) = open(Settings::default());
    let layer = EverpostLayer::new(queue.as_async());
    let log = layer.handle();
    with_default(tracing_subscriber::registry().with(layer), || {
        tracing::info!("kept");
        assert!(log.flush(LONG));
        queue.close(Duration::ZERO).unwrap();
        tracing::info!("too late");
    });
    assert!(log.flush(LONG));
    let counts = log.counts();
    assert_eq!((counts.appended, counts.refused), (1, 1));
}

#[test]
fn fields_keep_their_types() {
    let (_dir, queue) = open(Settings::default());
    let layer = EverpostLayer::new(queue.as_async());
    let log = layer.handle();
    let error = Error::Storage {
        action: "write",
        path: "journal".into(),
        source: std::io::Error::other("no room"),
    };
    with_default(tracing_subscriber::registry().with(layer), || {
        let span = tracing::info_span!("request", id = 7_u64, user = tracing::field::Empty);
        let _in = span.enter();
        span.record("user", "u-1");
        tracing::warn!(
            target: "shop::orders",
            unsigned = u64::MAX,
            signed = -3_i64,
            large = u128::MAX,
            small = i128::MIN,
            float = 0.5,
            nothing = f64::NAN,
            yes = true,
            text = "a \"quote\"",
            debug = ?Some(1),
            display = %"shown",
            error = &error as &(dyn std::error::Error + 'static),
            "no {}",
            "stock"
        );
    });
    assert!(log.flush(LONG));
    let stored = first_text(&queue);
    // Beyond 64 bits the digits count, which a parser into floats would not show.
    assert!(
        stored.contains(&format!("\"large\":{}", u128::MAX)),
        "{stored}"
    );
    assert!(
        stored.contains(&format!("\"small\":{}", i128::MIN)),
        "{stored}"
    );
    let mut event = appended(&queue).remove(0);
    let fields = event["fields"].as_object_mut().unwrap();
    fields.remove("large");
    fields.remove("small");
    assert_eq!(
        event,
        json!({
            "level": "WARN",
            "target": "shop::orders",
            "message": "no stock",
            "fields": {
                "unsigned": u64::MAX,
                "signed": -3,
                "float": 0.5,
                "nothing": "NaN",
                "yes": true,
                "text": "a \"quote\"",
                "debug": "Some(1)",
                "display": "shown",
                "error": "failed to write. path=`journal`: no room",
            },
            "spans": [{"name": "request", "fields": {"id": 7, "user": "u-1"}}],
        })
    );
}

/// The first event as it was stored, to the byte.
fn first_text(queue: &Queue) -> String {
    let stored = pollster::block_on(queue.as_async().events(..).take(1)).unwrap();
    String::from_utf8(stored[0].event.json_bytes().to_vec()).unwrap()
}

#[test]
fn filters_leave_out_what_is_not_wanted() {
    let (_dir, queue) = open(Settings::default());
    let layer = EverpostLayer::new(queue.as_async())
        .max_level(LevelFilter::WARN)
        .filter(|metadata| metadata.target() != "noisy")
        .unheard(["mine::sink"]);
    let log = layer.handle();
    with_default(tracing_subscriber::registry().with(layer), || {
        tracing::info!("not bad enough");
        tracing::warn!(target: "noisy", "not wanted");
        tracing::warn!(target: "mine::sink::http", "not heard");
        tracing::warn!(target: "mine::sinking", "heard");
        tracing::error!(target: "hyper::client", "not heard");
        tracing::error!(target: "hyperion", "heard");
    });
    assert!(log.flush(LONG));
    let targets: Vec<Value> = appended(&queue)
        .iter()
        .map(|event| event["target"].clone())
        .collect();
    assert_eq!(targets, ["mine::sinking", "hyperion"]);
    assert_eq!(log.counts().emitted, 2);
}

#[test]
fn a_formatter_makes_the_event_and_its_error_is_a_refusal() {
    let (_dir, queue) = open(Settings::default());
    let layer = EverpostLayer::new(queue.as_async())
        .format(|record| Event::json(record.message.to_owned()));
    let log = layer.handle();
    with_default(tracing_subscriber::registry().with(layer), || {
        tracing::info!("[1]");
        tracing::info!("not JSON");
    });
    assert!(log.flush(LONG));
    assert_eq!(appended(&queue), [json!([1])]);
    let counts = log.counts();
    assert_eq!((counts.emitted, counts.appended, counts.refused), (2, 1, 1));
}

#[test]
fn an_event_logged_before_a_panic_is_there_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let queue = Queue::builder(&spool).open().unwrap();
    let layer = EverpostLayer::new(queue.as_async());
    let log = layer.handle();
    let program = std::thread::spawn(move || {
        with_default(tracing_subscriber::registry().with(layer), || {
            tracing::error!(order = 17_u64, "about to fail");
            panic!("on purpose");
        });
    });
    assert!(program.join().is_err());
    assert!(log.flush(LONG));
    queue.close(Duration::ZERO).unwrap();

    let again = Queue::builder(&spool).open().unwrap();
    let events = appended(&again);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["fields"]["order"], 17);
}

/// Takes everything, and logs about it under a target of its own, as sinks do.
#[derive(Clone, Default)]
struct Chatty(Arc<AtomicU64>);

impl Sink for Chatty {
    async fn deliver(&self, request: Request) -> Outcome {
        tracing::error!(target: "chatty", events = request.events().len(), "delivering");
        self.0.fetch_add(1, Ordering::SeqCst);
        Outcome::delivered()
    }
}

#[test]
fn a_sink_or_a_formatter_that_logs_does_not_feed_its_own_queue() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Chatty::default();
    let queue = Queue::builder(dir.path().join("spool"))
        .sink(sink.clone())
        .open()
        .unwrap();
    let layer = EverpostLayer::new(queue.as_async())
        .max_level(LevelFilter::TRACE)
        .format(|record| {
            tracing::error!(target: "formatter", "formatting");
            Event::from_serialize(record)
        });
    let log = layer.handle();
    // For every thread of the process, so that the sink's log does reach it; the other tests have
    // subscribers of their own.
    tracing_subscriber::registry().with(layer).init();
    for n in 0..10_u64 {
        tracing::info!(target: "program", n, "work");
    }
    assert!(log.flush(LONG));
    let closed = queue.close(LONG).unwrap();
    assert!(closed.drained);
    assert!(sink.0.load(Ordering::SeqCst) > 0);
    let heard = log.counts();
    assert_eq!(closed.status.ledger.delivered, heard.appended);
    assert_eq!(heard.emitted, 10, "the sink's own log came back: {heard:?}");
}
