//! Sockets that the service manager has opened and passes on: `sd_listen_fds(3)`.

use everpost::relay::Door;

use crate::fault::Fault;

/// What a socket of the page is called; every other one is of the relay.
const ADMIN: &str = "admin";

/// A listener that was passed.
#[derive(Debug)]
pub(super) struct Passed {
    /// Whether it is for the page.
    pub(super) is_of_the_page: bool,
    /// Whether other machines can reach it.
    pub(super) is_public: bool,
    /// Whether it is a TCP port.
    pub(super) is_tcp: bool,
    pub(super) door: Door,
}

/// All of them, in their order. It may be called once: each is one's own from then on.
#[cfg(unix)]
pub(super) fn passed() -> Result<Vec<Passed>, Fault> {
    let sockets = sd_listen_fds::get().map_err(|_| {
        let text = "LISTEN_FDS and LISTEN_PID are no numbers";
        Fault::usage(text).hint("leave them out, or let systemd set them")
    })?;
    let mut passed = Vec::new();
    for (number, (name, socket)) in (3..).zip(sockets) {
        let name = name.unwrap_or_default();
        let mut listener = on_unix::listener(socket.into_std()).map_err(|why| {
            let text = format!("the socket {name:?} that was passed as number {number} {why}");
            Fault::usage(text)
                .hint("pass listening stream sockets alone: ListenStream= of a socket unit")
        })?;
        listener.is_of_the_page = name == ADMIN;
        passed.push(listener);
    }
    Ok(passed)
}

#[cfg(not(unix))]
pub(super) fn passed() -> Result<Vec<Passed>, Fault> {
    Ok(Vec::new())
}

#[cfg(unix)]
mod on_unix {
    use std::net::TcpListener;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixListener;

    use everpost::relay::Door;
    use rustix::io::{FdFlags, fcntl_setfd};
    use rustix::net::sockopt::{socket_acceptconn, socket_type};
    use rustix::net::{AddressFamily, SocketType, getsockname};

    use super::Passed;

    /// The listener that it is, or what it is instead.
    pub(super) fn listener(socket: OwnedFd) -> Result<Passed, String> {
        if let Err(error) = fcntl_setfd(&socket, FdFlags::CLOEXEC) {
            // It is not open, so that it is not ours to close either.
            std::mem::forget(socket);
            return Err(format!("is not open: {error}"));
        }
        let is_listening = socket_type(&socket) == Ok(SocketType::STREAM)
            && socket_acceptconn(&socket) == Ok(true);
        let family = getsockname(&socket).map(|address| address.address_family());
        match family {
            Ok(AddressFamily::UNIX) if is_listening => Ok(Passed {
                is_of_the_page: false,
                is_public: false,
                is_tcp: false,
                door: Door::from(UnixListener::from(socket)).lent(),
            }),
            Ok(AddressFamily::INET | AddressFamily::INET6) if is_listening => {
                let listener = TcpListener::from(socket);
                let address = listener.local_addr().map_err(|error| error.to_string())?;
                Ok(Passed {
                    is_of_the_page: false,
                    is_public: !address.ip().to_canonical().is_loopback(),
                    is_tcp: true,
                    door: Door::from(listener).lent(),
                })
            }
            _ => Err("is no listening stream socket".to_owned()),
        }
    }
}
