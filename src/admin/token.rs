//! The token that lets the page act.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use ring::hmac;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use crate::error::Error;
use crate::relay::token::{make, read};

/// The file with the token, in the directory of the relay.
const FILE: &str = "admin.token";

/// The token that lets the page act. It is in a file that its user alone can read, and never shown:
/// `Debug` gives the place of the file alone.
#[derive(Clone)]
pub struct Token {
    text: SecretString,
    /// Made of the token: what compares with it.
    key: hmac::Key,
    path: PathBuf,
}

impl Token {
    /// Reads the token in this directory, `admin.token`, or makes it and the directory, readable by
    /// this user alone. A file that is there is never written over; to have another token, remove it
    /// and start again.
    ///
    /// # Errors
    /// [`Error::Storage`] if the disk refuses, or the file holds no token.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let bytes = match read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(dir, &path).map_err(Error::storage("make the token of the page", &path))?;
                // That of another process, if it was quicker.
                read(&path)
            }
            read => read,
        };
        let bytes = bytes.and_then(|bytes| {
            let no_token = "it holds no token; remove it to have a new one made";
            bytes.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, no_token))
        });
        let bytes = Zeroizing::new(
            bytes
                .map_err(Error::storage("read the token of the page", &path))?
                .to_vec(),
        );
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self {
            text: SecretString::from(text),
            key: hmac::Key::new(hmac::HMAC_SHA256, &bytes),
            path,
        })
    }

    /// The file that it is in.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The token itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// Whether this is the token. How long that takes says nothing about it.
    pub(super) fn is(&self, text: &str) -> bool {
        let tag = hmac::sign(&self.key, self.expose().as_bytes());
        hmac::verify(&self.key, text.as_bytes(), tag.as_ref()).is_ok()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_kept_for_its_user_alone_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let token = Token::open(dir.path()).unwrap();
        assert!(token.is(token.expose()));
        for other in ["", "0", &token.expose()[1..], &"0".repeat(64)] {
            assert!(!token.is(other), "{other}");
        }
        assert!(!format!("{token:?}").contains(token.expose()));
        let again = Token::open(dir.path()).unwrap();
        assert_eq!(again.expose(), token.expose(), "after a restart");
        let written = std::fs::read_to_string(token.path()).unwrap();
        assert_eq!(written.trim_end(), token.expose(), "as it is typed");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(token.path()).unwrap().permissions();
            assert_eq!(mode.mode() & 0o777, 0o600);
        }
        std::fs::write(token.path(), "no token").unwrap();
        let error = Token::open(dir.path()).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("remove it"), "{cause}");
    }
}
