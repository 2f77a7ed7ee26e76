//! One connection to the socket: who is too slow is cut off.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::answer::Refusal;
use super::{HEAD_BYTES_MAX, HEAD_TIME, WRITE_TIME};
use crate::serving::Patient;

/// Bytes that are read or written ahead.
const BUFFER_BYTES: usize = 64 << 10;

/// How long a client that was let in may still ask once the socket is to go. It is told that the
/// owner closes, so that it knows for certain that nothing was done.
const GRACE: Duration = Duration::from_secs(1);

/// How long, after that, a request that is under way may take.
const LAST_ANSWER_TIME: Duration = Duration::from_secs(30);

/// What one client may have, and where it is had.
pub(super) struct Door {
    pub(super) router: Router,
    /// Whether it may only append and see the state.
    pub(super) is_guest: bool,
    /// Closes when the socket is to go.
    pub(super) stop: watch::Receiver<()>,
}

/// Serves one connection until it ends. Once `stop` closes, what is under way is let finish, and
/// what is asked after that is refused.
pub(super) async fn serve(stream: UnixStream, door: Door) {
    let io = TokioIo::new(Patient::new(stream, WRITE_TIME));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES);
    let is_asked = AtomicBool::new(false);
    let mut stop = door.stop.clone();
    let service = service_fn(|request| answer(&door, &is_asked, request));
    let mut http = pin!(http.serve_connection(io, service));
    // How the connection ends does not matter here: clients come and go as they like.
    tokio::select! {
        _ = http.as_mut() => return,
        _ = stop.changed() => {}
    }
    if timeout(GRACE, http.as_mut()).await.is_ok() {
        return;
    }
    // A watcher, or a client that says nothing, is cut off.
    http.as_mut().graceful_shutdown();
    if is_asked.load(Ordering::Relaxed) {
        let _ = timeout(LAST_ANSWER_TIME, http).await;
    }
}

/// Answers one request; `is_asked` says meanwhile that one is under way.
async fn answer(
    door: &Door,
    is_asked: &AtomicBool,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    if door.stop.has_changed().is_err() {
        let mut closing = closing().into_response();
        let headers = closing.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        return Ok(closing);
    }
    if door.is_guest && !is_for_guests(request.method(), request.uri().path()) {
        return Ok(not_for_guests(&request).into_response());
    }
    is_asked.store(true, Ordering::Relaxed);
    let service = TowerToHyperService::new(door.router.clone());
    let answer = service.call(request).await;
    is_asked.store(false, Ordering::Relaxed);
    answer
}

fn closing() -> Refusal {
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "closed",
        "the owner of the spool is closing; nothing was done",
        "try again, with its next owner or as its owner",
    )
}

/// What members of the socket's group may ask for, besides the spool's user and root.
fn is_for_guests(method: &Method, path: &str) -> bool {
    const LOOKS: [&str; 5] = ["/status", "/status/watch", "/livez", "/readyz", "/metrics"];
    match *method {
        Method::GET | Method::HEAD => LOOKS.contains(&path),
        Method::POST => path == "/events",
        _ => false,
    }
}

fn not_for_guests(request: &Request<Incoming>) -> Refusal {
    let (method, path) = (request.method(), request.uri().path());
    Refusal::new(
        StatusCode::FORBIDDEN,
        "forbidden",
        format!(
            "members of the socket's group may append and see the status, no more. \
             method=`{method}`, path=`{path}`"
        ),
        "do it as root, or as the user that the spool belongs to",
    )
}
