//! The fleet whose books a relay shows, beside its channels.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use everpost::Error;
use everpost::fleet::{Access, BooksWatch};
use everpost::nats::Names;
use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::fleet::Servers;
use crate::times::span;

/// How often the books are read, if nothing else is said.
const EVERY: Duration = Duration::from_secs(5);

/// What is typed about a fleet.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Fleet")]
pub(crate) struct Typed {
    /// Shows the books of a fleet too, on the page and in /metrics: the servers of NATS,
    /// `nats://HOST[:PORT][,HOST...]`, or `tls://` to insist on TLS. Can be given several times, for servers of one
    /// cluster. The books are only read, and nothing else of the relay depends on it.
    #[arg(long = "fleet", value_name = "URL")]
    servers: Vec<String>,

    /// The fleet's stream of events; EVENTS otherwise.
    #[arg(long = "fleet-stream", value_name = "NAME")]
    stream: Option<String>,

    /// The file that says to the fleet's servers who this is: one of NATS (.creds), or one with a seed alone (SU...).
    #[arg(long = "fleet-credentials-file", value_name = "FILE")]
    credentials_file: Option<PathBuf>,

    /// Authorities to trust for the fleet's servers beside those of the system, as certificates in PEM.
    #[arg(long = "fleet-ca-file", value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// Allows a connection in clear to another machine: each who is on the way can then read events, and make books up.
    #[arg(long = "fleet-allow-plain")]
    allow_plain: bool,

    /// What the subjects of answers begin with, where these credentials may subscribe to no other; _INBOX otherwise.
    #[arg(long = "fleet-inbox-prefix", value_name = "PREFIX")]
    inbox_prefix: Option<String>,

    /// How often the books of the fleet are read, from 1s to 1h; 5s if nothing is said.
    #[arg(long = "fleet-every", value_name = "TIME", value_parser = span)]
    every: Option<Duration>,
}

/// What the file of a relay says of it, as the table `[fleet]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Table {
    servers: Option<Addresses>,
    stream: Option<Stream>,
    credentials_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    allow_plain: bool,
    inbox_prefix: Option<String>,
    #[serde(with = "humantime_serde")]
    every: Option<Duration>,
}

/// Addresses as `--fleet` takes them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Addresses(String);

impl TryFrom<String> for Addresses {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let _ = Access::new(&text).map_err(|error| said(&error))?;
        Ok(Self(text))
    }
}

/// The name of a stream, as `--fleet-stream` takes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Stream(String);

impl TryFrom<String> for Stream {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Names::new(&text, 1).map_err(|error| said(&error))?;
        Ok(Self(text))
    }
}

/// What is wrong, without what it is wrong with: nothing that was typed is repeated.
fn said(error: &Error) -> String {
    match error {
        Error::Sink { reason } => reason.clone(),
        error => error.to_string(),
    }
}

/// A fleet to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fleet {
    servers: String,
    stream: String,
    credentials_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    allow_plain: bool,
    inbox_prefix: Option<String>,
    every: Duration,
}

/// What a look at the settings tells of it.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    servers: String,
    pub(super) stream: &'a str,
    every_ms: u64,
    /// What a file lacks that it names; none if all are there.
    pub(super) file_error: Option<String>,
}

