//! `verify` and `repair`.

use std::time::Duration;

use everpost::inspect::{self, Flaw, Report};
use everpost::{Queue, Recovery, exit};
use serde::Serialize;

use crate::args::{self, Cli};
use crate::environment;
use crate::fault::Fault;
use crate::out::Out;
use crate::target::no_spool;
use crate::text::{bytes, count};
use crate::view::range;

pub(crate) fn verify(cli: &Cli, out: Out) -> Result<(), Fault> {
    let report = look(cli)?;
    if !out.json {
        out.text(&headline(&report))?;
    }
    out.line(&report)?;
    verdict(&report)
}

fn look(cli: &Cli) -> Result<Report, Fault> {
    let spool = environment::spool(cli)?;
    if !spool.exists() {
        return Err(no_spool(&spool));
    }
    Ok(inspect::verify(&spool)?)
}

fn verdict(report: &Report) -> Result<(), Fault> {
    if report.is_sound() {
        return Ok(());
    }
    let text = "the spool is damaged";
    Err(Fault::new(exit::DAMAGED, text).hint("copy the directory, then see `everpost repair`"))
}

/// The numbers that matter, for scripts as well as people.
fn headline(report: &Report) -> String {
    let (gaps, errs) = (report.missing.len(), report.errors.len());
    format!(
        "n={} first={} last={} gaps={gaps} errs={errs}\n",
        report.events, report.first, report.last
    )
}

fn for_people(report: &Report) -> String {
    let mut text = headline(report);
    text.push_str(&format!(
        "{} pending, {}; {}; {}\n",
        count(report.events, "event"),
        bytes(report.bytes),
        count(report.dead_letters, "dead letter"),
        count(report.segments, "segment"),
    ));
    for missing in &report.missing {
        text.push_str(&format!("missing: {}\n", range(*missing)));
    }
    flaws(&mut text, "error", &report.errors);
    flaws(&mut text, "note", &report.notes);
    for name in &report.quarantine {
        text.push_str(&format!("quarantine: {name}\n"));
    }
    text
}

fn flaws(text: &mut String, kind: &str, flaws: &[Flaw]) {
    for flaw in flaws {
        text.push_str(&format!(
            "{kind}: {}: {}\n",
            flaw.place.display(),
            flaw.what
        ));
    }
}

/// What a repair would do, or did.
#[derive(Serialize)]
struct Repair {
    /// What was found before.
    before: Report,
    /// What will happen, one sentence each.
    plan: Vec<String>,
    /// What opening the spool found and mended; none if it was not done.
    recovery: Option<Recovery>,
    /// What was found afterwards; none if it was not done.
    after: Option<Report>,
}

pub(crate) async fn repair(cli: &Cli, args: &args::Repair, out: Out) -> Result<(), Fault> {
    let before = look(cli)?;
    let repair = Repair {
        plan: plan(&before),
        before,
        recovery: None,
        after: None,
    };
    if !args.apply {
        out.show(&repair, || plan_for_people(&repair))?;
        return match repair.before.is_sound() {
            true => Ok(()),
            false => {
                let text = "the spool is damaged, and nothing was changed";
                Err(Fault::new(exit::DAMAGED, text)
                    .hint("copy the directory, then `everpost repair --apply`"))
            }
        };
    }
    // Opening mends: that is what every owner does before it takes anything in.
    let queue = Queue::builder(environment::spool(cli)?)
        .settings(environment::settings(cli)?)
        .open()
        .await?;
    let recovery = queue.recovery().clone();
    queue.close(Duration::ZERO).await?;
    let after = look(cli)?;
    out.show(
        &Repair {
            recovery: Some(recovery.clone()),
            after: Some(after.clone()),
            ..repair
        },
        || done_for_people(&recovery, &after),
    )
}

fn plan(report: &Report) -> Vec<String> {
    let mut plan = Vec::new();
    for flaw in &report.errors {
        let place = flaw.place.display();
        let what = if flaw.place.starts_with("segments") {
            "is read around the damage, and moved to quarantine/ once the rest of it is delivered"
        } else if flaw.place.starts_with("state") {
            "is moved to quarantine/, and what can be read of it is saved into a new one"
        } else if flaw.place.starts_with("journal") {
            "is read around the damage, and used again once nothing in it is needed"
        } else {
            "is written again from its copy"
        };
        let line = format!("{place} {what}");
        if !plan.contains(&line) {
            plan.push(line);
        }
    }
    for missing in &report.missing {
        plan.push(format!(
            "{} cannot be read: counted as lost when delivery comes to them",
            range(*missing)
        ));
    }
    plan
}

fn plan_for_people(repair: &Repair) -> String {
    let mut text = for_people(&repair.before);
    if repair.plan.is_empty() {
        text.push_str("there is nothing to repair\n");
    }
    for line in &repair.plan {
        text.push_str(&format!("plan: {line}\n"));
    }
    text
}

fn done_for_people(recovery: &Recovery, after: &Report) -> String {
    let mut text = String::new();
    for note in &recovery.notes {
        text.push_str(&format!("done: {note}\n"));
    }
    text + &for_people(after)
}
