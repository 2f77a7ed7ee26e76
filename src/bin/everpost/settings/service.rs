//! The settings of the command itself: the table `[service]` of a settings file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the command itself is told, beside the settings of the queue. Each is none if no layer says
/// anything about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Service {
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

/// How lines of the log are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
