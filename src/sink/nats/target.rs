//! A stream as data: what a spool keeps of where its events go.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::credentials::Credentials;
use super::names::{Names, Spool};
use super::servers::Servers;
use crate::error::Error;
use crate::sink::http::SecretRef;

/// How long each step of a delivery may take, unless another time is set.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(3);

/// A stream as data: its servers, its names, the name of the spool in it, and where its secrets are
/// found. It holds no secret itself, so that settings can be kept, shown and compared.
///
/// ```
/// use everpost::nats::Target;
///
/// let target = Target::parse("nats://one.example,two.example", "sensor-7".parse()?)?;
/// let kept = serde_json::to_string(&target)?;
/// assert_eq!(
///     kept,
///     r#"{"servers":"nats://one.example:4222,two.example:4222","spool":"sensor-7"}"#
/// );
/// assert_eq!(serde_json::from_str::<Target>(&kept)?, target);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    servers: Servers,
    /// The stream and the number of its partitions.
    #[serde(default, skip_serializing_if = "is_default")]
    names: Names,
    spool: Spool,
    #[serde(default = "no_credentials", skip_serializing_if = "is_no_credentials")]
    credentials: Credentials<SecretRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
    #[serde(
        default = "time_limit",
        with = "humantime_serde",
        skip_serializing_if = "is_time_limit"
    )]
    time_limit: Duration,
    #[serde(default, skip_serializing_if = "is_default")]
    allow_plain: bool,
}

impl Target {
    /// The stream that `fleet setup` makes unless it is told otherwise, at these servers; `spool` is the
    /// name of the spool in it.
    #[must_use]
    pub fn new(servers: Servers, spool: Spool) -> Self {
        Self {
            servers,
            names: Names::default(),
            spool,
            credentials: Credentials::None,
            ca_file: None,
            time_limit: TIME_LIMIT,
            allow_plain: false,
        }
    }

    /// Reads an address: `nats://host[:port][,host...]`, or `tls://` where TLS is a must.
    ///
    /// # Errors
    /// [`Error::Sink`] if it is none, or carries a user or a password.
    pub fn parse(address: &str, spool: Spool) -> Result<Self, Error> {
        Ok(Self::new(address.parse()?, spool))
    }

    /// The same in another stream, or in one with another number of partitions.
    #[must_use]
    pub fn with_names(mut self, names: Names) -> Self {
        self.names = names;
        self
    }

    /// The same with these credentials.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Credentials<SecretRef>) -> Self {
        self.credentials = credentials;
        self
    }

    /// The same with authorities of a PEM file beside those of the system: see
    /// [`Builder::ca_file`](super::Builder::ca_file).
    #[must_use]
    pub fn with_ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// The same with another time limit: see [`Builder::time_limit`](super::Builder::time_limit).
    #[must_use]
    pub fn with_time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// The same, in clear also to another machine: see
    /// [`Builder::allow_plain`](super::Builder::allow_plain).
    #[must_use]
    pub fn with_allow_plain(mut self, allows: bool) -> Self {
        self.allow_plain = allows;
        self
    }

    /// The servers.
    #[must_use]
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// The stream and what is in it.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The name of the spool.
    #[must_use]
    pub fn spool(&self) -> &Spool {
        &self.spool
    }

    /// The credentials, without their secret.
    #[must_use]
    pub fn credentials(&self) -> &Credentials<SecretRef> {
        &self.credentials
    }

    /// The file with authorities.
    #[must_use]
    pub fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    /// How long each step of a delivery may take.
    #[must_use]
    pub fn time_limit(&self) -> Duration {
        self.time_limit
    }

    /// Whether another machine is spoken to in clear.
    #[must_use]
    pub fn allow_plain(&self) -> bool {
        self.allow_plain
    }

    /// Whether events that were meant for one of the two may go to the other: the same subject of a
    /// stream of the same name. Servers come and go, so they are not compared.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.names == other.names && self.spool == other.spool
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn no_credentials() -> Credentials<SecretRef> {
    Credentials::None
}

fn is_no_credentials(credentials: &Credentials<SecretRef>) -> bool {
    *credentials == Credentials::None
}

fn time_limit() -> Duration {
    TIME_LIMIT
}

fn is_time_limit(limit: &Duration) -> bool {
    *limit == TIME_LIMIT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_kept_and_what_is_not_known_is_refused() {
        let credentials = Credentials::Creds(SecretRef::File("/etc/device.creds".into()));
        let target = Target::parse("tls://a", "s".parse().unwrap())
            .unwrap()
            .with_names(Names::new("OTHER", 3).unwrap())
            .with_credentials(credentials)
            .with_ca_file("/etc/ca.pem")
            .with_time_limit(Duration::from_secs(9))
            .with_allow_plain(true);
        let kept = serde_json::to_string(&target).unwrap();
        let expected = r#"{"servers":"tls://a:4222","names":{"stream":"OTHER","partitions":3},"spool":"s","credentials":{"creds":{"file":"/etc/device.creds"}},"ca_file":"/etc/ca.pem","time_limit":"9s","allow_plain":true}"#;
        assert_eq!(kept, expected);
        assert_eq!(serde_json::from_str::<Target>(&kept).unwrap(), target);
        let odd = kept.replace("allow_plain", "allow_all");
        assert!(serde_json::from_str::<Target>(&odd).is_err());
        assert!(Target::parse("nats://me:pw@a", "s".parse().unwrap()).is_err());
    }

    #[test]
    fn other_servers_are_the_same_target_and_another_subject_is_not() {
        let target =
            |address: &str, spool: &str| Target::parse(address, spool.parse().unwrap()).unwrap();
        let here = target("nats://a", "s");
        assert!(here.is_same_as(&target("tls://b", "s")));
        assert!(!here.is_same_as(&target("nats://a", "t")));
        let other = here.clone().with_names(Names::new("EVENTS", 3).unwrap());
        assert!(!here.is_same_as(&other));
    }
}
