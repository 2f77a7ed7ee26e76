//! The latency of an append at half of the maximum rate, while the queue seals, rolls and drains.

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
use crate::receiver::Receiver;
use crate::stats::{Samples, ms, quantile};
use crate::systems::{self, WRITTEN, settings};

const CASE: &str = "append_p99";

/// How often the thread beside the queue syncs.
const PROBE_PAUSE: Duration = Duration::from_millis(5);

/// Events that wait when a round begins, so that batches come from segments throughout.
const BACKLOG_EVENTS: usize = 50_000;

/// Measures.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let pool: Arc<[Bytes]> = Arc::from(events::pool(Size::Chat, 4096));
    let (mut p50, mut p99, mut worst) = (Samples::new(), Samples::new(), Samples::new());
    let (mut bare_p50, mut bare_p99, mut rates) = (Samples::new(), Samples::new(), Samples::new());
    let mut beside_p99 = Samples::new();
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
        let (took, beside) = bench_round(bench, &pool, rate)?;
        beside_p99.add(quantile(&beside, 0.99));
        p50.add(quantile(&took, 0.5));
        p99.add(quantile(&took, 0.99));
        worst.add(quantile(&took, 1.0));
    }
    let what = "from the call to the answer, of all appends of a round";
    let report = &mut bench.report;
    report.row(CASE, "everpost, p50", what, &p50, "ms");
    report.row(CASE, "everpost, p99", what, &p99, "ms");
    report.row(CASE, "everpost, longest", what, &worst, "ms");
    let what = "one event overwritten in place and synced";
    report.row(CASE, "limit: bare fdatasync, p50", what, &bare_p50, "ms");
    report.row(CASE, "limit: bare fdatasync, p99", what, &bare_p99, "ms");
    let what = "the same now and then beside the queue at work, on a thread that does nothing else";
    report.row(
        CASE,
        "limit: fdatasync beside it, p99",
        what,
        &beside_p99,
        "ms",
    );
    report.row(
        CASE,
        "rate of the appends",
        "half of what 64 producers reach",
        &rates,
        "events/s",
    );
    let ratio = p99.median() / bare_p50.median();
    let text = format!("{ratio:.2} times ({:.3} ms)", p99.median());
    let goal = "p99 at most 3 times the p50 of a bare fdatasync";
    let beside = beside_p99.median();
    let note = format!(
        "A thread that does nothing but overwrite and sync one event every 5 ms, beside the same work on the same disk, has a p99 of {beside:.3} ms, {:.2} times that p50: the disk also syncs segments, and the processors are shared with the producers, the compression, the delivery and its receiver.",
        beside / bare_p50.median()
    );
    report.note(CASE, note);
    report.verdict(Verdict::at_most(CASE, goal, ratio, 3.0, text));
    Ok(())
}

fn maximum(bench: &Bench, pool: &Arc<[Bytes]>) -> Result<f64> {
    let scratch = bench.place.fresh()?;
    let race = Race {
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
fn bench_round(bench: &Bench, pool: &Arc<[Bytes]>, rate: f64) -> Result<(Vec<f64>, Vec<f64>)> {
    let scratch = bench.place.fresh()?;
    let spool = scratch.path().join("spool");
    bench
        .runtime
        .block_on(backlog::build(&spool, pool, BACKLOG_EVENTS, 64, WRITTEN))?;
    // Answers come at the pace of the appends, so that there is something to drain all the time.
    let receiver = Receiver::start(Duration::from_secs_f64(BATCH_EVENTS as f64 / rate))?;
    let mut settings = settings(Durability::Synced);
    // A sixteenth of the default, so that segments are begun and deleted in a round.
    settings.segment_bytes = 1 << 20;
    let opened = Queue::builder(&spool)
        .settings(settings)
        .sink(client::sink(&receiver.base_url())?);
    let queue = bench.runtime.block_on(opened.open())?;
    rustix::fs::sync();
    let span = bench
        .args
        .pick(Duration::from_secs(1), Duration::from_secs(5));
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
    bench.runtime.block_on(queue.close(Duration::ZERO))?;
    took.sort_by(f64::total_cmp);
    Ok((took, beside))
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
                let appended = async { queue.append(Event::json(json)?).await }.await;
                let _ = sender.send(appended.map(|_| ms(called.elapsed())));
            });
            issued += 1;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    drop(sender);
    Ok(receiver.into_iter().collect::<Result<Vec<f64>, _>>()?)
}
