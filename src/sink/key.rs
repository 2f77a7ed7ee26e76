//! The API key: a type that cannot be printed, and where it comes from.

/// Why a key cannot be used. Found locally, before any request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no key.
    #[error("key is empty")]
    Empty,
}

impl KeyError {
    /// What a person can do about it, in one line.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        "set `BA_API_KEY` to the key shown in the channel's settings"
    }
}
