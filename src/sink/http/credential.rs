//! Headers whose value is secret: each is made anew for each request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use super::{Auth, unusable};
use crate::clock::Clock;
use crate::error::{Error, SecretError};
use crate::outcome::Answer;
use crate::sink::key::{KeyRing, Login, Ring, Secret, SecretSource, Strike};

/// A header whose value is secret, and where the secret comes from.
#[derive(Clone, Debug)]
pub(in crate::sink) struct Credential {
    name: HeaderName,
    form: Form,
    held: Held,
}

/// What stands around the secret.
#[derive(Clone, Debug)]
enum Form {
    Alone,
    Bearer,
    Basic { user: String },
}

#[derive(Clone, Debug)]
enum Held {
    Key(Arc<KeyRing>),
    Secret(Arc<Ring<Secret>>),
}

impl Credential {
    /// The key of a channel as bearer.
    pub(in crate::sink) fn channel_key(ring: Arc<KeyRing>) -> Self {
        Self {
            name: AUTHORIZATION,
            form: Form::Bearer,
            held: Held::Key(ring),
        }
    }

    /// What this kind of authentication puts into a request. `waits`: a secret that cannot be used
    /// is no error yet.
    pub(super) fn of_auth(
        auth: Auth,
        clock: &Arc<dyn Clock>,
        waits: bool,
    ) -> Result<Option<Self>, Error> {
        let (name, form, source) = match auth {
            Auth::None => return Ok(None),
            Auth::ChannelKey { key, channel } => {
                let clock = Arc::clone(clock);
                let ring = if waits {
                    KeyRing::waiting(key, channel, clock)
                } else {
                    KeyRing::open(key, channel, clock)?
                };
                return Ok(Some(Self::channel_key(Arc::new(ring))));
            }
            Auth::Bearer(secret) => (AUTHORIZATION, Form::Bearer, secret),
            Auth::Basic { user, password } => {
                if user.contains(':') {
                    return Err(unusable("name of a user cannot have a colon in it"));
                }
                (AUTHORIZATION, Form::Basic { user }, password)
            }
            Auth::Header { name, value } => (header_name(&name)?, Form::Alone, value),
        };
        Self::new(name, form, source, clock, waits).map(Some)
    }

    /// A secret alone in a header of this name.
    pub(super) fn header(
        name: &str,
        source: SecretSource,
        clock: &Arc<dyn Clock>,
        waits: bool,
    ) -> Result<Self, Error> {
        Self::new(header_name(name)?, Form::Alone, source, clock, waits)
    }

    fn new(
        name: HeaderName,
        form: Form,
        source: SecretSource,
        clock: &Arc<dyn Clock>,
        waits: bool,
    ) -> Result<Self, Error> {
        let clock = Arc::clone(clock);
        let ring = if waits {
            Ring::waiting(source, (), clock)
        } else {
            Ring::open(source, (), clock).map_err(|error: SecretError| {
                unusable(format!("{error}; {}. header=`{name}`", error.hint()))
            })?
        };
        let held = Held::Secret(Arc::new(ring));
        Ok(Self { name, form, held })
    }

    pub(super) fn name(&self) -> &HeaderName {
        &self.name
    }

    /// The ring of its secret, unless it is the key of a channel.
    pub(super) fn ring(&self) -> Option<&Arc<Ring<Secret>>> {
        match &self.held {
            Held::Key(_) => None,
            Held::Secret(ring) => Some(ring),
        }
    }

    /// The secret for the next request, or why there is none and what to do about it.
    pub(super) async fn present(&self, patience: Duration) -> Result<Presented, Answer> {
        let secret = match &self.held {
            Held::Key(ring) => {
                let key = ring.present(patience).await;
                let key =
                    key.map_err(|error| Answer::from_detail(format!("{error}; {}", error.hint())))?;
                SecretString::from(key.expose())
            }
            Held::Secret(ring) => {
                let secret = ring.present(patience).await;
                let secret = secret.map_err(|error| {
                    let (hint, name) = (error.hint(), &self.name);
                    Answer::from_detail(format!("{error}; {hint}. header=`{name}`"))
                })?;
                SecretString::from(secret.expose())
            }
        };
        Ok(Presented {
            name: self.name.clone(),
            form: self.form.clone(),
            secret,
        })
    }

    /// Resolves once the secret may be another one.
    pub(super) async fn changed(&self, patience: Duration) {
        match &self.held {
            Held::Key(ring) => ring.changed(patience).await,
            Held::Secret(ring) => ring.changed(patience).await,
        }
    }
}

/// A secret header of one request.
pub(super) struct Presented {
    name: HeaderName,
    form: Form,
    secret: SecretString,
}

impl Presented {
    /// Puts it among the headers. False if no header can carry it.
    pub(super) fn insert(&self, headers: &mut HeaderMap) -> bool {
        let secret = self.secret.expose_secret();
        let value = match &self.form {
            Form::Alone => Zeroizing::new(secret.to_owned()),
            Form::Bearer => Zeroizing::new(format!("Bearer {secret}")),
            Form::Basic { user } => {
                let both = Zeroizing::new(format!("{user}:{secret}"));
                Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(&*both)))
            }
        };
        match HeaderValue::from_str(&value) {
            Ok(mut value) => {
                value.set_sensitive(true);
                headers.insert(self.name.clone(), value);
                true
            }
            Err(_) => false,
        }
    }

    pub(super) fn secret(&self) -> &str {
        self.secret.expose_secret()
    }

    /// The same texts with it struck out as well.
    pub(super) fn strike(&self, strike: Strike) -> Strike {
        match &self.form {
            Form::Alone | Form::Bearer => strike.secret("[key]", self.secret()),
            Form::Basic { user } => {
                let (user, password) = (user.clone(), self.secret.clone());
                strike.login("[password]", &Login { user, password })
            }
        }
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Headers that are the sink's own: the connection and the body are described by what is sent.
const OWN: [&str; 9] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
    "expect",
];

/// # Errors
/// [`Error::Sink`] if it is no name of a header, or one that the sink writes itself.
pub(super) fn header_name(name: &str) -> Result<HeaderName, Error> {
    let shown = name.escape_debug();
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| unusable(format!("name of a header cannot be sent. header=`{shown}`")))?;
    if OWN.contains(&name.as_str()) {
        return Err(unusable(format!(
            "header is written by the sink itself and cannot be set. header=`{name}`"
        )));
    }
    Ok(name)
}
