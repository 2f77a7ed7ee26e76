//! How a receiver is reached: what can be said about the way to it, as plain data.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Limits;
use super::address::{Address, unusable};
use super::proxy::{Proxy, Route};
use super::tls::Files;
use super::transport::Transport;
use crate::error::Error;

/// The way to a receiver: time limits, the proxy before it, and what is allowed on it. It is plain
/// data and holds no key. Nothing is checked before a sink is built with it.
///
/// | setting | default | meaning |
/// | --- | --- | --- |
/// | `request_timeout` | 30 s | see [`Wire::request_timeout`] |
/// | `connect_timeout` | 10 s | see [`Wire::connect_timeout`] |
/// | `read_timeout` | the request timeout | see [`Wire::read_timeout`] |
/// | `total_timeout` | none | see [`Wire::total_timeout`] |
/// | `proxy` | `environment` | `environment`, `none` or a URL: see [`Proxy`] |
/// | `ca_file` | none | see [`Wire::ca_file`] |
/// | `client_certificate_file`, `client_key_file` | none | see [`Wire::client_certificate`] |
/// | `allow_plain_http` | no | see [`Wire::allow_plain_http`] |
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[must_use]
pub struct Wire {
    #[serde(with = "humantime_serde")]
    request_timeout: Duration,
    #[serde(with = "humantime_serde")]
    connect_timeout: Duration,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    read_timeout: Option<Duration>,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    total_timeout: Option<Duration>,
    proxy: Proxy,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_key_file: Option<PathBuf>,
    allow_plain_http: bool,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            read_timeout: None,
            total_timeout: None,
            proxy: Proxy::Environment,
            ca_file: None,
            client_certificate_file: None,
            client_key_file: None,
            allow_plain_http: false,
        }
    }
}

impl Wire {
    /// The longest silence: the time since the connection took anything of a request. An upload that goes on may take as long as it needs, since a link that is slow is no fault
    /// of the events. One that comes to a stop is left, and the flusher sends fewer events at a time.
    /// For the answer see [`Wire::read_timeout`].
    pub fn request_timeout(mut self, silence: Duration) -> Self {
        self.request_timeout = silence;
        self
    }

