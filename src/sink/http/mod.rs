//! The way to a receiver over HTTP: its address, the proxy before it, its TLS, and how far a request
//! has gone when its answer is read.

mod address;
mod proxy;
mod sent;
#[cfg(all(feature = "rustls", not(feature = "native-tls")))]
mod tls;
mod transport;
mod wire;

use std::time::Duration;

pub(super) use self::address::unusable;
pub use self::proxy::{Proxy, Route};
pub(super) use self::transport::{Outgoing, Transport};
pub use self::wire::Wire;

/// The time limits of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) request: Duration,
    pub(super) connect: Duration,
    pub(super) read: Duration,
}
