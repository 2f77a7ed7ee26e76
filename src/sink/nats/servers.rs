//! Where servers are: what was given, and what they themselves say of each other.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Where a server listens unless a port is given.
const PORT: u16 = 4222;
/// Servers of one cluster.
const SERVERS_MAX: usize = 64;
/// Of a name in the DNS, in bytes.
const HOST_MAX: usize = 253;

/// The servers of one cluster, as an address that is kept: `nats://a:4222,b:4222`. Behind `tls://` no
/// byte but the greeting of a server is in clear; behind `nats://` a server decides whether TLS is
/// spoken, and to another machine it has to be unless
/// [`allow_plain`](super::Builder::allow_plain) is set.
///
/// ```
/// use everpost::nats::Servers;
///
/// let servers: Servers = "nats://one.example,two.example:4333".parse()?;
/// assert_eq!(servers.to_string(), "nats://one.example:4222,two.example:4333");
/// assert_eq!(servers.urls(), ["nats://one.example:4222", "nats://two.example:4333"]);
/// # Ok::<(), everpost::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Servers {
    is_tls: bool,
    /// Never empty.
    places: Vec<Place>,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// A name or an address; one of IPv6 without its brackets.
    host: String,
    port: u16,
}

impl Servers {
    /// Each server by an address of its own.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        let scheme = self.scheme();
        let url = |place: &Place| format!("{scheme}://{place}");
        self.places.iter().map(url).collect()
    }

    /// Whether TLS is spoken whatever a server says.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Whether all of them are this machine, by their names alone.
    #[cfg(feature = "fleet")]
    pub(crate) fn are_here(&self) -> bool {
        self.places.iter().all(Place::is_here)
    }

    fn scheme(&self) -> &'static str {
        if self.is_tls { "tls" } else { "nats" }
    }
}

impl FromStr for Servers {
    type Err = Error;

    /// # Errors
    /// [`Error::Sink`] if it is not `nats://host[:port][,host...]` or the same behind `tls://`, or
    /// carries a user or a password.
    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let (mut is_tls, rest) = match text.split_once("://") {
            Some(("nats", rest)) => (false, rest),
            Some(("tls", rest)) => (true, rest),
            _ => {
                return Err(wrong(
                    "address of NATS is not known; give `nats://host[:port][,host...]`, or `tls://` \
                     where TLS is a must",
                ));
            }
        };
        if rest.contains('@') {
            return Err(wrong(
                "address of NATS carries credentials, and every list of processes shows those; give them in \
                 a file, such as one of NATS (.creds), by its path",
            ));
        }
        let mut places: Vec<Place> = Vec::new();
        for part in rest.trim_end_matches('/').split(',') {
            // As lists are written by other clients.
            let bare = part.trim();
            let bare = match bare.split_once("://") {
                Some(("nats", bare)) => bare,
                Some(("tls", bare)) => {
                    // One that insists does so for all: a client goes from one to the other.
                    is_tls = true;
                    bare
                }
                _ => bare,
            };
            let place = Place::parse(bare).ok_or_else(|| {
                wrong("address of NATS has a part that is no `host` nor `host:port`")
            })?;
            if !places.contains(&place) {
                places.push(place);
            }
        }
        if places.len() > SERVERS_MAX {
            return Err(wrong("address of NATS names more than 64 servers"));
        }
        Ok(Self { is_tls, places })
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme())?;
        for (n, place) in self.places.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{place}")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Servers {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Servers> for String {
    fn from(servers: Servers) -> Self {
        servers.to_string()
    }
}

impl Place {
    /// Reads `host` or `host:port`, as people write it and as a server tells it.
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                (host, rest.strip_prefix(':'))
            }
            None => match text.split_once(':') {
                // Without brackets, an address of IPv6 has more than one colon.
                Some(_) if text.parse::<Ipv6Addr>().is_ok() => (text, None),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let is_of_name =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
        let is_host = (1..=HOST_MAX).contains(&host.len()) && host.bytes().all(is_of_name);
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port > 0)?,
            None => PORT,
        };
        is_host.then(|| Self {
            host: host.to_owned(),
            port,
        })
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    fn is_address(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }

    /// Whether it is this machine by its name alone: RFC 6761 section 6.3 keeps `localhost` and every
    /// name below it for that.
    pub(super) fn is_here(&self) -> bool {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return address.to_canonical().is_loopback();
        }
        let name = self.host.strip_suffix('.').unwrap_or(&self.host);
        let name = name.to_ascii_lowercase();
        name == "localhost" || name.ends_with(".localhost")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A server, and by which name its certificate is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) place: Place,
    pub(super) tls_name: String,
}

/// Which server is tried next: those that were given and those that a server named, one after the
/// other, so that a device leaves one that does not serve it, and many devices do not all begin with
/// the same.
#[derive(Debug)]
pub(super) struct Rota {
    given: Vec<Candidate>,
    /// What the server named that was connected last.
    learnt: Vec<Candidate>,
    next: usize,
}

