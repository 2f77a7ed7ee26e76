//! `cargo xtask prove`: runs the suites that do not fit into `cargo test`, and prints what they
//! counted as a table.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use everpost::clock::{Clock, SystemClock};
use serde::{Deserialize, Serialize};

use crate::power;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "\
cargo xtask prove --quick | --long [--suite NAME] [--seed N] [--points N]

  --quick     a minute or two
  --long      at least 2,000 points for each kind of fault
  --suite     only this suite: power
  --seed      fixes every random choice; printed with the result
  --points    power: so many power cuts for each model instead
  --workload  power: only this workload, and what follows from it";

/// How much is to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Fixes every random choice.
    pub(crate) seed: u64,
    /// Power cuts for each model.
    pub(crate) points: u64,
    /// Power cuts for each model in each negative control.
    pub(crate) control_points: u64,
    /// Recordings of each workload.
    pub(crate) takes: u64,
    /// Only this workload.
    pub(crate) workload: Option<String>,
}

impl Plan {
    fn quick(seed: u64) -> Self {
        Self {
            seed,
            points: 120,
            control_points: 15,
            takes: 1,
            workload: None,
        }
    }

    fn long(seed: u64) -> Self {
        Self {
            seed,
            points: 2_100,
            control_points: 60,
            takes: 4,
            workload: None,
        }
    }
}

/// A suite: what it is called, why it cannot run here, and how it runs.
struct Suite {
    name: &'static str,
    missing: fn() -> Option<String>,
    run: fn(&Plan) -> Result<Report, Failure>,
}

const SUITES: [Suite; 1] = [Suite {
    name: "power",
    missing: power::missing,
    run: power::run,
}];

/// Runs what the arguments ask for.
pub(crate) fn prove(args: &[String]) -> ExitCode {
    let (plan, only) = match parse(args) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    println!("seed {}", plan.seed);
    let mut whole = true;
    for suite in SUITES {
        if only.as_ref().is_some_and(|only| only != suite.name) {
            continue;
        }
        if let Some(missing) = (suite.missing)() {
            println!("{}: SKIPPED, nothing is proven: {missing}", suite.name);
            continue;
        }
        match (suite.run)(&plan) {
            Ok(report) => {
                println!("\n{}", report.table());
                whole &= report.failures.is_empty();
            }
            Err(error) => {
                println!("{}: FAILED to run: {error}", suite.name);
                whole = false;
            }
        }
    }
    println!("{}", if whole { "PROVEN" } else { "NOT PROVEN" });
    ExitCode::from(u8::from(!whole))
}

fn parse(args: &[String]) -> Result<(Plan, Option<String>), Failure> {
    let mut long = None;
    let mut only = None;
    let mut points = None;
    let mut workload = None;
    // Not secret and not the same each time: the time of day will do.
    let since = SystemClock.wall().duration_since(std::time::UNIX_EPOCH)?;
    let mut seed = since.as_secs();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--quick" => long = Some(false),
            "--long" => long = Some(true),
            "--suite" => only = Some(value()?.clone()),
            "--seed" => seed = value()?.parse()?,
            "--points" => points = Some(value()?.parse()?),
            "--workload" => workload = Some(value()?.clone()),
            other => return Err(format!("unknown argument `{other}`").into()),
        }
    }
    if let Some(only) = &only
        && SUITES.iter().all(|suite| suite.name != only)
    {
        return Err(format!("no suite `{only}`").into());
    }
    let mut plan = match long {
        Some(true) => Plan::long(seed),
        Some(false) => Plan::quick(seed),
        None => return Err("either --quick or --long".into()),
    };
    plan.points = points.unwrap_or(plan.points);
    plan.workload = workload;
    Ok((plan, only))
}

/// What a suite counted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    title: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
    failures: Vec<String>,
}

impl Report {
    pub(crate) fn new(title: &str, columns: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            rows: Vec::new(),
            notes: Vec::new(),
            failures: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Something that does not hold.
    pub(crate) fn fail(&mut self, text: String) {
        self.failures.push(text);
    }

    /// Whether everything holds.
    pub(crate) fn is_whole(&self) -> bool {
        self.failures.is_empty()
    }

    /// As Markdown.
    pub(crate) fn table(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: Vec<String> = self.columns.iter().map(|_| "---".to_owned()).collect();
        let mut text = format!(
            "## {}\n\n{}{}",
            self.title,
            line(&self.columns),
            line(&rule)
        );
        text.extend(self.rows.iter().map(|row| line(row)));
        for note in &self.notes {
            text += &format!("\n{note}\n");
        }
        for failure in &self.failures {
            text += &format!("\nFAULT {failure}\n");
        }
        text
    }
}

/// Shows how far something is: on a terminal all the time, elsewhere every ten seconds.
pub(crate) struct Progress {
    what: String,
    all: usize,
    done: usize,
    began: Duration,
    shown: Duration,
}

impl Progress {
    pub(crate) fn new(what: &str, all: usize) -> Self {
        let began = SystemClock.monotonic();
        let mut progress = Self {
            what: what.to_owned(),
            all,
            done: 0,
            began,
            shown: began,
        };
        progress.show();
        progress
    }

    pub(crate) fn step(&mut self) {
        self.done += 1;
        let rest = if std::io::stderr().is_terminal() {
            0
        } else {
            10
        };
        if SystemClock.monotonic() >= self.shown + Duration::from_secs(rest) {
            self.show();
        }
    }

    pub(crate) fn end(mut self) {
        self.show();
        if std::io::stderr().is_terminal() {
            eprintln!();
        }
    }

    fn show(&mut self) {
        self.shown = SystemClock.monotonic();
        let took = self.shown.saturating_sub(self.began).as_secs();
        let (what, done, all) = (&self.what, self.done, self.all);
        if std::io::stderr().is_terminal() {
            eprint!("\r{what}: {done} of {all}, {took} s   ");
            drop(std::io::stderr().flush());
        } else {
            eprintln!("{what}: {done} of {all}, {took} s");
        }
    }
}
