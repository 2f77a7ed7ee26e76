//! `relay --check`: what a relay would do, and what is wrong with it.

use std::path::Path;

use serde::Serialize;

use super::doors::tls;
use super::fleet::{Fleet, Shown};
use super::plan::Plan;
use crate::fault::Fault;
use crate::out::Out;
use crate::text::plain;

/// What a relay would do.
#[derive(Serialize)]
struct Report<'a> {
    dir: &'a Path,
    channels: Vec<Channel<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<Shown<'a>>,
}

#[derive(Serialize)]
struct Channel<'a> {
    channel: &'a str,
    spool: &'a Path,
    url: String,
    /// None if there is one.
    key_error: Option<String>,
}

/// Shows it. Only looks; whether ports are free shows at the start.
pub(super) async fn show(plan: &Plan, out: Out) -> Result<(), Fault> {
    tls(plan)?;
    let mut channels = Vec::new();
    for assignment in plan.channels() {
        let sink = assignment.sink()?;
        let key_error = if assignment.is_for_a_sandbox() {
            None
        } else {
            sink.key().await.err().map(|error| error.to_string())
        };
        channels.push(Channel {
            channel: assignment.name(),
            spool: assignment.spool(),
            url: sink.url().to_owned(),
            key_error,
        });
    }
    let dir = plan.dir();
    let fleet = plan.fleet().map(Fleet::shown).transpose()?;
    let report = Report {
        dir,
        channels,
        fleet,
    };
    out.show(&report, || report.for_people())
}

impl Report<'_> {
    fn for_people(&self) -> String {
        let mut text = String::new();
        for one in &self.channels {
            let (name, url, spool) = (one.channel, plain(&one.url), one.spool.display());
            text += &format!("{name}: to {url}, kept in {spool}\n");
            if let Some(error) = &one.key_error {
                let error = plain(error);
                text += &format!("{name}: no key to deliver with: {error}; what comes is kept\n");
            }
        }
        if let Some(fleet) = &self.fleet {
            text += &fleet.for_people();
        }
        text + "the settings are usable\n"
    }
}
