//! Tokens: what clients of a relay present instead of the key of the API.
//!
//! A token has the form of a key, for the official clients look into theirs: three parts, the second
//! with a `channel` claim. Its third part is made with a secret that only this relay has.

use std::fmt;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rand::Rng as _;
use ring::hmac;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::Origin;
use crate::error::Error;
use crate::log::disk::{create_private_dir, make_own, open_to_look, sync_dir, sync_file};
use crate::sink::botanalytics::Key;

/// The file with the secret, in the directory of the relay.
const SECRET: &str = "relay.secret";

/// Bytes of the secret.
const SECRET_BYTES: usize = 32;

/// How often a token is made until none of its letters is one that the official Python client cannot
/// read. About one in four has none.
const TRIES: usize = 1_000;

/// Origins of one token for pages.
pub const ORIGINS_MAX: usize = 16;

/// The secret of a relay, and the tokens made with it.
///
/// Neither is ever shown: `Debug` gives the place of the secret alone.
#[derive(Clone)]
pub struct Tokens {
    secret: hmac::Key,
    path: PathBuf,
}

/// A token. It can be shown only on purpose, by [`expose`](Token::expose).
#[derive(Clone)]
pub struct Token(SecretString);

/// What a token allows its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    /// To send as a program.
    Program,
    /// To send from a page of one of these origins.
    Pages(Vec<String>),
}

/// What is read in a token.
#[derive(Deserialize)]
struct Claims {
    origins: Option<Vec<String>>,
}

impl Tokens {
    /// Reads the secret in this directory, `relay.secret`, or makes it and the directory, readable by
    /// this user alone. A file that is there is never written over.
    ///
    /// To make all tokens of a relay worthless, remove the file and start it again.
    ///
    /// # Errors
    /// [`Error::Storage`] if the disk refuses, or the file is no secret.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(SECRET);
        let secret = match read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(dir, &path).map_err(Error::storage("make the secret of the relay", &path))?;
                // That of another process, if it was quicker.
                read(&path)
            }
            read => read,
        };
        let secret = secret.and_then(|secret| {
            let no_secret = "it holds no secret; remove it to have a new one made, for which tokens \
                             that were made before are worthless";
            secret.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, no_secret))
        });
        let secret = secret.map_err(Error::storage("read the secret of the relay", &path))?;
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        Ok(Self { secret, path })
    }

    /// Makes a token for a channel. Every one is another, and all stay good for as long as the secret
    /// does. It has no letter that the official clients cannot read.
    ///
    /// # Errors
    /// [`Error::Sink`] if the name is none that the API could have for a channel: it has to consist of
    /// lower-case letters, digits, `-` and `_`.
    pub fn mint(&self, channel: &str) -> Result<Token, Error> {
        self.sign(channel, &[])
    }

    /// Makes a token that a web page may show to all the world: it opens the door to pages of these
    /// origins alone, if the relay [lets them in](super::Rules::origin), to write and to nothing else.
    ///
    /// A program that is no browser can name any origin. What such a token is good for is bounded all
    /// the same: it appends to one channel of one relay, and its clients are few enough a second.
    ///
    /// # Errors
    /// As [`mint`](Self::mint); also if there is no origin, or more than [`ORIGINS_MAX`].
    pub fn mint_for_pages(&self, channel: &str, origins: &[Origin]) -> Result<Token, Error> {
        if origins.is_empty() || origins.len() > ORIGINS_MAX {
            let reason = format!("a token for pages is for 1 to {ORIGINS_MAX} origins");
            return Err(Error::Sink { reason });
        }
        self.sign(channel, origins)
    }

    fn sign(&self, channel: &str, origins: &[Origin]) -> Result<Token, Error> {
        let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
        if channel.is_empty() || channel.len() > 40 || !channel.bytes().all(is_name) {
            let reason = "a channel is named by up to 40 lower-case letters, digits, `-` and `_`";
            let reason = reason.to_owned();
            return Err(Error::Sink { reason });
        }
        let mut rng = rand::rngs::OsRng;
        for _ in 0..TRIES {
            let number: u64 = rng.r#gen();
            let mut claims =
                json!({ "channel": channel, "iss": "everpost", "jti": format!("{number:016x}") });
            if !origins.is_empty() {
                let origins: Vec<&str> = origins.iter().map(Origin::as_str).collect();
                claims["origins"] = json!(origins);
            }
            let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
            let head = part(r#"{"alg":"HS256","typ":"JWT"}"#);
            let signed = format!("{head}.{}", part(&claims.to_string()));
            let signature = hmac::sign(&self.secret, signed.as_bytes());
            let token = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature));
            if !token.contains(['-', '_']) {
                return Ok(Token(SecretString::from(token)));
            }
        }
        let reason = "no token could be made; try again".to_owned();
        Err(Error::Sink { reason })
    }

    /// What this key allows, if it is a token that was made here.
    pub(super) fn read(&self, key: &Key) -> Option<Grant> {
        let (signed, signature) = key.expose().rsplit_once('.')?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        hmac::verify(&self.secret, signed.as_bytes(), &signature).ok()?;
        let claims = BASE64_URL_SAFE_NO_PAD
            .decode(signed.split('.').nth(1)?)
            .ok()?;
        let claims: Claims = serde_json::from_slice(&claims).ok()?;
        Some(match claims.origins {
            None => Grant::Program,
            Some(origins) => Grant::Pages(origins),
        })
    }

    /// Whether two secrets are the same. How long that takes says nothing about either.
    pub(super) fn are_equal(&self, one: &str, other: &str) -> bool {
        let tag = hmac::sign(&self.secret, one.as_bytes());
        hmac::verify(&self.secret, other.as_bytes(), tag.as_ref()).is_ok()
    }
}

