//! Micro-benchmarks of the pure pieces: `cargo bench --bench pieces`.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput};
use everpost::classify::Classifier;
use everpost::internals::{self, Frames, Journal};
use everpost::{Batch, Event, StoredEvent};
use uuid::Uuid;

const QUEUE: Uuid = Uuid::from_u128(7);

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
    let mut frames = Frames::new(QUEUE);
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
    assert_eq!(Journal::scan(&file, QUEUE).count(), 64);
    group.bench_function("decode 64 appends", |b| {
        b.iter(|| Journal::scan(black_box(&file), QUEUE).count());
    });
    group.finish();
}

fn chunks(c: &mut Criterion) {
    let events = events(800);
    let chunk = internals::encode_chunk(&events).unwrap_or_default();
    assert_eq!(
        internals::decode_chunk(&chunk, 1).unwrap_or_default().len(),
        800
    );
    let mut group = c.benchmark_group("chunk");
    group.throughput(Throughput::Elements(800));
    group.bench_function("seal 800 events", |b| {
        b.iter(|| internals::encode_chunk(black_box(&events)))
    });
    group.bench_function("open 800 events", |b| {
        b.iter(|| internals::decode_chunk(black_box(&chunk), 1))
    });
    group.finish();
}

fn requests(c: &mut Criterion) {
    let events = events(500);
    c.bench_function("bisect: one of 500 is refused", |b| {
        b.iter_batched(
            || events.clone(),
            |events| internals::bisect(events, 333),
            BatchSize::SmallInput,
        );
    });
    let classifier = Classifier::default();
    c.bench_function("classify: every status", |b| {
        b.iter(|| {
            for status in 100..600 {
                black_box(classifier.rule(black_box(status)));
            }
        });
    });
    let Some(batch) = Batch::new(events) else {
        panic!("there are events");
    };
    let mut group = c.benchmark_group("body");
    group.throughput(Throughput::Bytes(internals::body(&batch).len() as u64));
    group.bench_function("500 events", |b| {
        b.iter(|| internals::body(black_box(&batch)))
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    frames(&mut criterion);
    chunks(&mut criterion);
    requests(&mut criterion);
    criterion.final_summary();
}
