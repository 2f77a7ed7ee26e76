//! Secrets: the key of a channel, a type that cannot be printed, and any other that a header carries;
//! where each comes from, and how it is replaced.
//!
//! A key is a JWT made for one channel. It is checked here as far as that is possible without the
//! server: shape, claims, channel, expiry. Its signature is the server's business.

mod file;
mod ring;
mod secret;
mod source;
mod strike;

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

pub use crate::error::{KeyError, SecretError};
pub use ring::KeyHandle;
pub(crate) use ring::{Content, KeyRing, Ring};
pub(crate) use secret::Secret;
pub use secret::SecretHandle;
pub use source::{KeySource, SecretSource};
pub(crate) use strike::{Login, Strike, percent_decoded};

/// JWTs are written without padding (RFC 7515 section 2); keys copied through other tools may
/// have gained some.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A key of one channel, well formed.
///
/// It cannot be printed or serialised, and its memory is wiped when it is dropped. The copies
/// that travel inside a request belong to the HTTP client and are not wiped.
#[derive(Clone)]
pub struct Key {
    secret: SecretString,
    channel: String,
    expires: Option<SystemTime>,
}

impl Key {
    /// Reads a key. White space around it is left out.
    ///
    /// # Errors
    /// A [`KeyError`] if it is not three dot-separated parts of which the second is base64url
    /// holding a JSON object with a text under `channel`. An `exp` that is no number is ignored,
    /// and whether it has passed is not looked at: see [`Key::check`].
    pub fn parse(text: impl Into<SecretString>) -> Result<Self, KeyError> {
        let text = text.into();
        let trimmed = text.expose_secret().trim();
        let claims = claims(trimmed)?;
        let channel = match claims.get("channel") {
            Some(Value::String(channel)) if !channel.is_empty() => channel.clone(),
            _ => return Err(KeyError::NoChannel),
        };
        Ok(Self {
            secret: SecretString::from(trimmed),
            channel,
            expires: claims.get("exp").and_then(numeric_date),
        })
    }

    /// Checks the key against the channel it is meant for, if one is given, and the time.
    ///
    /// # Errors
    /// [`KeyError::WrongChannel`] or [`KeyError::Expired`].
    pub fn check(&self, channel: Option<&str>, now: SystemTime) -> Result<(), KeyError> {
        self.check_channel(channel)?;
        match self.expires {
            Some(since) if since <= now => Err(KeyError::Expired { since }),
            _ => Ok(()),
        }
    }

    pub(crate) fn check_channel(&self, channel: Option<&str>) -> Result<(), KeyError> {
        match channel {
            Some(expected) if expected != self.channel => Err(KeyError::WrongChannel {
                expected: expected.to_owned(),
                found: printable_channel(&self.channel),
            }),
            _ => Ok(()),
        }
    }

    /// The channel the key is made for, as its claims say.
    #[must_use]
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// When it ends, if its claims say so.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    pub(crate) fn expose(&self) -> &str {
        self.secret.expose_secret()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

fn claims(key: &str) -> Result<Map<String, Value>, KeyError> {
    if key.is_empty() {
        return Err(KeyError::Empty);
    }
    // What a bearer token may consist of (RFC 6750 section 2.1). Anything else would be quotes,
    // a pasted "Bearer ", or bytes that no header can carry.
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    if !key.bytes().all(allowed) {
        return Err(KeyError::Characters);
    }
    let mut parts = key.split('.');
    let (Some(_), Some(payload), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(KeyError::Parts {
            found: key.split('.').count(),
        });
    };
    let json = Zeroizing::new(BASE64URL.decode(payload).map_err(|_| KeyError::NotBase64)?);
    serde_json::from_slice(&json).map_err(|_| KeyError::NotJson)
}

/// A moment as RFC 7519 section 2 writes it: seconds since 1970, perhaps with a fraction. Moments
/// before 1970 count as 1970; moments beyond what the system can express never come.
fn numeric_date(value: &Value) -> Option<SystemTime> {
    let seconds = value.as_f64()?.max(0.0);
    let since = Duration::try_from_secs_f64(seconds).ok()?;
    UNIX_EPOCH.checked_add(since)
}

/// The claim is a part of the key, so only what looks like the name of a channel is shown.
fn printable_channel(channel: &str) -> String {
    let is_name = channel.len() <= 40
        && channel
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    if is_name {
        channel.to_owned()
    } else {
        "unprintable".to_owned()
    }
}

#[cfg(test)]
mod tests;
