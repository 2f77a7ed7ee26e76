//! The settings of the command itself: the table `[service]` of a settings file.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use everpost::http::Receiver;
use everpost::nats::Target;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// What the command itself is told, beside the settings of the queue. Each is none if no layer says
/// anything about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Service {
    /// Where events go.
    pub(crate) receiver: To,
    /// The address of the API, up to and including the version.
    pub(crate) base_url: Option<String>,
    /// The channel that the key must be of.
    pub(crate) channel: Option<String>,
    /// The file with the key, read again before each request.
    pub(crate) key_file: Option<PathBuf>,
    /// How long a request may take.
    #[serde(with = "humantime_serde")]
    pub(crate) request_timeout: Option<Duration>,
    /// Where health and numbers are served over HTTP; nowhere otherwise.
    pub(crate) listen: Option<SocketAddr>,
    /// The group whose users may append through the control socket.
    pub(crate) socket_group: Option<String>,
    /// How `run` and `drain` log.
    pub(crate) log_format: Option<LogFormat>,
    /// How long `run` may go on delivering after the signal that ends it.
    #[serde(with = "humantime_serde")]
    pub(crate) deadline: Option<Duration>,
}

/// Where events go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum To {
    /// The Botanalytics API, as the other settings of the command and the variables `BA_*` say.
    #[default]
    Botanalytics,
    /// Elsewhere.
    Receiver(Box<Receiver>),
    /// Into a stream of NATS.
    Stream(Box<Target>),
}

/// The word for the API in the place of an address.
pub(crate) const BOTANALYTICS: &str = "botanalytics";

/// What only the table of a stream has.
const SERVERS: &str = "servers";

/// An address alone does not say what the spool is called in the stream.
const NO_NAME: &str = "a stream of NATS needs a name for the spool: `everpost init --force --to nats://...` writes both";

fn is_nats(address: &str) -> bool {
    ["nats://", "tls://"]
        .iter()
        .any(|scheme| address.trim().starts_with(scheme))
}

impl To {
    /// Whether events that were meant for one of the two may go to the other.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Botanalytics, Self::Botanalytics) => true,
            (Self::Receiver(one), Self::Receiver(other)) => one.is_same_as(other),
            (Self::Stream(one), Self::Stream(other)) => one.is_same_as(other),
            _ => false,
        }
    }
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Botanalytics => f.write_str(BOTANALYTICS),
            Self::Receiver(receiver) => f.write_str(receiver.address()),
            Self::Stream(target) => write!(
                f,
                "{} ({} as {})",
                target.servers(),
                target.names().stream(),
                target.spool()
            ),
        }
    }
}

impl<'de> Deserialize<'de> for To {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let receiver = match Value::deserialize(deserializer)? {
            Value::String(word) if word.trim() == BOTANALYTICS => return Ok(Self::Botanalytics),
            Value::String(address) if is_nats(&address) => return Err(D::Error::custom(NO_NAME)),
            Value::String(address) => Receiver::parse(&address).map_err(|error| match error {
                everpost::Error::Sink { reason } => D::Error::custom(reason),
                error => D::Error::custom(error),
            })?,
            table if table.get(SERVERS).is_some() => {
                let target = Target::deserialize(table).map_err(D::Error::custom)?;
                return Ok(Self::Stream(Box::new(target)));
            }
            table => Receiver::deserialize(table).map_err(D::Error::custom)?,
        };
        Ok(Self::Receiver(Box::new(receiver)))
    }
}

impl Serialize for To {
    /// Without the query of the address, which may be secret.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let receiver = match self {
            Self::Botanalytics => return BOTANALYTICS.serialize(serializer),
            Self::Stream(target) => return target.serialize(serializer),
            Self::Receiver(receiver) => receiver,
        };
        let mut shown = serde_json::to_value(receiver).map_err(serde::ser::Error::custom)?;
        if let Some(url) = shown.get_mut("url") {
            *url = receiver.address().into();
        }
        shown.serialize(serializer)
    }
}

/// How lines of the log are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
