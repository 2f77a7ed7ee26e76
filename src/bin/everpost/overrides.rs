//! What is typed with a command and wins over what the spool says.

use std::time::Duration;

use clap::{Args, ValueEnum};
use toml::{Table, Value};

use crate::args::{Cli, Command, Deadline, Level};
use crate::listen::Listen;

/// How long a written event may wait for its fdatasync if nothing else is said.
const SYNC_EVERY: &str = "1s";

/// Settings of the queue for this run.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Overrides {
    /// Bytes on disk for the whole spool, such as `64MiB`; for this run, whatever the spool says.
    #[arg(long, value_name = "SIZE", help_heading = "Settings for this run")]
    pub(crate) max_bytes: Option<String>,

    /// What happens when the spool is full; for this run, whatever the spool says.
    #[arg(long, value_name = "RULE", help_heading = "Settings for this run")]
    pub(crate) on_full: Option<Rule>,
}

/// Whether a spool is made where there is none.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct Making {
    /// Refuses, with 2, if there is no spool yet, instead of making one.
    #[arg(long)]
    pub(crate) no_create: bool,
}

/// What `run` is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) deadline: Deadline,

    #[command(flatten)]
    pub(crate) listen: Listen,

    #[command(flatten)]
    pub(crate) making: Making,

    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

/// What an append does when the spool is full.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Rule {
    /// It fails at once.
    Reject,
    /// It waits until delivery has made room, where something delivers.
    Block,
    /// It gives up the oldest pending events, counted under `evicted`.
    #[value(alias = "drop_oldest")]
    DropOldest,
}

/// A word that was typed, the setting it is about, and its value.
pub(crate) type Word = (&'static str, &'static str, Value);

impl Overrides {
    pub(crate) fn words(&self) -> Vec<Word> {
        let max_bytes = self.max_bytes.clone().map(size);
        let on_full = self.on_full.map(Rule::value);
        let words = [
            max_bytes.map(|value| ("--max-bytes", "max_bytes", value)),
            on_full.map(|value| ("--on-full", "on_full", value)),
        ];
        words.into_iter().flatten().collect()
    }
}

impl Rule {
    pub(crate) fn value(self) -> Value {
        let name = match self {
            Self::Reject => "reject",
            Self::Block => "block",
            Self::DropOldest => "drop_oldest",
        };
        Value::String(name.to_owned())
    }
}

/// A size as it was typed: without a unit it is a number, as in a file.
pub(crate) fn size(text: String) -> Value {
    match text.parse() {
        Ok(bytes) => Value::Integer(bytes),
        Err(_) => Value::String(text),
    }
}

/// A time as a file has it.
pub(crate) fn time(time: Duration) -> Value {
    Value::String(humantime::format_duration(time).to_string())
}

/// `written`, with how long an event may wait for its fdatasync.
pub(crate) fn written(sync_every: &str) -> Value {
    let one = |key: &str, value| Value::Table(Table::from_iter([(key.to_owned(), value)]));
    one(
        "written",
        one("sync_every", Value::String(sync_every.to_owned())),
    )
}

/// The settings that were typed with this command.
pub(crate) fn words(cli: &Cli) -> Vec<Word> {
    match &cli.command {
        Command::Append(append) => {
            let mut words = append.input.overrides.words();
            words.extend(append.level.map(|level| {
                let value = match level {
                    Level::Synced => Value::String("synced".to_owned()),
                    Level::Written => written(SYNC_EVERY),
                };
                ("--level", "durability", value)
            }));
            words
        }
        Command::Import(import) => import.overrides.words(),
        Command::Run(run) => {
            let mut words = run.overrides.words();
            let deadline = run.deadline.deadline.map(time);
            words.extend(deadline.map(|value| ("--deadline", "service.deadline", value)));
            words.extend(run.deadline.log.word());
            words
        }
        Command::Drain(drain) => drain.log.word().into_iter().collect(),
        _ => Vec::new(),
    }
}

/// Whether a spool may be made where there is none.
pub(crate) fn may_make(cli: &Cli) -> bool {
    let making = match &cli.command {
        Command::Append(append) => append.input.making,
        Command::Import(import) => import.making,
        Command::Run(run) => run.making,
        _ => return false,
    };
    !making.no_create
}
