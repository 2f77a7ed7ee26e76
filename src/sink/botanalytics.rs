//! The Botanalytics API.
//!
//! One request carries one batch: `POST {base}/messages` with the key of the channel, each event
//! in a wrapper of its own, its bytes unchanged. What the answer means is decided by a
//! [`Classifier`].
//!
//! | setting | default | environment | why |
//! | --- | --- | --- | --- |
//! | key | none | `BA_API_KEY` | one key per channel, so one sink per channel |
//! | base URL | [`BASE_URL`] | `BA_BASE_URL` | the documented host; HTTPS, or HTTP to this machine |
//! | request timeout | 30 s | `BA_REQUEST_TIMEOUT`, in milliseconds | what the official SDKs say they use; here it is the longest silence |
//! | connect timeout | 10 s | | a dead network is noticed before the request's time is over |
//! | read timeout | the request timeout | | how long the answer may take once the request is out, where that is less |
//! | proxy | [`Proxy::Environment`] | `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY` | where a proxy is the only way out, nothing else works; TLS hides the key from it |
//!
//! # What an answer means
//! The status decides, by a [`Classifier`]. Where it says success, the body must bear it out: a
//! JSON object that names no errors, under any content type, or nothing under 201, 202, 204 or 205.
//! `errors` beside a success refuse the batch, and under 207 so does the status of a single event.
//! HTML, text, other JSON, or nothing under 200 is not the API: a captive portal, a proxy, another
//! server at that address. It delivers nothing; everything is kept and tried again, and the status
//! says why. [`Rule::DeliverUnread`](super::classify::Rule::DeliverUnread) is for receivers that
//! answer with a bare 200.
//!
//! HTML under a status that would condemn an event pauses for [`PauseReason::Address`](crate::PauseReason::Address), also where
//! the classifier was changed.
//!
//! An answer delivers only if all of its request had been written when it was read, and each
//! request has a connection of its own, so that no answer can be taken for that of another.
//!
//! # What is never done
//! Redirects are not followed, requests are not repeated here, loopback is not proxied, and the
//! key is written nowhere: what an answer repeats of it, eight characters or more, as they are, as
//! base64, in hexadecimal or behind escapes, is replaced by `[key]` before anything is kept. So is
//! the password for a proxy.

use std::sync::Arc;
use std::time::Duration;

use ::http::Method;
use ::http::header::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;

use super::format::Format;
use super::http::{
    Compression, Credential, Http, Maker, Proxy, Route, Shared, Transport, Wire, unusable,
};
use super::key::KeyRing;
use super::{Batch, Classifier, Request, Sink};
use crate::clock::{Clock, SystemClock};
use crate::error::Error;
use crate::outcome::{Answer, Hindrance, Outcome};

pub use super::key::{Key, KeyError, KeyHandle, KeySource};
pub use super::message;

/// The documented address of the API.
pub const BASE_URL: &str = super::http::BOTANALYTICS;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const CLIENT_ID: HeaderName = HeaderName::from_static("x-botanalytics-client-id");
const CLIENT_VERSION: HeaderName = HeaderName::from_static("x-botanalytics-client-version");

/// Delivers to the Botanalytics API.
///
/// It needs a tokio runtime with I/O and time enabled. Cloning is cheap; clones share the key and
/// the connections.
///
/// ```no_run
/// use everpost::botanalytics::Botanalytics;
///
/// # fn main() -> Result<(), everpost::Error> {
/// let sink = Botanalytics::from_env()?;
/// // Later, while it delivers: put a new key in place.
/// sink.key_handle().replace("header.payload.signature")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Botanalytics {
    http: Http,
    ring: Arc<KeyRing>,
    patience: Duration,
}

