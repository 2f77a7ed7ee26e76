//! `status --check`: what is wrong, for monitoring.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use everpost::clock::{Clock as _, SystemClock};
use everpost::control::ClientError;
use everpost::{FlusherState, Status, exit};
use serde::Serialize;
use tokio::time::timeout;

use crate::args::Cli;
use crate::eyes::Eyes;
use crate::fault::Fault;
use crate::incidents;
use crate::out::Out;
use crate::owner::{Way, is_gone};
use crate::text::{bytes, count, cut, duration, plain, time};
use crate::times::span;
use crate::view;

/// How long an owner may take to answer: longer than it waits for its own disk.
const PATIENCE: Duration = Duration::from_secs(8);

/// Characters shown of a text from outside.
const SHOWN: usize = 200;

/// Whether to check, and what is held to be too much.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Prints only what is wrong, one line each, and ends with a code that says how bad it is: for
    /// monitoring. Incidents, a pause and a disk that refuses are always wrong.
    #[arg(long, conflicts_with = "watch")]
    check: bool,

    /// With --check: how long delivery may fail without being paused.
    #[arg(long, requires = "check", value_name = "TIME", default_value = "15m", value_parser = span)]
    max_backoff: Duration,

    /// With --check: how many dead letters there may be.
    #[arg(long, requires = "check", value_name = "N", default_value_t = 0)]
    max_dead: u64,

    /// With --check: how much of `max_bytes` may be used.
    #[arg(long, requires = "check", value_name = "PERCENT", default_value = "80%", value_parser = percent)]
    max_disk: u8,

    /// With --check: how old the oldest pending event may be; no limit by default.
    #[arg(long, requires = "check", value_name = "TIME", value_parser = span)]
    max_age: Option<Duration>,

    /// With --check: that no owner answers is wrong too.
    #[arg(long, requires = "check")]
    owner: bool,
}

/// `80%` or `80`.
fn percent(text: &str) -> Result<u8, String> {
    let number = text.trim().strip_suffix('%').unwrap_or(text).trim();
    let percent = number.parse().ok().filter(|percent| *percent <= 100);
    percent.ok_or_else(|| "it is no number from 0 to 100; write 80%".to_owned())
}

impl Check {
    pub(crate) fn is_wanted(&self) -> bool {
        self.check
    }
}

/// One thing that is wrong.
#[derive(Debug, Serialize)]
struct Finding {
    /// `unreachable`, `no_owner`, `not_ready`, `storage`, `full`, `incident`, `missing`, `failed`,
    /// `paused`, `backing_off`, `dead_letters`, `disk`, `age`.
    kind: &'static str,
    /// What the command ends with if nothing is worse.
    code: u8,
    what: String,
    hint: String,
}

/// What monitoring gets.
#[derive(Serialize)]
struct Report {
    ok: bool,
    /// The exit code.
    code: u8,
    /// Whether an owner answered.
    live: bool,
    findings: Vec<Finding>,
}

/// The worst comes first.
const WORST_FIRST: [u8; 8] = [
    exit::FULL,
    exit::DAMAGED,
    exit::UNEXPECTED,
    exit::USAGE,
    exit::IN_USE,
    exit::PAUSED,
    exit::LIMIT,
    exit::DONE,
];

pub(crate) async fn check(cli: &Cli, check: &Check, out: Out) -> Result<(), Fault> {
    let looked = match timeout(PATIENCE, look(cli)).await {
        Ok(looked) => looked,
        Err(_) => {
            let text = format!("nothing answered. waited=`{PATIENCE:?}`");
            Err(Fault::new(exit::IN_USE, text)
                .hint("see whether the owner runs and the disk answers"))
        }
    };
    let (report, summary) = match looked {
        Ok(seen) => {
            let summary = seen.summary();
            (seen.report(check), summary)
        }
        Err(fault) => {
            let finding = Finding {
                kind: "unreachable",
                code: fault.code,
                what: fault.text,
                hint: fault.hint.unwrap_or_default(),
            };
            (Report::new(false, vec![finding]), String::new())
        }
    };
    out.show(&report, || match report.ok {
        true => summary,
        false => report.findings.iter().map(line).collect(),
    })?;
    match report.code {
        exit::DONE => Ok(()),
        code => Err(Fault::silent(code)),
    }
}

