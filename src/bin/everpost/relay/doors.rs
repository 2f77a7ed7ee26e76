//! Where a relay listens.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use everpost::relay::{Port, Relay};

use super::args::PORT;
use super::plan::Plan;
use crate::fault::Fault;
use crate::listen::refused;

/// Ports that are taken and not served yet: a client that comes meanwhile waits.
#[derive(Debug)]
pub(super) struct Doors(Vec<TcpListener>);

impl Doors {
    /// Takes the ports, all or none.
    pub(super) fn bind(plan: &Plan) -> Result<Self, Fault> {
        if plan.listen().is_empty() {
            return usual().map(Self);
        }
        if let Some(public) = plan.listen().iter().find(|at| !at.ip().is_loopback())
            && !plan.is_plain()
        {
            let text =
                format!("other machines can reach {public}, and what they send is not encrypted");
            return Err(Fault::usage(text)
                .hint("listen on 127.0.0.1 or [::1], behind a proxy with TLS, or add `--plain`"));
        }
        let bind = |at: &SocketAddr| TcpListener::bind(at).map_err(|error| refused(*at, &error));
        let listeners = plan.listen().iter().map(bind);
        listeners.collect::<Result<_, _>>().map(Self)
    }

    /// Serves the relay on all of them.
    pub(super) fn open(self, relay: &Relay) -> Result<Vec<Port>, Fault> {
        let serve = |listener| {
            let port = relay.serve(listener);
            port.map_err(|error| Fault::io("listen", &error))
        };
        self.0.into_iter().map(serve).collect()
    }
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
