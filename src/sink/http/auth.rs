//! How a request says who sends it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::sink::key::SecretSource;

/// How a request says who sends it. `S` is where its secret comes from: a [`SecretSource`], or a
/// [`SecretRef`] where it is data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Auth<S = SecretSource> {
    /// It does not.
    #[default]
    None,
    /// `Authorization: Bearer <secret>`.
    Bearer(S),
    /// `Authorization: Basic <base64 of user:password>`.
    Basic {
        /// The name; no colon, since that ends it.
        user: String,
        /// The password.
        password: S,
    },
    /// The secret alone in a header of this name.
    Header {
        /// The name of the header.
        name: String,
        /// Its value.
        value: S,
    },
    /// `Authorization: Bearer <key>` with a key of a Botanalytics channel: what is no such key, has
    /// expired, or belongs to another channel than this one pauses delivery without a request.
    ChannelKey {
        /// The key.
        key: S,
        /// The channel it has to be for, if that matters.
        channel: Option<String>,
    },
}

impl<S> Auth<S> {
    /// The same with its secret from elsewhere.
    pub(super) fn map<T>(self, map: impl FnOnce(S) -> T) -> Auth<T> {
        match self {
            Self::None => Auth::None,
            Self::Bearer(secret) => Auth::Bearer(map(secret)),
            Self::Basic { user, password } => Auth::Basic {
                user,
                password: map(password),
            },
            Self::Header { name, value } => Auth::Header {
                name,
                value: map(value),
            },
            Self::ChannelKey { key, channel } => Auth::ChannelKey {
                key: map(key),
                channel,
            },
        }
    }
}

/// Where a secret is found, as data that holds none: the settings of a spool say only this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum SecretRef {
    /// In this environment variable, read once: see [`SecretSource::variable`].
    Variable(String),
    /// In this file, read before each request: see [`SecretSource::file`].
    File(PathBuf),
}

impl From<SecretRef> for SecretSource {
    fn from(reference: SecretRef) -> Self {
        match reference {
            SecretRef::Variable(name) => Self::variable(name),
            SecretRef::File(path) => Self::file(path),
        }
    }
}
