//! What a suite counted and found, and how far it is.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use everpost::clock::{Clock, SystemClock};
use serde::{Deserialize, Serialize};

use super::Failure;

/// What must not be, in the order of the columns.
pub(super) const HARMS: [&str; 5] = ["lost", "altered", "reordered", "unreported", "panics"];

/// What a suite counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    title: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
    failures: Vec<String>,
    /// What could not run here, and why.
    pub(super) skipped: Vec<String>,
    /// Counts by name; those named in `HARMS` must be 0.
    counts: BTreeMap<String, u64>,
    pub(super) took_s: u64,
}

impl Report {
    pub(crate) fn new(title: &str, columns: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            ..Self::default()
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

    pub(super) fn skip(&mut self, why: String) {
        if !self.skipped.contains(&why) {
            self.skipped.push(why);
        }
    }

    /// Adds to a count.
    pub(crate) fn count(&mut self, name: &str, n: u64) {
        *self.counts.entry(name.to_owned()).or_default() += n;
    }

    /// Reads `kills=100 lost=0`.
    pub(super) fn count_all(&mut self, text: &str) {
        for word in text.split_whitespace() {
            match word.split_once('=').map(|(name, n)| (name, n.parse())) {
                Some((name, Ok(n))) => self.count(name, n),
                _ => self.fail(format!("unreadable count: {word}")),
            }
        }
    }

    pub(super) fn has_counted(&self) -> bool {
        !self.counts.is_empty() || !self.rows.is_empty()
    }

    /// Whether nothing was found.
    pub(crate) fn is_whole(&self) -> bool {
        let harmed = |name: &&str| self.counts.get(*name).is_some_and(|n| *n > 0);
        self.failures.is_empty() && !HARMS.iter().any(harmed)
    }

    /// Takes rows of a later run in place of its own of the same name, with what failed in them.
    pub(super) fn take_over(&mut self, later: &Self) {
        for new in &later.rows {
            let name = new.first().map_or("", String::as_str);
            self.failures.retain(|text| !text.ends_with(name));
            let old = self.rows.iter_mut().find(|old| old.first() == new.first());
            if let Some(old) = old {
                old.clone_from(new);
            }
        }
        self.failures.extend(later.failures.iter().cloned());
    }

    /// The row of the suite in the table of all.
    pub(super) fn cells(&self, name: &str) -> Vec<String> {
        let number = |name: &str| self.counts.get(name).map(|n| grouped(*n));
        let done = self
            .counts
            .iter()
            .filter(|(name, _)| *name != "acknowledged" && !HARMS.contains(&name.as_str()));
        let mut done: Vec<String> = done
            .map(|(name, n)| format!("{} {name}", grouped(*n)))
            .collect();
        if done.is_empty() && !self.rows.is_empty() {
            done.push(format!("{} rows below", self.rows.len()));
        }
        let mut cells = vec![name.to_owned(), done.join(", ")];
        cells.push(number("acknowledged").unwrap_or_default());
        cells.extend(HARMS.map(|name| number(name).unwrap_or_default()));
        let result = match (self.is_whole(), self.skipped.is_empty(), self.has_counted()) {
            (false, ..) => "FAULT",
            (true, true, _) => "holds",
            (true, false, true) => "holds, in part SKIPPED",
            (true, false, false) => "SKIPPED",
        };
        cells.extend([result.to_owned(), format!("{} s", self.took_s)]);
        cells
    }

    /// As one object, with the name of the suite and what it is about: the seed, say.
    pub(super) fn json(&self, suite: &str, about: &[(&str, String)]) -> Result<String, Failure> {
        let mut value = serde_json::to_value(self)?;
        if let Some(fields) = value.as_object_mut() {
            fields.insert("suite".into(), suite.into());
            fields.insert("holds".into(), self.is_whole().into());
            for (name, text) in about {
                fields.insert((*name).to_owned(), text.as_str().into());
            }
        }
        Ok(value.to_string())
    }

    /// What was skipped and what failed, a line for each.
    pub(super) fn remarks(&self) -> Vec<String> {
        let skipped = self.skipped.iter();
        let skipped = skipped.map(|why| format!("SKIPPED, nothing is proven: {why}"));
        let failed = self.failures.iter().map(|text| format!("FAULT {text}"));
        skipped.chain(failed).collect()
    }

    /// The suite's own table, as Markdown; empty if it has none.
    pub(crate) fn table(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let columns: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        let mut text = format!("## {}\n\n{}", self.title, table(&columns, &self.rows));
        for note in &self.notes {
            text += &format!("\n{note}\n");
        }
        for remark in self.remarks() {
            text += &format!("\n{remark}\n");
        }
        text
    }
}

/// A table in Markdown that is also readable as it is.
pub(super) fn table(columns: &[&str], rows: &[Vec<String>]) -> String {
    let width = |n: usize| {
        let cells = rows.iter().filter_map(|row| row.get(n)).map(String::len);
        let head = columns.get(n).map_or(0, |name| name.len());
        cells.chain([head, 3]).max().unwrap_or(3)
    };
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().enumerate();
        let padded: Vec<String> = cells
            .map(|(n, cell)| format!("{cell:w$}", w = width(n)))
            .collect();
        format!("| {} |\n", padded.join(" | "))
    };
    let rules: Vec<String> = (0..columns.len()).map(|n| "-".repeat(width(n))).collect();
    let mut text = line(columns.to_vec()) + &line(rules.iter().map(String::as_str).collect());
    text.extend(
        rows.iter()
            .map(|row| line(row.iter().map(String::as_str).collect())),
    );
    text
}

/// 1234567 as 1,234,567.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Shows how far something is: on a terminal all the time, elsewhere every three seconds.
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
            3
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
            // A program that runs this as a part of something larger looks for the word.
            eprintln!("PROGRESS {what}: {done} of {all}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_added_up_and_a_harm_is_a_fault() {
        let mut report = Report::default();
        report.count_all("kills=900 acknowledged=12000 lost=0");
        report.count_all("kills=100 acknowledged=345 lost=0");
        assert!(report.is_whole());
        assert_eq!(
            report.cells("kills")[..4],
            ["kills", "1,000 kills", "12,345", "0"].map(String::from)
        );
        report.count_all("lost=1");
        assert!(!report.is_whole());
        assert_eq!(report.cells("kills")[8], "FAULT");
    }

    #[test]
    fn a_count_that_cannot_be_read_is_a_fault() {
        let mut report = Report::default();
        report.count_all("kills=many");
        assert!(!report.is_whole());
    }

    #[test]
    fn what_was_skipped_is_never_said_to_hold() {
        let mut report = Report::default();
        report.skip("no strace".into());
        assert_eq!(report.cells("syscalls")[8], "SKIPPED");
        report.count("kills", 3);
        assert_eq!(report.cells("syscalls")[8], "holds, in part SKIPPED");
    }
}
