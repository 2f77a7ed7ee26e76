//! HTTP on a TCP port, within bounds: accepting, one connection, and the end.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::error::Error;

/// How long the listener rests when the system has no more sockets to give.
const REST: Duration = Duration::from_millis(100);

/// What clients may take.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// What the port is called in the log and in errors.
    pub(crate) name: &'static str,
    /// Connections that are served at once.
    pub(crate) connections_max: usize,
    /// Connections beyond them that are told so; more wait unheard.
    pub(crate) turned_away_max: usize,
    /// Bytes of the head of a request.
    pub(crate) head_bytes_max: usize,
    /// How long the head of a request may take, and a connection may be idle before it.
    pub(crate) head_time: Duration,
    /// How long a connection may take in all. It serves one request then; without a limit, as many
    /// as come, each of which the routes have to bound.
    pub(crate) connection_time: Option<Duration>,
    /// How long answers under way may take once the port is to go.
    pub(crate) grace: Duration,
}

/// Where a request comes from: an extension of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// A port that is served. It is closed soon after this is dropped.
#[derive(Debug)]
pub(crate) struct Port {
    address: SocketAddr,
    name: &'static str,
    /// Its closing is the sign to end.
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Port {
    /// Serves these routes, and `busy` to clients beyond the bound.
    pub(crate) fn serve(
        listener: StdListener,
        routes: Router,
        busy: Router,
        bounds: Bounds,
    ) -> io::Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener)?;
        let (stop, stopped) = watch::channel(());
        let name = bounds.name;
        let task = runtime.spawn(accept(listener, [routes, busy], bounds, stopped));
        Ok(Self {
            address,
            name,
            stop,
            task,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes it and waits until answers under way are out, or the grace is over.
    pub(crate) async fn close(self) -> Result<(), Error> {
        drop(self.stop);
        self.task.await.map_err(|error| Error::Panicked {
            part: self.name,
            message: error.to_string(),
        })
    }
}

/// Accepts and serves until `stop` closes; then lets answers under way finish for a moment.
async fn accept(
    listener: TcpListener,
    [routes, busy]: [Router; 2],
    bounds: Bounds,
    mut stop: watch::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        let has_place = connections.len() < bounds.connections_max + bounds.turned_away_max;
        tokio::select! {
            biased;
            _ = stop.changed() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if has_place => match accepted {
                Ok((stream, peer)) => {
                    let is_full = connections.len() >= bounds.connections_max;
                    let routes = if is_full { &busy } else { &routes };
                    let one_request = is_full || bounds.connection_time.is_some();
                    let routes = (Peer(peer), routes.clone());
                    let served = serve(stream, routes, bounds.clone(), one_request, stop.clone());
                    connections.spawn(served);
                }
                Err(error) => {
                    tracing::warn!(%error, port = bounds.name, "failed to accept a connection");
                    sleep(REST).await;
                }
            },
        }
    }
    drop(listener);
    let rest = async { while connections.join_next().await.is_some() {} };
    if timeout(bounds.grace, rest).await.is_err() {
        connections.shutdown().await;
    }
}

/// One connection, however slow its client is.
async fn serve(
    stream: TcpStream,
    (peer, routes): (Peer, Router),
    bounds: Bounds,
    one_request: bool,
    mut stop: watch::Receiver<()>,
) {
    // Answers are short and whole; without this the last one may wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .keep_alive(!one_request)
        .header_read_timeout(bounds.head_time)
        .max_header_size(bounds.head_bytes_max);
    let served = async {
        let routes = TowerToHyperService::new(routes);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            routes.call(request)
        });
        let mut http = pin!(http.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            _ = http.as_mut() => return,
            _ = stop.changed() => http.as_mut().graceful_shutdown(),
        }
        let _ = http.await;
    };
    // How it ends is the client's affair.
    match bounds.connection_time {
        Some(time) => drop(timeout(time, served).await),
        None => served.await,
    }
}
