//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use everpost::EventId;

use crate::init::Init;
use crate::logging::LogArgs;
use crate::overrides::{Making, Overrides, Run};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  unexpected
  2  usage: arguments, settings, environment or key; or a change that needs --yes
  3  the spool is in use and its owner does not answer
  4  damaged
  5  paused: a person must act
  6  events were still pending at the deadline
  7  some lines of the input were refused
  8  the spool or the disk is full
  9  a limit of `status --check` is exceeded

Settings come from /etc/everpost/settings.toml, settings.toml in the spool (see `everpost init`), the \
file of --settings, the variables, and the arguments; later ones win. `everpost config` shows which \
are in effect and who said so. Without --spool, the spool is $STATE_DIRECTORY, /var/lib/everpost \
for root, and everpost/spool in $XDG_STATE_HOME (~/.local/state) for others.

Delivery reads the variables of the official SDKs: BA_API_KEY, BA_BASE_URL and BA_REQUEST_TIMEOUT \
(milliseconds); and BA_API_KEY_FILE, a file that holds the key and is read again before each \
request. EVERPOST_LOG sets what `run` and `drain` log to standard error: off, error, warn, info, \
debug; EVERPOST_LOG_FORMAT how that looks: text, json.";

/// A durable queue for events: append now, deliver when the network returns.
///
/// An event that was acknowledged is on disk and leaves the spool only once it is delivered, or
/// set aside as a dead letter with the reason. If another process owns the spool, most commands
/// reach it through the control socket in the spool.
#[derive(Debug, Parser)]
#[command(name = "everpost", version, max_term_width = 100, after_long_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// The directory that holds the queue; `everpost config` shows which one is meant without it.
    #[arg(
        long,
        global = true,
        env = "EVERPOST_SPOOL",
        value_name = "DIR",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    pub(crate) spool: Option<PathBuf>,

    /// A TOML file with settings that win over those of the spool. A running owner has its own, so
    /// that a command which reaches one does not apply them.
    #[arg(
        long,
        global = true,
        env = "EVERPOST_SETTINGS",
        value_name = "FILE",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    pub(crate) settings: Option<PathBuf>,

    /// Prints JSON: one object, or one for each line; errors too, on standard error.
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) owners: crate::owner::Owners,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a spool and writes its settings, which every later command follows.
    ///
    /// The settings are in `settings.toml` in the spool, all others beside them as comments; those of a
    /// file that --settings names are taken over. On a
    /// spool that is there it changes nothing, unless --force is given, and never an event.
    Init(Box<Init>),

    /// Appends events, one JSON value per line, from files or standard input.
    ///
    /// When it ends, at the end of the input or on a signal, every line it has read is durable. A
    /// line that is no event is reported with its number and skipped (exit code 7).
    Append(Append),

    /// Delivers what is pending, then ends.
    ///
    /// Ends with 5 as soon as delivery pauses, and with 6 at the deadline; what remains is kept.
    Drain(Deadline),

    /// Delivers for ever, as a service does.
    ///
    /// Serves the control socket, tells systemd when it is ready, and appends what comes on
    /// standard input if that is not a terminal. SIGTERM or Ctrl-C ends it: it takes nothing more
    /// in and goes on delivering until nothing is pending or the deadline is over. A second
    /// signal ends it at once; nothing durable is lost. SIGHUP has it read the key again and look
    /// at the settings.
    ///
    /// Without a key it keeps and serves, and delivers once there is one. It ends by itself only if
    /// delivery or its input breaks.
    Run(Run),

    /// Shows what the queue is doing, why, and what waits.
    Status(Status),

    /// Shows the pending events, oldest first, without moving anything.
    Peek(Peek),

    /// Writes all pending events as JSON lines, for `import`. Nothing is removed.
    Export(Export),

    /// Appends the lines of `export`; ids and times are kept.
    ///
    /// Importing the same lines twice appends them twice, under the same ids.
    Import(Input),

    /// Says what became of an event: pending, delivered, dead, expired, evicted or lost.
    ///
    /// What was delivered is known by its number, also after restarts; an id is looked for in what
    /// waits and in the dead letters. What is not known any more is `settled`: it has left the queue.
    Fate(Fate),

    /// Looks at the events that were set aside, sends them again or discards them.
    #[command(subcommand)]
    Dead(Dead),

    /// Stops delivery after the request in flight, until `resume`; also across restarts.
    ///
    /// Ends when nothing is being sent any more and the pause is on disk.
    Pause,

    /// Ends a pause, whatever its reason.
    ///
    /// Ends when that is on disk, so that a restart delivers too.
    Resume,

    /// Tries now what waits for a time, a disk that refused, and what the API has paused.
    Wake,

    /// Shows how fast a running owner may deliver; sets it, until the owner ends.
    ///
    /// Without arguments it changes nothing. A rate that is not named stays. What an owner begins
    /// with is in the settings: `delivery.rate_events` and `delivery.rate_bytes`.
    Pace(crate::pace::Args),

    /// Reads the whole spool and checks every checksum and range; changes nothing.
    ///
    /// Ends with 4 if something is damaged or missing that is not on record yet. See `incidents` for
    /// what is.
    Verify,

    /// Shows what was found wrong with the spool; acknowledges it.
    ///
    /// Every command tells of it on standard error until a person has acknowledged it.
    Incidents(Incidents),

    /// Shows what is damaged and what can be done; does it with --apply.
    Repair(Repair),

    /// Shows every setting in effect, its value and who said so; changes nothing.
    ///
    /// Also which spool is meant, where the key comes from (never the key), and where events go.
    Config,

    /// Runs a local stand-in for the API, for tests.
    ///
    /// Prints the variables to set for whatever is to send to it, then one line for each request, and
    /// at its end, on Ctrl-C, what it has seen in all.
    #[command(after_long_help = crate::sandbox::args::help())]
    Sandbox(crate::sandbox::args::Sandbox),

    /// Takes in what clients of the API send: a 200 means that it is safe.
    ///
    /// Point a bot in any language here, with BA_BASE_URL, and change nothing else: it is answered
    /// with 200 once its messages survive a power cut, and they are delivered in order when the
    /// network allows. While the queue is full the request is held, and then refused with 503.
    ///
    /// Its queue is a spool in --dir, named by its channel: `everpost --spool DIR/CHANNEL status`
    /// shows it. It ends as `run` does.
    #[command(args_conflicts_with_subcommands = true)]
    Relay(Box<crate::relay::args::Relay>),

    /// Sets up and works on the streams in which the events of many devices meet.
    ///
    /// Devices deliver into a stream of NATS JetStream (`everpost init --to nats://...`), and workers
    /// carry it on, in order: see docs/fleet.md.
    #[command(subcommand)]
    Fleet(crate::fleet::Fleet),

    /// Prints a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },

    /// Prints a manual page, in roff, or writes them all.
    Man(Man),

    /// Prints the version.
    #[command(hide = true)]
    Version,

    /// Checks events against what the API documents; needs no spool and sends nothing.
    ///
    /// A line that the API would refuse is reported with its number (exit code 7).
    Validate(Validate),

    /// Looks at everything that delivery needs, and says for each what to do.
    ///
    /// The spool, the disk, the clock, the key, the address, TLS, the proxy, the limits of the
    /// process and the owner: one line each, `ok`, `warn` or `fail`. It changes nothing and sends no
    /// event. Ends with 1 if something fails.
    Doctor,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Which command, such as `append` or `dead list`; the first page by default.
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Vec<String>,

    /// Writes all pages into this directory instead, each as a file such as `everpost-append.1`.
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Validate {
    /// The files to read, one after the other; `-` is standard input, as is none.
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// The channel whose documentation decides.
    #[arg(long, value_name = "CHANNEL", default_value = "universal")]
    pub(crate) channel: Channel,
}

