//! The fuzz targets, each for a fixed short time. Their corpus is a test of its own.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::prove::{Failure, Plan, Progress, Report};

const TARGETS: [&str; 8] = [
    "journal",
    "chunk",
    "spool",
    "crafted",
    "letter",
    "event_json",
    "answer",
    "nats",
];

/// Seconds for each target.
const SECONDS_MAX: u32 = 75;

/// Why it cannot run here.
pub(crate) fn missing() -> Option<String> {
    let found = Command::new("cargo")
        .args(["+nightly", "fuzz", "--version"])
        .stdin(Stdio::null())
        .output();
    match found {
        Ok(out) if out.status.success() => None,
        _ => Some("no cargo-fuzz with a nightly toolchain: `cargo install cargo-fuzz`".into()),
    }
}

pub(crate) fn run(plan: &Plan) -> Result<Report, Failure> {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = xtask.parent().ok_or("no project around the tasks")?;
    let found = tempfile::tempdir()?;
    let mut report = Report::new("Fuzzing", &["target", "inputs tried", "seconds"]);
    let mut progress = Progress::new("targets", TARGETS.len());
    for target in TARGETS {
        let fresh = found.path().join(target);
        std::fs::create_dir_all(&fresh)?;
        let out = Command::new("cargo")
            .args(["+nightly", "fuzz", "run", "-s", "none", "--dev", target])
            // What it finds of interest goes to the first, so that the corpus stays as it is.
            .arg(&fresh)
            .arg(root.join("fuzz/corpus").join(target))
            .arg("--")
            .arg(format!("-max_total_time={SECONDS_MAX}"))
            // libFuzzer takes 32 bits.
            .arg(format!("-seed={}", (plan.seed & 0x7fff_ffff).max(1)))
            .current_dir(root)
            .env_remove("RUSTUP_TOOLCHAIN")
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&out.stderr);
        let done = said.lines().find_map(|line| {
            let mut words = line.strip_prefix("Done ")?.split_whitespace();
            let runs: u64 = words.next()?.parse().ok()?;
            Some((runs, words.nth(2)?.to_owned()))
        });
        match done {
            Some((runs, seconds)) if out.status.success() => {
                report.count("inputs", runs);
                report.row([target.to_owned(), runs.to_string(), seconds]);
            }
            _ => {
                let mut last: Vec<&str> = said.lines().rev().take(12).collect();
                last.reverse();
                report.fail(format!("{target}: {}: {}", out.status, last.join("\n")));
            }
        }
        progress.step();
    }
    progress.end();
    report.count("panics", 0);
    Ok(report)
}