/// The secret in the file, if it is one.
pub(crate) fn read(path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut text = Zeroizing::new(String::new());
    let max = 2 * SECRET_BYTES as u64 + 2;
    let read = open_to_look(path)?.take(max).read_to_string(&mut text);
    match read {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
        read => read?,
    };
    Ok(from_hex(text.trim_end()).map(Zeroizing::new))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let bytes = pairs
        .iter()
        .map(|[high, low]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok());
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    (bytes.len() == SECRET_BYTES).then_some(bytes)
}

/// Makes the secret: whole and durable before it has its name, which it gets only if no other file
/// has it.
pub(crate) fn make(dir: &Path, path: &Path) -> io::Result<()> {
    create_private_dir(dir)?;
    let mut secret = Zeroizing::new([0_u8; SECRET_BYTES]);
    rand::rngs::OsRng.fill(&mut secret[..]);
    let text = secret.iter().map(|byte| format!("{byte:02x}"));
    let text = Zeroizing::new(text.collect::<String>() + "\n");
    let new = path.with_extension(format!("new.{}", std::process::id()));
    let written = make_own(&new).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        sync_file(&file)?;
        fs::hard_link(&new, path)
    });
    // It has its other name, or is of no use.
    let _ = fs::remove_file(&new);
    match written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        written => written,
    }?;
    sync_dir(dir)
}

impl Token {
    /// The token itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.path.display())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    #[test]
    fn a_token_opens_the_door_of_its_relay_alone_also_after_a_restart() {
        let [here, elsewhere] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let tokens = Tokens::open(&here.path().join("relay")).unwrap();
        let token = tokens.mint("amazon-alexa").unwrap();
        assert_eq!(key(token.expose()).channel(), "amazon-alexa");
        let again = Tokens::open(&here.path().join("relay")).unwrap();
        assert!(
            [&tokens, &again]
                .iter()
                .all(|tokens| tokens.read(&key(token.expose())) == Some(Grant::Program))
        );
        let others = Tokens::open(elsewhere.path()).unwrap();
        assert!(others.read(&key(token.expose())).is_none());
        assert_ne!(
            token.expose(),
            tokens.mint("amazon-alexa").unwrap().expose()
        );
        assert_eq!(format!("{token:?}"), "Token(..)");
    }

    /// The official Python client takes `-` and `_` in a key for a fault.
    #[test]
    fn a_token_has_no_letter_that_a_client_cannot_read_and_an_altered_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(dir.path()).unwrap();
        for _ in 0..20 {
            let token = tokens.mint("microsoft-bot-framework").unwrap();
            assert!(!token.expose().contains(['-', '_']));
            let [head, claims, signature] =
                [0, 1, 2].map(|n| token.expose().split('.').nth(n).unwrap());
            let other = BASE64_URL_SAFE_NO_PAD.encode(r#"{"channel":"universal"}"#);
            for altered in [
                format!("{head}.{other}.{signature}"),
                format!("{head}.{claims}."),
                format!("{head}.{claims}.{}", &signature[1..]),
                format!("{head}.{claims}.e30"),
            ] {
                assert!(tokens.read(&key(&altered)).is_none(), "{altered}");
            }
        }
    }

    #[test]
    fn a_token_for_pages_names_their_origins() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(dir.path()).unwrap();
        let origin: Origin = "https://example.org".parse().unwrap();
        let token = tokens.mint_for_pages("universal", std::slice::from_ref(&origin));
        let grant = tokens.read(&key(token.unwrap().expose()));
        assert_eq!(grant, Some(Grant::Pages(vec![origin.to_string()])));
        let many = vec![origin; ORIGINS_MAX + 1];
        assert!(tokens.mint_for_pages("universal", &many).is_err());
        assert!(tokens.mint_for_pages("universal", &[]).is_err());
    }

    #[test]
    fn a_file_that_is_no_secret_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SECRET);
        for text in ["", "abc", &"zz".repeat(32), &"00".repeat(33)] {
            fs::write(&path, text).unwrap();
            let error = Tokens::open(dir.path()).unwrap_err();
            assert!(matches!(error, Error::Storage { .. }), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        for wrong in ["", "Universal", "a b", "../x", &"x".repeat(41)] {
            fs::remove_file(&path).ok();
            let minted = Tokens::open(dir.path()).unwrap().mint(wrong);
            assert!(minted.is_err(), "{wrong}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_secret_is_for_its_user_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let relay = dir.path().join("a/relay");
        let tokens = Tokens::open(&relay).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&relay), mode(&relay.join(SECRET))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&relay).unwrap().count(), 1);
        let secret = fs::read_to_string(relay.join(SECRET)).unwrap();
        assert!(!format!("{tokens:?}").contains(secret.trim()));
    }
}
