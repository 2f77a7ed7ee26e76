//! `doctor`: looks at everything that delivery needs, and says for each what to do.
//!
//! It looks and changes nothing. The key is read and never shown.

mod group;
mod holder;
mod process;
mod spool;
mod stream;
mod way;

use std::time::Duration;

use everpost::exit;
use serde::Serialize;

use crate::args::Cli;
use crate::environment;
use crate::fault::Fault;
use crate::out::Out;
use crate::settings::To;
use crate::text::plain;

/// How long each look may take: a disk, a name server or a host may never answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// What was found by one look.
#[derive(Debug, Serialize)]
struct Finding {
    /// What was looked at, such as `disk`.
    check: &'static str,
    verdict: Verdict,
    text: String,
    /// What to do; none if it is well.
    advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Ok,
            text: text.into(),
            advice: None,
        }
    }

    fn warn(check: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Warn,
            advice: Some(advice.into()),
            ..Self::ok(check, text)
        }
    }

    fn fail(check: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Fail,
            ..Self::warn(check, text, advice)
        }
    }

    fn of(check: &'static str, fault: Fault) -> Self {
        Self::fail(check, fault.text, fault.hint.unwrap_or_default())
    }

    fn for_people(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        };
        let mut lines = format!("{verdict:<6}{:<10}{}\n", self.check, plain(&self.text));
        if let Some(advice) = self.advice.as_ref().filter(|advice| !advice.is_empty()) {
            lines.push_str(&format!("{:<16}{}\n", "", plain(advice)));
        }
        lines
    }
}

/// All findings, as JSON.
#[derive(Serialize)]
struct Report<'a> {
    /// The worst of them.
    verdict: Verdict,
    checks: &'a [Finding],
}

pub(crate) async fn doctor(cli: &Cli, out: Out) -> Result<(), Fault> {
    let mut all = Vec::new();
    let mut tell = |findings: Vec<Finding>| -> Result<(), Fault> {
        for finding in findings {
            if !out.json {
                out.text(&finding.for_people())?;
            }
            all.push(finding);
        }
        Ok(())
    };
    match environment::effective(cli, true) {
        Ok(effective) => {
            tell(in_time("spool", spool::look(cli, effective.settings())).await)?;
            match &effective.service().receiver {
                To::Botanalytics => {
                    tell(in_time("key", way::key(&effective)).await)?;
                    tell(way::address(&effective, PATIENCE).await)?;
                }
                To::Receiver(receiver) => {
                    tell(in_time("secrets", way::secrets(receiver)).await)?;
                    tell(way::receiver(receiver, PATIENCE).await)?;
                }
                To::Stream(target) => tell(in_time("stream", stream::look(target)).await)?,
            }
        }
        Err(fault) => tell(vec![Finding::of("settings", fault)])?,
    }
    tell(process::limits())?;
    tell(group::limits())?;
    let verdict = all.iter().map(|finding| finding.verdict).max();
    let verdict = verdict.unwrap_or(Verdict::Ok);
    if out.json {
        let checks = &all;
        out.line(&Report { verdict, checks })?;
    }
    match verdict {
        Verdict::Ok | Verdict::Warn => Ok(()),
        Verdict::Fail => Err(Fault::silent(exit::UNEXPECTED)),
    }
}

/// What a look finds, or that it does not end.
async fn in_time(check: &'static str, look: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    let looked = tokio::time::timeout(PATIENCE, look).await;
    looked.unwrap_or_else(|_| {
        let text = format!("no answer within {} s", PATIENCE.as_secs());
        vec![Finding::fail(check, text, "see that the disk answers")]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_and_what_to_do_stands_below_it() {
        let well = Finding::ok("disk", "9.0 GiB free");
        assert_eq!(well.for_people(), "ok    disk      9.0 GiB free\n");
        let ill = Finding::fail("key", "no\u{1b}key", "set BA_API_KEY");
        assert_eq!(
            ill.for_people(),
            "fail  key       no\\u001bkey\n                set BA_API_KEY\n"
        );
        assert!(Verdict::Fail > Verdict::Warn && Verdict::Warn > Verdict::Ok);
    }
}
