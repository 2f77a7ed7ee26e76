//! Where clients come in: a TCP port or a Unix socket, with TLS or without.

#[cfg(feature = "relay")]
use std::fmt;
use std::io;
#[cfg(feature = "relay")]
use std::net::SocketAddr;
use std::net::TcpListener as StdTcpListener;
#[cfg(unix)]
use std::os::unix::net::UnixListener as StdUnixListener;
#[cfg(feature = "relay")]
use std::path::PathBuf;

use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};

#[cfg(feature = "relay")]
use super::tls::Tls;
use super::via::Peer;
#[cfg(unix)]
use crate::seat::Seat;

/// Where clients find a port. Shown as `127.0.0.1:7679` or `unix:/run/everpost/relay.sock`.
#[cfg(feature = "relay")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// A TCP port; the one that was picked if the listener was bound to port 0.
    Tcp(SocketAddr),
    /// The file of a Unix socket; none if the socket has no file.
    Unix(Option<PathBuf>),
}

#[cfg(feature = "relay")]
impl Address {
    /// The address, if it is a TCP port.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

/// A door that is not served yet.
#[derive(Debug)]
pub(crate) struct Door {
    listener: Listener,
    #[cfg(unix)]
    seat: Option<Seat>,
    #[cfg(feature = "relay")]
    tls: Option<Tls>,
    is_lent: bool,
}

#[derive(Debug)]
enum Listener {
    Tcp(StdTcpListener),
    #[cfg(unix)]
    Unix(StdUnixListener),
}

impl From<StdTcpListener> for Door {
    fn from(listener: StdTcpListener) -> Self {
        Self::of(Listener::Tcp(listener))
    }
}

#[cfg(unix)]
impl From<StdUnixListener> for Door {
    fn from(listener: StdUnixListener) -> Self {
        Self::of(Listener::Unix(listener))
    }
}

impl Door {
    fn of(listener: Listener) -> Self {
        Self {
            listener,
            #[cfg(unix)]
            seat: None,
            #[cfg(feature = "relay")]
            tls: None,
            is_lent: false,
        }
    }

    pub(super) fn open(self) -> io::Result<Open> {
        #[cfg(feature = "relay")]
        let address = self.address()?;
        let listener = match self.listener {
            Listener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                OpenListener::Tcp(TcpListener::from_std(listener)?)
            }
            #[cfg(unix)]
            Listener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                OpenListener::Unix(UnixListener::from_std(listener)?)
            }
        };
        Ok(Open {
            #[cfg(feature = "relay")]
            address,
            listener,
            #[cfg(unix)]
            seat: Seated(self.seat),
            #[cfg(feature = "relay")]
            tls: self.tls,
            is_lent: self.is_lent,
        })
    }

    #[cfg(feature = "relay")]
    fn address(&self) -> io::Result<Address> {
        match &self.listener {
            Listener::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            #[cfg(unix)]
            Listener::Unix(listener) => {
                let address = listener.local_addr()?;
                Ok(Address::Unix(
                    address.as_pathname().map(std::path::Path::to_owned),
                ))
            }
        }
    }
}

#[cfg(feature = "relay")]
impl Door {
    /// With a file that goes with it.
    #[cfg(unix)]
    pub(crate) fn seated(listener: StdUnixListener, seat: Seat) -> Self {
        let mut door = Self::from(listener);
        door.seat = Some(seat);
        door
    }

    /// Whether programs of all users, and perhaps of other machines, get here.
    pub(crate) fn is_tcp(&self) -> bool {
        matches!(self.listener, Listener::Tcp(_))
    }

    pub(crate) fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    pub(crate) fn lent(mut self) -> Self {
        self.is_lent = true;
        self
    }
}

/// A door that is served.
#[derive(Debug)]
pub(super) struct Open {
    #[cfg(feature = "relay")]
    address: Address,
    listener: OpenListener,
    #[cfg(unix)]
    seat: Seated,
    #[cfg(feature = "relay")]
    tls: Option<Tls>,
    is_lent: bool,
}

#[derive(Debug)]
enum OpenListener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

/// Also if its task is cut off, as by the end of its runtime.
#[cfg(unix)]
#[derive(Debug)]
struct Seated(Option<Seat>);

#[cfg(unix)]
impl Drop for Seated {
    fn drop(&mut self) {
        if let Some(seat) = &self.0 {
            seat.leave();
        }
    }
}

/// A client that came in.
#[derive(Debug)]
pub(super) enum Caller {
    Tcp(TcpStream, Peer),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Open {
    #[cfg(feature = "relay")]
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    #[cfg(feature = "relay")]
    pub(super) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// # Cancel safety
    /// No client is lost.
    pub(super) async fn accept(&self) -> io::Result<Caller> {
        match &self.listener {
            OpenListener::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                Ok(Caller::Tcp(stream, from.ip().into()))
            }
            #[cfg(unix)]
            OpenListener::Unix(listener) => Ok(Caller::Unix(listener.accept().await?.0)),
        }
    }

    /// Closes it. Gives those clients, up to so many, whom the system let in and that were not accepted
    /// yet; at a door that is lent they are for the next process.
    pub(super) fn close(self, callers_max: usize) -> Vec<Caller> {
        // First, so that no one comes after the last one that is looked for.
        #[cfg(unix)]
        drop(self.seat);
        if self.is_lent {
            return Vec::new();
        }
        let callers = match self.listener {
            OpenListener::Tcp(listener) => last_tcp(listener, callers_max),
            #[cfg(unix)]
            OpenListener::Unix(listener) => last_unix(listener, callers_max),
        };
        // There may be none left to accept them by.
        callers.unwrap_or_default()
    }
}

fn last_tcp(listener: TcpListener, callers_max: usize) -> io::Result<Vec<Caller>> {
    let listener = listener.into_std()?;
    let accepted = std::iter::from_fn(|| listener.accept().ok());
    let callers = accepted.take(callers_max).map(|(stream, from)| {
        stream.set_nonblocking(true)?;
        Ok(Caller::Tcp(TcpStream::from_std(stream)?, from.ip().into()))
    });
    callers.collect()
}

#[cfg(unix)]
fn last_unix(listener: UnixListener, callers_max: usize) -> io::Result<Vec<Caller>> {
    let listener = listener.into_std()?;
    let accepted = std::iter::from_fn(|| listener.accept().ok());
    let callers = accepted.take(callers_max).map(|(stream, _)| {
        stream.set_nonblocking(true)?;
        Ok(Caller::Unix(UnixStream::from_std(stream)?))
    });
    callers.collect()
}

#[cfg(feature = "relay")]
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Self::Unix(None) => f.write_str("unix:"),
        }
    }
}
