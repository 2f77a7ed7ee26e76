//! `verify` and `repair`.

use std::path::Path;

use everpost::inspect::{self, Flaw, Report};
use everpost::{Error, Incident, IncidentKind, Queue, Recovery, exit};
use serde::Serialize;

use crate::args::{self, Cli};
use crate::environment;
use crate::eyes::DISTURBED;
use crate::fault::Fault;
use crate::incidents;
use crate::out::{Out, remark};
use crate::owner::{Way, opened, own};
use crate::text::{bytes, count, plain};
use crate::view::range;

pub(crate) fn verify(cli: &Cli, out: Out) -> Result<(), Fault> {
    let report = look(cli)?;
    if out.json {
        out.line(&report)?;
    } else if out.is_terminal() {
        out.text(&(for_people(&report) + conclusion(&report)))?;
    } else {
        // A script reads the first line, or the object behind it.
        out.text(&headline(&report))?;
        out.line(&report)?;
        out.text(&findings(&report))?;
    }
    incidents::tell(&report.incidents);
    verdict(&report)
}

fn look(cli: &Cli) -> Result<Report, Fault> {
    let report = inspect::verify(&environment::spool(cli)?)?;
    if report.disturbed {
        remark(DISTURBED);
    }
    Ok(report)
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
    text + &findings(report)
}

/// The last line for people. Of what is damaged the verdict tells.
fn conclusion(report: &Report) -> &'static str {
    match (
        report.is_sound(),
        report.known.is_empty() && report.missing.is_empty(),
    ) {
        (true, true) => "sound: every checksum and every range was checked\n",
        (true, false) => "all that is damaged is on record, and read around\n",
        (false, _) => "",
    }
}

/// What is wrong, in rows.
fn findings(report: &Report) -> String {
    let mut text = String::new();
    flaws(&mut text, "error", &report.errors);
    flaws(&mut text, "known", &report.known);
    flaws(&mut text, "note", &report.notes);
    for name in &report.quarantine {
        text.push_str(&format!("quarantine: {}\n", plain(name)));
    }
    text
}

fn flaws(text: &mut String, kind: &str, flaws: &[Flaw]) {
    for flaw in flaws {
        let place = match flaw.place.as_os_str().is_empty() {
            true => String::new(),
            false => format!("{}: ", plain(&flaw.place.to_string_lossy())),
        };
        text.push_str(&format!("{kind}: {place}{}\n", plain(&flaw.what)));
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
    /// What was put on record, by opening the spool and by reading all of it; none if it was not
    /// done.
    incidents: Option<Vec<Incident>>,
    /// What was found afterwards; none if it was not done.
    after: Option<Report>,
}

pub(crate) async fn repair(cli: &Cli, args: &args::Repair, out: Out) -> Result<(), Fault> {
    let before = look(cli)?;
    let repair = Repair {
        plan: plan(&before),
        before,
        recovery: None,
        incidents: None,
        after: None,
    };
    if !args.apply {
        incidents::tell(&repair.before.incidents);
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
    let (recovery, incidents) = apply(cli, &repair.before).await?;
    let after = look(cli)?;
    out.show(
        &Repair {
            recovery: Some(recovery.clone()),
            incidents: Some(incidents.clone()),
            after: Some(after.clone()),
            ..repair
        },
        || done_for_people(&recovery, &incidents, &after),
    )?;
    if out.json {
        incidents::tell(&after.incidents);
    } else {
        // The others were just shown.
        let mut others = after.incidents.clone();
        others.retain(|incident| !incidents.contains(incident));
        incidents::tell(&others);
    }
    verdict(&after)
}

/// Opens the spool, which mends: that is what every owner does before it takes anything in. Then
/// reads every pending event, since an opening does not, so that all that is damaged is on record.
async fn apply(cli: &Cli, before: &Report) -> Result<(Recovery, Vec<Incident>), Fault> {
    let told = incidents::last(&before.incidents);
    let settings = environment::settings(cli)?;
    let open = async |spool: &Path| {
        let builder = Queue::builder(spool).settings(settings.clone());
        opened(builder.open().await)
    };
    let owned = own(&Way::to_own(cli)?, cli.owners.wait, open).await?;
    let queue = owned.queue();
    environment::tell_overrides(cli);
    let read = read_all(queue).await;
    let mut incidents = queue.incidents().list().await?;
    let recovery = queue.recovery().clone();
    owned.hand_over().await?;
    read?;
    let is_old =
        |incident: &Incident| incident.number <= told || incident.acknowledged_ms.is_some();
    incidents.retain(|incident| !is_old(incident));
    Ok((recovery, incidents))
}

async fn read_all(queue: &Queue) -> Result<(), Error> {
    let mut events = queue.events(..);
    while events.next().await?.is_some() {}
    Ok(())
}

fn plan(report: &Report) -> Vec<String> {
    let mut plan = Vec::new();
    // What is on record was planned for when it was put there, and may stay for a while.
    for flaw in report.errors.iter().chain(&report.known) {
        let Some(deed) = deed(flaw) else { continue };
        let line = format!("{} {deed}", plain(&flaw.place.to_string_lossy()));
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

/// What is done about a flaw; none for events that cannot be read, of which the plan tells anyway.
fn deed(flaw: &Flaw) -> Option<&'static str> {
    let is_in = |name: &str| flaw.place.starts_with(name);
    Some(match flaw.kind {
        Some(IncidentKind::EventsMissing) => return None,
        Some(IncidentKind::LettersMissing) => "are counted anew, and the difference is booked",
        Some(IncidentKind::Gone) => "is made anew",
        Some(IncidentKind::Foreign) => "is not read, and is moved to quarantine/",
        Some(IncidentKind::Marker) => "is written again from its twin",
        _ if is_in("segments") => {
            "is read around the damage, and moved to quarantine/ once the rest of it is delivered"
        }
        _ if is_in("letters") => "is read around the damage; what can be read of it is kept",
        _ if is_in("journal") => {
            "is read around the damage, and used again once nothing in it is needed"
        }
        _ => "is moved to quarantine/ and begun anew",
    })
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

fn done_for_people(recovery: &Recovery, incidents: &[Incident], after: &Report) -> String {
    let mut text = String::new();
    for incident in incidents {
        text.push_str(&format!("on record: {}\n", incidents::line(incident)));
    }
    for note in &recovery.notes {
        text.push_str(&format!("done: {}\n", plain(note)));
    }
    text + &for_people(after) + conclusion(after)
}
