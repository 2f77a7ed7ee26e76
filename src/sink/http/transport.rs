//! The way to a receiver: the only file that names the HTTP client.

use std::error::Error as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use std::{fmt, io};

use ::http::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, LOCATION, RETRY_AFTER,
    TRANSFER_ENCODING,
};
use ::http::{HeaderValue, Method};
use bytes::Bytes;
use reqwest::{Client, ClientBuilder, Response};
use tokio::time::Instant;
use url::Url;

use super::Limits;
use super::address::{Address, unusable};
use super::proxy::Route;
use super::sent::Sent;
use super::silence::{Pace, Progress};
use super::tls::{self, Files, Renewed};
use crate::error::Error;
use crate::outcome::{Answer, Outcome, PauseReason};
use crate::sink::classify::{HttpReply, clean, retry_after};

const USER_AGENT: &str = concat!("everpost/", env!("CARGO_PKG_VERSION"));

/// How long the body of an answer is waited for once its status is known. The status has decided
/// by then, so the body is worth little patience. Shorter time limits hold beside this.
const BODY_PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of a body that are read; the rest is left unread.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Headers that an answer may have. The client's own bound is 100, which some proxies pass.
const HEADERS_MAX: usize = 1_000;

/// What one request carries beside its address.
pub(in crate::sink) struct Outgoing {
    pub(in crate::sink) method: Method,
    pub(in crate::sink) headers: HeaderMap,
    pub(in crate::sink) body: Bytes,
    /// What the request is authorised with: it is struck out of what the way says.
    pub(in crate::sink) secret: String,
}

/// The client with everything that is the same for each request.
#[derive(Clone)]
pub(in crate::sink) struct Transport {
    client: Arc<Renewed<Client>>,
    address: Address,
    limits: Limits,
    route: Route,
    /// What the last request that was large enough has shown of the link.
    pace: Arc<Mutex<Option<Pace>>>,
}

impl Transport {
    pub(super) fn new(
        address: Address,
        limits: Limits,
        route: Route,
        files: Files,
    ) -> Result<Self, Error> {
        let (to, by) = (address.clone(), route.clone());
        let make = move |files: &Files| {
            let client = client(&to, limits, &by, files)?.build();
            client.map_err(|error| format!("HTTP client cannot be built: {}", cause(error, "")))
        };
        let client = Renewed::new(files, make).map_err(unusable)?;
        Ok(Self {
            client: Arc::new(client),
            address,
            limits,
            route,
            pace: Arc::default(),
        })
    }

    /// The address that requests go to, without its query.
    pub(in crate::sink) fn url(&self) -> &str {
        &self.address.shown
    }

    /// The query of the address, which may be secret.
    pub(in crate::sink) fn query(&self) -> Option<&str> {
        self.address.url.query()
    }

    /// The way that was decided.
    pub(in crate::sink) fn route(&self) -> &Route {
        &self.route
    }

    /// Asks for any answer, without a key and without events.
    pub(in crate::sink) async fn knock(&self) -> Answer {
        let (client, complaint) = self.client.now().await;
        let request = client.get(self.address.url.clone());
        match request.timeout(self.limits.request).send().await {
            Ok(response) => Answer::from_status(response.status().as_u16()),
            Err(error) => Answer::from_detail(fault(error, complaint, "")),
        }
    }

    /// Sends a request and reads the answer; or says what came of it where there was none.
    pub(in crate::sink) async fn send(&self, outgoing: Outgoing) -> Result<Received, Outcome> {
        let (client, complaint) = self.client.now().await;
        let (sent, pieces) = Sent::of(outgoing.body);
        let mut request = client
            .request(outgoing.method, self.address.url.clone())
            .headers(outgoing.headers)
            .header(CONNECTION, "close")
            .body(reqwest::Body::wrap(pieces));
        if let Some(total) = self.limits.total {
            request = request.timeout(total);
        }
        let pace = *self.pace();
        let due = |progress: &Progress| progress.due(self.limits, pace);
        match sent.answered(request.send(), due).await {
            Some((Ok(response), is_after)) => {
                if is_after && let Some(pace) = sent.progress().pace(Instant::now()) {
                    *self.pace() = Some(pace);
                }
                Ok(read(response, is_after, self.limits).await)
            }
            Some((Err(error), _)) => {
                let is_stalled = sent.has_begun() && (error.is_timeout() || !sent.is_whole());
                Err(no_answer(
                    fault(error, complaint, &outgoing.secret),
                    is_stalled,
                ))
            }
            None => Err(no_answer(self.silence(&sent), sent.has_begun())),
        }
    }