/// A channel whose messages are documented field by field.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Channel {
    Universal,
}

#[derive(Debug, Args)]
pub(crate) struct Input {
    /// The files to read, one after the other; `-` is standard input, as is none.
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) intake: Intake,

    #[command(flatten)]
    pub(crate) making: Making,

    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

#[derive(Debug, Args)]
pub(crate) struct Append {
    /// Prints `ACK <n>` as soon as an event is durable; n counts the events of this run from 0.
    #[arg(long)]
    pub(crate) ack: bool,

    /// As --ack, counting from this number.
    #[arg(long, value_name = "N")]
    pub(crate) ack_from: Option<u64>,

    /// When an event counts as durable: `synced` survives a power cut, `written` the death of
    /// the process. Otherwise as the settings say; `synced` if they say nothing.
    #[arg(long)]
    pub(crate) level: Option<Level>,

    #[command(flatten)]
    pub(crate) input: Input,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Intake {
    /// Commits up to so many lines together: as many as have been read, without waiting for more.
    /// With 1 each is a commit of its own.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) batch: u32,

    /// Stops at the first line that is refused.
    #[arg(long)]
    pub(crate) strict: bool,

    /// Refuses what the API would refuse on this channel, before it is in the spool.
    #[arg(long, value_name = "CHANNEL")]
    pub(crate) check: Option<Channel>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Level {
    Synced,
    Written,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Deadline {
    /// How long delivery may take: for `drain` from the start, for `run` from the signal. Such as
    /// `60s` or `5m`, or a number of seconds; `drain` has no limit by default, `run` 10s.
    #[arg(long, value_name = "TIME", value_parser = crate::times::span)]
    pub(crate) deadline: Option<Duration>,

    /// Delivers to the receiver that the settings in effect name, although the spool says that its
    /// events are meant for another.
    #[arg(long)]
    pub(crate) redirect: bool,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Shows it again whenever it changes, until a signal.
    #[arg(long)]
    pub(crate) watch: bool,

    #[command(flatten)]
    pub(crate) check: crate::alarm::Check,
}

#[derive(Debug, Args)]
pub(crate) struct Peek {
    /// How many at the most.
    #[arg(short, long, value_name = "N", default_value_t = 10)]
    pub(crate) number: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Fate {
    /// Its sequence number or id.
    #[arg(value_name = "SEQ|ID")]
    pub(crate) event: Letter,

    /// Waits until it has left the queue, also through restarts of the owner: not longer than TIME,
    /// such as `--settled=60s`, if one is given. Ends with 6 if it is pending even then. `--wait`
    /// without a time, behind the event, says the same.
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        value_parser = crate::times::span
    )]
    pub(crate) settled: Option<Option<Duration>>,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The dead letters instead of the pending events.
    #[arg(long)]
    pub(crate) dead: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Dead {
    /// Lists dead letters: all, or those that are chosen.
    List(Choice),
    /// Shows dead letters with their events.
    Show(Choice),
    /// Appends the events of dead letters again, under the same ids.
    Retry(Change),
    /// Removes dead letters and their events for ever.
    Discard(Change),
}

#[derive(Debug, Args)]
pub(crate) struct Choice {
    /// Sequence numbers or ids.
    #[arg(value_name = "SEQ|ID")]
    pub(crate) letters: Vec<Letter>,

    /// All of them.
    #[arg(long, conflicts_with_all = ["letters", "status", "text"])]
    pub(crate) all: bool,

    /// Those that the API answered with this HTTP status.
    #[arg(long, value_name = "STATUS")]
    pub(crate) status: Option<u16>,

    /// Those with this text in what the API said, in upper or lower case.
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Change {
    #[command(flatten)]
    pub(crate) choice: Choice,

    /// Does it without asking. Otherwise what would happen is shown first, and on a terminal the
    /// question asked.
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Incidents {
    /// Notes that a person has seen the incidents of these numbers, or `--all` of them.
    #[arg(long, value_name = "N", num_args = 0..)]
    pub(crate) acknowledge: Option<Vec<u64>>,

    /// Acknowledges all of them, also without `--acknowledge`.
    #[arg(long)]
    pub(crate) all: bool,
}

/// One event or dead letter, as it is named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Letter {
    Seq(u64),
    Id(EventId),
}

impl std::str::FromStr for Letter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(seq) = text.parse() {
            return Ok(Self::Seq(seq));
        }
        let id = text.parse().map(Self::Id);
        id.map_err(|_| "neither a sequence number nor an id".to_owned())
    }
}

#[derive(Debug, Args)]
pub(crate) struct Repair {
    /// Does it: what is damaged is moved to `quarantine/` in the spool, what can be read of it is
    /// saved, what is gone is counted as lost.
    #[arg(long)]
    pub(crate) apply: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_letter_is_named_by_number_or_id() {
        assert_eq!("17".parse(), Ok(Letter::Seq(17)));
        let id = "01980000-0000-7000-8000-000000000001";
        assert_eq!(id.parse(), Ok(Letter::Id(id.parse().unwrap())));
        assert!("x".parse::<Letter>().is_err());
    }
}
