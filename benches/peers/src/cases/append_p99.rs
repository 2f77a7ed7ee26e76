//! The latency of an append at half of the maximum rate, while the queue seals, rolls and drains.

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use everpost::{Durability, Event, Queue};

use crate::backlog;
use crate::bench::Bench;
use crate::client::{self, BATCH_EVENTS};
use crate::contest::Race;
use crate::device;
use crate::events::{self, Size};
use crate::goal::Verdict;
use crate::process::stolen_seconds;
use crate::receiver::Receiver;
use crate::stats::{Samples, ms, quantile};
use crate::systems::{self, WRITTEN, settings};

const CASE: &str = "append_p99";

/// How often the thread beside the queue syncs.
const PROBE_PAUSE: Duration = Duration::from_millis(5);

/// Events that wait when a round begins, so that batches come from segments throughout.
const BACKLOG_EVENTS: usize = 50_000;

/// A segment a sixteenth as large as by default, so that one is begun and one deleted several times
/// in a second.
const SMALL_SEGMENT_BYTES: u64 = 1 << 20;

/// What a round measures, in ms.
#[derive(Default)]
struct Times {
    p50: Samples,
    p99: Samples,
    worst: Samples,
    /// The 99th percentile of the thread beside.
    beside: Samples,
}

impl Times {
    fn add(&mut self, (took, beside): &(Vec<f64>, Vec<f64>)) {
        self.p50.add(quantile(took, 0.5));
        self.p99.add(quantile(took, 0.99));
        self.worst.add(quantile(took, 1.0));
        self.beside.add(quantile(beside, 0.99));
    }

    fn report(&self, bench: &mut Bench, name: &str) {
        let report = &mut bench.report;
        let what = "from the call to the answer, of all appends of a round";
        report.row(CASE, &format!("{name}, p50"), what, &self.p50, "ms");
        report.row(CASE, &format!("{name}, p99"), what, &self.p99, "ms");
        report.row(CASE, &format!("{name}, longest"), what, &self.worst, "ms");
        let beside = format!("limit: fdatasync beside {name}, p99");
        let what =
            "one event overwritten and synced every 5 ms, on a thread that does nothing else";
        report.row(CASE, &beside, what, &self.beside, "ms");
    }
}

/// Measures.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let pool: Arc<[Bytes]> = Arc::from(events::pool(Size::Chat, 4096));
    let (mut bare_p50, mut bare_p99, mut rates) = (Samples::new(), Samples::new(), Samples::new());
    let (mut plain, mut small) = (Times::default(), Times::default());
    let mut stolen = Samples::new();
    let default_bytes = settings(Durability::Synced).segment_bytes;
    for round in 1..=bench.args.rounds() {
        eprintln!("{CASE}: round {round} of {}", bench.args.rounds());
        let scratch = bench.place.fresh()?;
        let bytes = pool.first().map_or(300, Bytes::len);
        let mut bare = device::sync_times(scratch.path(), bytes, bench.args.span())?;
        bare.sort_by(f64::total_cmp);
        bare_p50.add(quantile(&bare, 0.5));
        bare_p99.add(quantile(&bare, 0.99));
        let rate = maximum(bench, &pool)? / 2.0;
        rates.add(rate);
        let span = |quick, full| Duration::from_secs(bench.args.pick(quick, full));
        let (began, before) = (Instant::now(), stolen_seconds()?);
        plain.add(&bench_round(bench, &pool, rate, default_bytes, span(2, 8))?);
        stolen.add(1e3 * (stolen_seconds()? - before) / began.elapsed().as_secs_f64());
        small.add(&bench_round(
            bench,
            &pool,
            rate,
            SMALL_SEGMENT_BYTES,
            span(1, 4),
        )?);
    }
    plain.report(bench, "everpost");
    small.report(bench, "everpost, segments of 1 MiB");
    let report = &mut bench.report;
    let what = "one event overwritten in place and synced, with nothing beside";
    report.row(CASE, "limit: bare fdatasync, p50", what, &bare_p50, "ms");
    report.row(CASE, "limit: bare fdatasync, p99", what, &bare_p99, "ms");
    let what = "half of what 64 producers reach";
    report.row(CASE, "rate of the appends", what, &rates, "events/s");
    let what = "for which the machine below this one held up its processors, all of them together";
    report.row(CASE, "processor time taken away", what, &stolen, "ms/s");
    let (p50, p99) = (bare_p50.median(), plain.p99.median());
    let goal = "p99 at most 3 times the p50 of a bare fdatasync";
    let text = format!("{:.2} times ({p99:.3} ms)", p99 / p50);
    let beside = plain.beside.median();
    let note = format!(
        "A thread that does nothing but overwrite and sync one event every 5 ms, beside the same work on the same disk, has a p99 of {beside:.3} ms, {:.2} times the p50 of a bare fdatasync, and everpost {:.2} times that: the disk also syncs segments, and the processors are shared with the producers, the compression, the delivery and its receiver. Of each second, the machine below took {:.0} ms of processor time away, which neither can do anything about.",
        beside / p50,
        p99 / beside,
        stolen.median()
    );
    report.note(CASE, note);
    report.verdict(Verdict::at_most(CASE, goal, p99 / p50, 3.0, text));
    Ok(())
}

