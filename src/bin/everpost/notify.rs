//! Tells systemd what the service is doing, as `sd_notify(3)` does: one datagram to the socket
//! named in `NOTIFY_SOCKET`. Without that variable nothing happens.

/// Says it, if somebody listens. That nobody hears it changes nothing.
#[cfg(unix)]
pub(crate) fn say(state: &str) {
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let name = name.as_encoded_bytes();
    let address = match name.split_first() {
        // An abstract name, which only Linux has.
        #[cfg(target_os = "linux")]
        Some((b'@', name)) => {
            <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)
        }
        _ => {
            use std::os::unix::ffi::OsStrExt as _;
            SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))
        }
    };
    let sent = address
        .and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!(%error, "systemd could not be notified");
    }
}

#[cfg(not(unix))]
pub(crate) fn say(_state: &str) {}
