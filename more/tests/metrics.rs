//! The numbers against a real drain: what a Prometheus server reads agrees with the books, the
//! text parses, and the dashboard shows nothing that does not exist.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, UNIX_EPOCH};

use everpost::botanalytics::{Botanalytics, KeySource};
use everpost::metrics::{self, Kind, METRICS, STATES};
use everpost::relay;
use everpost::sandbox::{Fault, Sandbox};
use everpost::{Event, Queue, Settings};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// The recorder of this process, which all tests share; their spools keep them apart.
fn recorder() -> &'static PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| {
        PrometheusBuilder::new()
            .set_buckets_for_metric(
                Matcher::Suffix("_seconds".into()),
                &metrics::SECONDS_BUCKETS,
            )
            .unwrap()
            .install_recorder()
            .unwrap()
    })
}

/// One line of the text: a name, its labels and a value.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Reads the Prometheus text format, version 0.0.4, strictly: every line is a comment, empty, or
/// a sample whose name and labels are well formed and whose family was announced by `# TYPE`.
fn parse(text: &str) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut families = BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            let words: Vec<&str> = comment.splitn(3, ' ').collect();
            assert!(["HELP", "TYPE"].contains(&words[0]), "{line}");
            if words[0] == "TYPE" {
                assert!(
                    ["counter", "gauge", "histogram"].contains(&words[2]),
                    "{line}"
                );
                assert!(
                    families.insert(words[1].to_owned()),
                    "announced twice: {line}"
                );
            }
            continue;
        }
        let sample = parse_sample(line);
        assert!(
            families.contains(family(&sample.name)),
            "not announced: {line}"
        );
        samples.push(sample);
    }
    samples
}

fn parse_sample(line: &str) -> Sample {
    let (head, value) = line.rsplit_once(' ').unwrap();
    let (name, rest) = head.split_once('{').unwrap_or((head, "}"));
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        bytes
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    assert!(is_name(name), "{line}");
    let inner = rest.strip_suffix('}').unwrap();
    let mut labels = BTreeMap::new();
    for label in inner.split("\",").filter(|label| !label.is_empty()) {
        let (key, value) = label.split_once("=\"").unwrap();
        assert!(is_name(key), "{line}");
        let value = value.strip_suffix('"').unwrap_or(value);
        assert!(!value.contains('"'), "{line}");
        assert!(
            labels.insert(key.to_owned(), value.to_owned()).is_none(),
            "{line}"
        );
    }
    Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().unwrap(),
    }
}

/// The metric a sample belongs to: a histogram has three kinds of them.
fn family(name: &str) -> &str {
    ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name)
}

/// What the text says of one spool.
struct Scrape(Vec<Sample>);

impl Scrape {
    fn of(spool: &Path) -> Self {
        let spool = spool.display().to_string();
        let mut samples = parse(&recorder().render());
        samples.retain(|sample| sample.labels[metrics::SPOOL] == spool);
        Self(samples)
    }

    fn value(&self, name: &str) -> f64 {
        let mut found = self.0.iter().filter(|sample| sample.name == name);
        let value = found.next().unwrap_or_else(|| panic!("no {name}")).value;
        assert!(found.next().is_none(), "more than one {name}");
        value
    }

    fn state(&self) -> String {
        let states: Vec<&Sample> = self
            .0
            .iter()
            .filter(|sample| sample.name == metrics::FLUSHER_STATE)
            .collect();
        assert_eq!(states.len(), STATES.len());
        assert!((states.iter().map(|s| s.value).sum::<f64>() - 1.0).abs() < f64::EPSILON);
        let present = states.iter().find(|sample| sample.value > 0.5).unwrap();
        present.labels[metrics::STATE].clone()
    }
}

fn message(n: u64) -> Event {
    Event::json(format!(
        r#"{{"id":"{n}","timestamp":{n},"content":{{"texts":[{{"text":"hi"}}]}}}}"#
    ))
    .unwrap()
    .with_time(UNIX_EPOCH + Duration::from_secs(1_000 + n))
}

