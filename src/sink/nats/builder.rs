//! Sets up the sink.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::credentials::{Access, Credentials};
use super::jet_stream::{JetStream, Shared};
use super::names::{Names, Spool};
use super::secure::Secure;
use super::servers::Servers;
use super::target::{TIME_LIMIT, Target};
use crate::clock::{Clock, SystemClock};
use crate::error::Error;

/// Sets up a [`JetStream`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    servers: Servers,
    names: Names,
    spool: Spool,
    credentials: Credentials,
    ca_file: Option<PathBuf>,
    time_limit: Duration,
    allow_plain: bool,
    waits: bool,
    clock: Arc<dyn Clock>,
}

impl Builder {
    /// How the servers know who it is. By default nothing is said.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// A PEM file with the certificates of authorities that are trusted beside those of the operating
    /// system, such as a private one. It is read when the sink is built and again when it has changed;
    /// if it cannot be used then, what was read before stays in use.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// How long each step of a delivery may take: connecting with TLS and login, a look-up (a second at
    /// the most), and the silence while a batch is written and until its answer is there. By default 3
    /// seconds. Where nothing answers for the subject, twenty of them are waited before delivery is
    /// paused for the address.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Whether events and a password may go to another machine in clear, where they may be read and
    /// changed by anyone on the way. By default they may not: a server there has to speak TLS.
    pub fn allow_plain(mut self, allows: bool) -> Self {
        self.allow_plain = allows;
        self
    }

    /// Builds the sink also where the secret cannot be used yet. Delivery is then paused for
    /// [`PauseReason::Credentials`](crate::PauseReason::Credentials), with the reason in the status,
    /// and begins by itself once its source gives the secret.
    pub fn wait_for_secrets(mut self) -> Self {
        self.waits = true;
        self
    }

    /// Checks everything, reads the secret and the CA file once (on this thread) and makes the sink.
    /// Nothing is connected.
    ///
    /// # Errors
    /// [`Error::Sink`] if the CA file or the time limit cannot be used, or if there is no usable
    /// secret, unless the sink [waits for one](Self::wait_for_secrets).
    pub fn build(self) -> Result<JetStream, Error> {
        let wrong = |reason: String| Error::Sink { reason };
        if self.time_limit.is_zero() || self.time_limit > Duration::from_secs(3600) {
            return Err(wrong("time limit is not from 1 ms to 1 hour".to_owned()));
        }
        let access = Access::new(self.credentials, &self.clock, self.waits)
            .map_err(|error| wrong(format!("{error}; {}", error.hint())))?;
        let secure = Secure::new(self.ca_file, self.servers.is_tls())?;
        Ok(JetStream::from_shared(Shared {
            subject: self.names.event_subject(&self.spool),
            inbox: format!("_INBOX_{}", self.spool),
            client: format!("everpost {}", self.spool),
            stream: self.names.stream().to_owned(),
            servers: self.servers,
            access,
            secure,
            allows_plain: self.allow_plain,
            limit: self.time_limit,
            clock: self.clock,
        }))
    }
}

impl JetStream {
    /// Sets up a sink that delivers the spool of this name into the stream of these names.
    pub fn builder(servers: Servers, names: Names, spool: Spool) -> Builder {
        Builder {
            servers,
            names,
            spool,
            credentials: Credentials::None,
            ca_file: None,
            time_limit: TIME_LIMIT,
            allow_plain: false,
            waits: false,
            clock: Arc::new(SystemClock),
        }
    }
}

impl Target {
    /// Sets up a sink for it.
    pub fn builder(self) -> Builder {
        let (servers, names, spool) = (self.servers(), self.names(), self.spool());
        Builder {
            credentials: self.credentials().clone().map(Into::into),
            ca_file: self.ca_file().map(PathBuf::from),
            time_limit: self.time_limit(),
            allow_plain: self.allow_plain(),
            ..JetStream::builder(servers.clone(), names.clone(), spool.clone())
        }
    }

    /// The sink for it.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn build(self) -> Result<JetStream, Error> {
        self.builder().build()
    }
}
