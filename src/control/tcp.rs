//! Health and numbers over TCP: read-only, for every process that can reach the port.

use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use hyper::header::{CACHE_CONTROL, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::{HeaderMap, StatusCode, Uri, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::answer::Refusal;
use super::{HEAD_BYTES_MAX, HEAD_TIME, TCP_CONNECTIONS_MAX, TCP_TIME, health, router};
use crate::error::Error;
use crate::queue::Queue;

/// Connections beyond the limit that are told so; more wait unheard.
const TURNED_AWAY_MAX: usize = 16;

/// How long the listener rests when the system has no more sockets to give.
const REST: Duration = Duration::from_millis(100);

/// How long answers under way may take once it is to end.
const GRACE: Duration = Duration::from_secs(1);

/// A port on which health and numbers are served. Made by [`listen`].
///
/// It holds the queue: drop it, or close it, when the program is done. Dropping it closes the port
/// soon; it does not wait.
#[derive(Debug)]
#[must_use = "dropping it closes the port"]
pub struct Listening {
    address: SocketAddr,
    /// Its closing is the sign to end.
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

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
    let refused = |reason: String| Error::Control {
        reason,
        path: queue.spool().to_owned(),
    };
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return Err(refused("there is no tokio runtime here".to_owned()));
    };
    let failed = |source: std::io::Error| refused(source.to_string());
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let listener = TcpListener::from_std(listener).map_err(failed)?;
    let names = names.into_iter().map(|name| name.to_ascii_lowercase());
    let hosts = Arc::new(Hosts(names.collect()));
    let router = routes(queue.clone()).layer(from_fn_with_state(hosts, check_host));
    let (stop, stopped) = watch::channel(());
    let task = runtime.spawn(accept(listener, router, stopped));
    Ok(Listening {
        address,
        stop,
        task,
    })
}

impl Listening {
    /// Where it listens; the port is the one that was picked if the listener was bound to port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the port and waits until answers under way are out, at most a second.
    ///
    /// # Errors
    /// [`Error::Panicked`] if serving had ended by a panic.
    ///
    /// # Cancel safety
    /// If the future is dropped, it ends all the same.
    pub async fn close(self) -> Result<(), Error> {
        drop(self.stop);
        self.task.await.map_err(|error| Error::Panicked {
            part: "the health port",
            message: error.to_string(),
        })
    }
}

fn routes(queue: Queue) -> Router {
    health::routes(queue)
        .fallback(router::no_such_endpoint)
        .method_not_allowed_fallback(router::method_not_allowed)
}

/// The names under which it may be asked, besides addresses and `localhost`; in lower case.
#[derive(Debug)]
struct Hosts(Vec<String>);

impl Hosts {
    /// Whether a request for this host, with or without a port, is meant for here.
    ///
    /// An address cannot be made to point elsewhere, as a name can, so any is as good as ours: who
    /// asks may be on the other side of a forwarded port.
    fn know(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            // What has no port may be an address of version 6, which ends with a bracket then.
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let bare = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'));
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let is_address = name.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4());
                is_address || name == "localhost" || self.0.iter().any(|known| known == name)
            }
        }
    }

    fn check(&self, version: Version, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let hint = "ask by address, or name the host with `--listen-host`";
        let wrong =
            |status, text: &str| Err(Refusal::new(status, "wrong_host", text.to_owned(), hint));
        let mut named = headers.get_all(HOST).iter();
        let host = match (uri.authority(), named.next(), named.next()) {
            (_, _, Some(_)) => {
                return wrong(
                    StatusCode::BAD_REQUEST,
                    "the request names more than one host",
                );
            }
            (Some(authority), _, _) => authority.as_str(),
            (None, Some(host), None) => host.to_str().unwrap_or_default(),
            // No browser asks like that, and some balancers do.
            (None, None, None) if version == Version::HTTP_10 => return Ok(()),
            (None, None, None) => {
                return wrong(StatusCode::BAD_REQUEST, "the request names no host");
            }
        };
        if self.know(host) {
            return Ok(());
        }
        wrong(
            StatusCode::MISDIRECTED_REQUEST,
            "the host that the request names is not served here",
        )
    }
}

async fn check_host(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    let checked = hosts.check(request.version(), request.uri(), request.headers());
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Accepts and serves until `stop` closes; then lets answers under way finish for a moment.
async fn accept(listener: TcpListener, router: Router, mut stop: watch::Receiver<()>) {
    let mut connections = JoinSet::new();
    let busy = Router::new().fallback(turn_away);
    loop {
        let has_place = connections.len() < TCP_CONNECTIONS_MAX + TURNED_AWAY_MAX;
        tokio::select! {
            biased;
            _ = stop.changed() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if has_place => match accepted {
                Ok((stream, _)) => {
                    let is_full = connections.len() >= TCP_CONNECTIONS_MAX;
                    let router = if is_full { &busy } else { &router };
                    connections.spawn(serve(stream, router.clone(), stop.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection to the health port");
                    sleep(REST).await;
                }
            },
        }
    }
    drop(listener);
    let rest = async { while connections.join_next().await.is_some() {} };
    if timeout(GRACE, rest).await.is_err() {
        connections.shutdown().await;
    }
}

async fn turn_away() -> Refusal {
    Refusal::busy(format!(
        "too many connections are open. max=`{TCP_CONNECTIONS_MAX}`"
    ))
}

/// One connection with one request, in a bounded time, however slow its client is.
async fn serve(stream: TcpStream, router: Router, mut stop: watch::Receiver<()>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .keep_alive(false)
        .header_read_timeout(HEAD_TIME)
        .max_header_size(HEAD_BYTES_MAX);
    let served = async {
        let service = TowerToHyperService::new(router);
        let mut http = pin!(http.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            _ = http.as_mut() => return,
            _ = stop.changed() => http.as_mut().graceful_shutdown(),
        }
        let _ = http.await;
    };
    // How it ends is the client's affair.
    let _ = timeout(TCP_TIME, served).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_the_names_that_were_given_are_known_and_no_other() {
        let hosts = Hosts(vec!["metrics.example".to_owned()]);
        for known in [
            "127.0.0.1",
            "127.0.0.1:9464",
            "10.1.2.3:1",
            "[::1]",
            "[::1]:9464",
            "[fe80::1]:80",
            "localhost",
            "LocalHost:9464",
            "localhost.",
            "metrics.example:80",
            "Metrics.Example",
        ] {
            assert!(hosts.know(known), "{known}");
        }
        for unknown in [
            "",
            ":80",
            "evil.example",
            "evil.example:9464",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1:80:80",
            "127.1",
            "0x7f000001",
            "2130706433",
            "[127.0.0.1]",
            "[::1",
            "[evil.example]",
            "user@localhost",
            "metrics.example.evil",
        ] {
            assert!(!hosts.know(unknown), "{unknown}");
        }
    }
}
