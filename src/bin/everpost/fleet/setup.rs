//! `fleet setup` and `fleet check`: the streams as a fleet needs them.

use std::collections::BTreeSet;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use everpost::clock::{Clock as _, SystemClock};
use everpost::exit;
use everpost::fleet::Fleet;
use everpost::fleet::setup::{self as streams, Finding, Report, Risk};
use everpost::nats::Names;
use serde::Serialize;

use super::access::Servers;
use crate::fault::Fault;
use crate::out::Out;
use crate::text::{count, plain};

/// What is typed with `setup`.
#[derive(Debug, Args)]
pub(crate) struct Setup {
    #[command(flatten)]
    streams: Streams,

    /// Changes streams that are there to what a fleet needs, where the server lets it.
    #[arg(long)]
    update: bool,

    #[command(flatten)]
    servers: Servers,

    #[command(flatten)]
    accepted: Accepted,
}

/// What is typed with `check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    streams: Streams,

    #[command(flatten)]
    servers: Servers,

    #[command(flatten)]
    accepted: Accepted,
}

/// Which streams, and how they should be.
#[derive(Debug, Args)]
struct Streams {
    /// The stream of events; those beside it are named after it.
    #[arg(long, value_name = "NAME", default_value = Names::STREAM)]
    stream: String,

    /// How many partitions there are, from 1 to 512: decided when the stream is made, for ever. No more
    /// workers than this can share the work. Otherwise as the stream says, or 64.
    #[arg(long, value_name = "N")]
    partitions: Option<u16>,

    /// How many servers keep a copy of each stream.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: u8,

    /// The monitoring port of a server, such as http://10.0.0.1:8222, which alone says whether the
    /// server syncs before it acknowledges. Can be given several times, for each server.
    #[arg(long, value_name = "URL")]
    monitor: Vec<String>,
}

/// What a person has said that the fleet lives with: `--accept-NAME` for each kind of finding.
#[derive(Clone, Debug, Default)]
struct Accepted(BTreeSet<Risk>);

impl Accepted {
    fn words() -> impl Iterator<Item = (Risk, &'static str)> {
        let word = |risk: Risk| Some((risk, risk.accept_word()?));
        Risk::ALL.into_iter().filter_map(word)
    }
}

