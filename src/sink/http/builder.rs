//! How a sink is set up.

use std::sync::Arc;

use ::http::header::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};

use super::auth::Auth;
use super::body::{Compression, Maker};
use super::credential::{Credential, header_name};
use super::sign::Signer;
use super::sink::{Http, Shared};
use super::unusable;
use super::wire::Wire;
use crate::clock::{Clock, SystemClock};
use crate::error::Error;
use crate::outcome::Answer;
use crate::sink::Classifier;
use crate::sink::format::Format;
use crate::sink::key::SecretSource;

/// Where the name of a request stands unless another header is chosen
/// (<https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>).
pub(super) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// The method of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum Method {
    /// `POST`.
    #[default]
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
}

impl From<Method> for ::http::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Patch => Self::PATCH,
        }
    }
}

/// Sets up an [`Http`] sink. Nothing is checked before [`build`](Builder::build).
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    url: String,
    method: Method,
    format: Format,
    headers: Vec<(String, String)>,
    secret_headers: Vec<(String, SecretSource)>,
    auth: Auth,
    signing: Vec<SecretSource>,
    compression: Compression,
    key_header: Option<String>,
    classifier: Option<Classifier>,
    wire: Wire,
    clock: Arc<dyn Clock>,
    waits: bool,
}

impl Http {
    /// Begins to set up a sink for the receiver at this URL, which may have a query.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }
}

impl Builder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            method: Method::Post,
            format: Format::Array,
            headers: Vec::new(),
            secret_headers: Vec::new(),
            auth: Auth::None,
            signing: Vec::new(),
            compression: Compression::None,
            key_header: Some(IDEMPOTENCY_KEY.to_owned()),
            classifier: None,
            wire: Wire::default(),
            clock: Arc::new(SystemClock),
            waits: false,
        }
    }

    /// The method; `POST` by default.
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// How the events stand in the body; [`Format::Array`] by default.
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// One more header that is the same for each request, and no secret.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// One more header whose value is secret: it is in no log, error or status, what an answer
    /// repeats of it is struck out, and it can be replaced while the sink runs.
    pub fn secret_header(mut self, name: impl Into<String>, value: SecretSource) -> Self {
        self.secret_headers.push((name.into(), value));
        self
    }

    /// How requests say who sends them; not at all by default.
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Signs each request as Standard Webhooks has it, with the secret of this source: `whsec_` and
    /// base64 (feature `signatures`). With several secrets, in one source with white space between
    /// them or in several sources, each signs, so that the receiver can be moved from one to the next.
    pub fn sign_with(mut self, secret: SecretSource) -> Self {
        self.signing.push(secret);
        self
    }

    /// How bodies are compressed; not at all by default.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// The header with the name of the request: a UUID that is the same whenever the same events are
    /// sent, and differs for any others. `Idempotency-Key` by default; `None` leaves it out.
    pub fn idempotency_header(mut self, name: Option<String>) -> Self {
        self.key_header = name;
        self
    }

    /// What answers mean. By default that follows from the form: [`Classifier::otlp`] for
    /// [`Format::Otlp`], [`Classifier::loki`] for [`Format::Loki`], and else [`Classifier::webhook`].
    pub fn classifier(mut self, classifier: Classifier) -> Self {
        self.classifier = Some(classifier);
        self
    }

    /// Time limits, proxy and TLS.
    pub fn wire(mut self, wire: Wire) -> Self {
        self.wire = wire;
        self
    }

    /// The clock that signatures, the expiry of a key and the dates of `Retry-After` go by.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Builds the sink also where a secret cannot be used yet. Delivery is then paused for
    /// [`PauseReason::Credentials`](crate::PauseReason::Credentials), with the reason in the status,
    /// and begins by itself once each source gives its secret.
    pub fn wait_for_secrets(mut self) -> Self {
        self.waits = true;
        self
    }

    /// Whether anything answers there: asks once, without a secret and without events, and gives the
    /// status of the answer, or what went wrong on the way. It takes no longer than the time limits
    /// of this builder.
    ///
    /// # Errors
    /// [`Error::Sink`] if the URL or what leads to it is not usable.
    ///
    /// # Cancel safety
    /// Nothing is changed, here or there.
    pub async fn knock(&self) -> Result<Answer, Error> {
        let address = self.wire.address(&self.url)?;
        Ok(self.wire.transport_to(address)?.knock().await)
    }

    /// Checks everything, reads each secret once (on this thread) and makes the sink. Nothing is
    /// sent.
    ///
    /// # Errors
    /// [`Error::Sink`] if the URL, a header, the form, a time limit, the proxy or TLS is not usable,
    /// if this build lacks what they need, or if there is no usable secret, unless it
    /// [waits for one](Self::wait_for_secrets). [`Error::Key`] for the key of a channel.
    pub fn build(self) -> Result<Http, Error> {
        let transport = self.wire.transport_to(self.wire.address(&self.url)?)?;
        let maker = Maker::new(self.format.clone(), self.compression)?;
        let key_header = self.key_header.as_deref().map(header_name).transpose()?;
        let mut headers = fixed(&self.headers)?;
        maker.describe(&mut headers);
        let mut credentials = Vec::new();
        credentials.extend(Credential::of_auth(self.auth, &self.clock, self.waits)?);
        for (name, source) in self.secret_headers {
            credentials.push(Credential::header(&name, source, &self.clock, self.waits)?);
        }
        let mut names: Vec<_> = credentials.iter().map(Credential::name).collect();
        names.extend(&key_header);
        names.extend(headers.keys());
        distinct(names)?;
        let signer = if self.signing.is_empty() {
            None
        } else {
            Some(Signer::new(self.signing, &self.clock, self.waits)?)
        };
        let classifier = self.classifier.unwrap_or_else(|| meaning(&self.format));
        Ok(Http::from_shared(Shared {
            transport,
            method: self.method.into(),
            headers,
            credentials,
            signer,
            maker,
            key_header,
            classifier,
            clock: self.clock,
            patience: self.wire.patience(),
        }))
    }
}

/// What the answers of a receiver mean that takes this form.
pub(super) fn meaning(format: &Format) -> Classifier {
    match format {
        Format::Otlp { .. } => Classifier::otlp(),
        Format::Loki { .. } => Classifier::loki(),
        _ => Classifier::webhook(),
    }
}

fn fixed(pairs: &[(String, String)]) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = header_name(name)?;
        if ["authorization", "proxy-authorization", "cookie"].contains(&name.as_str()) {
            return Err(unusable(format!(
                "header carries a secret; set it as a secret header, or by the authentication. \
                 header=`{name}`"
            )));
        }
        let value = HeaderValue::from_str(value)
            .map_err(|_| unusable(format!("value of a header cannot be sent. header=`{name}`")))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

fn distinct(mut names: Vec<&::http::HeaderName>) -> Result<(), Error> {
    names.sort_unstable_by_key(|name| name.as_str());
    match names.windows(2).find(|two| two.first() == two.last()) {
        Some(two) => Err(unusable(format!(
            "header is set twice. header=`{}`",
            two.first().map_or("", |name| name.as_str())
        ))),
        None => Ok(()),
    }
}
