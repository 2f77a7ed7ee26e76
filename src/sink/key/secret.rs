//! A secret that stands in a header: any text that a header can carry.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use secrecy::{ExposeSecret as _, SecretString};

use super::ring::{Content, Ring};
use crate::error::SecretError;

/// A secret that a header can carry. It cannot be printed, and its memory is wiped when it is
/// dropped.
#[derive(Clone)]
pub(crate) struct Secret(SecretString);

impl Secret {
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl Content for Secret {
    type Purpose = ();
    type Error = SecretError;

    /// White space around it is left out.
    fn read(text: SecretString) -> Result<Self, SecretError> {
        let trimmed = text.expose_secret().trim();
        if trimmed.is_empty() {
            return Err(SecretError::Empty);
        }
        if !trimmed.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(SecretError::Characters);
        }
        Ok(Self(SecretString::from(trimmed)))
    }

    fn suits(&self, (): &()) -> Result<(), SecretError> {
        Ok(())
    }

    fn check(&self, (): &(), _now: SystemTime) -> Result<(), SecretError> {
        Ok(())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Replaces a secret of a running sink. Cloning is cheap; all clones reach the same sink.
#[derive(Clone, Debug)]
pub struct SecretHandle {
    ring: Arc<Ring<Secret>>,
}

impl SecretHandle {
    pub(crate) fn new(ring: Arc<Ring<Secret>>) -> Self {
        Self { ring }
    }

    /// Uses this secret from the next request on, in place of whatever the source says, and wakes a
    /// delivery that is paused. A request under way keeps the secret it was sent with.
    ///
    /// # Errors
    /// A [`SecretError`] if it is empty or no header can carry it. The old secret then stays.
    pub fn replace(&self, secret: impl Into<SecretString>) -> Result<(), SecretError> {
        self.ring.replace(secret.into())
    }
}
