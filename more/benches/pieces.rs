//! Micro-benchmarks of the pure pieces: `cargo bench --bench pieces`.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput};
use everpost::internals::bench;
use everpost::sink::Classifier;
use everpost::{Batch, Event, StoredEvent};

/// Chat messages of 300 bytes.
fn events(count: u64) -> Vec<StoredEvent> {
    const WORDS: [&str; 8] = [
        "order", "refund", "where", "package", "please", "thanks", "account", "tomorrow",
    ];
    let json = |n: u64| {
        let mut text =
            format!(r#"{{"is_bot":false,"user":{{"id":"user-{n:08}"}},"message":{{"text":""#);
        let mut state = n | 1 << 40;
        while text.len() < 297 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push_str(WORDS[(state % 8) as usize]);
            text.push(' ');
        }
        text.truncate(297);
        text + "\"}}"
    };
    (1..=count)
        .map(|seq| StoredEvent {
            seq,
            event: Event::json(json(seq)).unwrap_or_else(|error| panic!("{error}")),
        })
        .collect()
}

fn frames(c: &mut Criterion) {
    let events: Vec<Event> = events(64).into_iter().map(|stored| stored.event).collect();
    let mut group = c.benchmark_group("frame");
    group.throughput(Throughput::Elements(64));
    let mut frames = bench::Frames::default();
    group.bench_function("encode 64 appends", |b| {
        b.iter(|| {
            frames.clear();
            for (first, event) in (1..).zip(&events) {
                frames.push(first, std::slice::from_ref(event));
            }
            black_box(frames.bytes().len())
        });
    });
    let file = Bytes::copy_from_slice(frames.bytes());
    assert_eq!(bench::Frames::count(&file), 64);
    group.bench_function("decode 64 appends", |b| {
        b.iter(|| bench::Frames::count(black_box(&file)));
    });
    group.finish();
}

fn chunks(c: &mut Criterion) {
    let events = events(800);
    let chunk = bench::seal(&events).unwrap_or_default();
    assert_eq!(bench::open(&chunk, 1), 800);
    let mut group = c.benchmark_group("chunk");
    group.throughput(Throughput::Elements(800));
    group.bench_function("seal 800 events", |b| {
        b.iter(|| bench::seal(black_box(&events)))
    });
    group.bench_function("open 800 events", |b| {
        b.iter(|| bench::open(black_box(&chunk), 1))
    });
    group.finish();
}

fn requests(c: &mut Criterion) {
    let events = events(500);
    c.bench_function("bisect: one of 500 is refused", |b| {
        b.iter_batched(
            || events.clone(),
            |events| bench::bisect(events, 333),
            BatchSize::SmallInput,
        );
    });
    let classifier = Classifier::default();
    c.bench_function("classify: every status", |b| {
        b.iter(|| {
            for status in 100..600 {
                black_box(bench::classify(&classifier, black_box(status)));
            }
        });
    });
    let Some(batch) = Batch::new(events) else {
        panic!("there are events");
    };
    let mut group = c.benchmark_group("body");
    group.throughput(Throughput::Bytes(bench::body(&batch).len() as u64));
    group.bench_function("500 events", |b| b.iter(|| bench::body(black_box(&batch))));
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    frames(&mut criterion);
    chunks(&mut criterion);
    requests(&mut criterion);
    criterion.final_summary();
}