impl Rota {
    /// Begins anywhere: `start` is a random number.
    pub(super) fn new(servers: &Servers, start: usize) -> Self {
        let candidate = |place: &Place| Candidate {
            place: place.clone(),
            tls_name: place.host.clone(),
        };
        Self {
            given: servers.places.iter().map(candidate).collect(),
            learnt: Vec::new(),
            next: start,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.given.len() + self.learnt.len()
    }

    /// The one whose turn it is.
    pub(super) fn current(&self) -> Option<&Candidate> {
        let at = self.next % self.len().max(1);
        self.given.iter().chain(&self.learnt).nth(at)
    }

    /// It did not serve: the next one has its turn.
    pub(super) fn pass_on(&mut self) {
        self.next = (self.next % self.len().max(1)).wrapping_add(1);
    }

    /// A server at `from` names others. One that is known by its address alone shows the certificate
    /// of the name by which the cluster was given.
    pub(super) fn learn(&mut self, from: &Candidate, named: &[String]) {
        // Else the turn would go to another one.
        let turn = self.current().cloned();
        let mut learnt: Vec<Candidate> = Vec::new();
        for place in named.iter().filter_map(|text| Place::parse(text)) {
            let tls_name = if place.is_address() {
                from.tls_name.clone()
            } else {
                place.host.clone()
            };
            let is_known = |known: &Candidate| known.place == place;
            if learnt.len() < SERVERS_MAX && !self.given.iter().chain(&learnt).any(is_known) {
                learnt.push(Candidate { place, tls_name });
            }
        }
        self.learnt = learnt;
        let mut all = self.given.iter().chain(&self.learnt);
        if let Some(at) = all.position(|candidate| Some(candidate) == turn.as_ref()) {
            self.next = at;
        }
    }
}

fn wrong(reason: &str) -> Error {
    Error::Sink {
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_one_server_or_many() {
        for (text, shown) in [
            ("nats://a", "nats://a:4222"),
            (" nats://a:1/ ", "nats://a:1"),
            ("tls://a,b:2,a", "tls://a:4222,b:2"),
            (
                "nats://[::1]:7,nats://127.0.0.1",
                "nats://[::1]:7,127.0.0.1:4222",
            ),
            ("nats://::1", "nats://[::1]:4222"),
            ("nats://a,nats://b", "nats://a:4222,b:4222"),
            ("nats://a,tls://b", "tls://a:4222,b:4222"),
        ] {
            let servers: Servers = text.parse().unwrap();
            assert_eq!(servers.to_string(), shown, "{text}");
            assert_eq!(shown.parse::<Servers>().unwrap(), servers);
        }
        for bad in [
            "",
            "a:1",
            "http://a",
            "nats://",
            "nats://a,,b",
            "nats://a:0",
            "nats://a:99999",
            "nats://a b",
            "nats://[::1",
            "nats://[a]:1",
            "nats://a/b",
        ] {
            assert!(bad.parse::<Servers>().is_err(), "{bad}");
        }
        let error = "nats://me:hunter2@a".parse::<Servers>().unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn each_server_has_its_turn_also_those_that_another_named() {
        let servers: Servers = "tls://one.example:1,two.example:2".parse().unwrap();
        let mut rota = Rota::new(&servers, usize::MAX);
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(rota.current().unwrap().place.port());
            rota.pass_on();
        }
        assert_eq!(seen, [2, 1, 2]);
        let first = rota.current().unwrap().clone();
        assert_eq!(first.place.host(), "one.example");
        let named = ["10.0.0.3:3", "three.example:4", "two.example:2", "\n"];
        rota.learn(&first, &named.map(str::to_owned));
        assert_eq!(rota.current(), Some(&first), "its turn is not over");
        let mut seen = Vec::new();
        for _ in 0..rota.len() {
            let candidate = rota.current().unwrap();
            seen.push((candidate.place.port(), candidate.tls_name.clone()));
            rota.pass_on();
        }
        let expected = [
            (1, "one.example"),
            (2, "two.example"),
            (3, "one.example"),
            (4, "three.example"),
        ];
        assert_eq!(seen, expected.map(|(port, name)| (port, name.to_owned())));
        let many: Vec<String> = (1..1000).map(|n| format!("h{n}")).collect();
        rota.learn(&first, &many);
        assert_eq!(rota.len(), 2 + SERVERS_MAX);
    }

    #[test]
    fn this_machine_is_known_by_its_name_alone() {
        let is_here = |host: &str| Place::parse(host).unwrap().is_here();
        for here in ["127.0.0.1", "[::1]:1", "LOCALHOST", "a.localhost."] {
            assert!(is_here(here), "{here}");
        }
        for away in ["10.0.0.1", "localhost.example", "::2"] {
            assert!(!is_here(away), "{away}");
        }
    }
}
