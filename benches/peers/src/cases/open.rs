//! How long opening takes, by the size of the backlog.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use everpost::{Durability, Queue};

use crate::bench::Bench;
use crate::goal::Verdict;
use crate::place;
use crate::stats::{Samples, ms};
use crate::systems::settings;

/// Opens spools with three backlogs, by turns, with the files in memory and without.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let sizes = bench.args.pick(
        [10_000, 100_000, 1_000_000],
        [10_000, 1_000_000, 10_000_000],
    );
    let spools: Vec<_> = sizes
        .iter()
        .map(|&size| bench.backlog(size))
        .collect::<Result<_>>()?;
    let mut warm = [Samples::new(), Samples::new(), Samples::new()];
    let mut cold = warm.clone();
    for _ in 0..bench.args.rounds() {
        for (at, spool) in spools.iter().enumerate() {
            forget(spool)?;
            cold[at].add(bench.runtime.block_on(open(spool))?);
            warm[at].add(bench.runtime.block_on(open(spool))?);
        }
    }
    for (samples, how) in [
        (&warm, "files in the system's memory"),
        (&cold, "files on disk only"),
    ] {
        for (size, samples) in sizes.iter().zip(samples) {
            let system = format!(
                "everpost, {size} pending, {}",
                if how.contains("memory") {
                    "warm"
                } else {
                    "cold"
                }
            );
            bench.report.row("open", &system, how, samples, "ms");
        }
    }
    judge(bench, sizes, &warm);
    Ok(())
}

fn judge(bench: &mut Bench, sizes: [usize; 3], warm: &[Samples; 3]) {
    let [few, _, many] = warm.each_ref().map(Samples::median);
    let most = sizes[2];
    let goal = format!("{most} pending in at most 100 ms");
    let text = format!("{many:.1} ms");
    bench
        .report
        .verdict(Verdict::at_most("open", &goal, many, 100.0, text));
    let ratio = many / few;
    let goal = format!("{most} pending at most 1.5 times {}", sizes[0]);
    bench.report.verdict(Verdict::at_most(
        "open",
        &goal,
        ratio,
        1.5,
        format!("{ratio:.2} times"),
    ));
}

async fn open(spool: &Path) -> Result<f64> {
    let begin = Instant::now();
    let queue = Queue::builder(spool)
        .settings(settings(Durability::Synced))
        .open()
        .await?;
    let took = ms(begin.elapsed());
    queue.close(Duration::ZERO).await?;
    Ok(took)
}

/// Has the system forget what it keeps of the files in memory.
fn forget(spool: &Path) -> Result<()> {
    rustix::fs::sync();
    for path in place::files(spool) {
        let file = std::fs::File::open(path)?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}