#[tokio::test]
async fn the_numbers_of_a_drain_agree_with_the_books_and_the_text_parses() {
    recorder();
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.reject_when(|message| (message["id"] == "3").then(|| "not this one".to_owned()));
    sandbox.script([Fault::status(503), Fault::status(503)]);
    let sink = Botanalytics::builder(KeySource::value(sandbox.key()))
        .base_url(sandbox.base_url())
        .build()
        .unwrap();
    let mut settings = Settings::default();
    settings.delivery.backoff_min = Duration::from_millis(1);
    settings.delivery.backoff_max = Duration::from_millis(2);
    settings.max_event_bytes = 1 << 10;
    let queue = Queue::builder(&spool)
        .settings(settings)
        .sink(sink)
        .open()
        .await
        .unwrap();
    let following = tokio::spawn(metrics::follow(&queue));
    queue.append_all((1..=10).map(message)).await.unwrap();
    let too_large = Event::from_serialize(&"x".repeat(2 << 10)).unwrap();
    queue.append(too_large).await.unwrap_err();
    queue.watch().wait_for(|status| status.pending == 0).await;
    queue.close(Duration::from_secs(5)).await.unwrap();
    let status = queue.status();
    drop(queue);
    following.await.unwrap();

    let seen = Scrape::of(&spool);
    for (name, value) in [
        (metrics::EVENTS_APPENDED, 10.0),
        (metrics::EVENTS_DELIVERED, 9.0),
        (metrics::EVENTS_DEAD, 1.0),
        (metrics::EVENTS_EXPIRED, 0.0),
        (metrics::EVENTS_EVICTED, 0.0),
        (metrics::EVENTS_LOST, 0.0),
        (metrics::EVENTS_REFUSED, 1.0),
        (metrics::BATCHES_RETRIED, 2.0),
        (metrics::EVENTS_PENDING, 0.0),
        (metrics::OLDEST_PENDING, 0.0),
        (metrics::DEAD_LETTERS, 1.0),
        (metrics::STORAGE_FAULT, 0.0),
    ] {
        assert!(
            (seen.value(name) - value).abs() < f64::EPSILON,
            "{name}: {}",
            seen.value(name)
        );
    }
    let real = |n: u64| f64::from(u32::try_from(n).unwrap());
    assert!((seen.value(metrics::DISK_USED) - real(status.disk_bytes)).abs() < 0.5);
    assert!((seen.value(metrics::DISK_MAX) - real(status.max_bytes)).abs() < 0.5);
    let requests = seen.value("everpost_request_seconds_count");
    assert!(
        (requests - real(status.requests)).abs() < f64::EPSILON,
        "{requests}"
    );
    // The refused append was staged with no other, so nothing was committed for it.
    assert!((seen.value("everpost_commit_seconds_count") - 1.0).abs() < f64::EPSILON);
    assert!(seen.value("everpost_commit_seconds_sum") > 0.0);
    assert_eq!(seen.state(), "closed");
    sandbox.stop().await;
}

#[tokio::test]
async fn what_waits_is_shown_with_its_age_and_two_queues_stay_apart() {
    recorder();
    let dir = tempfile::tempdir().unwrap();
    let spools = [dir.path().join("a"), dir.path().join("b")];
    let mut open = Vec::new();
    for (spool, events) in spools.iter().zip([2, 5]) {
        let queue = Queue::builder(spool).open().await.unwrap();
        queue.append_all((1..=events).map(message)).await.unwrap();
        let mut following = Box::pin(metrics::follow(&queue));
        // One poll publishes what there is; the rest would wait for a change.
        assert!(futures_poll(&mut following).is_pending());
        open.push(queue);
    }
    let [a, b] = spools.each_ref().map(|spool| Scrape::of(spool));
    assert!((a.value(metrics::EVENTS_PENDING) - 2.0).abs() < f64::EPSILON);
    assert!((b.value(metrics::EVENTS_PENDING) - 5.0).abs() < f64::EPSILON);
    assert!((a.value(metrics::OLDEST_PENDING) - 1_001.0).abs() < f64::EPSILON);
    assert_eq!(a.state(), "absent");
}

fn futures_poll(future: &mut (impl Future<Output = ()> + Unpin)) -> std::task::Poll<()> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(future).poll(&mut context)
}

/// The names of metrics in the queries of a dashboard.
fn named(expression: &str) -> Vec<&str> {
    expression
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("everpost_"))
        .collect()
}

fn expressions(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                match value.as_str() {
                    Some(text) if key == "expr" || key == "query" => found.push(text.to_owned()),
                    _ => expressions(value, found),
                }
            }
        }
        serde_json::Value::Array(values) => {
            for value in values {
                expressions(value, found);
            }
        }
        _ => {}
    }
}

#[test]
fn the_dashboard_names_every_metric_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("../docs/grafana-dashboard.json")).unwrap();
    let mut found = Vec::new();
    expressions(&serde_json::from_str(&text).unwrap(), &mut found);
    let (mut shown, mut beside) = (BTreeSet::new(), BTreeSet::new());
    for expression in &found {
        for name in named(expression) {
            // What a relay counts beside its queues.
            if [relay::REQUESTS, relay::REQUEST_TIME].contains(&family(name)) {
                beside.insert(family(name));
                continue;
            }
            let metric = METRICS
                .iter()
                .find(|metric| metric.name == name)
                .or_else(|| {
                    let of_histogram = |metric: &&metrics::Metric| {
                        metric.kind == Kind::Histogram && metric.name == family(name)
                    };
                    METRICS.iter().find(of_histogram)
                });
            let metric = metric.unwrap_or_else(|| panic!("no metric `{name}`: {expression}"));
            shown.insert(metric.name);
        }
    }
    let all: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(beside.len(), 2, "{beside:?}");
    assert_eq!(all.len(), METRICS.len(), "a name stands for two metrics");
    assert_eq!(shown, all);
}
