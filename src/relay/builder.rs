//! A relay, how it is set up, and the ports it is served on.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;

use super::desk::{self, Desk};
use super::{CONNECTIONS_MAX, Channel, HEAD_BYTES_MAX, HEAD_TIME, HOLD, Tokens};
use crate::error::Error;
use crate::hosts::Hosts;
use crate::serving;

/// Connections beyond the limit that are told so; more wait unheard.
const TURNED_AWAY_MAX: usize = 32;

/// How long answers under way may take beyond the time that a request is held, once a port is to go.
const GRACE: Duration = Duration::from_secs(1);

/// Takes messages in for the channels of the API; see the [module](super).
///
/// Cloning gives another handle to the same relay.
#[derive(Clone, Debug)]
pub struct Relay {
    desk: Arc<Desk>,
}

/// What a relay is made of.
#[derive(Debug)]
pub struct Builder {
    tokens: Tokens,
    channels: BTreeMap<String, Channel>,
    hosts: Vec<String>,
    any_key: bool,
    validate: bool,
    hold: Duration,
}

impl Relay {
    /// Begins to set up a relay whose clients present these tokens.
    #[must_use]
    pub fn builder(tokens: Tokens) -> Builder {
        Builder {
            tokens,
            channels: BTreeMap::new(),
            hosts: Vec::new(),
            any_key: false,
            validate: false,
            hold: HOLD,
        }
    }

    /// The routes: `/v2/messages` and `/messages`, and a 404 in the form of the API for every other
    /// path. The bounds of single requests are their own; those of connections are for the server to
    /// set, as [`serve`](Self::serve) does.
    pub fn router(&self) -> Router {
        desk::router(Arc::clone(&self.desk))
    }

    /// Serves the routes on a TCP port until the [`Port`] is closed or dropped.
    ///
    /// It is plain HTTP: a machine that what passes goes through can read events and keys. Bind it to
    /// a loopback address.
    ///
    /// At most [`CONNECTIONS_MAX`] connections are served at once; the head of a request may have
    /// [`HEAD_BYTES_MAX`] and take [`HEAD_TIME`].
    ///
    /// # Errors
    /// If there is no tokio runtime, or the system refuses.
    pub fn serve(&self, listener: TcpListener) -> io::Result<Port> {
        let bounds = serving::Bounds {
            name: "the port of the relay",
            connections_max: CONNECTIONS_MAX,
            turned_away_max: TURNED_AWAY_MAX,
            head_bytes_max: HEAD_BYTES_MAX,
            head_time: HEAD_TIME,
            connection_time: None,
            grace: self.desk.hold() + GRACE,
        };
        let busy = Router::new().fallback(desk::turn_away);
        serving::Port::serve(listener, self.router(), busy, bounds).map(Port)
    }
}

impl Builder {
    /// Adds a channel; one of the same name takes the place of an earlier one.
    #[must_use]
    pub fn channel(mut self, channel: Channel) -> Self {
        self.channels.insert(channel.name().to_owned(), channel);
        self
    }

    /// Answers requests that name this host, besides addresses and `localhost`; without a port. A
    /// request that names another is refused with 421: a page in a browser could have made that name
    /// point here.
    #[must_use]
    pub fn host(mut self, name: impl Into<String>) -> Self {
        self.hosts.push(name.into());
        self
    }

    /// Lets every key in that is made for one of the channels, without a look at its signature: for
    /// ports that only programs of this machine can reach, which keep the keys that they have.
    #[must_use]
    pub fn any_key(mut self) -> Self {
        self.any_key = true;
        self
    }

    /// Refuses at once, with 400, what the documentation of its channel does not allow: it would
    /// become a dead letter otherwise. Only the channel `universal` is documented field by field.
    #[must_use]
    pub fn validate(mut self) -> Self {
        self.validate = true;
        self
    }

    /// How long a request is held while its queue can take nothing in; [`HOLD`] if nothing is said.
    /// The official clients wait for 30 s.
    #[must_use]
    pub fn hold(mut self, time: Duration) -> Self {
        self.hold = time;
        self
    }

    /// The relay.
    #[must_use]
    pub fn build(self) -> Relay {
        let desk = Desk::new(
            self.tokens,
            self.channels,
            desk::Rules {
                hosts: Hosts::new(self.hosts),
                any_key: self.any_key,
                validate: self.validate,
                hold: self.hold,
            },
        );
        let desk = Arc::new(desk);
        Relay { desk }
    }
}

/// A port on which a relay is served. Made by [`Relay::serve`].
///
/// Dropping it closes the port soon; it does not wait.
#[derive(Debug)]
#[must_use = "dropping it closes the port"]
pub struct Port(serving::Port);

impl Port {
    /// Where it listens; the port is the one that was picked if the listener was bound to port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Closes the port and waits until the requests under way are answered.
    ///
    /// # Errors
    /// [`Error::Panicked`] if serving had ended by a panic.
    ///
    /// # Cancel safety
    /// If the future is dropped, it ends all the same.
    pub async fn close(self) -> Result<(), Error> {
        self.0.close().await
    }
}
