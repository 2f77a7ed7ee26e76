//! The table of all suites, and `docs/evidence.md`.

use std::fs;

use everpost::clock::{Clock, SystemClock};

use super::report::{HARMS, table};
use super::suites::{How, Suite};
use super::{Failure, Plan, Report, root};
use crate::power::run_program;

/// The table of all suites and what there is to say about it, with the tables of each.
pub(super) fn text(suites: &[&Suite], reports: &[Report]) -> String {
    let mut text = summary(suites, reports);
    for report in reports {
        let own = report.table();
        if !own.is_empty() {
            text += &format!("\n{own}");
        }
    }
    text
}

fn summary(suites: &[&Suite], reports: &[Report]) -> String {
    let mut columns = vec!["suite", "done", "acknowledged"];
    columns.extend(HARMS);
    columns.extend(["result", "time"]);
    let both = || suites.iter().zip(reports);
    let rows: Vec<_> = both()
        .map(|(suite, report)| report.cells(suite.name))
        .collect();
    let mut text = table(&columns, &rows);
    for (suite, report) in both() {
        for remark in report.remarks() {
            text += &format!("\n{}: {remark}\n", suite.name);
        }
    }
    text
}

/// Writes `docs/evidence.md`.
pub(super) fn write(
    suites: &[&Suite],
    reports: &[Report],
    plan: &Plan,
    verdict: &str,
    machine: &[(&str, String)],
) -> Result<(), Failure> {
    let length = if plan.long { "--long" } else { "--quick" };
    let mut text = format!(
        "# Evidence\n\nWritten by `cargo xtask prove {length} --seed {} --write`, and by nothing \
         else.\n\n**{verdict}.**\n\n",
        plan.seed
    );
    for (name, value) in machine {
        text += &format!("- {name}: {value}\n");
    }
    text += "\n## Result\n\nAn empty cell is something the suite does not look at. Times are those \
             of the processes of a suite, added up; several run at once.\n\n";
    text += &summary(suites, reports);
    text += "\n## What each suite does\n\n";
    for suite in suites {
        let kind = match suite.how {
            How::Tests(_) => "",
            How::Function(..) => " See below.",
        };
        text += &format!("- **{}**: {}{kind}\n", suite.name, suite.what);
    }
    for report in reports {
        let own = report.table();
        if !own.is_empty() {
            text += &format!("\n{own}");
        }
    }
    fs::write(root().join("docs/evidence.md"), text)?;
    Ok(())
}

/// What is to be known of the code and of where it runs.
pub(super) fn machine() -> Vec<(&'static str, String)> {
    let root = root().to_string_lossy().into_owned();
    let said = |program: &str, args: &[&str]| {
        let said = run_program(program, args).unwrap_or_else(|_| "unknown".to_owned());
        said.trim().to_owned()
    };
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or("unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let changed = said("git", &["-C", &root, "status", "--porcelain", "-uno"]);
    let commit = said("git", &["-C", &root, "rev-parse", "HEAD"]);
    let commit = match changed.is_empty() {
        true => commit,
        false => format!("{commit}, with changes"),
    };
    let wall = SystemClock.wall();
    let seconds = wall
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let at = format!("@{}", seconds.as_secs());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    vec![
        (
            "date",
            said("date", &["--utc", "--date", &at, "+%Y-%m-%d %H:%M UTC"]),
        ),
        ("commit", commit),
        ("rustc", said("rustc", &["--version"])),
        (
            "processor",
            format!("{}, {cores} cores", field("/proc/cpuinfo", "model name")),
        ),
        ("memory", field("/proc/meminfo", "MemTotal")),
        ("kernel", said("uname", &["-sr"])),
        (
            "file system",
            said("stat", &["--file-system", "--format=%T", &root])
                + "; tmpfs for the spools of processes that die while the system lives on",
        ),
    ]
}
