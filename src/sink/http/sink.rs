//! The sink: a batch becomes a request, and its answer an outcome.

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ::http::Method;
use ::http::header::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;

use super::body::Maker;
use super::credential::{Credential, Presented};
use super::proxy::Route;
use super::sign::{Signer, SigningKeys, sign};
use super::transport::{Outgoing, Transport};
use crate::clock::Clock;
use crate::outcome::{Answer, Hindrance, Outcome, PauseReason};
use crate::sink::key::{SecretHandle, Strike};
use crate::sink::{Batch, Classifier, Request, Sink};

/// Delivers to any receiver that takes JSON over HTTP; see the [module](super).
///
/// It needs a tokio runtime with I/O and time enabled. Cloning is cheap; clones share the secrets.
#[derive(Clone, Debug)]
pub struct Http {
    shared: Arc<Shared>,
}

/// What all requests of a sink have in common.
#[derive(Debug)]
pub(in crate::sink) struct Shared {
    pub(in crate::sink) transport: Transport,
    pub(in crate::sink) method: Method,
    /// All that are the same for each request.
    pub(in crate::sink) headers: HeaderMap,
    pub(in crate::sink) credentials: Vec<Credential>,
    pub(in crate::sink) signer: Option<Signer>,
    pub(in crate::sink) maker: Maker,
    /// Where the name of the request stands that is the same however often it is sent.
    pub(in crate::sink) key_header: Option<HeaderName>,
    pub(in crate::sink) classifier: Classifier,
    pub(in crate::sink) clock: Arc<dyn Clock>,
    /// How long a secret is waited for.
    pub(in crate::sink) patience: Duration,
}

/// The secrets of one request.
struct Secrets {
    headers: Vec<Presented>,
    keys: Vec<SigningKeys>,
}

impl Http {
    pub(in crate::sink) fn from_shared(shared: Shared) -> Self {
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The way that requests take: straight to the receiver, or through which proxy. It was decided
    /// when the sink was built.
    #[must_use]
    pub fn route(&self) -> &Route {
        self.shared.transport.route()
    }

    /// The address that requests go to, without its query, which may be secret.
    #[must_use]
    pub fn url(&self) -> &str {
        self.shared.transport.url()
    }

    /// A handle that replaces the secret in the header of this name while the sink runs, such as
    /// `authorization`. None if there is no such header, or if what it holds is the key of a channel.
    #[must_use]
    pub fn secret_handle(&self, header: &str) -> Option<SecretHandle> {
        let mut credentials = self.shared.credentials.iter();
        let is_named =
            |credential: &&Credential| credential.name().as_str().eq_ignore_ascii_case(header);
        let ring = credentials.find(is_named)?.ring()?;
        Some(SecretHandle::new(Arc::clone(ring)))
    }
}

impl Shared {
    /// All secrets for the next request, or why one of them is missing.
    async fn secrets(&self) -> Result<Secrets, Answer> {
        let mut headers = Vec::with_capacity(self.credentials.len());
        for credential in &self.credentials {
            headers.push(credential.present(self.patience).await?);
        }
        let keys = match &self.signer {
            Some(signer) => signer.present(self.patience).await?,
            None => Vec::new(),
        };
        Ok(Secrets { headers, keys })
    }

    /// Sends a batch and reads the answer.
    async fn send(&self, mut request: Request, secrets: &Secrets) -> Outcome {
        let body = request.take_prepared();
        let Some(body) = body.or_else(|| self.maker.body(request.batch())) else {
            return Outcome::retry().because("no memory to compress the request");
        };
        let Some(headers) = self.headers_of(request.batch(), &body, secrets) else {
            // What was read was checked to be fit for a header.
            return Outcome::pause(PauseReason::Credentials)
                .because("secret cannot be sent in a header");
        };
        // A short one would take letters out of words; all are struck out once the answer is read.
        let first = secrets.headers.first().map(Presented::secret);
        let secret = first.filter(|secret| secret.len() >= 8).unwrap_or("");
        let outgoing = Outgoing {
            method: self.method.clone(),
            headers,
            body,
            secret: secret.to_owned(),
        };
        match self.transport.send(outgoing).await {
            Ok(answer) => {
                let reply = answer.reply(self.clock.wall(), secret);
                self.classifier.outcome(&reply)
            }
            Err(outcome) => outcome,
        }
    }

