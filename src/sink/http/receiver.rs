//! A receiver as data: what a spool keeps of where its events go.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use url::Url;

use super::auth::{Auth, SecretRef};
use super::body::Compression;
use super::builder::{Builder, IDEMPOTENCY_KEY, Method};
use super::sink::Http;
use super::unusable;
use super::wire::Wire;
use crate::error::Error;
use crate::sink::Classifier;
use crate::sink::format::Format;
use crate::sink::key::SecretSource;

/// The documented address of the Botanalytics API.
pub(in crate::sink) const BOTANALYTICS: &str = "https://api.beta.botanalytics.co/v2";

/// A receiver as data: its address, the form of its requests, and where its secrets are found. It
/// holds no secret itself, so that settings can be kept, shown and compared.
///
/// ```
/// use everpost::http::{Format, Receiver};
///
/// let receiver = Receiver::parse("https://hooks.example/readings")?.with_format(Format::Lines);
/// let kept = serde_json::to_string(&receiver)?;
/// assert_eq!(kept, r#"{"url":"https://hooks.example/readings","format":"lines"}"#);
/// assert_eq!(serde_json::from_str::<Receiver>(&kept)?, receiver);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    url: String,
    #[serde(default, skip_serializing_if = "is_default")]
    method: Method,
    #[serde(default, skip_serializing_if = "is_default")]
    format: Format,
    #[serde(default, skip_serializing_if = "is_default")]
    compression: Compression,
    /// Empty leaves it out.
    #[serde(
        default = "idempotency_key",
        skip_serializing_if = "is_idempotency_key"
    )]
    idempotency_header: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sign_with: Vec<SecretRef>,
    #[serde(default = "no_auth", skip_serializing_if = "is_no_auth")]
    auth: Auth<SecretRef>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    secret_headers: BTreeMap<String, SecretRef>,
    /// None as the form has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answers: Option<Classifier>,
    #[serde(default, skip_serializing_if = "is_default")]
    wire: Wire,
}