fn maximum(bench: &Bench, pool: &Arc<[Bytes]>) -> Result<f64> {
    let scratch = bench.place.fresh()?;
    let race = Race {
        processor: None,
        runtime: bench.runtime.handle().clone(),
        producers: 64,
        pool: Arc::clone(pool),
        warm_up: bench.args.warm_up(),
        span: bench.args.span(),
    };
    let system = systems::synced(race.producers);
    let system = system.first().context("there is no everpost")?;
    race.run((system.open)(scratch.path())?)
}

/// The latencies of one round, and those of the thread beside it, sorted.
fn bench_round(
    bench: &Bench,
    pool: &Arc<[Bytes]>,
    rate: f64,
    segment_bytes: u64,
    span: Duration,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let scratch = bench.place.fresh()?;
    let spool = scratch.path().join("spool");
    bench
        .runtime
        .block_on(backlog::build(&spool, pool, BACKLOG_EVENTS, 64, WRITTEN))?;
    // Answers come at the pace of the appends, so that there is something to drain all the time.
    let receiver = Receiver::start(Duration::from_secs_f64(BATCH_EVENTS as f64 / rate))?;
    let mut settings = settings(Durability::Synced);
    settings.segment_bytes = segment_bytes;
    let opened = Queue::builder(&spool)
        .settings(settings)
        .sink(client::sink(&receiver.base_url())?);
    let queue = bench.runtime.block_on(opened.open())?;
    rustix::fs::sync();
    let before = last_segment(&spool)?;
    let probe = bench.place.fresh()?;
    let bytes = pool.first().map_or(300, Bytes::len);
    let (took, beside) = std::thread::scope(|scope| {
        let probe =
            scope.spawn(|| device::sync_times_paced(probe.path(), bytes, span, PROBE_PAUSE));
        (pace(bench, &queue, pool, rate, span), probe.join())
    });
    let (mut took, mut beside) = (took?, beside.map_err(|_| anyhow!("the probe panicked"))??);
    beside.sort_by(f64::total_cmp);
    let status = queue.status();
    ensure!(
        status.requests > 0 && status.pending > 0,
        "nothing was drained beside the appends"
    );
    // A quick round may be too short for one of the default size.
    ensure!(
        bench.args.quick || last_segment(&spool)? > before,
        "no segment was begun beside the appends"
    );
    bench.runtime.block_on(queue.close(Duration::ZERO))?;
    took.sort_by(f64::total_cmp);
    Ok((took, beside))
}

/// The name of the newest segment.
fn last_segment(spool: &Path) -> Result<Option<OsString>> {
    let names = std::fs::read_dir(spool.join("segments"))?.map(|entry| Ok(entry?.file_name()));
    Ok(names.collect::<Result<Vec<_>>>()?.into_iter().max())
}

/// Appends at a steady rate, whether or not earlier appends have been answered.
fn pace(
    bench: &Bench,
    queue: &Queue,
    pool: &Arc<[Bytes]>,
    rate: f64,
    span: Duration,
) -> Result<Vec<f64>> {
    let (sender, receiver) = mpsc::channel();
    let mut turn = pool.iter().cycle();
    let (begin, mut issued) = (Instant::now(), 0);
    while begin.elapsed() < span {
        let due = (begin.elapsed().as_secs_f64() * rate) as usize;
        while issued < due {
            let json = turn.next().context("no events")?.clone();
            let (queue, sender, called) = (queue.clone(), sender.clone(), Instant::now());
            bench.runtime.spawn(async move {
                let append = async { anyhow::Ok(queue.append(Event::json(json)?).await?) };
                let _ = sender.send(append.await.map(|_| ms(called.elapsed())));
            });
            issued += 1;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    drop(sender);
    receiver.into_iter().collect()
}
