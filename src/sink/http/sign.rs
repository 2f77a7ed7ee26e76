//! Signatures of Standard Webhooks
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).
//!
//! A request has a name (`webhook-id`), which is that of its batch and the same however often it is
//! sent, the time it was sent at (`webhook-timestamp`, seconds since 1970), and a signature of both
//! and of the body as it is sent, one for each secret (`webhook-signature`).

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::http::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};

use super::unusable;
use crate::clock::Clock;
use crate::error::{Error, SecretError};
use crate::millis::unix_ms;
use crate::outcome::Answer;
use crate::sink::key::{Content, Ring, SecretSource};
use crate::webhook;

/// Signs requests with every secret that there is.
#[derive(Clone, Debug)]
pub(in crate::sink) struct Signer {
    rings: Vec<Arc<Ring<SigningKeys>>>,
}

impl Signer {
    /// # Errors
    /// [`Error::Sink`] if this build cannot sign, or a secret cannot be used and is not waited for.
    pub(super) fn new(
        sources: Vec<SecretSource>,
        clock: &Arc<dyn Clock>,
        waits: bool,
    ) -> Result<Self, Error> {
        if !cfg!(feature = "signatures") {
            return Err(unusable(
                "this build cannot sign: enable the feature `signatures` of everpost",
            ));
        }
        let ring = |source| {
            let clock = Arc::clone(clock);
            if waits {
                return Ok(Arc::new(Ring::waiting(source, (), clock)));
            }
            let ring = Ring::open(source, (), clock);
            ring.map(Arc::new)
                .map_err(|error: SecretError| unusable(format!("{error}; {}", error.hint())))
        };
        let rings = sources.into_iter().map(ring).collect::<Result<_, _>>()?;
        Ok(Self { rings })
    }

    /// The keys for the next request, or why there are none.
    pub(super) async fn present(&self, patience: Duration) -> Result<Vec<SigningKeys>, Answer> {
        let mut keys = Vec::with_capacity(self.rings.len());
        for ring in &self.rings {
            let present = ring.present(patience).await;
            keys.push(
                present
                    .map_err(|error| Answer::from_detail(format!("{error}; {}", error.hint())))?,
            );
        }
        Ok(keys)
    }

    pub(super) fn rings(&self) -> &[Arc<Ring<SigningKeys>>] {
        &self.rings
    }
}

/// Writes the three headers. False if there is no key, or no header could carry them.
pub(super) fn sign(
    keys: &[SigningKeys],
    id: &str,
    now: SystemTime,
    body: &[u8],
    headers: &mut HeaderMap,
) -> bool {
    let timestamp = (unix_ms(now) / 1_000).to_string();
    let keys = keys.iter().flat_map(|keys| keys.keys.iter());
    let signatures: Option<Vec<String>> = keys
        .map(|key| webhook::signature(key, id, &timestamp, body))
        .collect();
    let Some(signatures) = signatures.filter(|signatures| !signatures.is_empty()) else {
        return false;
    };
    let values = [id.to_owned(), timestamp, signatures.join(" ")];
    webhook::HEADERS
        .into_iter()
        .zip(values)
        .all(|(name, value)| {
            let value = HeaderValue::from_str(&value);
            value
                .map(|value| headers.insert(HeaderName::from_static(name), value))
                .is_ok()
        })
}

/// The keys that one secret holds: `whsec_` and base64, several with white space between them while
/// one takes the place of another.
#[derive(Clone)]
pub(in crate::sink) struct SigningKeys {
    keys: Arc<[webhook::Key]>,
}

impl Content for SigningKeys {
    type Purpose = ();
    type Error = SecretError;

    fn read(text: SecretString) -> Result<Self, SecretError> {
        let keys = webhook::keys(text.expose_secret()).ok_or(SecretError::NotForSigning)?;
        if keys.is_empty() {
            return Err(SecretError::Empty);
        }
        Ok(Self { keys: keys.into() })
    }

    fn suits(&self, (): &()) -> Result<(), SecretError> {
        Ok(())
    }

    fn check(&self, (): &(), _now: SystemTime) -> Result<(), SecretError> {
        Ok(())
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKeys(..)")
    }
}

#[cfg(all(test, feature = "signatures"))]
mod tests;
