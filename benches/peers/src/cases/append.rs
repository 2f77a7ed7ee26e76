//! How many events are acknowledged in a second.

use std::sync::Arc;

use anyhow::Result;

use crate::bench::Bench;
use crate::contest::{Race, Survives, System};
use crate::device;
use crate::events::{self, Size};
use crate::goal::Verdict;
use crate::parts::Parts;
use crate::processor;
use crate::report::figure;
use crate::stats::Samples;
use crate::systems;

const EVERPOST: &str = "everpost";

/// The share of the limit from which on a system is named beside it.
const NEAR: f64 = 0.8;

/// Processors on which the disk is measured at the most.
const PROCESSORS_MAX: usize = 4;

/// One producer, each append awaited and synced.
pub(crate) fn synced_1(bench: &mut Bench) -> Result<()> {
    let disk = on_each_processor(bench)?;
    let quickest = disk
        .iter()
        .max_by(|a, b| a.1.median().total_cmp(&b.1.median()));
    let quickest = quickest.map(|(processor, _)| *processor);
    each_size(bench, "append_synced_1", 1, quickest, systems::all_synced)?;
    for (processor, rate) in &disk {
        let what = "the same from a thread that stays on that processor";
        let name = format!("disk: fdatasync, processor {processor}");
        bench
            .report
            .row("append_synced_1", &name, what, rate, "syncs/s");
    }
    let limit = systems::bare_synced().name;
    beside_limit(bench, "append_synced_1", limit, 0.85);
    beside_peers(
        bench,
        "append_synced_1",
        &systems::all_synced(1),
        Survives::PowerCut..,
        1.0,
    );
    bounded_by_disk(bench, "append_synced_1", limit);
    Ok(())
}

/// 64 producers, each append awaited and synced.
pub(crate) fn synced_64(bench: &mut Bench) -> Result<()> {
    each_size(bench, "append_synced_64", 64, None, systems::all_synced)?;
    let limit = systems::bare_synced().name;
    beside_limit(bench, "append_synced_64", limit, 0.8);
    bounded_by_shape(bench, "append_synced_64", systems::grouped_synced().name);
    beside_peers(
        bench,
        "append_synced_64",
        &systems::all_synced(64),
        Survives::PowerCut..,
        2.0,
    );
    Ok(())
}

/// What is asked for beside plain writes.
const OF_PLAIN: f64 = 0.5;

/// One producer, each append awaited and written.
pub(crate) fn written_1(bench: &mut Bench) -> Result<()> {
    written(bench, "append_written_1", 1)
}

/// 64 producers, each append awaited and written.
pub(crate) fn written_64(bench: &mut Bench) -> Result<()> {
    written(bench, "append_written_64", 64)
}

fn written(bench: &mut Bench, case: &str, producers: usize) -> Result<()> {
    each_size(bench, case, producers, None, systems::all_written)?;
    beside_limit(bench, case, systems::bare_written().name, OF_PLAIN);
    if producers > 1 {
        bounded_by_shape(bench, case, systems::grouped_written().name);
        bounded_by_processors(bench, case, systems::grouped_written().name)?;
    } else {
        bounded_by_event(bench, case, systems::bare_written().name)?;
    }
    beside_peers(
        bench,
        case,
        &systems::all_written(producers),
        ..=Survives::Process,
        1.0,
    );
    Ok(())
}

fn each_size(
    bench: &mut Bench,
    case: &str,
    producers: usize,
    processor: Option<usize>,
    systems: fn(usize) -> Vec<System>,
) -> Result<()> {
    let sizes: &[Size] = bench
        .args
        .pick(&[Size::Chat], &[Size::Chat, Size::Small, Size::Large]);
    for &size in sizes {
        let race = Race {
            runtime: bench.runtime.handle().clone(),
            producers,
            processor,
            pool: Arc::from(events::pool(size, 4096)),
            warm_up: bench.args.warm_up(),
            span: bench.args.span(),
        };
        rounds(
            bench,
            &format!("{case}{}", size.suffix()),
            &race,
            systems(producers),
        )?;
    }
    Ok(())
}

