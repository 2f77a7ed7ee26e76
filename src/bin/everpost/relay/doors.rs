//! Where a relay listens.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;

use everpost::relay::{Door, Port, Relay, Tls};

use super::args::PORT;
use super::passed::Passed;
use super::plan::Plan;
use super::spot::Spot;
use crate::fault::Fault;
use crate::listen::refused;

/// Ports that are taken and not served yet: a client that comes meanwhile waits.
#[derive(Debug)]
pub(super) struct Doors {
    doors: Vec<Door>,
    is_public: bool,
    tls: Option<Tls>,
}

impl Doors {
    /// Takes the ports, all or none: those that were passed and those that are named, or the usual
    /// ones.
    pub(super) fn bind(plan: &Plan, passed: Vec<Passed>) -> Result<Self, Fault> {
        let tls = tls(plan)?;
        let with_tls = |door: Door| match &tls {
            Some(tls) => door.tls(tls.clone()),
            None => door,
        };
        let public = plan.listen().iter().find_map(Spot::public);
        if let Some(public) = public {
            allow_public(plan, &format!("{public}"))?;
        }
        let mut is_public = public.is_some();
        let mut doors = Vec::new();
        for one in passed {
            if one.is_public {
                allow_public(plan, "a socket that was passed")?;
                is_public = true;
            }
            let door = one.door;
            doors.push(if one.is_tcp { with_tls(door) } else { door });
        }
        for spot in plan.listen() {
            doors.push(match spot {
                Spot::Tcp(at) => {
                    let bound = TcpListener::bind(at).map_err(|error| refused(*at, &error))?;
                    with_tls(bound.into())
                }
                Spot::Unix(path) => unix(plan, path)?,
            });
        }
        if doors.is_empty() {
            doors.extend(usual()?.into_iter().map(|one| with_tls(one.into())));
        }
        Ok(Self {
            doors,
            is_public,
            tls,
        })
    }

    /// Whether other machines can reach one of them.
    pub(super) fn is_public(&self) -> bool {
        self.is_public
    }

    /// What the TCP ports speak, if it is not plain HTTP.
    pub(super) fn tls(&self) -> Option<Tls> {
        self.tls.clone()
    }

    /// Serves the relay on all of them.
    pub(super) fn open(self, relay: &Relay) -> Result<Vec<Port>, Fault> {
        let serve = |door| {
            let port = relay.serve(door);
            port.map_err(|error| Fault::io("listen", &error))
        };
        self.doors.into_iter().map(serve).collect()
    }
}

/// The certificate and its key, if they are named.
pub(super) fn tls(plan: &Plan) -> Result<Option<Tls>, Fault> {
    let Some((cert, key)) = plan.tls()? else {
        return Ok(None);
    };
    let tls = Tls::open(cert, key).map_err(|error| {
        let text = format!("failed to read the certificate or its key: {error}");
        Fault::usage(text)
            .hint("name two PEM files that belong together with --tls-cert and --tls-key")
    })?;
    Ok(Some(tls))
}

fn allow_public(plan: &Plan, what: &str) -> Result<(), Fault> {
    if plan.is_plain() || plan.tls()?.is_some() {
        return Ok(());
    }
    let text = format!("other machines can reach {what}, and what they send is not encrypted");
    Err(Fault::usage(text).hint(
        "add --tls-cert FILE and --tls-key FILE, or listen on 127.0.0.1 or [::1], behind a proxy with \
         TLS, or add `--plain`",
    ))
}

#[cfg(unix)]
fn unix(plan: &Plan, path: &Path) -> Result<Door, Fault> {
    let mut socket = everpost::relay::UnixSocket::at(path);
    if let Some(group) = plan.socket_group() {
        socket = socket.group(crate::group::gid(group)?);
    }
    if let Some(mode) = plan.socket_mode() {
        socket = socket.mode(mode);
    }
    bound(&socket)
}

/// The socket, or why it cannot be had and what to do.
#[cfg(unix)]
pub(super) fn bound(socket: &everpost::relay::UnixSocket) -> Result<Door, Fault> {
    socket.bind().map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "stop the process that serves it, or name another path, unix:PATH; if no \
                 process does, remove the file"
            }
            io::ErrorKind::PermissionDenied => {
                "name a path in a directory that belongs to this user or to root, and to which no \
                 other user may write, such as --listen unix:/run/everpost/relay.sock"
            }
            _ => "see the cause; name another path, unix:PATH",
        };
        Fault::usage(error.to_string()).hint(hint)
    })
}

#[cfg(not(unix))]
fn unix(_: &Plan, _: &Path) -> Result<Door, Fault> {
    Err(Fault::usage("this system has no Unix sockets").hint("listen on 127.0.0.1:7679"))
}

/// Both addresses of this machine by which no other can reach it.
fn usual() -> Result<Vec<TcpListener>, Fault> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, PORT));
    let first = TcpListener::bind(v4).map_err(|error| refused(v4, &error))?;
    match TcpListener::bind(v6) {
        Ok(second) => Ok(vec![first, second]),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(refused(v6, &error)),
        // This machine has no version 6 of the protocol.
        Err(_) => Ok(vec![first]),
    }
}
