//! `validate`: whether events are what the API documents, without a spool.

use everpost::{Event, Settings, exit, sandbox};
use serde::Serialize;

use crate::append::{TOO_LONG, open_lines, reason};
use crate::args::{self, Channel};
use crate::fault::Fault;
use crate::lines::{self, Line};
use crate::out::{Out, remark};
use crate::refusal::Refusal;
use crate::text::count;

/// Faults of one event that are told; a wrong list may hold thousands.
const TOLD: usize = 5;

/// What was found.
#[derive(Default, Serialize)]
struct Verdict {
    /// Lines that the API would take.
    valid: u64,
    /// Lines that it would refuse, or that are no events.
    refused: u64,
}

pub(crate) async fn validate(args: &args::Validate, out: Out) -> Result<(), Fault> {
    let mut lines = open_lines(&args.files, &Settings::default())?;
    if lines::are_typed(&args.files) && !out.json {
        remark("everpost: reading events from the terminal, one JSON value per line; Ctrl-D ends");
    }
    let mut verdict = Verdict::default();
    while let Some(block) = lines.next().await {
        let block = block.map_err(|source| Fault::io("read the input", &source))?;
        for line in block {
            let place = line.place.clone();
            match of_line(args.channel, line) {
                Ok(()) => verdict.valid += 1,
                Err(reason) => {
                    verdict.refused += 1;
                    Refusal::new(&place, &reason, None).tell(out.json);
                }
            }
        }
    }
    out.show(&verdict, || {
        let mut text = format!("{} valid", count(verdict.valid, "event"));
        if verdict.refused > 0 {
            text.push_str(&format!("; {} refused", count(verdict.refused, "line")));
        }
        text + "\n"
    })?;
    match verdict.refused {
        0 => Ok(()),
        // Each of them was named when it was met.
        _ => Err(Fault::silent(exit::REFUSED)),
    }
}

fn of_line(channel: Channel, line: Line) -> Result<(), String> {
    let bytes = line.bytes.ok_or_else(|| TOO_LONG.to_owned())?;
    check(channel, &Event::json(bytes).map_err(reason)?)
}

/// Whether the API would take this event.
///
/// # Errors
/// Why not, in one line that names fields and never values.
pub(crate) fn check(channel: Channel, event: &Event) -> Result<(), String> {
    let channel = match channel {
        Channel::Universal => "universal",
    };
    let message: serde_json::Value = serde_json::from_slice(event.json_bytes())
        .map_err(|_| "it is nested too deeply, or has a number beyond all bounds".to_owned())?;
    sandbox::check_message(channel, &message).map_err(|faults| {
        let mut told = faults
            .iter()
            .take(TOLD)
            .cloned()
            .collect::<Vec<_>>()
            .join("; ");
        if let Some(more) = faults.len().checked_sub(TOLD).filter(|more| *more > 0) {
            told.push_str(&format!("; and {more} more"));
        }
        told
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_the_api_would_refuse_is_told_by_its_fields() {
        let check = |json: &str| check(Channel::Universal, &Event::json(json.to_owned()).unwrap());
        assert_eq!(check(r#"{"timestamp":1}"#), Ok(()));
        let found = check(r#"{"timestamp":"secret"}"#).unwrap_err();
        assert_eq!(
            found,
            "message.timestamp must be a number of milliseconds that is not negative"
        );
        assert_eq!(check("5").unwrap_err(), "message must be an object");
        let many = format!(
            r#"{{"timestamp":1,"content":{{"texts":[{}]}}}}"#,
            ["5"; 9].join(",")
        );
        assert!(check(&many).unwrap_err().ends_with("; and 4 more"));
        let deep = "[".repeat(1_000) + &"]".repeat(1_000);
        assert!(check(&deep).unwrap_err().contains("too deeply"));
    }
}