/// The rate of the disk as each of the first processors has it. Its interrupts come to one of
/// them, and a thread on another has to be woken there.
fn on_each_processor(bench: &Bench) -> Result<Vec<(usize, Samples)>> {
    let processors = processor::all()?.into_iter().take(PROCESSORS_MAX);
    let mut rates: Vec<_> = processors.map(|at| (at, Samples::new())).collect();
    for _ in 0..bench.args.rounds() {
        for (processor, samples) in &mut rates {
            let scratch = bench.place.fresh()?;
            let span = bench.args.span() / 2;
            samples.add(processor::syncs_per_second(
                scratch.path(),
                span,
                *processor,
            )?);
        }
    }
    Ok(rates)
}

/// A system in its place in the list, with what was measured of it.
struct Entry {
    place: usize,
    system: System,
    samples: Samples,
}

/// One round of each system after the other, as often as there are rounds. Each round begins with
/// another system, since the system that comes first meets what was deleted and written before it.
fn rounds(bench: &mut Bench, case: &str, race: &Race, systems: Vec<System>) -> Result<()> {
    // What is that close together needs more of them.
    let is_close = race.processor.is_some() && !case.contains('/') && !bench.args.quick;
    let count = bench.args.rounds() * if is_close { 3 } else { 1 };
    let mut entries: Vec<Entry> = (0..)
        .zip(systems)
        .filter(|(_, system)| system.is_limit || bench.args.wants_system(system.name))
        .map(|(place, system)| Entry {
            place,
            system,
            samples: Samples::new(),
        })
        .collect();
    let mut disk = Samples::new();
    for round in 1..=count {
        eprintln!("{case}: round {round} of {count}");
        disk.add(disk_rate(bench)?);
        entries.retain_mut(|entry| {
            let name = entry.system.name;
            match one_round(bench, race, &entry.system) {
                Ok(rate) => entry.samples.add(rate),
                Err(error) => bench.report.skip(case, name, format!("{error:#}")),
            }
            entry.samples.count() == round
        });
        if !entries.is_empty() {
            entries.rotate_left(1);
        }
    }
    entries.sort_by_key(|entry| entry.place);
    let report = &mut bench.report;
    for Entry {
        system, samples, ..
    } in &entries
    {
        report.row(case, system.name, &system.promise(), samples, "events/s");
    }
    let what = "4 KiB overwritten in place and synced, the disk's own rate during this case";
    report.row(case, "disk: fdatasync", what, &disk, "syncs/s");
    Ok(())
}

fn one_round(bench: &Bench, race: &Race, system: &System) -> Result<f64> {
    let scratch = bench.place.fresh()?;
    let opened = (system.open)(scratch.path())?;
    // What the opening, and the removal of the one before, left to be written is not what is
    // measured.
    rustix::fs::sync();
    race.run(opened)
}

fn disk_rate(bench: &Bench) -> Result<f64> {
    let scratch = bench.place.fresh()?;
    device::syncs_per_second(scratch.path(), bench.args.span())
}

/// How far the rounds of the limit lie apart, where the best systems are as fast as it is.
fn bounded_by_disk(bench: &mut Bench, case: &str, limit: &str) {
    let report = &mut bench.report;
    let rows = report.rows.iter();
    let Some(limit) = rows.clone().find(|r| r.case == case && r.system == limit) else {
        return;
    };
    let near: Vec<String> = rows
        .filter(|row| row.case == case && row.unit == limit.unit && row.system != limit.system)
        .map(|row| (&row.system, row.median / limit.median))
        .filter(|(_, ratio)| *ratio >= NEAR)
        .map(|(system, ratio)| format!("{system} {ratio:.2}"))
        .collect();
    let note = format!(
        "The limit makes one write and one fdatasync, which no system that keeps this promise can do without, and nothing else. Its own rounds reach from {:.2} to {:.2} of their median. Near it, as a share of that median: {}.",
        limit.min / limit.median,
        limit.max / limit.median,
        near.join("; ")
    );
    report.note(case, note);
}

