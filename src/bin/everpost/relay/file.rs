//! The file of a relay.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use everpost::relay::{Origin, OriginError};
use serde::Deserialize;

use super::fleet::Table;
use super::spot::{Mode, Spot};
use crate::listen;
use crate::settings::LogFormat;

/// What the tables of the channels stand under.
pub(super) const CHANNELS: &str = "channels";

/// What the file says of the relay itself. What is left out is as if it were not typed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) listen: Vec<Spot>,
    pub(super) socket_group: Option<String>,
    pub(super) socket_mode: Option<Mode>,
    pub(super) tls_cert: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
    pub(super) rate: Option<NonZeroU32>,
    pub(super) hosts: Vec<Host>,
    pub(super) allow_origins: Vec<PageOrigin>,
    pub(super) admin: Option<Spot>,
    pub(super) admin_token: bool,
    pub(super) plain: bool,
    pub(super) tokens_only: bool,
    pub(super) validate: bool,
    #[serde(with = "humantime_serde")]
    pub(super) hold: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub(super) dedupe: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub(super) deadline: Option<Duration>,
    pub(super) log_format: Option<LogFormat>,
    pub(super) fleet: Option<Table>,
}

/// A name as `--listen-host` takes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Host(pub(super) String);

impl TryFrom<String> for Host {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        listen::name(&text).map(Self)
    }
}

/// An origin as `--allow-origin` takes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct PageOrigin(pub(super) Origin);

impl TryFrom<String> for PageOrigin {
    type Error = OriginError;

    fn try_from(text: String) -> Result<Self, OriginError> {
        text.parse().map(Self)
    }
}
