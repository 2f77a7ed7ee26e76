//! What a route may know of the connection that a request came by.

use std::net::IpAddr;
#[cfg(feature = "relay")]
use std::net::Ipv6Addr;

use tokio::sync::watch;

/// The way that a request came. It is among the extensions of every request that is served here.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(feature = "relay"),
    expect(dead_code, reason = "only a relay asks")
)]
pub(crate) struct Via {
    peer: Peer,
    is_encrypted: bool,
    /// Closes when the port is to go.
    stop: watch::Receiver<()>,
}

/// Who is at the other end, as far as the system tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    /// A client of a Unix socket.
    Local,
    Ip(IpAddr),
}

impl Peer {
    /// The same for all addresses that one client has by rights: of version 6 every network has a
    /// great many.
    #[cfg(feature = "relay")]
    pub(crate) fn household(self) -> Self {
        match self {
            Self::Ip(IpAddr::V6(ip)) if !ip.is_loopback() => {
                let network = u128::from(ip) & (u128::MAX << 64);
                Self::Ip(IpAddr::V6(Ipv6Addr::from(network)))
            }
            peer => peer,
        }
    }
}

impl From<IpAddr> for Peer {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip.to_canonical())
    }
}

/// As it is told to people.
#[cfg(feature = "relay")]
impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local => f.write_str("socket"),
            Self::Ip(ip) => write!(f, "{ip}"),
        }
    }
}

impl Via {
    pub(super) fn new(peer: Peer, is_encrypted: bool, stop: watch::Receiver<()>) -> Self {
        Self {
            peer,
            is_encrypted,
            stop,
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.stop.has_changed().is_err()
    }
}

#[cfg(feature = "relay")]
impl Via {
    pub(crate) fn peer(&self) -> Peer {
        self.peer
    }

    /// Whether a page in a browser can come this way under a name that it has made point here: it
    /// can reach no Unix socket, and with TLS the certificate would have to be for that name.
    pub(crate) fn is_open_to_pages(&self) -> bool {
        !self.is_encrypted && self.peer != Peer::Local
    }

    /// Ends when the port is to go.
    pub(crate) async fn closing(&self) {
        let mut stop = self.stop.clone();
        // Nothing is ever sent: it can only close.
        let _ = stop.changed().await;
    }
}