impl Receiver {
    /// A receiver at this URL with the defaults: a `POST` of JSON arrays, without authentication.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            method: Method::Post,
            format: Format::Array,
            compression: Compression::None,
            idempotency_header: idempotency_key(),
            sign_with: Vec::new(),
            auth: Auth::None,
            headers: BTreeMap::new(),
            secret_headers: BTreeMap::new(),
            answers: None,
            wire: Wire::default(),
        }
    }

    /// Reads an address.
    ///
    /// | address | receiver |
    /// | --- | --- |
    /// | `https://...`, `http://...` | A webhook at this URL, with JSON arrays. |
    /// | `botanalytics` | The Botanalytics API, with the key in `BA_API_KEY`. |
    /// | `otlp://host[:port][/path]` | `https://host:4318/v1/logs`; with a path, that path. |
    /// | `loki://host[:port][/path]` | `https://host:3100/loki/api/v1/push`; with a path, that path. |
    /// | `otlp+http://...`, `loki+http://...` | The same over plain HTTP. |
    ///
    /// For `otlp` and `loki` to this machine by its name or address, plain HTTP is meant, since
    /// no certificate is there for that.
    ///
    /// # Errors
    /// [`Error::Sink`] if it is none of these, or carries a user or a password. Whether the address
    /// can be used is found by [`build`](Self::build).
    pub fn parse(address: &str) -> Result<Self, Error> {
        let address = address.trim();
        if address == "botanalytics" {
            return Ok(Self::botanalytics());
        }
        let Some((scheme, rest)) = address.split_once("://") else {
            return Err(not_known());
        };
        let (kind, plain) = match scheme.split_once('+') {
            Some((kind, "http")) => (kind, Some(true)),
            Some((kind, "https")) => (kind, Some(false)),
            Some(_) => return Err(not_known()),
            None => (scheme, None),
        };
        let receiver = match (kind, plain) {
            ("https" | "http", None) => {
                let receiver = Self::new(address);
                receiver.parsed()?;
                return Ok(receiver);
            }
            ("otlp", _) => at(rest, plain, 4318, "/v1/logs", "otlp")?,
            ("loki", _) => at(rest, plain, 3100, "/loki/api/v1/push", "loki")?,
            _ => return Err(not_known()),
        };
        Ok(receiver)
    }

    /// The Botanalytics API, with the key in `BA_API_KEY`: what
    /// [`Botanalytics`](crate::botanalytics::Botanalytics) is by default, as data.
    #[must_use]
    pub fn botanalytics() -> Self {
        Self {
            format: Format::messages(),
            auth: Auth::ChannelKey {
                key: SecretRef::Variable("BA_API_KEY".to_owned()),
                channel: None,
            },
            answers: Some(Classifier::default()),
            ..Self::new(format!("{BOTANALYTICS}/messages"))
        }
    }

    /// The same with another form of the body.
    #[must_use]
    pub fn with_format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// The same with another method.
    #[must_use]
    pub fn with_method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// The same with compressed bodies.
    #[must_use]
    pub fn with_compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// The same with one more header that is no secret.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// The same with one more header whose value is secret.
    #[must_use]
    pub fn with_secret_header(mut self, name: impl Into<String>, value: SecretRef) -> Self {
        self.secret_headers.insert(name.into(), value);
        self
    }

    /// The same with this authentication.
    #[must_use]
    pub fn with_auth(mut self, auth: Auth<SecretRef>) -> Self {
        self.auth = auth;
        self
    }

    /// The same, signed with one more secret.
    #[must_use]
    pub fn with_signing(mut self, secret: SecretRef) -> Self {
        self.sign_with.push(secret);
        self
    }

    /// The same with the name of the request in another header, or in none.
    #[must_use]
    pub fn with_idempotency_header(mut self, name: Option<String>) -> Self {
        self.idempotency_header = name.unwrap_or_default();
        self
    }

    /// The same with other meanings of answers.
    #[must_use]
    pub fn with_answers(mut self, answers: Classifier) -> Self {
        self.answers = Some(answers);
        self
    }

    /// The same with other time limits, another proxy, other TLS.
    #[must_use]
    pub fn with_wire(mut self, wire: Wire) -> Self {
        self.wire = wire;
        self
    }

    /// The form of the body.
    #[must_use]
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// Time limits, proxy and TLS.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The address without its query, which may be secret.
    #[must_use]
    pub fn address(&self) -> &str {
        self.url.split(['?', '#']).next().unwrap_or_default()
    }

    /// Whether events that were meant for one of the two may go to the other: the same address,
    /// query and all, in the same form.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.url == other.url && self.format == other.format
    }

    /// Sets up a sink for it.
    pub fn builder(self) -> Builder {
        let auth = self.auth.map(SecretSource::from);
        let key_header = Some(self.idempotency_header).filter(|name| !name.is_empty());
        let mut builder = Builder::new(self.url)
            .method(self.method)
            .format(self.format)
            .compression(self.compression)
            .idempotency_header(key_header)
            .auth(auth)
            .wire(self.wire);
        for (name, value) in self.headers {
            builder = builder.header(name, value);
        }
        for (name, secret) in self.secret_headers {
            builder = builder.secret_header(name, secret.into());
        }
        for secret in self.sign_with {
            builder = builder.sign_with(secret.into());
        }
        match self.answers {
            Some(answers) => builder.classifier(answers),
            None => builder,
        }
    }

    /// The sink for it.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn build(self) -> Result<Http, Error> {
        self.builder().build()
    }

    fn parsed(&self) -> Result<Url, Error> {
        let url = Url::parse(&self.url)
            .map_err(|source| unusable(format!("address cannot be read: {source}")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(unusable(
                "address carries credentials; give them as basic authentication, from a file",
            ));
        }
        Ok(url)
    }
}

/// A receiver of a known kind: `rest` is what stands behind its scheme.
fn at(
    rest: &str,
    plain: Option<bool>,
    port: u16,
    path: &str,
    form: &str,
) -> Result<Receiver, Error> {
    let receiver = Receiver::new(format!("http://{rest}"));
    let mut url = receiver.parsed()?;
    let is_here = url.host_str().is_some_and(super::address::is_loopback);
    let scheme = if plain.unwrap_or(is_here) {
        "http"
    } else {
        "https"
    };
    // The port before the scheme: what is the default of one is written out for the other.
    let written = url.port();
    let is_80 = rest
        .split(['/', '?', '#'])
        .next()
        .is_some_and(|host| host.ends_with(":80"));
    if url.path() == "/" {
        url.set_path(path);
    }
    let is_set = url.set_scheme(scheme).is_ok()
        && url
            .set_port(Some(if is_80 { 80 } else { written.unwrap_or(port) }))
            .is_ok();
    if !is_set {
        return Err(unusable("address has no host"));
    }
    Ok(Receiver::new(url).with_format(form.parse()?))
}

fn not_known() -> Error {
    unusable(
        "address is not known; give `https://...` for a webhook, `botanalytics`, `otlp://host` or \
         `loki://host`",
    )
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn no_auth() -> Auth<SecretRef> {
    Auth::None
}

fn is_no_auth(auth: &Auth<SecretRef>) -> bool {
    *auth == Auth::None
}

fn idempotency_key() -> String {
    IDEMPOTENCY_KEY.to_owned()
}

fn is_idempotency_key(name: &str) -> bool {
    name == IDEMPOTENCY_KEY
}

#[cfg(test)]
mod tests;