    fn pace(&self) -> MutexGuard<'_, Option<Pace>> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is told of a request whose time was up.
    fn silence(&self, sent: &Sent) -> String {
        let what = match sent.has_begun() {
            true => NO_ANSWER,
            false => NO_CONNECTION,
        };
        format!("{what}{}", tried(&self.address.url))
    }
}

/// An answer, as far as it was read.
pub(in crate::sink) struct Received {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    is_complete: bool,
    is_after: bool,
}

impl Received {
    fn text(&self, name: &HeaderName) -> Option<&str> {
        std::str::from_utf8(self.headers.get(name)?.as_bytes()).ok()
    }

    /// What there is to decide from. `now` is what dates of `Retry-After` are held against.
    pub(in crate::sink) fn reply<'a>(&'a self, now: SystemTime, secret: &'a str) -> HttpReply<'a> {
        let wait = self.text(&RETRY_AFTER);
        HttpReply::new(self.status, &self.body)
            .content_type(self.text(&CONTENT_TYPE).unwrap_or_default())
            .retry_after(wait.and_then(|value| retry_after(value, now)))
            .location(self.text(&LOCATION))
            .complete(self.is_complete)
            .after_request(self.is_after)
            .secret(secret)
    }
}

async fn read(mut response: Response, is_after: bool, limits: Limits) -> Received {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let has_end = headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
    let patience = BODY_PATIENCE.min(limits.request).min(limits.read);
    let (body, has_ended) = first_bytes(&mut response, patience).await;
    Received {
        status,
        headers,
        body,
        is_complete: has_ended && (has_end || status == 204),
        is_after,
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("address", &self.address)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// The client, not built yet.
fn client(
    address: &Address,
    limits: Limits,
    route: &Route,
    files: &Files,
) -> Result<ClientBuilder, String> {
    let builder = Client::builder()
        .user_agent(USER_AGENT)
        .default_headers(headers())
        // The other time limits count silence, which the client's own do not: its limit of reading
        // counts from the beginning of an upload.
        .connect_timeout(limits.connect)
        // A redirect would take the key to an address that the program did not choose, and 301 and
        // 302 turn the POST into a GET without the events.
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        // Repeating is the flusher's decision alone.
        .retry(reqwest::retry::never())
        // A connection for each request, so that no answer can be taken for that of another
        // request (invariant I15).
        .pool_max_idle_per_host(0)
        .http1_max_headers(HEADERS_MAX)
        // A line that is no header takes nothing from what the others say.
        .http1_ignore_invalid_headers_in_responses(true)
        .https_only(address.url.scheme() == "https")
        // The route has been decided; nothing is read from the environment here.
        .no_proxy();
    // The client's own is 30 seconds. Linux counts it on while a window is small and moves on, so that
    // it would end an upload that a slow receiver takes.
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    let builder = builder.tcp_user_timeout(None::<Duration>);
    let builder = match (address.is_loopback, address.url.host_str()) {
        // A line in the file of hosts could send the key to another machine in clear. An address
        // with the port 0 stands for whatever port the URL has.
        (true, Some(host)) => {
            let here = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            builder.resolve_to_addrs(host, &here.map(|ip| SocketAddr::new(ip, 0)))
        }
        _ => builder,
    };
    let proxy = route.proxy_with_login();
    #[cfg(all(feature = "rustls", not(feature = "native-tls")))]
    let builder = {
        // A proxy may be reached by TLS where the address is not.
        let is_used = address.url.scheme() == "https" || proxy.is_some();
        builder.tls_backend_preconfigured(super::tls::config(files, is_used)?)
    };
    #[cfg(any(feature = "native-tls", not(feature = "rustls")))]
    super::tls::no_files(files)?;
    Ok(match proxy {
        Some(url) => builder.proxy(
            reqwest::Proxy::all(url)
                .map_err(|_| "address of the proxy cannot be used".to_owned())?,
        ),
        None => builder,
    })
}

fn headers() -> HeaderMap {
    [(ACCEPT, HeaderValue::from_static("application/json"))]
        .into_iter()
        .collect()
}

/// The first part of the body, as much of it as comes in time, and whether that is all of it.
async fn first_bytes(response: &mut Response, patience: Duration) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    let mut has_ended = false;
    let reading = async {
        while body.len() < BODY_BYTES_MAX {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    let room = BODY_BYTES_MAX - body.len();
                    body.extend(chunk.iter().take(room));
                }
                Ok(None) => {
                    has_ended = true;
                    break;
                }
                Err(_) => break,
            }
        }
    };
    // Running out of patience leaves what has come so far.
    let _ = tokio::time::timeout(patience, reading).await;
    (body, has_ended)
}

