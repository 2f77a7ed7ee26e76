//! Why a secret cannot be used.

use std::io;
use std::path::PathBuf;

use super::key::{KeyError, words};

/// Why a secret cannot be used. Found locally, before any request.
///
/// No text contains any part of the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// There is nothing but white space.
    #[error("secret is empty")]
    Empty,
    /// The environment variable is not set.
    #[error("environment variable with the secret is not set. variable=`{variable}`")]
    NotSet {
        /// Its name.
        variable: String,
    },
    /// There are characters in it that no header can carry: line breaks, control characters, or
    /// what is not ASCII.
    #[error("secret contains characters that no header can carry")]
    Characters,
    /// A signing secret is not `whsec_` and base64 of 16 to 128 bytes.
    #[error("signing secret is not `whsec_` followed by base64 of 16 to 128 bytes")]
    NotForSigning,
    /// It is not what such credentials of NATS consist of.
    #[error("secret is not {wanted}")]
    NotForNats {
        /// What it would have to be.
        wanted: &'static str,
    },
    /// What should be the file with the secret is something that may never answer.
    #[error("file with the secret is {found}. path=`{}`", path.display())]
    NotAFile {
        /// Where it is.
        path: PathBuf,
        /// "a directory" or "a pipe, a socket or a device".
        found: &'static str,
    },
    /// The file with the secret cannot be read.
    #[error("file with the secret cannot be read: {}. path=`{}`", words(*kind), path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// The caller's function gave no secret. Its own error is not repeated, since it may contain
    /// anything.
    #[error("function that supplies the secret {what}")]
    NoSupply {
        /// "failed", "panicked" or "did not answer in time".
        what: &'static str,
    },
}

impl SecretError {
    /// What a person can do about it, in one line.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Empty => "put the secret there",
            Self::NotSet { .. } => "set the variable, or name another source",
            Self::Characters => "put the secret alone there, in one line",
            Self::NotForSigning => {
                "copy the whole secret, from `whsec_` on; several with blanks between"
            }
            Self::NotForNats { .. } => "name the file with it, and put nothing else there",
            Self::Unreadable { .. } => "see that the file is there and may be read",
            Self::NotAFile { .. } => "write the secret into a regular file, and name that",
            Self::NoSupply { .. } => "mend the function, or put a secret in place by hand",
        }
    }
}

/// A key is a secret, and what keeps it from being read is the same.
impl From<SecretError> for KeyError {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::Empty => Self::Empty,
            SecretError::NotSet { variable } => Self::NotSet { variable },
            SecretError::Characters
            | SecretError::NotForSigning
            | SecretError::NotForNats { .. } => Self::Characters,
            SecretError::NotAFile { path, found } => Self::NotAFile { path, found },
            SecretError::Unreadable { path, kind } => Self::Unreadable { path, kind },
            SecretError::NoSupply { what } => Self::NoSupply { what },
        }
    }
}