impl Botanalytics {
    /// A sink with the defaults and this key.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn new(key: KeySource) -> Result<Self, Error> {
        Self::builder(key).build()
    }

    /// A sink as `BA_API_KEY`, `BA_BASE_URL` and `BA_REQUEST_TIMEOUT` (milliseconds) say. The
    /// first is required. The other variables of the official SDKs are not read.
    ///
    /// # Errors
    /// As [`Builder::from_env`] and [`Builder::build`].
    pub fn from_env() -> Result<Self, Error> {
        Builder::from_env()?.build()
    }

    /// Begins to set up a sink.
    pub fn builder(key: KeySource) -> Builder {
        Builder {
            key,
            base_url: BASE_URL.to_owned(),
            channel: None,
            wire: Wire::default(),
            client_id: None,
            classifier: Classifier::default(),
            clock: Arc::new(SystemClock),
            waits_for_key: false,
        }
    }

    /// The way that requests take: straight to the API, or through which proxy. It was decided
    /// when the sink was built.
    #[must_use]
    pub fn route(&self) -> &Route {
        self.http.route()
    }

    /// The address that requests go to.
    #[must_use]
    pub fn url(&self) -> &str {
        self.http.url()
    }

    /// The key that the next request would carry: a file or a function is asked for it now.
    ///
    /// # Errors
    /// Why there is none that can be used: see [`KeyError`].
    ///
    /// # Cancel safety
    /// Only reads.
    pub async fn key(&self) -> Result<Key, KeyError> {
        self.ring.present(self.patience).await
    }

    /// A handle that replaces the key while the sink runs.
    #[must_use]
    pub fn key_handle(&self) -> KeyHandle {
        KeyHandle::new(Arc::clone(&self.ring))
    }
}

impl Sink for Botanalytics {
    /// Sends the batch in one request and reads the answer.
    ///
    /// A key that has expired, or that its file or function no longer gives, pauses without any
    /// request. No answer at all, for whatever reason, means to try again, with fewer events at
    /// once if the time limit was met more than once on a connection that stood. What an answer
    /// means is said at the head of this module.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection. The receiver may have taken the batch by then.
    async fn deliver(&self, request: Request) -> Outcome {
        self.http.deliver(request).await
    }

    /// Says why there is no key that could be used.
    ///
    /// # Cancel safety
    /// Only reads the key.
    async fn hindrance(&self) -> Option<Hindrance> {
        self.http.hindrance().await
    }

    /// Makes the body and the idempotency key.
    fn prepare(&self, batch: &Batch) -> Option<Bytes> {
        self.http.prepare(batch)
    }

    /// Resolves once for each key put in place through a [`KeyHandle`] that no request has used
    /// yet, and within seconds when the file with the key is another one than was read last. A new
    /// answer of a function is seen by the next probe.
    ///
    /// # Cancel safety
    /// A replacement is never lost by dropping the future.
    async fn changed(&self) {
        self.http.changed().await;
    }
}

/// Sets up a [`Botanalytics`] sink. Nothing is checked before [`build`](Builder::build).
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    key: KeySource,
    base_url: String,
    channel: Option<String>,
    wire: Wire,
    client_id: Option<(String, String)>,
    classifier: Classifier,
    clock: Arc<dyn Clock>,
    waits_for_key: bool,
}

impl Builder {
    /// Begins with `BA_API_KEY`, `BA_BASE_URL` and `BA_REQUEST_TIMEOUT` (milliseconds). What is
    /// set here afterwards wins over them. Variables that are empty count as not set.
    ///
    /// # Errors
    /// [`Error::Sink`] if `BA_REQUEST_TIMEOUT` is not a number or a variable is not UTF-8.
    pub fn from_env() -> Result<Self, Error> {
        let mut builder = Botanalytics::builder(KeySource::env());
        if let Some(base_url) = variable("BA_BASE_URL")? {
            builder = builder.base_url(base_url);
        }
        if let Some(text) = variable("BA_REQUEST_TIMEOUT")? {
            let ms = text.trim().parse().map_err(|_| Error::Sink {
                reason: "`BA_REQUEST_TIMEOUT` is not a number of milliseconds".to_owned(),
            })?;
            builder = builder.request_timeout(Duration::from_millis(ms));
        }
        Ok(builder)
    }

    /// Where the key comes from.
    pub fn key(mut self, key: KeySource) -> Self {
        self.key = key;
        self
    }

    /// The address up to and including the version, with or without a final `/`. HTTPS, or plain
    /// HTTP to this machine: `localhost` and names that end with `.localhost`, `127.0.0.0/8` or
    /// `::1`. Those names always mean the loopback addresses; no file of hosts and no name server is
    /// asked for them.
    pub fn base_url(mut self, base_url: impl Into<String>) -> Self {
        self.base_url = base_url.into();
        self
    }

    /// The channel the events belong to, such as `universal`; a key of any other is then refused.
    /// By default every channel will do.
    pub fn channel(mut self, channel: impl Into<String>) -> Self {
        self.channel = Some(channel.into());
        self
    }

