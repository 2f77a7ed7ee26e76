//! Health and numbers over TCP: read-only, for every process that can reach the port.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use hyper::header::{CACHE_CONTROL, HeaderValue};

use super::answer::Refusal;
use super::{HEAD_BYTES_MAX, HEAD_TIME, TCP_CONNECTIONS_MAX, TCP_TIME, health, router};
use crate::error::Error;
use crate::hosts::{Hosts, Wrong};
use crate::queue::Queue;
use crate::serving::{Bounds, Port};

/// Connections beyond the limit that are told so; more wait unheard.
const TURNED_AWAY_MAX: usize = 16;

/// How long answers under way may take once it is to end.
const GRACE: Duration = Duration::from_secs(1);

/// A port on which health and numbers are served. Made by [`listen`].
///
/// It holds the queue: drop it, or close it, when the program is done. Dropping it closes the port
/// soon; it does not wait.
#[derive(Debug)]
#[must_use = "dropping it closes the port"]
pub struct Listening(Port, SocketAddr);

/// Serves `/livez`, `/readyz` and `/metrics` of this queue on a TCP port, until the [`Listening`]
/// is closed or dropped, also while the queue closes and after that. Only GET and HEAD are known;
/// every other path is answered with 404.
///
/// It is plain HTTP, and who can reach the port is not asked who they are: bind it to a loopback
/// address, or to one that only a network you trust can reach. A page in a browser on that network
/// must not read it either, by a name that it has made point here: so the host that a request names
/// has to be an IP address, `localhost`, or one of `names`. Nothing is allowed to other origins.
///
/// At most [`TCP_CONNECTIONS_MAX`](super::TCP_CONNECTIONS_MAX) connections are served at once, one
/// request each, in [`TCP_TIME`](super::TCP_TIME), of which the head of the request, of
/// [`HEAD_BYTES_MAX`](super::HEAD_BYTES_MAX), may take [`HEAD_TIME`](super::HEAD_TIME).
///
/// # Errors
/// [`Error::Control`] if there is no tokio runtime, or the system refuses.
pub fn listen(
    queue: &Queue,
    listener: StdListener,
    names: impl IntoIterator<Item = String>,
) -> Result<Listening, Error> {
    let served = serve(routes(queue.clone()), listener, names);
    served.map_err(|source| Error::Control {
        reason: source.to_string(),
        path: queue.spool().to_owned(),
    })
}

/// Serves these routes as [`listen`] serves those of a queue.
pub(super) fn serve(
    routes: Router,
    listener: StdListener,
    names: impl IntoIterator<Item = String>,
) -> io::Result<Listening> {
    let mut hosts = Hosts::default();
    names.into_iter().for_each(|name| hosts.add(name));
    let hosts = Arc::new(hosts);
    let routes = routes
        .fallback(router::no_such_endpoint)
        .method_not_allowed_fallback(router::method_not_allowed)
        .layer(from_fn_with_state(hosts, check_host));
    let busy = Router::new().fallback(turn_away);
    let bounds = Bounds {
        name: "the health port",
        connections_max: TCP_CONNECTIONS_MAX,
        turned_away_max: TURNED_AWAY_MAX,
        head_bytes_max: HEAD_BYTES_MAX,
        head_time: HEAD_TIME,
        write_time: TCP_TIME,
        connection_time: Some(TCP_TIME),
        grace: GRACE,
    };
    let address = listener.local_addr()?;
    let port = Port::serve(listener, routes, busy, bounds)?;
    Ok(Listening(port, address))
}

impl Listening {
    /// Where it listens; the port is the one that was picked if the listener was bound to port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.1
    }

    /// Closes the port and waits until answers under way are out, at most a second.
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

fn routes(queue: Queue) -> Router {
    health::routes(queue)
}

async fn check_host(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    let checked = hosts.check(request.version(), request.uri(), request.headers());
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(wrong) => refused(wrong).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refused(wrong: Wrong) -> Refusal {
    let hint = "ask by address, or name the host with `--listen-host`";
    Refusal::new(wrong.status(), "wrong_host", wrong.to_string(), hint)
}

async fn turn_away() -> Refusal {
    Refusal::busy(format!(
        "too many connections are open. max=`{TCP_CONNECTIONS_MAX}`"
    ))
}
