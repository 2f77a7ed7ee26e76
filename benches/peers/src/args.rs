//! What the command line says.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Measures everpost beside its peers and beside the physical limit.
#[derive(Parser, Debug)]
#[command(name = "peers")]
pub(crate) struct Args {
    /// Shorter rounds and smaller backlogs, under 3 minutes together; leaves docs alone.
    #[arg(long)]
    pub(crate) quick: bool,

    /// One JSON object per line and measurement on the standard output.
    #[arg(long)]
    pub(crate) json: bool,

    /// Write docs/performance.md also after a quick run, or one of some cases only.
    #[arg(long)]
    pub(crate) write: bool,

    /// Where the data goes: a directory on a real disk.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target"))]
    pub(crate) dir: PathBuf,

    /// Only systems whose name contains this; the limits always run.
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Option<String>,

    /// Rounds of each system, instead of 5.
    #[arg(long, value_name = "N")]
    pub(crate) rounds: Option<usize>,

    /// The cases to run, by name or the beginning of one; all of them if none is given.
    #[arg(value_name = "CASE")]
    pub(crate) cases: Vec<String>,
}

impl Args {
    /// How often each system is measured.
    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(5)
    }

    /// How long one measurement of a rate lasts.
    pub(crate) fn span(&self) -> Duration {
        Duration::from_millis(if self.quick { 150 } else { 300 })
    }

    /// How long a system runs before the measurement begins.
    pub(crate) fn warm_up(&self) -> Duration {
        self.span() / 4
    }

    /// One of two values, by whether the run is quick.
    pub(crate) fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Whether everything is measured, at full length.
    pub(crate) fn is_whole(&self) -> bool {
        !self.quick && self.cases.is_empty() && self.only.is_none() && self.rounds() >= 5
    }

    /// Whether a case was asked for.
    pub(crate) fn wants(&self, case: &str) -> bool {
        self.cases.is_empty()
            || self
                .cases
                .iter()
                .any(|asked| case.starts_with(asked.as_str()))
    }

    /// Whether a system was asked for.
    pub(crate) fn wants_system(&self, name: &str) -> bool {
        self.only
            .as_ref()
            .is_none_or(|only| name.contains(only.as_str()))
    }
}
