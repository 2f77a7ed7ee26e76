//! How a relay deals with what comes.

use std::collections::BTreeSet;
use std::time::Duration;

use super::rate::{Rate, Rates};
use super::{HOLD, Origin};
use crate::hosts::Hosts;

/// How a relay deals with what comes. They can be others from one request to the next:
/// [`Relay::set_rules`](super::Relay::set_rules).
///
/// As made by [`new`](Rules::new), only tokens and the very key that a channel delivers with open the
/// door, messages are taken as they are, and requests are held for [`HOLD`].
#[derive(Clone, Debug)]
pub struct Rules {
    hosts: Hosts,
    origins: BTreeSet<Origin>,
    any_key: bool,
    validate: bool,
    hold: Duration,
    rates: Rates,
}

impl Rules {
    /// Those that hold if nothing else is said.
    #[must_use]
    pub fn new() -> Self {
        Self {
            hosts: Hosts::default(),
            origins: BTreeSet::new(),
            any_key: false,
            validate: false,
            hold: HOLD,
            rates: Rates::default(),
        }
    }

    /// Answers requests that name this host, besides addresses and `localhost`; without a port. A
    /// request that names another is refused with 421: a page in a browser could have made that name
    /// point here.
    #[must_use]
    pub fn host(mut self, name: impl Into<String>) -> Self {
        self.hosts.add(name.into());
        self
    }

    /// Lets pages of this origin in, with a token that is [for pages](super::Tokens::mint_for_pages) of
    /// it, with a token of this relay, or with the very key that a channel delivers with; browsers
    /// show them the answers. A request from a page of an origin that was not given is refused with
    /// 403, whatever its key is.
    #[must_use]
    pub fn origin(mut self, origin: Origin) -> Self {
        self.origins.insert(origin);
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

    /// How often one client may ask; as often as it likes if nothing is said. A client is a key or
    /// token and the address that it comes from, of version 6 the network; all clients of a Unix
    /// socket have one address. Beyond it, a request is refused with 429 and a `Retry-After` of at most
    /// 29 s, and nothing of it is taken.
    #[must_use]
    pub fn rate(mut self, rate: Rate) -> Self {
        self.rates.usual = Some(rate);
        self
    }

    /// How often one client may ask whose token is published, as in a web page, so that anyone may have
    /// it; 10 requests a second and 50 at once if nothing is said.
    #[must_use]
    pub fn published_rate(mut self, rate: Rate) -> Self {
        self.rates.published = rate;
        self
    }

    pub(super) fn rates(&self) -> Rates {
        self.rates
    }

    pub(super) fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    pub(super) fn lets_in(&self, origin: &Origin) -> bool {
        self.origins.contains(origin)
    }

    pub(super) fn is_any_key_let_in(&self) -> bool {
        self.any_key
    }

    pub(super) fn validates(&self) -> bool {
        self.validate
    }

    pub(super) fn hold_time(&self) -> Duration {
        self.hold
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::new()
    }
}