impl Fleet {
    /// What the file says and what was typed, which wins; none if no servers are named.
    ///
    /// # Errors
    /// A fault that says what to type.
    pub(super) fn of(typed: &Typed, table: Option<Table>) -> Result<Option<Self>, Fault> {
        let has_table = table.is_some();
        let table = table.unwrap_or_default();
        let servers = match typed.servers.as_slice() {
            [] => table.servers.map(|servers| servers.0),
            servers => Some(servers.join(",")),
        };
        let Some(servers) = servers else {
            return if has_table || typed.says_anything() {
                let text = "it is said how a fleet is shown, and its servers are not named";
                Err(Fault::usage(text).hint(
                    "add --fleet nats://HOST[:PORT][,HOST...], or `servers` to the table [fleet]",
                ))
            } else {
                Ok(None)
            };
        };
        let stream = typed
            .stream
            .clone()
            .or(table.stream.map(|stream| stream.0))
            .unwrap_or_else(|| Names::STREAM.to_owned());
        let fleet = Self {
            servers,
            stream,
            credentials_file: typed.credentials_file.clone().or(table.credentials_file),
            ca_file: typed.ca_file.clone().or(table.ca_file),
            allow_plain: typed.allow_plain || table.allow_plain,
            inbox_prefix: typed.inbox_prefix.clone().or(table.inbox_prefix),
            every: typed.every.or(table.every).unwrap_or(EVERY),
        };
        let _ = fleet.access()?;
        Names::new(&fleet.stream, 1)
            .map_err(|error| Fault::usage(said(&error)).hint("name the stream: --fleet-stream"))?;
        let (shortest, longest) = (Duration::from_secs(1), Duration::from_secs(3600));
        if fleet.every < shortest || fleet.every > longest {
            let text = format!("a fleet cannot be looked at every {:?}", fleet.every);
            return Err(Fault::usage(text).hint("write a time from 1s to 1h: --fleet-every 5s"));
        }
        Ok(Some(fleet))
    }

    fn access(&self) -> Result<Access, Fault> {
        let servers = Servers {
            nats: vec![self.servers.clone()],
            credentials_file: self.credentials_file.clone(),
            ca_file: self.ca_file.clone(),
            allow_plain: self.allow_plain,
            inbox_prefix: self.inbox_prefix.clone(),
        };
        let hint = "name the servers: --fleet nats://HOST[:PORT][,HOST[:PORT]...]";
        let access = servers.access().map_err(|fault| match &self.inbox_prefix {
            // Which of both it is, the text says.
            Some(_) => fault.hint(format!("{hint}, and --fleet-inbox-prefix _INBOX_NAME")),
            None => fault.hint(hint),
        })?;
        Ok(access.named("everpost relay"))
    }

    /// Begins to read the books.
    ///
    /// # Errors
    /// None that [`of`](Self::of) would not have found; a server that does not answer is no error.
    pub(super) fn watch(&self) -> Result<BooksWatch, Fault> {
        Ok(BooksWatch::start(self.access()?, &self.stream, self.every)?)
    }

    /// For `--check`. Nothing is asked of any server.
    pub(super) fn shown(&self) -> Result<Shown<'_>, Fault> {
        let files = [&self.credentials_file, &self.ca_file];
        let unreadable = |path: &Path| {
            let error = std::fs::File::open(path).err()?;
            Some(format!("{} cannot be read: {error}", path.display()))
        };
        Ok(Shown {
            servers: self.access()?.to_string(),
            stream: &self.stream,
            every_ms: u64::try_from(self.every.as_millis()).unwrap_or(u64::MAX),
            file_error: files
                .into_iter()
                .flatten()
                .find_map(|path| unreadable(path)),
        })
    }
}

impl Typed {
    /// Whether anything but servers was typed.
    fn says_anything(&self) -> bool {
        self.stream.is_some()
            || self.credentials_file.is_some()
            || self.ca_file.is_some()
            || self.allow_plain
            || self.inbox_prefix.is_some()
            || self.every.is_some()
    }
}

impl Shown<'_> {
    /// In words, on lines.
    pub(super) fn for_people(&self) -> String {
        use crate::text::{duration, plain};
        let every = duration(Duration::from_millis(self.every_ms));
        let mut text = format!(
            "fleet: the books of {} at {}, read every {every}\n",
            plain(self.stream),
            plain(&self.servers)
        );
        if let Some(error) = &self.file_error {
            let error = plain(error);
            text += &format!("fleet: {error}; its books are shown once that is mended\n");
        }
        text
    }
}