impl Args for Accepted {
    fn augment_args(command: Command) -> Command {
        Self::words().fold(command, |command, (risk, word)| {
            let arg = Arg::new(word)
                .long(word)
                .action(ArgAction::SetTrue)
                .help(format!("Lives with this: {}", risk.cost()))
                .help_heading("What may be accepted");
            command.arg(arg)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Accepted {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let typed = Self::words().filter(|(_, word)| matches.get_flag(word));
        Ok(Self(typed.map(|(risk, _)| risk).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Streams {
    /// What the streams are to be: in the partitions that were typed, or in as many as there are.
    async fn wanted(
        &self,
        client: &everpost::fleet::Client,
        accepted: &Accepted,
    ) -> Result<streams::Setup, Fault> {
        let names = match self.partitions {
            Some(partitions) => Names::new(&self.stream, partitions)?,
            None => match streams::discover(client, &self.stream).await? {
                Some(names) => names,
                None => Names::new(&self.stream, Names::PARTITIONS)?,
            },
        };
        let setup = streams::Setup::new(names).replicas(self.replicas);
        let setup = self.monitor.iter().fold(setup, streams::Setup::monitor);
        let accepted = accepted.0.iter();
        Ok(accepted.fold(setup, |setup, risk| setup.accept(*risk)))
    }
}

pub(super) async fn setup(args: &Setup, out: Out) -> Result<(), Fault> {
    let client = args.servers.access()?.connect().await?;
    let wanted = args.streams.wanted(&client, &args.accepted).await?;
    let report = wanted.update(args.update).make(&client).await?;
    show(&report, out)?;
    match refused(&report) {
        None => Ok(()),
        Some((text, hint)) => {
            let text = format!("nothing was made or changed: {text}");
            Err(Fault::new(exit::USAGE, text).hint(hint))
        }
    }
}

pub(super) async fn check(args: &Check, out: Out) -> Result<(), Fault> {
    let access = args.servers.access()?;
    let client = access.connect().await?;
    let wanted = args.streams.wanted(&client, &args.accepted).await?;
    let mut report = wanted.check(&client).await?;
    let is_free_of = |risk| report.findings.iter().all(|finding| finding.risk != risk);
    if is_free_of(Risk::Missing) && is_free_of(Risk::Partitions) && is_free_of(Risk::NoDirect) {
        let names = Names::new(&report.stream, report.partitions)?;
        let books = Fleet::connect(&access, names).await?.books().await?;
        let unowned = books.unowned(SystemClock.wall());
        wanted.note_books(&mut report, &books, &unowned);
    }
    show(&report, out)?;
    match refused(&report) {
        None => Ok(()),
        Some((text, hint)) => Err(Fault::new(exit::UNEXPECTED, text).hint(hint)),
    }
}

/// What was not accepted, and what to type about all of it.
fn refused(report: &Report) -> Option<(String, String)> {
    let found: Vec<&Finding> = report.refusing().collect();
    if found.is_empty() {
        return None;
    }
    let mut names: Vec<&str> = found.iter().map(|finding| finding.risk.name()).collect();
    names.dedup();
    let text = format!(
        "{} not as a fleet needs it: {}",
        match found.len() {
            1 => "one thing is".to_owned(),
            number => format!("{} are", count(number as u64, "thing")),
        },
        names.join(", ")
    );
    let words: BTreeSet<String> = found
        .iter()
        .filter_map(|finding| Some(format!("--{}", finding.risk.accept_word()?)))
        .collect();
    let words: Vec<String> = words.into_iter().collect();
    let hint = match words.is_empty() {
        true => "mend what is named above".to_owned(),
        false => format!(
            "mend what is named above, or live with what it costs: {}",
            words.join(" ")
        ),
    };
    Some((text, hint))
}

/// A report with what each finding costs and what to do.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    report: &'a Report,
    findings: Vec<ShownFinding<'a>>,
}

#[derive(Serialize)]
struct ShownFinding<'a> {
    #[serde(flatten)]
    finding: &'a Finding,
    cost: &'static str,
    remedy: &'static str,
    /// What to type to live with it; none if that cannot be.
    accept: Option<String>,
}

fn show(report: &Report, out: Out) -> Result<(), Fault> {
    let findings = report.findings.iter().map(|finding| ShownFinding {
        finding,
        cost: finding.risk.cost(),
        remedy: finding.risk.remedy(),
        accept: finding.risk.accept_word().map(|word| format!("--{word}")),
    });
    let object = Shown {
        report,
        findings: findings.collect(),
    };
    out.show(&object, || for_people(&object))
}

fn for_people(shown: &Shown<'_>) -> String {
    let report = shown.report;
    let mut text = format!(
        "{} in {} on nats-server {}\n",
        report.stream,
        count(u64::from(report.partitions), "partition"),
        plain(&report.server)
    );
    for (verb, names) in [("made", &report.made), ("changed", &report.changed)] {
        for name in names {
            text.push_str(&format!("{verb} the stream {}\n", plain(name)));
        }
    }
    for one in &shown.findings {
        let word = match one.finding.is_accepted {
            true => "taken",
            false => "fail",
        };
        let about = one.finding.stream.as_deref().unwrap_or("servers");
        text.push_str(&format!(
            "{word:<6}{}: {}\n{:<6}costs: {}\n{:<6}do: {}\n",
            plain(about),
            plain(&one.finding.found),
            "",
            one.cost,
            "",
            one.remedy
        ));
    }
    if shown.findings.is_empty() {
        text.push_str("ok    all is as a fleet needs it\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_accepted_has_a_word_and_nothing_else_has() {
        let command = Accepted::augment_args(Command::new("setup"));
        let typed = |word: &str| {
            let matches = command.clone().try_get_matches_from(["setup", word]);
            matches.map(|matches| Accepted::from_arg_matches(&matches).unwrap().0)
        };
        let taken = typed("--accept-few-replicas").unwrap();
        assert_eq!(taken, BTreeSet::from([Risk::FewReplicas]));
        assert!(typed("--accept-partitions").is_err());
        assert!(typed("--accept-missing").is_err());
    }
}
