//! `cargo xtask prove`: runs the suites that try to make the library break its promise, and prints
//! what they counted as one table.

mod add;
mod bench;
mod check;
mod evidence;
mod report;
mod suites;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use everpost::clock::{Clock, SystemClock};
use serde::{Deserialize, Serialize};

pub(crate) use bench::inner;
pub(crate) use report::{Progress, Report};
use suites::{ONLY_LONG, SUITES, Suite};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "\
cargo xtask prove --quick | --long [--suite NAME]... [--seed N] [--json] [--write]
cargo xtask prove --add FILE
cargo xtask prove --check

  --quick     some minutes
  --long      up to 90 minutes: ten times as much of everything
  --suite     only this suite; may be given several times
  --seed      fixes every random choice; printed with the result
  --json      prints the rows as JSON lines in place of the table
  --write     writes docs/evidence.md; only with all suites
  --points    power: so many power cuts for each model instead
  --workload  power: only this workload, and what follows from it
  --break     mutations: only those with these words in what they do
  --since     mutations: goes on from this log, target/prove/mutations.log, of a run of the
              same code that was ended before its time
  --add       puts suites that were run by themselves, with --suite and --json, into
              docs/evidence.md; of the same seed and code
  --check     says whether docs/evidence.md is about the code as it is; exit 0 or 1";

/// How much is to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Whether there is time for everything.
    pub(crate) long: bool,
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
    /// Only the breaks with this in what they do.
    pub(crate) breaks: Option<String>,
    /// The log of a run of the same breaks that was ended before its time.
    pub(crate) since: Option<PathBuf>,
}

impl Plan {
    fn quick(seed: u64) -> Self {
        Self {
            long: false,
            seed,
            points: 120,
            control_points: 15,
            takes: 1,
            workload: None,
            breaks: None,
            since: None,
        }
    }

    fn long(seed: u64) -> Self {
        Self {
            long: true,
            seed,
            points: 2_100,
            control_points: 60,
            takes: 4,
            workload: None,
            breaks: None,
            since: None,
        }
    }

    /// One number for the quick run, another for the long one.
    pub(crate) fn either(&self, quick: u64, long: u64) -> u64 {
        if self.long { long } else { quick }
    }

    fn name(&self) -> &'static str {
        if self.long { "long" } else { "quick" }
    }
}

/// What the arguments ask for.
struct Wish {
    plan: Plan,
    only: Vec<String>,
    json: bool,
    write: bool,
}

/// Runs what the arguments ask for.
pub(crate) fn prove(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}\n\nsuites:");
        for suite in &SUITES {
            println!("  {:12}{}", suite.name, suite.what);
        }
        return ExitCode::SUCCESS;
    }
    if args == ["--check"] {
        return check::check();
    }
    if let [flag, file] = args
        && flag == "--add"
    {
        return match add::add(Path::new(file)) {
            Ok(verdict) => {
                println!("{verdict}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("prove: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let wish = match parse(args) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match perform(&wish) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("prove: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing was found.
fn perform(wish: &Wish) -> Result<bool, Failure> {
    let wanted = |suite: &&Suite| match wish.only.is_empty() {
        true => wish.plan.long || !ONLY_LONG.contains(&suite.name),
        false => wish.only.iter().any(|name| name == suite.name),
    };
    let suites: Vec<&Suite> = SUITES.iter().filter(wanted).collect();
    eprintln!("seed {}", wish.plan.seed);
    // As it is now: a long run leaves time for changes.
    let machine = evidence::machine();
    let began = SystemClock.monotonic();
    let reports = bench::run(&suites, &wish.plan)?;
    let took = SystemClock.monotonic().saturating_sub(began);
    if wish.json {
        let mut about = machine.clone();
        about.push(("length", wish.plan.name().to_owned()));
        about.push(("seed", wish.plan.seed.to_string()));
        about.extend(wish.plan.breaks.clone().map(|words| ("breaks", words)));
        for (suite, report) in suites.iter().zip(&reports) {
            println!("{}", report.json(suite.name, &about)?);
        }
    } else {
        println!("\n{}", evidence::text(&suites, &reports));
    }
    let whole = reports.iter().all(Report::is_whole);
    let skipped = reports.iter().any(|report| !report.skipped.is_empty());
    let verdict = match (whole, skipped) {
        (false, _) => "NOT PROVEN",
        (true, true) => "PROVEN, but for what was skipped",
        (true, false) => "PROVEN",
    };
    let verdict = format!(
        "{verdict}: {} run, seed {}, {} s",
        wish.plan.name(),
        wish.plan.seed,
        took.as_secs()
    );
    if wish.json {
        eprintln!("{verdict}");
    } else {
        println!("{verdict}");
    }
    if wish.write {
        evidence::write(&suites, &reports, &wish.plan, &verdict, &machine)?;
    }
    Ok(whole)
}

fn parse(args: &[String]) -> Result<Wish, Failure> {
    let mut long = None;
    let (mut only, mut json, mut write) = (Vec::new(), false, false);
    let mut points = None;
    let (mut workload, mut breaks, mut since) = (None, None, None);
    // Not secret and not the same each time: the time of day will do.
    let day = SystemClock.wall().duration_since(std::time::UNIX_EPOCH)?;
    let mut seed = day.as_secs();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--quick" => long = Some(false),
            "--long" => long = Some(true),
            "--suite" => only.push(value()?.clone()),
            "--seed" => seed = value()?.parse()?,
            "--json" => json = true,
            "--write" => write = true,
            "--points" => points = Some(value()?.parse()?),
            "--workload" => workload = Some(value()?.clone()),
            "--break" => breaks = Some(value()?.clone()),
            // Another process opens it, from the directory of the project.
            "--since" => since = Some(std::path::absolute(value()?)?),
            other => return Err(format!("unknown argument `{other}`").into()),
        }
    }
    if let Some(unknown) = only
        .iter()
        .find(|only| SUITES.iter().all(|suite| suite.name != *only))
    {
        return Err(format!("no suite `{unknown}`").into());
    }
    if write
        && !(only.is_empty()
            && points.is_none()
            && workload.is_none()
            && breaks.is_none()
            && since.is_none())
    {
        return Err("--write needs a whole run".into());
    }
    let mut plan = match long {
        Some(true) => Plan::long(seed),
        Some(false) => Plan::quick(seed),
        None => return Err("either --quick or --long".into()),
    };
    plan.points = points.unwrap_or(plan.points);
    plan.workload = workload;
    plan.breaks = breaks;
    plan.since = since;
    Ok(Wish {
        plan,
        only,
        json,
        write,
    })
}

/// The directory of the project.
fn root() -> PathBuf {
    let mut dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    dir.pop();
    dir
}
