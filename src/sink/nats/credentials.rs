//! How a client says who it is.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::error::SecretError;
use crate::outcome::Answer;
use crate::sink::key::{Content, Login, Ring, SecretSource, Strike};

/// How a client says who it is. `S` is where its secret comes from: a [`SecretSource`], or a
/// [`SecretRef`](crate::http::SecretRef) where it is data.
///
/// A file is read before each connection, so that what is renewed there is taken up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Credentials<S = SecretSource> {
    /// It does not.
    #[default]
    None,
    /// A user and a password.
    Password {
        /// The name of the user.
        user: String,
        /// The password.
        password: S,
    },
    /// A token.
    Token(S),
    /// The seed of an nkey, which begins with `SU`. It never leaves this machine: what the server
    /// asks is signed with it.
    Nkey(S),
    /// What `nsc` and other tools write into a `.creds` file: the JWT of a user and the seed of its
    /// nkey, which never leaves this machine.
    Creds(S),
}

impl<S> Credentials<S> {
    /// The same with its secret from elsewhere.
    pub(super) fn map<T>(self, map: impl FnOnce(S) -> T) -> Credentials<T> {
        match self {
            Self::None => Credentials::None,
            Self::Password { user, password } => Credentials::Password {
                user,
                password: map(password),
            },
            Self::Token(token) => Credentials::Token(map(token)),
            Self::Nkey(seed) => Credentials::Nkey(map(seed)),
            Self::Creds(file) => Credentials::Creds(map(file)),
        }
    }

    fn form(&self) -> Form {
        match self {
            Self::None => Form::None,
            Self::Password { user, .. } => Form::Password(user.clone()),
            Self::Token(_) => Form::Token,
            Self::Nkey(_) => Form::Nkey,
            Self::Creds(_) => Form::Creds,
        }
    }

    fn into_source(self) -> Option<S> {
        match self {
            Self::None => None,
            Self::Password {
                password: secret, ..
            }
            | Self::Token(secret)
            | Self::Nkey(secret)
            | Self::Creds(secret) => Some(secret),
        }
    }
}

/// What kind of credentials they are, without the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    None,
    Password(String),
    Token,
    Nkey,
    Creds,
}

/// The text that a source gave. It cannot be printed, and is wiped when it is dropped.
#[derive(Clone)]
struct Held(SecretString);

impl Content for Held {
    type Purpose = Form;
    type Error = SecretError;

    fn read(text: SecretString) -> Result<Self, SecretError> {
        let trimmed = text.expose_secret().trim();
        if trimmed.is_empty() {
            return Err(SecretError::Empty);
        }
        Ok(Self(SecretString::from(trimmed)))
    }

    fn suits(&self, form: &Form) -> Result<(), SecretError> {
        let text = self.0.expose_secret();
        let is_line = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        match form {
            Form::None => Ok(()),
            Form::Password(_) | Form::Token if is_line => Ok(()),
            Form::Password(_) | Form::Token => Err(SecretError::Characters),
            Form::Nkey => pair(text).map(drop).ok_or(NOT_A_SEED),
            Form::Creds => two_parts(text)
                .and_then(|(_, seed)| pair(seed))
                .map(drop)
                .ok_or(NOT_CREDS),
        }
    }

    fn check(&self, form: &Form, _now: SystemTime) -> Result<(), SecretError> {
        self.suits(form)
    }
}

const NOT_A_SEED: SecretError = SecretError::NotForNats {
    wanted: "the seed of a user's nkey, which begins with `SU`",
};
const NOT_CREDS: SecretError = SecretError::NotForNats {
    wanted: "a `.creds` file: the JWT of a user and the seed of its nkey, each between two lines \
             that begin with `---`",
};

/// The keys of a seed that belongs to a user.
fn pair(seed: &str) -> Option<KeyPair> {
    let is_user = seed.starts_with("SU");
    is_user.then(|| KeyPair::from_seed(seed).ok()).flatten()
}

/// The JWT and the seed of a `.creds` file: each is the first line between two that begin with `---`.
fn two_parts(file: &str) -> Option<(&str, &str)> {
    let mut lines = file.lines().map(str::trim);
    let mut part = |begins: &str| {
        lines.find(|line| line.starts_with("---") && line.contains(begins))?;
        lines.find(|line| !line.is_empty() && !line.starts_with("---"))
    };
    let jwt = part("BEGIN NATS USER JWT")?;
    let seed = part("BEGIN USER NKEY SEED")?;
    let is_of_jwt = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=".contains(&byte);
    jwt.bytes().all(is_of_jwt).then_some((jwt, seed))
}

/// The credentials of a running sink.
#[derive(Clone, Debug)]
pub(super) struct Access {
    form: Form,
    ring: Option<Arc<Ring<Held>>>,
}

impl Access {
    /// `waits`: a secret that cannot be used is no error yet.
    pub(super) fn new(
        credentials: Credentials,
        clock: &Arc<dyn Clock>,
        waits: bool,
    ) -> Result<Self, SecretError> {
        let form = credentials.form();
        let ring = match credentials.into_source() {
            None => None,
            Some(source) if waits => Some(Ring::waiting(source, form.clone(), Arc::clone(clock))),
            Some(source) => Some(Ring::open(source, form.clone(), Arc::clone(clock))?),
        };
        Ok(Self {
            form,
            ring: ring.map(Arc::new),
        })
    }

    /// What the next connection says of itself, or why there is nothing it could say.
    pub(super) async fn present(&self, patience: Duration) -> Result<Presented, Answer> {
        let held = match &self.ring {
            None => None,
            Some(ring) => Some(
                ring.present(patience)
                    .await
                    .map_err(|error| Answer::from_detail(format!("{error}; {}", error.hint())))?,
            ),
        };
        Ok(Presented {
            form: self.form.clone(),
            held,
        })
    }