    /// The longest silence; see [`Wire::request_timeout`].
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.wire = self.wire.request_timeout(timeout);
        self
    }

    /// How long connecting may take; see [`Wire::connect_timeout`].
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.wire = self.wire.connect_timeout(timeout);
        self
    }

    /// How long the answer may take; see [`Wire::read_timeout`].
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.wire = self.wire.read_timeout(timeout);
        self
    }

    /// Whether requests go through a proxy; see [`Proxy`].
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.wire = self.wire.proxy(proxy);
        self
    }

    /// Everything about the way at once. It replaces the time limits and the proxy that were set
    /// before; [`Wire::allow_plain_http`] is set there.
    pub fn wire(mut self, wire: Wire) -> Self {
        self.wire = wire;
        self
    }

    /// Sends `X-Botanalytics-Client-Id` and `X-Botanalytics-Client-Version`. The official SDKs
    /// name themselves there (`node`, `python`); no list of accepted values is documented, and
    /// everpost is neither, so by default the headers are absent.
    pub fn client_id(mut self, id: impl Into<String>, version: impl Into<String>) -> Self {
        self.client_id = Some((id.into(), version.into()));
        self
    }

    /// What each status means.
    pub fn classifier(mut self, classifier: Classifier) -> Self {
        self.classifier = classifier;
        self
    }

    /// The clock that the expiry of the key and the dates of `Retry-After` are held against.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Builds the sink also where there is no usable key yet: one that is missing, malformed or of
    /// another channel is then no error of [`build`](Self::build). Delivery is paused for
    /// [`PauseReason::Credentials`](crate::PauseReason::Credentials), with the reason in the status, also while nothing is pending,
    /// and begins by itself once the source gives a key. A file is looked at every few seconds
    /// meanwhile; a value or a variable stays what it is, but a
    /// [`KeyHandle`] can put a key in place.
    pub fn wait_for_key(mut self) -> Self {
        self.waits_for_key = true;
        self
    }

    /// Whether anything answers there: asks once, without a key and without events, and gives the
    /// status of the answer, or what went wrong on the way. It takes no longer than the time limits
    /// of this builder.
    ///
    /// # Errors
    /// [`Error::Sink`] if the base URL is not usable.
    ///
    /// # Cancel safety
    /// Nothing is changed, here or there.
    pub async fn knock(&self) -> Result<Answer, Error> {
        let transport = self.transport()?;
        Ok(transport.knock().await)
    }

    /// Checks everything, reads the key once (on this thread) and makes the sink. Nothing is
    /// sent.
    ///
    /// An expired key is no error here, because the clock may be wrong and the events must be
    /// taken all the same; delivery pauses then.
    ///
    /// # Errors
    /// [`Error::Key`] if there is no usable key, unless it [waits for one](Self::wait_for_key).
    /// [`Error::Sink`] if the base URL is not usable
    /// (see [`Builder::base_url`]) or needs TLS that this build lacks, if the proxy that applies to
    /// it is none (see [`Proxy`]), or if a time limit is zero.
    pub fn build(self) -> Result<Botanalytics, Error> {
        let transport = self.transport()?;
        let maker = Maker::new(Format::messages(), Compression::None)?;
        let mut headers = headers(self.client_id.as_ref())?;
        maker.describe(&mut headers);
        let clock = Arc::clone(&self.clock);
        let ring = Arc::new(if self.waits_for_key {
            KeyRing::waiting(self.key, self.channel, clock)
        } else {
            KeyRing::open(self.key, self.channel, clock)?
        });
        let patience = self.wire.patience();
        let http = Http::from_shared(Shared {
            transport,
            method: Method::POST,
            headers,
            credentials: vec![Credential::channel_key(Arc::clone(&ring))],
            signer: None,
            maker,
            key_header: Some(IDEMPOTENCY_KEY),
            classifier: self.classifier,
            clock: self.clock,
            patience,
        });
        Ok(Botanalytics {
            http,
            ring,
            patience,
        })
    }

    /// The way to the API, checked, without a key.
    fn transport(&self) -> Result<Transport, Error> {
        self.wire.transport_to_base(&self.base_url)
    }
}

fn headers(client_id: Option<&(String, String)>) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    if let Some((id, version)) = client_id {
        for (name, value) in [(CLIENT_ID, id), (CLIENT_VERSION, version)] {
            let value = HeaderValue::from_str(value)
                .map_err(|_| unusable(format!("client id cannot be sent. header=`{name}`")))?;
            headers.insert(name, value);
        }
    }
    Ok(headers)
}

fn variable(name: &str) -> Result<Option<String>, Error> {
    match std::env::var(name) {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(Error::Sink {
            reason: format!("environment variable is not UTF-8. variable=`{name}`"),
        }),
    }
}