/// No answer came. Whatever the reason, the events are not at fault, and they may even have
/// arrived: the same batch is sent again. It has stalled if a connection stood and its time was
/// up, or it was cut before all of the request was out.
fn no_answer(detail: String, is_stalled: bool) -> Outcome {
    // A proxy that wants a login refuses the tunnel before there is any answer of the API, so
    // its 407 arrives as this text (hyper-util 0.1.21 src/client/legacy/connect/proxy/tunnel.rs).
    let outcome = if detail.contains("proxy authorization required") {
        Outcome::pause(PauseReason::Address)
    } else if is_stalled {
        Outcome::stalled()
    } else {
        Outcome::retry()
    };
    outcome.because(detail)
}

const NO_ANSWER: &str = "no answer in time";
const NO_CONNECTION: &str = "connecting took too long";

/// What went wrong on the way, and to which host and port, in one short line. Nothing else of the
/// URL is told.
fn fault(error: reqwest::Error, complaint: Option<String>, secret: &str) -> String {
    let tried = error.url().map(tried).unwrap_or_default();
    let advice = tls::advice(&error);
    let what = std::iter::once(cause(error, secret))
        .chain(advice)
        .chain(complaint);
    what.collect::<Vec<_>>().join("; ") + &tried
}

fn tried(url: &Url) -> String {
    let (host, port) = (url.host_str(), url.port_or_known_default());
    let tried = host.zip(port);
    tried.map_or_else(String::new, |(host, port)| format!(" ({host}:{port})"))
}

fn cause(error: reqwest::Error, secret: &str) -> String {
    let error = error.without_url();
    if error.is_timeout() {
        let what = if error.is_connect() {
            NO_CONNECTION
        } else {
            NO_ANSWER
        };
        return what.to_owned();
    }
    let mut kind = None;
    let mut deepest = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            kind = known(io.kind()).or(kind);
        }
        deepest = cause.to_string();
        source = cause.source();
    }
    match kind {
        Some(kind) => kind.to_string(),
        None if error.is_dns() => clean(&format!("name lookup failed: {deepest}"), secret),
        // TLS says here what it dislikes about the other side.
        None if error.is_connect() => clean(&format!("connecting failed: {deepest}"), secret),
        None => clean(&deepest, secret),
    }
}

/// The kinds of I/O error whose name says more than the text of their cause.
fn known(kind: io::ErrorKind) -> Option<io::ErrorKind> {
    use io::ErrorKind as Kind;
    let speaks = matches!(
        kind,
        Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::NotConnected
            | Kind::BrokenPipe
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::AddrNotAvailable
            | Kind::UnexpectedEof
    );
    speaks.then_some(kind)
}

#[cfg(test)]
mod tests {
    use super::super::Proxy;
    use super::*;

    /// Answers every name with an address where nothing of ours is.
    struct Poisoned;

    impl reqwest::dns::Resolve for Poisoned {
        fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
            let elsewhere = SocketAddr::from(([192, 0, 2, 1], 0));
            Box::pin(async move { Ok(Box::new([elsewhere].into_iter()) as reqwest::dns::Addrs) })
        }
    }

    /// A line `10.9.9.9 localhost` in the file of hosts sent the key to another machine in clear,
    /// since plain HTTP to `localhost` is allowed and its address was asked for.
    #[tokio::test]
    async fn localhost_is_this_machine_whatever_the_resolver_says() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let second = Duration::from_secs(20);
        let limits = Limits {
            request: second,
            connect: second,
            read: second,
            total: None,
        };
        for host in ["localhost", "LOCALHOST", "api.localhost", "localhost."] {
            let address = Address::from_base(&format!("http://{host}:{port}"), false).unwrap();
            let route = Proxy::None.decide(&address).unwrap();
            let client = client(&address, limits, &route, &Files::default()).unwrap();
            let client = client.dns_resolver(std::sync::Arc::new(Poisoned));
            let request = client.build().unwrap().post(address.url).send();
            tokio::select! {
                met = listener.accept() => assert!(met.is_ok()),
                answer = request => panic!("{host} was not met here: {answer:?}"),
            }
        }
    }
}
