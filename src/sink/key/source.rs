//! Where a secret comes from.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretString;

use super::file;
use crate::error::SecretError;

type Supply = dyn Fn() -> Result<SecretString, SecretError> + Send + Sync;

/// Where a secret comes from.
///
/// A value and an environment variable are read once, when the sink is built. A file and a
/// function are asked again before each request, so that a secret renewed there is used at once.
#[derive(Clone)]
pub struct SecretSource(Origin);

#[derive(Clone)]
enum Origin {
    Value(SecretString),
    Variable(String),
    File(PathBuf),
    Function(Arc<Supply>),
}

impl SecretSource {
    /// This secret.
    #[must_use]
    pub fn value(secret: impl Into<SecretString>) -> Self {
        Self(Origin::Value(secret.into()))
    }

    /// An environment variable.
    #[must_use]
    pub fn variable(name: impl Into<String>) -> Self {
        Self(Origin::Variable(name.into()))
    }

    /// A file that holds the secret and nothing else, but for white space around it. At most
    /// 64 KiB, and a regular file or a link to one: a pipe, a socket or a device is refused without
    /// being read, because it may never answer.
    ///
    /// Replace it by renaming another over it, so that no half of a secret is ever read. A mode of
    /// 0600 is enough.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Origin::File(path.into()))
    }

    /// A function that answers with the secret.
    ///
    /// It runs on a thread where it may block, once before each request. While it does not
    /// answer, nothing is sent: after the request's time limit the attempt counts as failed. Its
    /// thread cannot be stopped, and a runtime that shuts down waits for it, so let it return.
    /// Its error is not shown anywhere, because it may contain anything; log it there.
    #[must_use]
    pub fn function<F, E>(function: F) -> Self
    where
        F: Fn() -> Result<String, E> + Send + Sync + 'static,
    {
        Self(Origin::Function(Arc::new(move || match function() {
            Ok(secret) => Ok(SecretString::from(secret)),
            Err(_) => Err(SecretError::NoSupply { what: "failed" }),
        })))
    }

    /// Reads the secret now, on this thread.
    pub(super) fn read(&self) -> Result<SecretString, SecretError> {
        match &self.0 {
            Origin::Value(secret) => Ok(secret.clone()),
            Origin::Variable(name) => match std::env::var(name) {
                Ok(secret) => Ok(secret.into()),
                Err(std::env::VarError::NotPresent) => Err(SecretError::NotSet {
                    variable: name.clone(),
                }),
                Err(std::env::VarError::NotUnicode(_)) => Err(SecretError::Characters),
            },
            Origin::File(path) => file::read(path),
            Origin::Function(function) => function(),
        }
    }

    /// The file that holds the secret, if one does.
    pub(super) fn path(&self) -> Option<&Path> {
        match &self.0 {
            Origin::File(path) => Some(path),
            _ => None,
        }
    }

    /// Whether the secret may be another one tomorrow.
    pub(super) fn is_live(&self) -> bool {
        match self.0 {
            Origin::Value(_) | Origin::Variable(_) => false,
            Origin::File(_) | Origin::Function(_) => true,
        }
    }

    fn show(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Origin::Value(_) => write!(f, "{name}::value(..)"),
            Origin::Variable(variable) => write!(f, "{name}::variable({variable:?})"),
            Origin::File(path) => write!(f, "{name}::file({path:?})"),
            Origin::Function(_) => write!(f, "{name}::function(..)"),
        }
    }
}

/// Says which kind of source it is, never what it holds.
impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show("SecretSource", f)
    }
}

/// Where the key of a channel comes from: a [`SecretSource`] that holds a [`Key`](super::Key).
///
/// A value and an environment variable are read once, when the sink is built. A file and a
/// function are asked again before each request, so that a key renewed there is used at once.
#[derive(Clone)]
pub struct KeySource(SecretSource);

impl KeySource {
    /// This key.
    #[must_use]
    pub fn value(key: impl Into<SecretString>) -> Self {
        Self(SecretSource::value(key))
    }

    /// The environment variable `BA_API_KEY`, as the official SDKs read it.
    #[must_use]
    pub fn env() -> Self {
        Self::variable("BA_API_KEY")
    }

    /// An environment variable of another name.
    #[must_use]
    pub fn variable(name: impl Into<String>) -> Self {
        Self(SecretSource::variable(name))
    }

    /// A file that holds the key and nothing else, but for white space around it. At most 64 KiB,
    /// and a regular file or a link to one: a pipe, a socket or a device is refused without being
    /// read, because it may never answer.
    ///
    /// Replace it by renaming another over it, so that no half of a key is ever read. A mode of
    /// 0600 is enough.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(SecretSource::file(path))
    }

    /// A function that answers with the key.
    ///
    /// It runs on a thread where it may block, once before each request. While it does not
    /// answer, nothing is sent: after the request's time limit the attempt counts as failed. Its
    /// thread cannot be stopped, and a runtime that shuts down waits for it, so let it return.
    /// Its error is not shown anywhere, because it may contain anything; log it there.
    #[must_use]
    pub fn function<F, E>(function: F) -> Self
    where
        F: Fn() -> Result<String, E> + Send + Sync + 'static,
    {
        Self(SecretSource::function(function))
    }
}

impl From<KeySource> for SecretSource {
    fn from(KeySource(source): KeySource) -> Self {
        source
    }
}

impl From<SecretSource> for KeySource {
    fn from(source: SecretSource) -> Self {
        Self(source)
    }
}

/// Says which kind of source it is, never what it holds.
impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show("KeySource", f)
    }
}