fn line(finding: &Finding) -> String {
    let Finding { what, hint, .. } = finding;
    let hint = match hint.is_empty() {
        true => String::new(),
        false => format!("; {}", plain(hint)),
    };
    format!("{}{hint}\n", plain(what))
}

/// What was seen of the queue.
struct Seen {
    live: bool,
    status: Status,
    /// Why the owner would take no append.
    not_ready: Option<Finding>,
    /// The pause that the next owner goes on with.
    paused: Option<(everpost::PauseReason, everpost::Answer, SystemTime)>,
    oldest: Option<SystemTime>,
    now: SystemTime,
}

async fn look(cli: &Cli) -> Result<Seen, Fault> {
    let way = Way::of(cli)?;
    match way.client().status().await {
        Ok(_) => {}
        Err(why) if is_gone(&why) => {}
        // Others would look at the files instead; here it is what is wrong.
        Err(why) => return Err(why.into()),
    }
    let eyes = Eyes::open(way).await?;
    let not_ready = match eyes.owner() {
        Some(owner) => not_ready(owner.ready().await.map(drop))?,
        None => None,
    };
    let status = eyes.status().await?;
    let paused = eyes.paused().await?;
    let oldest = match status.oldest_pending {
        None if status.pending > 0 => {
            let first = eyes.glimpse(1).await?;
            let ms = first.first().map(|event| event.time_ms);
            ms.map(|ms| UNIX_EPOCH + Duration::from_millis(ms))
        }
        known => known,
    };
    Ok(Seen {
        live: eyes.owner().is_some(),
        not_ready,
        paused: paused.map(|paused| (paused.reason, paused.last_error.clone(), paused.since())),
        oldest,
        now: SystemClock.wall(),
        status,
    })
}

/// An owner that says why it would take no append.
fn not_ready(asked: Result<(), ClientError>) -> Result<Option<Finding>, Fault> {
    let (kind, text, hint) = match asked {
        Ok(()) => return Ok(None),
        // It went away in the midst, and the files say the rest; or it is of an older version.
        Err(ClientError::NoOwner { .. } | ClientError::Broken { .. }) => return Ok(None),
        Err(ClientError::Refused { kind, .. }) if kind == "no_such_endpoint" => return Ok(None),
        Err(ClientError::Refused {
            kind, text, hint, ..
        }) => (kind, text, hint),
        Err(error) => return Err(error.into()),
    };
    let (kind, code) = match kind.as_str() {
        "full" => ("full", exit::FULL),
        "storage" => ("storage", exit::FULL),
        "no_answer" | "closed" | "not_owner" => ("not_ready", exit::IN_USE),
        _ => ("not_ready", exit::UNEXPECTED),
    };
    Ok(Some(Finding {
        kind,
        code,
        what: format!("no append is taken: {}", cut(&text, SHOWN)),
        hint,
    }))
}

impl Report {
    fn new(live: bool, findings: Vec<Finding>) -> Self {
        let codes = || findings.iter().map(|finding| finding.code);
        let worst = WORST_FIRST
            .into_iter()
            .find(|code| codes().any(|c| c == *code));
        let code = worst.or(codes().next()).unwrap_or(exit::DONE);
        Self {
            ok: findings.is_empty(),
            code,
            live,
            findings,
        }
    }
}

impl Seen {
    fn report(self, check: &Check) -> Report {
        let (live, mut findings) = (self.live, Vec::new());
        let mut note = |kind, code, what: String, hint: &str| {
            let hint = hint.to_owned();
            findings.push(Finding {
                kind,
                code,
                what,
                hint,
            });
        };
        self.keeping(&mut note);
        self.delivering(check, &mut note);
        self.limits(check, &mut note);
        findings.splice(0..0, self.not_ready);
        Report::new(live, findings)
    }

