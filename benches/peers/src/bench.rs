//! A run: the cases that were asked for, one after the other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::runtime::Runtime;

use crate::args::Args;
use crate::backlog;
use crate::cases;
use crate::docs;
use crate::events::{self, Size};
use crate::place::{Place, Scratch};
use crate::report::Report;
use crate::systems::WRITTEN;

/// What every case has at hand.
pub(crate) struct Bench {
    /// Spools with a backlog of chat events, by its size. No case changes what is in them. They go
    /// before the place they are in.
    backlogs: BTreeMap<usize, Scratch>,
    /// The command line.
    pub(crate) args: Args,
    /// Where data goes.
    pub(crate) place: Place,
    /// The runtime of the program that uses the queue: as many threads as there are cores.
    pub(crate) runtime: Runtime,
    /// What came out.
    pub(crate) report: Report,
}

impl Bench {
    /// A spool with so many pending events, appended 64 at a time. Built once in a run. It may be
    /// opened, but is copied before it is drained.
    pub(crate) fn backlog(&mut self, events: usize) -> Result<PathBuf> {
        if !self.backlogs.contains_key(&events) {
            eprintln!("backlog of {events} events");
            let scratch = self.place.fresh()?;
            let pool = events::pool(Size::Chat, 4096);
            let spool = scratch.path().join("spool");
            self.runtime
                .block_on(backlog::build(&spool, &pool, events, 64, WRITTEN))?;
            self.backlogs.insert(events, scratch);
        }
        let scratch = self
            .backlogs
            .get(&events)
            .context("the backlog was not kept")?;
        Ok(scratch.path().join("spool"))
    }
}

/// Runs what the command line asks for; false if a case failed.
pub(crate) fn run() -> Result<bool> {
    let args = Args::parse();
    let mut bench = Bench {
        place: Place::new(&args.dir)?,
        runtime: Runtime::new()?,
        report: Report {
            json: args.json,
            ..Report::default()
        },
        backlogs: BTreeMap::new(),
        args,
    };
    let mut is_whole = true;
    for case in cases::all() {
        if !bench.args.wants(case.name) {
            continue;
        }
        if case.needs_disk && bench.place.is_in_memory() {
            let why = "the directory is on a tmpfs, where an fdatasync costs nothing: give `--dir` one on a disk";
            bench.report.skip(case.name, "all", why);
            is_whole = false;
            continue;
        }
        eprintln!("== {}", case.name);
        let begin = Instant::now();
        if let Err(error) = (case.run)(&mut bench) {
            bench
                .report
                .skip(case.name, "the case", format!("failed: {error:#}"));
            is_whole = false;
        }
        eprintln!("{}: took {:.1} s", case.name, begin.elapsed().as_secs_f64());
    }
    // A run of some cases or systems only would take the others off the page.
    if bench.args.write || bench.args.is_whole() {
        docs::write(&bench.args, &bench.place, &bench.report)?;
    }
    Ok(is_whole)
}