    /// Resolves once the secret is another one than was used last.
    ///
    /// # Cancel safety
    /// A change is never lost by dropping the future.
    pub(super) async fn changed(&self, patience: Duration) {
        match &self.ring {
            Some(ring) => ring.changed(patience).await,
            None => std::future::pending().await,
        }
    }
}

/// The credentials for one connection.
pub(super) struct Presented {
    form: Form,
    held: Option<Held>,
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presented(..)")
    }
}

impl Presented {
    fn text(&self) -> &str {
        self.held.as_ref().map_or("", |held| held.0.expose_secret())
    }

    /// What stands in CONNECT, by name: `nonce` is what the server wants signed.
    pub(super) fn fields(&self, nonce: Option<&str>) -> Vec<(&'static str, SecretString)> {
        let text = self.text();
        let sign = |pair: &KeyPair| {
            let signature = pair.sign(nonce?.as_bytes()).ok()?;
            let signature = BASE64_URL_SAFE_NO_PAD.encode(signature);
            Some(("sig", SecretString::from(signature)))
        };
        match &self.form {
            Form::None => Vec::new(),
            Form::Password(user) => vec![("user", user.as_str().into()), ("pass", text.into())],
            Form::Token => vec![("auth_token", text.into())],
            Form::Nkey => pair(text).map_or_else(Vec::new, |pair| {
                let key = ("nkey", SecretString::from(pair.public_key()));
                [Some(key), sign(&pair)].into_iter().flatten().collect()
            }),
            Form::Creds => two_parts(text).map_or_else(Vec::new, |(jwt, seed)| {
                let signature = pair(seed).as_ref().and_then(sign);
                [Some(("jwt", jwt.into())), signature]
                    .into_iter()
                    .flatten()
                    .collect()
            }),
        }
    }

    /// What is to be struck out of all that a server says.
    pub(super) fn strike(&self) -> Strike {
        let text = self.text();
        match &self.form {
            Form::None => Strike::default(),
            Form::Password(user) => {
                let login = Login {
                    user: user.clone(),
                    password: text.into(),
                };
                Strike::default().login("[password]", &login)
            }
            Form::Token => Strike::default().secret("[token]", text),
            Form::Nkey => Strike::default().secret("[seed]", text),
            Form::Creds => two_parts(text).map_or_else(Strike::default, |(jwt, seed)| {
                Strike::default()
                    .secret("[jwt]", jwt)
                    .secret("[seed]", seed)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn creds(jwt: &str, seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\
             NKEY Seed printed below can be used to sign and prove identity.\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n\
             *************************************************************\n"
        )
    }

    async fn present(credentials: Credentials) -> Result<Presented, String> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let access = Access::new(credentials, &clock, false).map_err(|error| error.to_string())?;
        let presented = access.present(Duration::from_secs(5)).await;
        presented.map_err(|answer| answer.detail.unwrap_or_default())
    }

    fn shown(fields: &[(&'static str, SecretString)]) -> Vec<(&'static str, String)> {
        let show = |(name, value): &(&'static str, SecretString)| {
            (*name, value.expose_secret().to_owned())
        };
        fields.iter().map(show).collect()
    }

    #[tokio::test]
    async fn each_kind_stands_in_connect_as_servers_want_it() {
        let value = |text: &str| SecretSource::value(text);
        let of = |presented: Presented| shown(&presented.fields(Some("n0nce")));
        let password = Credentials::Password {
            user: "me".to_owned(),
            password: value(" hunter22\n"),
        };
        let presented = present(password).await.unwrap();
        let expected = [("user", "me"), ("pass", "hunter22")];
        assert_eq!(of(presented), expected.map(|(n, v)| (n, v.to_owned())));
        let presented = present(Credentials::Token(value("t"))).await.unwrap();
        assert_eq!(of(presented), [("auth_token", "t".to_owned())]);

        let user = KeyPair::new_user();
        let seed = user.seed().unwrap();
        let verify = |fields: &[(&str, String)]| {
            let (_, signature) = fields.iter().find(|(name, _)| *name == "sig").unwrap();
            let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
            user.verify(b"n0nce", &signature).unwrap();
        };
        let presented = present(Credentials::Nkey(value(&seed))).await.unwrap();
        assert!(shown(&presented.fields(None)).len() == 1, "nothing to sign");
        let fields = of(presented);
        assert_eq!(fields[0], ("nkey", user.public_key()));
        verify(&fields);
        let file = creds("aaa.bbb.c-_", &seed);
        let presented = present(Credentials::Creds(value(&file))).await.unwrap();
        let mut said = Answer::from_detail(format!("what is {seed}?"));
        presented.strike().answer(&mut said);
        assert_eq!(said.detail.as_deref(), Some("what is [seed]?"));
        let fields = of(presented);
        assert_eq!(fields[0], ("jwt", "aaa.bbb.c-_".to_owned()));
        verify(&fields);
    }

    #[tokio::test]
    async fn what_is_no_such_secret_is_told_without_any_of_it() {
        let value = |text: &str| SecretSource::value(text);
        let account = KeyPair::new_account().seed().unwrap();
        for bad in [
            Credentials::Token(value(" ")),
            Credentials::Token(value("hunter2\nhunter2")),
            Credentials::Nkey(value("hunter2")),
            Credentials::Nkey(value(&account)),
            Credentials::Creds(value("hunter2")),
            Credentials::Creds(value(&creds("hunter2", "hunter2"))),
        ] {
            let shown = format!("{bad:?}");
            let error = present(bad).await.unwrap_err();
            assert!(
                !error.contains("hunter2") && !error.contains(&account),
                "{error}"
            );
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
