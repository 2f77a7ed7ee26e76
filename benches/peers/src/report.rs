//! What was measured, line by line as it comes.

use serde::Serialize;

use crate::goal::Verdict;
use crate::stats::Samples;

/// One system in one case.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// The case, with the size behind it if it is not chat.
    pub(crate) case: String,
    /// The system.
    pub(crate) system: String,
    /// The median of the rounds.
    pub(crate) median: f64,
    /// The least.
    pub(crate) min: f64,
    /// The greatest.
    pub(crate) max: f64,
    /// The unit.
    pub(crate) unit: &'static str,
    /// What the system promises there, or what the number stands for.
    #[serde(skip)]
    pub(crate) promise: String,
    /// How many rounds.
    #[serde(skip)]
    pub(crate) rounds: usize,
}

/// What could not be measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Skipped {
    /// The case.
    pub(crate) case: String,
    /// The system.
    pub(crate) system: String,
    /// Why not.
    pub(crate) skipped: String,
}

/// What a number of a case must be held against, in words.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Note {
    /// The case.
    pub(crate) case: String,
    /// What is to be said.
    pub(crate) note: String,
}

/// Everything that came out of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Whether to print JSON.
    pub(crate) json: bool,
    /// What was measured.
    pub(crate) rows: Vec<Row>,
    /// What was not.
    pub(crate) skipped: Vec<Skipped>,
    /// Why a goal is out of reach, by what was measured.
    pub(crate) notes: Vec<Note>,
    /// The goals.
    pub(crate) verdicts: Vec<Verdict>,
}

impl Report {
    /// Takes the measurements of a system, and prints them.
    pub(crate) fn row(
        &mut self,
        case: &str,
        system: &str,
        promise: &str,
        samples: &Samples,
        unit: &'static str,
    ) {
        let row = Row {
            case: case.to_owned(),
            system: system.to_owned(),
            median: samples.median(),
            min: samples.min(),
            max: samples.max(),
            unit,
            promise: promise.to_owned(),
            rounds: samples.count(),
        };
        if self.json {
            print_json(&row);
        } else {
            println!(
                "{:24} {:34} {:>12} ({} .. {}) {}",
                row.case,
                row.system,
                figure(row.median),
                figure(row.min),
                figure(row.max),
                row.unit,
            );
        }
        self.rows.push(row);
    }

    /// Says why something was not measured.
    pub(crate) fn skip(&mut self, case: &str, system: &str, why: impl Into<String>) {
        let skipped = Skipped {
            case: case.to_owned(),
            system: system.to_owned(),
            skipped: why.into(),
        };
        if self.json {
            print_json(&skipped);
        } else {
            println!("{case:24} {system:34} skipped: {}", skipped.skipped);
        }
        self.skipped.push(skipped);
    }

    /// Says what bounds a number, by what was measured.
    pub(crate) fn note(&mut self, case: &str, note: String) {
        let note = Note {
            case: case.to_owned(),
            note,
        };
        if self.json {
            print_json(&note);
        } else {
            println!("{case:24} {}", note.note);
        }
        self.notes.push(note);
    }

    /// Takes a verdict on a goal, and prints it where people look.
    pub(crate) fn verdict(&mut self, verdict: Verdict) {
        eprintln!("goal {verdict}");
        self.verdicts.push(verdict);
    }

    /// The median of a system in a case, if it was measured.
    pub(crate) fn median(&self, case: &str, system: &str) -> Option<f64> {
        self.rows
            .iter()
            .find(|row| row.case == case && row.system == system)
            .map(|row| row.median)
    }
}

fn print_json(line: &impl Serialize) {
    match serde_json::to_string(line) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("a line could not be written as JSON. error=`{error}`"),
    }
}

/// A number with three or four digits that matter.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => "-".to_owned(),
        size if size >= 1000.0 => thousands(value.round()),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 {
        format!("-{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_what_matters() {
        for (value, text) in [
            (1_234_567.4, "1,234,567"),
            (123.4, "123"),
            (12.34, "12.3"),
            (0.01234, "0.012"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(figure(value), text);
        }
    }
}
