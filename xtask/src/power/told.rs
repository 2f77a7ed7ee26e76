//! What the suite tells of the cuts.

use std::collections::BTreeMap;

use super::Outcome;
use super::oracle::{Fault, Kind};
use super::recording::Model;
use crate::prove::Report;

/// Faults told in full.
const TOLD_MAX: usize = 10;

pub(super) fn kinds(outcomes: &[Outcome]) -> String {
    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
    for outcome in outcomes {
        let mut seen: Vec<Kind> = outcome.faults.iter().map(|fault| fault.kind).collect();
        seen.sort();
        seen.dedup();
        for kind in seen {
            *kinds.entry(kind).or_default() += 1;
        }
    }
    let kinds = kinds
        .iter()
        .map(|(kind, count)| format!("{kind:?} {count}"));
    kinds.collect::<Vec<_>>().join(", ")
}

/// Puts the counts and the faults into the report.
pub(super) fn tell(outcomes: &[Outcome], report: &mut Report) {
    let mut rows: Vec<(&str, Model)> = Vec::new();
    for outcome in outcomes {
        let row = (outcome.row.as_str(), outcome.model);
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows.sort_by_key(|(row, _)| {
        outcomes
            .iter()
            .position(|outcome| outcome.row == *row)
            .unwrap_or(0)
    });
    for (row, model) in rows {
        let of: Vec<&Outcome> = outcomes
            .iter()
            .filter(|outcome| outcome.row == row && outcome.model == model)
            .collect();
        let bad = of.iter().filter(|o| !o.faults.is_empty()).count();
        let noted = of.iter().filter(|o| o.noted).count();
        let refused = of.iter().filter(|o| o.refused.is_some()).count();
        report.row([
            row.to_owned(),
            model.name().to_owned(),
            of.len().to_string(),
            (of.len() - bad - refused).to_string(),
            noted.to_string(),
            refused.to_string(),
            bad.to_string(),
        ]);
    }
    count(outcomes, report);
    let failed = outcomes.iter().filter(|o| !o.faults.is_empty());
    for (n, outcome) in failed.enumerate() {
        let faults: Vec<String> = outcome.faults.iter().map(Fault::to_string).collect();
        if n < TOLD_MAX {
            report.fail(format!("{}: {}", outcome.told, faults.join("; ")));
        } else {
            report.fail(outcome.told.clone());
        }
    }
}

pub(super) fn refused_of(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|o| o.refused.is_some()).count()
}

/// The counts for the table of all suites.
fn count(outcomes: &[Outcome], report: &mut Report) {
    let with = |kinds: &[Kind]| {
        let harmed = |o: &&Outcome| o.faults.iter().any(|fault| kinds.contains(&fault.kind));
        outcomes.iter().filter(harmed).count() as u64
    };
    report.count("cuts", outcomes.len() as u64);
    report.count("lost", with(&[Kind::Lost]));
    report.count("altered", with(&[Kind::Altered]));
    report.count("reordered", with(&[Kind::Reordered]));
    report.count("unreported", with(&[Kind::Gap]));
    report.count("panics", with(&[Kind::Panic]));
    report.count("false alarms", with(&[Kind::Alarm, Kind::Look]));
    let others = with(&[Kind::Books, Kind::Refused, Kind::Hang]);
    if others > 0 {
        report.count("otherwise wrong", others);
    }
    let refused = refused_of(outcomes) as u64;
    if refused > 0 {
        report.count("not mounted", refused);
        let why = outcomes.iter().find_map(|o| o.refused.as_deref());
        report.note(format!(
            "{refused} disks were refused by ext4 itself, before the library saw them: no fault of \
             it, but nothing is proven by them either. The first: {}",
            why.unwrap_or_default().lines().next().unwrap_or_default()
        ));
    }
}
