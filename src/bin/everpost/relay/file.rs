//! The file of a relay.

use std::time::Duration;

use everpost::relay::{Origin, OriginError};
use serde::Deserialize;

use crate::listen;
use crate::settings::LogFormat;

/// What the tables of the channels stand under.
pub(super) const CHANNELS: &str = "channels";

/// What the file says of the relay itself. What is left out is as if it were not typed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) listen: Vec<Address>,
    pub(super) hosts: Vec<Host>,
    pub(super) allow_origins: Vec<PageOrigin>,
    pub(super) admin: Option<Address>,
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
}

/// An address as `--listen` takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Address(pub(super) std::net::SocketAddr);

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        listen::address(&text).map(Self)
    }
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