    /// The headers of one request; none if one of them cannot be sent.
    fn headers_of(&self, batch: &Batch, body: &[u8], secrets: &Secrets) -> Option<HeaderMap> {
        let mut headers = self.headers.clone();
        if !secrets
            .headers
            .iter()
            .all(|secret| secret.insert(&mut headers))
        {
            return None;
        }
        let name = batch.idempotency_key().to_string();
        if let (Some(header), Ok(name)) = (&self.key_header, HeaderValue::from_str(&name)) {
            headers.insert(header.clone(), name);
        }
        let is_signed = self.signer.is_none()
            || sign(&secrets.keys, &name, self.clock.wall(), body, &mut headers);
        is_signed.then_some(headers)
    }

    /// What is to be struck out of all that the answer or the way says.
    fn strike(&self, secrets: &Secrets) -> Strike {
        let strike = secrets
            .headers
            .iter()
            .fold(Strike::default(), |strike, secret| secret.strike(strike));
        let strike = match self.transport.query() {
            Some(query) => strike.secret("[query]", query),
            None => strike,
        };
        match self.transport.route().login() {
            Some(login) => strike.login("[password]", login),
            None => strike,
        }
    }

    async fn changed(&self) {
        let credentials = self.credentials.iter().map(|credential| {
            Box::pin(credential.changed(self.patience)) as Pin<Box<dyn Future<Output = ()> + Send>>
        });
        let rings = self.signer.iter().flat_map(|signer| signer.rings());
        let rings = rings.map(|ring| Box::pin(ring.changed(self.patience)) as Pin<Box<_>>);
        let mut all: Vec<Pin<Box<dyn Future<Output = ()> + Send>>> =
            credentials.chain(rings).collect();
        poll_fn(|cx| {
            if all.iter_mut().any(|one| one.as_mut().poll(cx).is_ready()) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

impl Sink for Http {
    /// Sends the batch in one request and reads the answer.
    ///
    /// A secret that its file or function does not give any longer pauses without any request. No
    /// answer at all, for whatever reason, means to try again, with fewer events at once if the
    /// time limit was met more than once on a connection that stood. What an answer means is said at
    /// the head of [`classify`](crate::classify).
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection. The receiver may have taken the batch by then.
    async fn deliver(&self, request: Request) -> Outcome {
        let events_max = self
            .batch_events_max()
            .map_or(usize::MAX, NonZeroUsize::get);
        if request.events().len() > events_max {
            return Outcome::divide().because("the form of the body takes fewer events at once");
        }
        match self.shared.secrets().await {
            Ok(secrets) => {
                let mut outcome = self.shared.send(request, &secrets).await;
                // The one door to all that keeps what an answer says.
                self.shared.strike(&secrets).answer(&mut outcome.answer);
                outcome
            }
            Err(answer) => Outcome::pause(PauseReason::Credentials).with_answer(answer),
        }
    }

    /// Says why there is no secret that could be used.
    ///
    /// # Cancel safety
    /// Only reads the secrets.
    async fn hindrance(&self) -> Option<Hindrance> {
        let answer = self.shared.secrets().await.err()?;
        Some(Hindrance {
            reason: PauseReason::Credentials,
            answer,
        })
    }

    /// Makes the body and the idempotency key.
    fn prepare(&self, batch: &Batch) -> Option<Bytes> {
        let _ = batch.idempotency_key();
        self.shared.maker.body(batch)
    }

    /// Resolves once for each secret put in place through a handle that no request has used yet,
    /// and within seconds when a file with a secret is another one than was read last. A new
    /// answer of a function is seen by the next probe.
    ///
    /// # Cancel safety
    /// A replacement is never lost by dropping the future.
    async fn changed(&self) {
        self.shared.changed().await;
    }

    fn batch_events_max(&self) -> Option<NonZeroUsize> {
        self.shared.maker.format().events_max()
    }
}
