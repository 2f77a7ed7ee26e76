//! `incidents`: what was found wrong with a spool, told until a person has acknowledged it.

use std::time::{Duration, UNIX_EPOCH};

use everpost::{Incident, IncidentKind};

use crate::args::{self, Cli};
use crate::eyes::Eyes;
use crate::fault::Fault;
use crate::out::{Out, remark};
use crate::owner::Way;
use crate::target::Target;
use crate::text::{cut, time};

/// The heading of the list; times are UTC.
const HEADING: &str = "no.  found (UTC)               kind and what (acknowledged or not)";

/// Incidents that another command tells of at the most.
const TOLD: usize = 8;

/// Characters shown of what is wrong.
const SHOWN: usize = 400;

pub(crate) async fn incidents(cli: &Cli, args: &args::Incidents, out: Out) -> Result<(), Fault> {
    match (args.acknowledge.as_deref(), args.all) {
        (None, false) => {}
        (None | Some([]), true) => return acknowledge(cli, None, out).await,
        (Some(numbers @ [_, ..]), false) => return acknowledge(cli, Some(numbers), out).await,
        (Some(_), _) => {
            let hint = "`--acknowledge 1 2`, or `--acknowledge --all`";
            return Err(Fault::usage("either numbers or all are acknowledged").hint(hint));
        }
    }
    let eyes = Eyes::open(Way::of(cli)?).await?;
    let all = eyes.incidents().await?;
    if all.is_empty() && !out.json {
        return out.text("nothing was found wrong with the spool\n");
    }
    show(&all, out)
}

fn show(incidents: &[Incident], out: Out) -> Result<(), Fault> {
    if out.json {
        return out.lines(incidents);
    }
    out.heading(true, HEADING, "")?;
    out.text(&incidents.iter().map(row).collect::<String>())
}

/// Number, time, kind, place, what, and whether it was acknowledged.
fn row(incident: &Incident) -> String {
    let number = match incident.number {
        0 => "new".to_owned(),
        number => number.to_string(),
    };
    let seen = match (incident.number, incident.acknowledged_ms) {
        (0, _) => "not on record yet".to_owned(),
        (_, Some(ms)) => format!("acknowledged {}", at(ms)),
        (_, None) => "not acknowledged".to_owned(),
    };
    let (when, kind) = (when(incident), kind(incident.kind));
    format!("{number}  {when}  {kind}  {}  ({seen})\n", what(incident))
}

/// What is wrong and where. Both may come from a file that a stranger made.
fn what(incident: &Incident) -> String {
    let (place, what) = (cut(&incident.place, SHOWN), cut(&incident.what, SHOWN));
    format!("{place}: {what}")
}

fn at(ms: u64) -> String {
    time(UNIX_EPOCH + Duration::from_millis(ms))
}

/// What is not on record yet has no time.
fn when(incident: &Incident) -> String {
    match incident.number {
        0 => "now".to_owned(),
        _ => at(incident.time_ms),
    }
}

fn kind(kind: IncidentKind) -> &'static str {
    match kind {
        IncidentKind::EventsMissing => "events missing",
        IncidentKind::LettersMissing => "letters missing",
        IncidentKind::Damaged => "damaged",
        IncidentKind::Foreign => "foreign",
        IncidentKind::Marker => "marker",
        IncidentKind::Gone => "gone",
        _ => "other",
    }
}

/// One of them in one line, without the name of the command.
pub(crate) fn line(incident: &Incident) -> String {
    match incident.number {
        0 => format!("not on record yet: {}", what(incident)),
        number => format!("{number} ({}): {}", when(incident), what(incident)),
    }
}

/// Tells on standard error what no person has acknowledged yet, one line each.
pub(crate) fn tell(incidents: &[Incident]) {
    for incident in incidents.iter().take(TOLD) {
        let line = line(incident);
        remark(&format!(
            "everpost: incident {line}; see `everpost incidents`"
        ));
    }
    if incidents.len() > TOLD {
        let more = incidents.len() - TOLD;
        remark(&format!(
            "everpost: and {more} incidents more; see `everpost incidents`"
        ));
    }
}

/// Tells of those that were put on record after the number `last`.
pub(crate) fn tell_since(last: u64, incidents: &[Incident]) {
    let new = incidents.iter().filter(|incident| incident.number > last);
    tell(&new.cloned().collect::<Vec<_>>());
}

/// The number of the last one.
pub(crate) fn last(incidents: &[Incident]) -> u64 {
    incidents.iter().map(|i| i.number).max().unwrap_or(0)
}

/// Acknowledges those with these numbers, or all.
async fn acknowledge(cli: &Cli, numbers: Option<&[u64]>, out: Out) -> Result<(), Fault> {
    let target = Target::open_quietly(cli, false).await?;
    let done = acknowledge_at(&target, numbers).await;
    target.close().await?;
    let acknowledged = done?;
    if acknowledged.is_empty() {
        remark("everpost: there is nothing to acknowledge that was not acknowledged before");
    }
    // Shown as a whole: what this opening put on record is seen here for the first time.
    show(&acknowledged, out)
}

/// Acknowledges what was named, or all, and gives those that were not acknowledged before. Nothing
/// is acknowledged if one of the numbers is wrong.
async fn acknowledge_at(
    target: &Target<'_>,
    numbers: Option<&[u64]>,
) -> Result<Vec<Incident>, Fault> {
    let known = target.incidents().await?;
    let is_known = |number: &u64| known.iter().any(|incident| incident.number == *number);
    if let Some(number) = numbers
        .into_iter()
        .flatten()
        .find(|number| !is_known(number))
    {
        let text = format!("no such incident is on record. number=`{number}`");
        return Err(Fault::usage(text).hint("`everpost incidents` lists them"));
    }
    // One by one, so that none is acknowledged that was found since they were listed.
    let mut done = Vec::new();
    for incident in &known {
        let is_meant = numbers.is_none_or(|numbers| numbers.contains(&incident.number));
        if is_meant && target.acknowledge(incident.number).await? > 0 {
            done.push(incident.number);
        }
    }
    let mut after = target.incidents().await?;
    after.retain(|incident| done.contains(&incident.number));
    Ok(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Place and text of an incident come from files and from an owner: neither may turn the text
    /// on a terminal round, or begin a line of its own.
    #[test]
    fn an_incident_is_one_line_without_anything_a_terminal_would_obey() {
        let json = r#"{"number":3,"time_ms":1764000000000,"kind":"foreign",
            "place":"letters/\u202ea\u009b2J","what":"x\ny","missing":null,"acknowledged_ms":null}"#;
        let incident: Incident = serde_json::from_str(json).unwrap();
        assert_eq!(
            line(&incident),
            "3 (2025-11-24T16:00:00.000Z): letters/\\u202ea\\u009b2J: x y"
        );
        assert_eq!(
            row(&incident),
            "3  2025-11-24T16:00:00.000Z  foreign  letters/\\u202ea\\u009b2J: x y  (not acknowledged)\n"
        );
    }
}