    /// What keeps the events from being kept.
    fn keeping(&self, note: &mut impl FnMut(&'static str, u8, String, &str)) {
        let status = &self.status;
        let is_told = self
            .not_ready
            .as_ref()
            .is_some_and(|told| told.kind == "storage");
        if let Some(fault) = status.storage_fault.as_ref().filter(|_| !is_told) {
            let what = format!("the disk refuses: {}", cut(fault, SHOWN));
            note("storage", exit::FULL, what, "see `df` and the system's log");
        }
        for incident in &status.incidents {
            let what = format!("incident {}", incidents::line(incident));
            note("incident", exit::DAMAGED, what, "see `everpost incidents`");
        }
        for range in &status.missing {
            let what = format!("{} cannot be read", view::range(*range));
            note("missing", exit::DAMAGED, what, "see `everpost verify`");
        }
    }

    /// What keeps them from being delivered.
    fn delivering(&self, check: &Check, note: &mut impl FnMut(&'static str, u8, String, &str)) {
        if !self.live && check.owner {
            let hint = "start `everpost run`";
            note(
                "no_owner",
                exit::IN_USE,
                "no owner answers".to_owned(),
                hint,
            );
        }
        let mut paused = |reason, answer: &_, since| {
            let why = view::why(reason, answer);
            let what = format!("delivery is paused since {}: {why}", time(since));
            note("paused", exit::PAUSED, what, view::cure(reason));
        };
        match (&self.status.flusher, &self.paused) {
            (
                FlusherState::Paused {
                    reason,
                    last_error,
                    since,
                    ..
                },
                _,
            ) => paused(*reason, last_error, *since),
            (FlusherState::Absent, Some((reason, answer, since))) => {
                paused(*reason, answer, *since)
            }
            (FlusherState::Failed { message }, _) => {
                let what = format!("delivery has ended by a panic: {}", cut(message, SHOWN));
                let hint = "restart the owner; nothing is lost";
                note("failed", exit::UNEXPECTED, what, hint);
            }
            (
                FlusherState::BackingOff {
                    since, last_error, ..
                },
                _,
            ) => {
                let failing = self.now.duration_since(*since).unwrap_or_default();
                if failing > check.max_backoff {
                    let (failing, said) = (duration(failing), view::said(last_error));
                    let what = format!("delivery has failed for {failing}: {said}");
                    note(
                        "backing_off",
                        exit::LIMIT,
                        what,
                        "see the network and the API",
                    );
                }
            }
            _ => {}
        }
    }

    /// What is more than it may be.
    fn limits(&self, check: &Check, note: &mut impl FnMut(&'static str, u8, String, &str)) {
        let status = &self.status;
        if status.dead_letters > check.max_dead {
            let what = count(status.dead_letters, "dead letter");
            note(
                "dead_letters",
                exit::LIMIT,
                what,
                "see `everpost dead list`",
            );
        }
        let (used, max) = (status.disk_bytes, status.max_bytes);
        if u128::from(used) * 100 > u128::from(max) * u128::from(check.max_disk) {
            let what = format!(
                "{} of {} are used, more than {}%",
                bytes(used),
                bytes(max),
                check.max_disk
            );
            let hint = "see why it does not drain, or raise `max_bytes`";
            note("disk", exit::LIMIT, what, hint);
        }
        if let (Some(limit), Some(age)) = (check.max_age, self.age())
            && age > limit
        {
            let what = format!("the oldest pending event is {} old", duration(age));
            note("age", exit::LIMIT, what, "see `everpost status`");
        }
    }

    fn age(&self) -> Option<Duration> {
        let oldest = self.oldest.filter(|_| self.status.pending > 0)?;
        Some(self.now.duration_since(oldest).unwrap_or_default())
    }

    /// One line for when nothing is wrong.
    fn summary(&self) -> String {
        let status = &self.status;
        let state = match self.live {
            true => view::state(&status.flusher, self.now),
            false => "no owner answers".to_owned(),
        };
        format!(
            "ok: {state}; {} pending, {}, {} of {}\n",
            count(status.pending, "event"),
            count(status.dead_letters, "dead letter"),
            bytes(status.disk_bytes),
            bytes(status.max_bytes)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage() {
        assert_eq!(
            (percent("80%"), percent("5"), percent("100 %")),
            (Ok(80), Ok(5), Ok(100))
        );
        for bad in ["", "%", "101", "-1", "80.5", "80%%", "x"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_worst_code_comes_out() {
        let report = |codes: &[u8]| {
            let finding = |code: &u8| Finding {
                kind: "age",
                code: *code,
                what: String::new(),
                hint: String::new(),
            };
            Report::new(true, codes.iter().map(finding).collect())
        };
        assert_eq!((report(&[]).ok, report(&[]).code), (true, exit::DONE));
        assert_eq!(report(&[exit::LIMIT, exit::PAUSED]).code, exit::PAUSED);
        assert_eq!(report(&[exit::PAUSED, exit::DAMAGED]).code, exit::DAMAGED);
        assert_eq!(report(&[exit::LIMIT, exit::FULL]).code, exit::FULL);
    }
}