    /// How long connecting may take: the name lookup, the proxy and TLS included.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long the answer may take once the whole request is out, to the end of its headers, where
    /// that is less than the request timeout. A system takes a request before the other side has it, so on a link that was seen to be slow it
    /// may take longer by what is then still under way, ten minutes at the most. The body of the answer
    /// is waited for no longer than 5 seconds, since the status has decided by then.
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = Some(timeout);
        self
    }

    /// How long a request may take altogether, from connecting to the end of the answer, whether it
    /// goes on or not. By default there is no such limit: what needs longer than it is delivered in
    /// smaller batches, or never where one event needs longer.
    pub fn total_timeout(mut self, timeout: Duration) -> Self {
        self.total_timeout = Some(timeout);
        self
    }

    /// Whether requests go through a proxy.
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = proxy;
        self
    }

    /// A PEM file with the certificates of authorities that are trusted beside those of the operating
    /// system, such as a private one. It is read when the sink is built and again when it has changed:
    /// connections that are made from then on trust what it holds now. If it cannot be used then, what
    /// was read before stays in use, and what is told of a failure says so.
    ///
    /// The roots of the operating system are files on most Unix systems, and `SSL_CERT_FILE` and
    /// `SSL_CERT_DIR` name others in their place; a name that leads nowhere is refused. It needs TLS by
    /// the feature `rustls`, not by `native-tls`.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// The PEM files of a certificate, with those that lead to its root after it, and of its private
    /// key without a passphrase. They are shown to a receiver, or a proxy, that asks for them, and read
    /// again when they have changed, as [`Wire::ca_file`] is.
    pub fn client_certificate(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.client_certificate_file = Some(certificate.into());
        self.client_key_file = Some(key.into());
        self
    }

    /// Whether plain HTTP may go to other machines than this one. Keys and events can then be read
    /// and changed by anyone on the way, and answers can be made up: events can be lost that were
    /// never taken. It is for a network that is trusted as this machine is.
    pub fn allow_plain_http(mut self, is_allowed: bool) -> Self {
        self.allow_plain_http = is_allowed;
        self
    }

    /// The way that requests to this URL take: straight, or through which proxy.
    ///
    /// ```
    /// use everpost::http::{Proxy, Wire};
    ///
    /// let wire = Wire::default().proxy(Proxy::Url("http://proxy.example:3128".into()));
    /// assert!(wire.route("http://203.0.113.7/in").is_err());
    /// let wire = wire.allow_plain_http(true);
    /// let route = wire.route("http://203.0.113.7/in")?;
    /// assert_eq!(route.to_string(), "through http://proxy.example:3128");
    /// # Ok::<(), everpost::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Sink`] if this is no URL, carries credentials or a fragment, is plain HTTP to
    /// another machine where that is not allowed, or needs TLS that this build does not have; or if
    /// the proxy that applies to it is none (see [`Proxy`]).
    pub fn route(&self, url: &str) -> Result<Route, Error> {
        self.proxy.decide(&self.address(url)?)
    }

    /// The longest that a key may be waited for before a request.
    pub(in crate::sink) fn patience(&self) -> Duration {
        self.request_timeout
    }

    /// The way to `{base}/messages`, checked.
    ///
    /// # Errors
    /// As [`Wire::route`], and if a time limit is zero.
    pub(in crate::sink) fn transport_to_base(&self, base: &str) -> Result<Transport, Error> {
        self.transport_to(Address::from_base(base, self.allow_plain_http)?)
    }

    /// This URL, checked.
    ///
    /// # Errors
    /// As [`Wire::route`], but for the proxy.
    pub(in crate::sink) fn address(&self, url: &str) -> Result<Address, Error> {
        Address::from_url(url, self.allow_plain_http)
    }

    /// The way to this address, checked. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Sink`] if the proxy that applies to it is none, a time limit is zero, or a file for TLS
    /// is of no use.
    pub(in crate::sink) fn transport_to(&self, address: Address) -> Result<Transport, Error> {
        let limits = self.limits()?;
        let route = self.proxy.decide(&address)?;
        Transport::new(address, limits, route, self.files()?)
    }

    fn files(&self) -> Result<Files, Error> {
        let client = match (&self.client_certificate_file, &self.client_key_file) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            _ => {
                return Err(unusable(
                    "a client certificate and its key go together: set both \
                     `client_certificate_file` and `client_key_file`",
                ));
            }
        };
        Ok(Files {
            ca: self.ca_file.clone(),
            client,
        })
    }

    fn limits(&self) -> Result<Limits, Error> {
        let limits = Limits {
            request: self.request_timeout,
            connect: self.connect_timeout,
            read: self.read_timeout.unwrap_or(self.request_timeout),
            total: self.total_timeout,
        };
        for (name, limit) in [
            ("request_timeout", limits.request),
            ("connect_timeout", limits.connect),
            ("read_timeout", limits.read),
            ("total_timeout", limits.total.unwrap_or(Duration::MAX)),
        ] {
            if limit.is_zero() {
                return Err(unusable(format!("time limit is zero. setting=`{name}`")));
            }
        }
        Ok(limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wire_is_plain_data() {
        let text =
            r#"{"request_timeout":"5s","proxy":"http://proxy:3128","allow_plain_http":true}"#;
        let wire: Wire = serde_json::from_str(text).unwrap();
        assert_eq!(wire.limits().unwrap().read, Duration::from_secs(5));
        let again: Wire = serde_json::from_str(&serde_json::to_string(&wire).unwrap()).unwrap();
        assert_eq!(format!("{again:?}"), format!("{wire:?}"));
        for proxy in [Proxy::Environment, Proxy::None, Proxy::Url("p:1".into())] {
            let text = serde_json::to_string(&proxy).unwrap();
            let again: Proxy = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&again).unwrap(), text);
        }
        assert!(serde_json::from_str::<Wire>(r#"{"request_timout":"5s"}"#).is_err());
    }

    #[test]
    fn a_certificate_without_its_key_is_refused_by_the_names_of_both() {
        for name in ["client_certificate_file", "client_key_file"] {
            let text = format!(r#"{{"{name}":"/etc/client.pem"}}"#);
            let wire: Wire = serde_json::from_str(&text).unwrap();
            let error = wire.files().unwrap_err().to_string();
            assert!(error.contains("set both"), "{error}");
        }
        let wire = Wire::default().client_certificate("a.pem", "a.key");
        assert!(wire.files().unwrap().client.is_some());
    }

    /// Settings are files that others may read.
    #[test]
    fn the_password_for_a_proxy_is_not_written_into_settings() {
        let wire = Wire::default().proxy(Proxy::Url("http://me:hunter2@proxy".into()));
        let error = serde_json::to_string(&wire).unwrap_err().to_string();
        assert!(error.contains("HTTPS_PROXY"), "{error}");
        assert!(!format!("{error} {wire:?}").contains("hunter2"), "{error}");
    }
}
