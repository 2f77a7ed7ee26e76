//! One connection, however slow its client is.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::door::Caller;
#[cfg(feature = "relay")]
use super::tls::Tls;
use super::via::{Peer, Via};
use super::waiting::{Chair, Outgoing};
use super::{Bounds, Patient};

/// How long a client that is told that there is no place for it may take for everything.
const TURN_AWAY_TIME: Duration = Duration::from_secs(2);

/// How long a TLS handshake may take, and no longer than a head.
#[cfg(feature = "relay")]
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// How long a client that was let in may still ask once the port is to go: what it sent before it
/// could know is answered.
const LINGER: Duration = Duration::from_secs(1);

/// How a client is served.
pub(super) struct Serving {
    pub(super) routes: Router,
    pub(super) bounds: Bounds,
    /// It is only to be told that there is no place for it.
    pub(super) is_turned_away: bool,
    #[cfg(feature = "relay")]
    pub(super) tls: Option<Tls>,
    pub(super) chair: Arc<Chair>,
    /// Closes when the port is to go.
    pub(super) stop: watch::Receiver<()>,
}

/// What a connection makes way for.
enum Cut {
    ForAnother,
    AtTheEnd,
}

impl Serving {
    /// Serves the client until it goes, or has to.
    pub(super) async fn serve(self, caller: Caller) {
        let time = match self.is_turned_away {
            true => Some(TURN_AWAY_TIME),
            false => self.bounds.connection_time,
        };
        let served = async {
            match caller {
                Caller::Tcp(stream, peer) => {
                    // Answers are short and whole; without this the last one may wait for an
                    // acknowledgement.
                    let _ = stream.set_nodelay(true);
                    self.greet(stream, peer).await;
                }
                #[cfg(unix)]
                Caller::Unix(stream) => self.greet(stream, Peer::Local).await,
            }
        };
        // How it ends is the client's affair.
        match time {
            Some(time) => drop(timeout(time, served).await),
            None => served.await,
        }
    }

    #[cfg(feature = "relay")]
    async fn greet(&self, stream: impl AsyncRead + AsyncWrite + Unpin, peer: Peer) {
        let stream = Patient::new(stream, self.bounds.write_time);
        let Some(tls) = &self.tls else {
            return self.converse(stream, self.via(peer, false)).await;
        };
        let time = HANDSHAKE_TIME.min(self.bounds.head_time);
        let shake = timeout(time, async { tls.acceptor().await.accept(stream).await });
        let shaken = tokio::select! {
            shaken = shake => shaken,
            _ = self.cut() => return,
        };
        if let Ok(Ok(stream)) = shaken {
            self.converse(stream, self.via(peer, true)).await;
        }
    }

    #[cfg(not(feature = "relay"))]
    async fn greet(&self, stream: impl AsyncRead + AsyncWrite + Unpin, peer: Peer) {
        let stream = Patient::new(stream, self.bounds.write_time);
        self.converse(stream, self.via(peer, false)).await;
    }

    fn via(&self, peer: Peer, is_encrypted: bool) -> Via {
        Via::new(peer, is_encrypted, self.stop.clone())
    }

    async fn converse(&self, stream: impl AsyncRead + AsyncWrite + Unpin, via: Via) {
        let one_request = self.is_turned_away || self.bounds.connection_time.is_some();
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .keep_alive(!one_request)
            .header_read_timeout(self.bounds.head_time)
            .max_header_size(self.bounds.head_bytes_max);
        let service = service_fn(|request| self.answer(request, via.clone()));
        let mut http = pin!(http.serve_connection(TokioIo::new(stream), service));
        let cut = tokio::select! {
            _ = http.as_mut() => return,
            cut = self.cut() => cut,
        };
        if self.chair.waits() {
            return;
        }
        // It is asked something after all, or still.
        http.as_mut().graceful_shutdown();
        match cut {
            Cut::AtTheEnd => drop(http.await),
            Cut::ForAnother => tokio::select! {
                _ = http.as_mut() => {}
                // What is under way then is bounded by the listener.
                _ = self.end() => drop(http.await),
            },
        }
    }

    async fn answer(
        &self,
        mut request: Request<Incoming>,
        via: Via,
    ) -> Result<Response, Infallible> {
        let busy = self.chair.busy();
        request.extensions_mut().insert(via.clone());
        let service = TowerToHyperService::new(self.routes.clone());
        let mut response = service.call(request).await?;
        if via.is_closing() {
            let headers = response.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response.map(|body| Body::new(Outgoing { body, _busy: busy })))
    }

    /// Ends when the connection has to make way.
    async fn cut(&self) -> Cut {
        tokio::select! {
            () = self.chair.given_up() => Cut::ForAnother,
            () = self.end() => Cut::AtTheEnd,
        }
    }

    /// Ends a moment after the port was told to go.
    async fn end(&self) {
        let mut stop = self.stop.clone();
        // Nothing is ever sent: it can only close.
        let _ = stop.changed().await;
        sleep(LINGER).await;
    }
}
