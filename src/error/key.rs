//! Why a key cannot be used.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

/// Why a key cannot be used. Found locally, before any request.
///
/// No text contains any part of the key, except the name of its channel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no key: nothing but white space.
    #[error("key is empty")]
    Empty,
    /// The environment variable is not set.
    #[error("environment variable with the key is not set. variable=`{variable}`")]
    NotSet {
        /// Its name.
        variable: String,
    },
    /// There are characters in it that no bearer token has: quotes, blanks, line breaks.
    #[error("key contains characters that no key has")]
    Characters,
    /// It is not a JWT: those have three parts with dots between them.
    #[error("key is not three parts separated by dots. parts=`{found}`")]
    Parts {
        /// How many there are.
        found: usize,
    },
    /// Its second part is not base64url.
    #[error("second part of the key is not base64url")]
    NotBase64,
    /// Its second part does not hold a JSON object.
    #[error("second part of the key is not a JSON object")]
    NotJson,
    /// Its claims name no channel.
    #[error("key names no channel")]
    NoChannel,
    /// It belongs to another channel.
    #[error("key belongs to another channel. expected=`{expected}`, found=`{found}`")]
    WrongChannel {
        /// The channel asked for.
        expected: String,
        /// The channel the key names.
        found: String,
    },
    /// Its time is over.
    #[error("key has expired. since=`{}`", date(*since))]
    Expired {
        /// When it ended.
        since: SystemTime,
    },
    /// What should be the file with the key is something that may never answer.
    #[error("file with the key is {found}. path=`{}`", path.display())]
    NotAFile {
        /// Where it is.
        path: PathBuf,
        /// "a directory" or "a pipe, a socket or a device".
        found: &'static str,
    },
    /// The file with the key cannot be read.
    #[error("file with the key cannot be read: {}. path=`{}`", words(*kind), path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// The caller's function gave no key. Its own error is not repeated, since it may contain
    /// anything.
    #[error("function that supplies the key {what}")]
    NoSupply {
        /// "failed", "panicked" or "did not answer in time".
        what: &'static str,
    },
}

impl KeyError {
    /// What a person can do about it, in one line.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Empty | Self::NotSet { .. } => {
                "set `BA_API_KEY` to the key shown in the channel's settings"
            }
            Self::Characters => "copy the key alone, without quotes and without `Bearer`",
            Self::Parts { .. } | Self::NotBase64 | Self::NotJson | Self::NoChannel => {
                "copy the whole key from the channel's settings"
            }
            Self::WrongChannel { .. } => "use the key of the channel the events belong to",
            Self::Expired { .. } => {
                "make a new key in the project's settings; if this one is new, set the clock"
            }
            Self::Unreadable { .. } => "see that the file is there and may be read",
            Self::NotAFile { .. } => "write the key into a regular file, and name that",
            Self::NoSupply { .. } => "mend the function, or put a key in place by hand",
        }
    }
}

/// As the system says it, for what is met most.
pub(super) fn words(kind: io::ErrorKind) -> String {
    match kind {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::InvalidData => "it is not text".to_owned(),
        kind => kind.to_string(),
    }
}

/// The time as HTTP writes it. `httpdate` panics past the year 9999 (httpdate 1.0.3
/// src/date.rs:56), which a mad clock can reach.
fn date(time: SystemTime) -> String {
    let last = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(253_402_300_799);
    httpdate::fmt_http_date(time.clamp(SystemTime::UNIX_EPOCH, last))
}