/// What everpost does beside the write and the peers do not, for one producer.
fn bounded_by_event(bench: &mut Bench, case: &str, limit: &str) -> Result<()> {
    let Parts { check_us, .. } = Parts::measure(&events::pool(Size::Chat, 4096))?;
    let report = &mut bench.report;
    let sealed = report.median(case, systems::sealed().name);
    let (ours, limit) = (report.median(case, EVERPOST), report.median(case, limit));
    if let (Some(ours), Some(limit), Some(sealed)) = (ours, limit, sealed) {
        let write_us = 1e6 / limit;
        let text = format!(
            "A plain write of an event takes {write_us:.2} us and an append {:.2} us. Of that, {check_us:.2} us are for the event itself: a check that it is JSON, an id and the time. A loop that checks, writes and seals, and does nothing of what makes a queue of it, reaches {:.2} of plain writes, and everpost {:.2} of that loop, where the goal asks for {:.2}. The rest is for the copy in memory that is delivered from, the books, taking turns, and what sled's threads take from the processors.",
            1e6 / ours,
            sealed / limit,
            ours / sealed,
            OF_PLAIN * limit / sealed
        );
        report.note(case, text);
    }
    Ok(())
}

/// What everpost does beside waking its producers and the peers do not, for many of them.
fn bounded_by_processors(bench: &mut Bench, case: &str, grouped: &str) -> Result<()> {
    let parts = Parts::measure(&events::pool(Size::Chat, 4096))?;
    let Parts {
        check_us, pack_us, ..
    } = parts;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
    let report = &mut bench.report;
    if let Some(grouped_rate) = report.median(case, grouped) {
        let shape_us = cores * 1e6 / grouped_rate;
        let text = format!(
            "To wake the producers and to write, as `{grouped}` does, takes at most {shape_us:.2} us of processor time for an event. everpost also checks it ({check_us:.2} us) and, since nothing is delivered here, compresses it ({pack_us:.2} us). {cores} processors that did nothing else and never waited would reach {} events/s.",
            figure(cores * 1e6 / (shape_us + check_us + pack_us))
        );
        report.note(case, text);
    }
    Ok(())
}

/// What is left of the limit when producers are tasks that wait for a writer thread.
fn bounded_by_shape(bench: &mut Bench, case: &str, grouped: &str) {
    let report = &mut bench.report;
    if let (Some(ours), Some(shape)) = (report.median(case, EVERPOST), report.median(case, grouped))
    {
        let text = format!(
            "Of `{grouped}`, which has to wake as many producers and reaches {} events/s, everpost reaches {:.2}.",
            figure(shape),
            ours / shape
        );
        report.note(case, text);
    }
}

fn beside_limit(bench: &mut Bench, case: &str, limit: &str, least: f64) {
    let report = &mut bench.report;
    let (Some(ours), Some(limits)) = (report.median(case, EVERPOST), report.median(case, limit))
    else {
        return;
    };
    let ratio = ours / limits;
    let goal = format!("at least {least} of `{limit}`");
    let text = format!("{ratio:.2} ({} of {})", figure(ours), figure(limits));
    report.verdict(Verdict::at_least(case, &goal, ratio, least, text));
}

/// Holds everpost against the best of the peers whose promise lies in a range.
fn beside_peers(
    bench: &mut Bench,
    case: &str,
    systems: &[System],
    promise: impl std::ops::RangeBounds<Survives>,
    least: f64,
) {
    let report = &mut bench.report;
    let best = systems
        .iter()
        .filter(|system| !system.is_limit && !system.name.starts_with(EVERPOST))
        .filter(|system| promise.contains(&system.survives))
        .filter_map(|system| Some((system.name, report.median(case, system.name)?)))
        .max_by(|a, b| a.1.total_cmp(&b.1));
    let (Some(ours), Some((name, peers))) = (report.median(case, EVERPOST), best) else {
        return;
    };
    let ratio = ours / peers;
    let goal = format!("at least {least} of the best peer of the kind, {name}");
    let text = format!("{ratio:.2} ({} beside {})", figure(ours), figure(peers));
    report.verdict(Verdict::at_least(case, &goal, ratio, least, text));
}
