//! docs/performance.md, from what a run measured.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Result;

use crate::args::Args;
use crate::cases;
use crate::place::Place;
use crate::report::{Report, Row, figure};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");

/// Writes the page.
pub(crate) fn write(args: &Args, place: &Place, report: &Report) -> Result<()> {
    let mut page = String::from(include_str!("intro.md"));
    machine(&mut page, args, place)?;
    goals(&mut page, report)?;
    for case in cases::all() {
        let sizes = sizes(case.name, report);
        let skipped: Vec<_> = report
            .skipped
            .iter()
            .filter(|skipped| base(&skipped.case) == case.name)
            .collect();
        if sizes.is_empty() && skipped.is_empty() {
            continue;
        }
        write!(page, "\n## {}\n\n{}\n", case.name, case.about)?;
        if let Some((main, others)) = sizes.split_first() {
            table(&mut page, main, others)?;
        }
        for note in report.notes.iter().filter(|n| base(&n.case) == case.name) {
            write!(page, "\n{}\n", note.note)?;
        }
        for skipped in skipped {
            write!(
                page,
                "\nNot measured: {}: {}.\n",
                skipped.system, skipped.skipped
            )?;
        }
    }
    fs::write(PathBuf::from(DOCS).join("performance.md"), page)?;
    Ok(())
}

/// The name of a case without its size.
fn base(case: &str) -> &str {
    case.split_once('/').map_or(case, |(base, _)| base)
}

/// The rows of a case of one size of event: what stands behind the name of the case, and the rows.
type Sized<'r> = (&'r str, Vec<&'r Row>);

/// The rows of a case, by size, in the order they were measured: the first is the main one.
fn sizes<'r>(case: &str, report: &'r Report) -> Vec<Sized<'r>> {
    let mut found: Vec<Sized<'_>> = Vec::new();
    for row in report.rows.iter().filter(|row| base(&row.case) == case) {
        let size = row.case.split_once('/').map_or("", |(_, size)| size);
        match found.iter_mut().find(|(known, _)| *known == size) {
            Some((_, rows)) => rows.push(row),
            None => found.push((size, vec![row])),
        }
    }
    found
}

/// One table: the spread of the main size, and the medians of the others beside it.
fn table(page: &mut String, (_, rows): &Sized<'_>, others: &[Sized<'_>]) -> Result<()> {
    // Only of rates it is plain which of two is ahead.
    let ours = rows
        .iter()
        .find(|row| row.system == "everpost" && row.unit == "events/s")
        .map(|row| row.median);
    let (ratio, what) = match ours {
        Some(_) => (" everpost to it |", "promise"),
        None => ("", "what"),
    };
    let names: String = others
        .iter()
        .map(|(size, _)| format!(" {size} |"))
        .collect();
    writeln!(
        page,
        "\n| system | median | least | most |{names} unit |{ratio} {what} |"
    )?;
    let numbers = "---: | ".repeat(3 + others.len());
    let dashes = ratio
        .split('|')
        .skip(1)
        .map(|_| " ---: |")
        .collect::<String>();
    writeln!(page, "| --- | {numbers}--- |{dashes} --- |")?;
    for row in rows {
        let mut figures: Vec<String> = [row.median, row.min, row.max].map(figure).into();
        figures.extend(others.iter().map(|(_, of_size)| {
            let same = of_size.iter().find(|other| other.system == row.system);
            same.map_or(String::new(), |other| figure(other.median))
        }));
        write!(
            page,
            "| {} | {} | {} |",
            row.system,
            figures.join(" | "),
            row.unit
        )?;
        match ours {
            Some(ours) if row.unit == "events/s" => write!(page, " {:.2} |", ours / row.median)?,
            Some(_) => page.push_str(" |"),
            None => {}
        }
        writeln!(page, " {} |", row.promise)?;
    }
    let rounds = rows.iter().map(|row| row.rounds).min().unwrap_or(0);
    write!(page, "\nRounds: {rounds}.\n")?;
    Ok(())
}

fn goals(page: &mut String, report: &Report) -> Result<()> {
    page.push_str("\n## Goals\n\n| case | goal | measured | |\n| --- | --- | --- | --- |\n");
    for verdict in &report.verdicts {
        let measured = verdict.measured.replace('|', "\\|");
        writeln!(
            page,
            "| {} | {} | {measured} | {} |",
            verdict.case,
            verdict.goal,
            verdict.word()
        )?;
    }
    Ok(())
}

fn machine(page: &mut String, args: &Args, place: &Place) -> Result<()> {
    let system = rustix::system::uname();
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory_kib: Option<u64> = memory.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?
            .split_ascii_whitespace()
            .next()?
            .parse()
            .ok()
    });
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let lines = BTreeMap::from([
        (
            "1 date",
            humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        ),
        ("2 command", command(args)),
        (
            "3 processor",
            format!(
                "{}, {cores} cores",
                processor.map_or("unknown", |(_, name)| name.trim())
            ),
        ),
        ("4 memory", format!("{} GiB", memory_kib.unwrap_or(0) >> 20)),
        (
            "5 system",
            format!(
                "{} {}",
                system.sysname().to_string_lossy(),
                system.release().to_string_lossy()
            ),
        ),
        ("6 file system", place.file_system()),
        ("7 rounds", args.rounds().to_string()),
    ]);
    page.push_str("\n## The run\n\n| | |\n| --- | --- |\n");
    for (name, value) in lines {
        writeln!(page, "| {} | {value} |", &name[2..])?;
    }
    if args.quick {
        page.push_str(
            "\nThis was a quick run: short rounds, chat events only, smaller backlogs.\n",
        );
    }
    Ok(())
}

fn command(args: &Args) -> String {
    let mut text = String::from("`cargo run --release --manifest-path benches/peers/Cargo.toml --");
    for (flag, given) in [
        ("--quick", args.quick),
        ("--write", args.write),
        ("--json", args.json),
    ] {
        if given {
            text.push(' ');
            text.push_str(flag);
        }
    }
    if let Some(only) = &args.only {
        text.push_str(&format!(" --only '{only}'"));
    }
    if let Some(rounds) = args.rounds {
        text.push_str(&format!(" --rounds {rounds}"));
    }
    for case in &args.cases {
        text.push(' ');
        text.push_str(case);
    }
    text.push('`');
    text
}
