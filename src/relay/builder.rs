//! A relay, how it is set up, and the ports it is served on.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;

use super::desk::{self, Desk};
use super::health;
use super::{
    Address, CONNECTIONS_MAX, Channel, Door, HEAD_BYTES_MAX, HEAD_TIME, Rules, Tokens, WRITE_TIME,
};
use crate::error::Error;
#[cfg(feature = "fleet")]
use crate::fleet::BooksWatch;
use crate::serving;

/// Connections beyond the limit that are told so; more wait unheard.
const TURNED_AWAY_MAX: usize = 32;

/// How long answers under way may take once a port is to go: what is held is told so at once, and what
/// is handed to the disk is waited for.
const GRACE: Duration = Duration::from_secs(20);

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
    rules: Rules,
    #[cfg(feature = "fleet")]
    fleet: Option<BooksWatch>,
}

impl Relay {
    /// Begins to set up a relay whose clients present these tokens.
    #[must_use]
    pub fn builder(tokens: Tokens) -> Builder {
        Builder {
            tokens,
            channels: BTreeMap::new(),
            rules: Rules::new(),
            #[cfg(feature = "fleet")]
            fleet: None,
        }
    }

    /// The routes: `/v2/messages` and `/messages`, and a 404 in the form of the API for every other
    /// path. The bounds of single requests are their own; those of connections are for the server to
    /// set, as [`serve`](Self::serve) does.
    pub fn router(&self) -> Router {
        desk::router(Arc::clone(&self.desk))
    }

    /// Routes for probes and for Prometheus, which only look and show no event, no key and nothing that
    /// a receiver said. Serve them elsewhere than the [`router`](Self::router).
    ///
    /// | endpoint | what it tells | status |
    /// |---|---|---|
    /// | `GET /livez` | for each channel, whether its log answers | 503 if one does not |
    /// | `GET /readyz` | for each channel, whether it would take a message, and why not | 503 if none would |
    /// | `GET /metrics` | the [numbers](crate::metrics) of each queue, with the label `channel`, and [`REQUESTS`](super::REQUESTS) and [`REQUEST_TIME`](super::REQUEST_TIME); those of a fleet, if [it](Builder) was given one | 200 |
    ///
    /// With `?channel=NAME` the first two tell of that one alone, in the form that they have for one
    /// queue within `channels`: see [`Liveness`](crate::control::wire::Liveness) and
    /// [`Readiness`](crate::control::wire::Readiness).
    pub fn health(&self) -> Router {
        health::routes(Arc::clone(&self.desk))
    }

    /// Deals with every request that comes from here on by these rules. A request that is held already
    /// is held for as long as the rules before them said.
    pub fn set_rules(&self, rules: Rules) {
        self.desk.set_rules(rules);
    }

    /// Serves the routes at a door, such as a `TcpListener` or a `UnixSocket` that was bound, until the
    /// [`Port`] is closed or dropped.
    ///
    /// Without [TLS](Door::tls), a machine that what passes goes through can read events and keys:
    /// bind such a port to a loopback address.
    ///
    /// At most [`CONNECTIONS_MAX`] connections are served at once; the head of a request may have
    /// [`HEAD_BYTES_MAX`] and take [`HEAD_TIME`]; a client may take nothing of its answer for
    /// [`WRITE_TIME`].
    ///
    /// A host that is not [known](Rules::host) is refused only where a page in a browser could have
    /// named it: on TCP without TLS.
    ///
    /// # Errors
    /// If there is no tokio runtime, or the system refuses.
    pub fn serve(&self, door: impl Into<Door>) -> io::Result<Port> {
        let bounds = serving::Bounds {
            name: "the port of the relay",
            connections_max: CONNECTIONS_MAX,
            turned_away_max: TURNED_AWAY_MAX,
            head_bytes_max: HEAD_BYTES_MAX,
            head_time: HEAD_TIME,
            write_time: WRITE_TIME,
            connection_time: None,
            grace: GRACE,
        };
        let busy = desk::busy(Arc::clone(&self.desk));
        let door = door.into().into_inner();
        serving::Port::serve(door, self.router(), busy, bounds).map(Port)
    }
}

impl Builder {
    /// Adds a channel; one of the same name takes the place of an earlier one.
    #[must_use]
    pub fn channel(mut self, channel: Channel) -> Self {
        self.channels.insert(channel.name().to_owned(), channel);
        self
    }

    /// How it deals with what comes.
    #[must_use]
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// Shows the numbers of this fleet in `/metrics` too, under the names that its workers give them. Nothing else of
    /// the relay depends on it.
    #[cfg(feature = "fleet")]
    #[must_use]
    pub fn fleet(mut self, fleet: BooksWatch) -> Self {
        self.fleet = Some(fleet);
        self
    }

    /// The relay.
    #[must_use]
    pub fn build(self) -> Relay {
        let desk = Desk::new(self.tokens, self.channels, self.rules);
        #[cfg(feature = "fleet")]
        let desk = desk.beside(self.fleet);
        let desk = Arc::new(desk);
        Relay { desk }
    }
}

/// A port on which a relay, or [its page](crate::admin), is served. Made by [`Relay::serve`] and
/// [`Admin::serve`](crate::admin::Admin::serve).
///
/// Dropping it closes the port soon; it does not wait.
#[derive(Debug)]
#[must_use = "dropping it closes the port"]
pub struct Port(pub(crate) serving::Port);

impl Port {
    /// Where it listens; the port is the one that was picked if the listener was bound to port 0.
    #[must_use]
    pub fn address(&self) -> &Address {
        self.0.address()
    }

    /// What clients are to set as `BA_BASE_URL`, such as `http://127.0.0.1:7679/v2`. For a Unix socket,
    /// which no official client can use, `unix:` and its path.
    #[must_use]
    pub fn base_url(&self) -> String {
        match self.address() {
            Address::Tcp(address) if self.0.is_encrypted() => format!("https://{address}/v2"),
            Address::Tcp(address) => format!("http://{address}/v2"),
            address @ Address::Unix(_) => address.to_string(),
        }
    }

    /// Closes the port and waits until the requests under way are answered: those that are held for
    /// room at once, with 503. A client that was let in has a second to ask what it may have sent
    /// already.
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
