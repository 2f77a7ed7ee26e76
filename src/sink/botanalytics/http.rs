//! The way to the API: the only file that names the HTTP client.

use std::error::Error as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime};
use std::{fmt, io};

use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue, LOCATION, RETRY_AFTER, TRANSFER_ENCODING,
};
use reqwest::{Client, ClientBuilder, Response};

use super::super::classify::{Classifier, HttpReply, clean, retry_after};
use super::super::key::Key;

use super::address::{Address, unusable};
use super::proxy::Route;
use super::sent::Sent;
use super::{Limits, request};
use crate::error::Error;
use crate::outcome::{Answer, Outcome, PauseReason};
use crate::sink::Request;

const USER_AGENT: &str = concat!("everpost/", env!("CARGO_PKG_VERSION"));
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const CLIENT_ID: HeaderName = HeaderName::from_static("x-botanalytics-client-id");
const CLIENT_VERSION: HeaderName = HeaderName::from_static("x-botanalytics-client-version");

/// How long the body of an answer is waited for once its status is known. The status has decided
/// by then, so the body is worth little patience. The limits of the request hold beside this.
const BODY_PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of a body that are read; the rest is left unread.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Headers that an answer may have. The client's own bound is 100, which some proxies pass.
const HEADERS_MAX: usize = 1_000;

/// The client with everything that is the same for each request.
#[derive(Clone)]
pub(super) struct Http {
    client: Client,
    address: Address,
    limits: Limits,
}

impl Http {
    pub(super) fn new(
        address: Address,
        limits: Limits,
        route: &Route,
        client_id: Option<&(String, String)>,
    ) -> Result<Self, Error> {
        let client = client(&address, limits, route, client_id)?
            .build()
            .map_err(|error| {
                unusable(format!("HTTP client cannot be built: {}", fault(error, "")))
            })?;
        Ok(Self {
            client,
            address,
            limits,
        })
    }

    pub(super) fn url(&self) -> &str {
        self.address.url.as_str()
    }

    /// Asks for any answer, without a key and without events.
    pub(super) async fn knock(&self) -> Answer {
        match self.client.get(self.address.url.clone()).send().await {
            Ok(response) => Answer::from_status(response.status().as_u16()),
            Err(error) => Answer::from_detail(fault(error, "")),
        }
    }

    /// Sends a batch and reads the answer.
    pub(super) async fn send(
        &self,
        mut request: Request,
        key: &Key,
        classifier: &Classifier,
        now: impl Fn() -> SystemTime,
    ) -> Outcome {
        let Ok(mut bearer) = HeaderValue::from_str(&format!("Bearer {}", key.expose())) else {
            // A key that was parsed holds nothing that a header cannot carry.
            return Outcome::pause(PauseReason::Credentials)
                .because("key cannot be sent in a header");
        };
        bearer.set_sensitive(true);
        let body = request.take_prepared();
        let body = body.unwrap_or_else(|| request::body(request.batch()).into());
        let (sent, pieces) = Sent::of(body);
        let request = self
            .client
            .post(self.address.url.clone())
            .header(AUTHORIZATION, bearer)
            .header(CONNECTION, "close")
            .header(CONTENT_TYPE, "application/json")
            .header(
                IDEMPOTENCY_KEY,
                request.batch().idempotency_key().to_string(),
            )
            .body(reqwest::Body::wrap(pieces));
        match sent.answered(request.send()).await {
            (Ok(response), is_after) => read(response, is_after, key, classifier, now).await,
            (Err(error), _) => no_answer(error, key, &sent),
        }
    }
}

async fn read(
    mut response: Response,
    is_after: bool,
    key: &Key,
    classifier: &Classifier,
    now: impl Fn() -> SystemTime,
) -> Outcome {
    let status = response.status().as_u16();
    let headers = response.headers();
    let has_end = headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
    let text = |name: &HeaderName| -> Option<String> {
        let value = headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let not_before = text(&RETRY_AFTER).and_then(|value| retry_after(&value, now()));
    let content_type = text(&CONTENT_TYPE).unwrap_or_default();
    let location = text(&LOCATION);
    let (body, has_ended) = first_bytes(&mut response).await;

    let reply = HttpReply::new(status, &body)
        .content_type(&content_type)
        .retry_after(not_before)
        .location(location.as_deref())
        .complete(has_ended && (has_end || status == 204))
        .after_request(is_after)
        .secret(key.expose());
    classifier.outcome(&reply)
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
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
    client_id: Option<&(String, String)>,
) -> Result<ClientBuilder, Error> {
    let builder = Client::builder()
        .user_agent(USER_AGENT)
        .default_headers(headers(client_id)?)
        .timeout(limits.request)
        .connect_timeout(limits.connect)
        .read_timeout(limits.read)
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
        let tls = super::tls::config(is_used)
            .map_err(|error| unusable(format!("TLS cannot be set up: {error}")))?;
        builder.tls_backend_preconfigured(tls)
    };
    Ok(match proxy {
        Some(url) => builder.proxy(
            reqwest::Proxy::all(url)
                .map_err(|_| unusable("address of the proxy cannot be used"))?,
        ),
        None => builder,
    })
}

fn headers(client_id: Option<&(String, String)>) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some((id, version)) = client_id {
        for (name, value) in [(CLIENT_ID, id), (CLIENT_VERSION, version)] {
            let value = HeaderValue::from_str(value)
                .map_err(|_| unusable(format!("client id cannot be sent. header=`{name}`")))?;
            headers.insert(name, value);
        }
    }
    Ok(headers)
}

/// The first part of the body, as much of it as comes in time, and whether that is all of it.
async fn first_bytes(response: &mut Response) -> (Vec<u8>, bool) {
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
    let _ = tokio::time::timeout(BODY_PATIENCE, reading).await;
    (body, has_ended)
}

/// No answer came. Whatever the reason, the events are not at fault, and they may even have
/// arrived: the same batch is sent again.
fn no_answer(error: reqwest::Error, key: &Key, sent: &Sent) -> Outcome {
    // On a connection that stood: its time was up, or it was cut before all of it was out.
    let is_stalled = sent.has_begun() && (error.is_timeout() || !sent.is_whole());
    let detail = fault(error, key.expose());
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

/// What went wrong on the way, and to which host and port, in one short line. Nothing else of the
/// URL is told.
fn fault(error: reqwest::Error, key: &str) -> String {
    let tried = error.url().and_then(|url| {
        let port = url.port_or_known_default()?;
        Some(format!(" ({}:{port})", url.host_str()?))
    });
    cause(error, key) + &tried.unwrap_or_default()
}

fn cause(error: reqwest::Error, key: &str) -> String {
    let error = error.without_url();
    if error.is_timeout() {
        let what = if error.is_connect() {
            "connecting took too long"
        } else {
            "no answer in time"
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
        None if error.is_dns() => clean(&format!("name lookup failed: {deepest}"), key),
        // TLS says here what it dislikes about the other side.
        None if error.is_connect() => clean(&format!("connecting failed: {deepest}"), key),
        None => clean(&deepest, key),
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
        };
        for host in ["localhost", "LOCALHOST", "api.localhost", "localhost."] {
            let address = Address::from_base(&format!("http://{host}:{port}")).unwrap();
            let route = Proxy::None.decide(&address).unwrap();
            let client = client(&address, limits, &route, None).unwrap();
            let client = client.dns_resolver(std::sync::Arc::new(Poisoned));
            let request = client.build().unwrap().post(address.url).send();
            tokio::select! {
                met = listener.accept() => assert!(met.is_ok()),
                answer = request => panic!("{host} was not met here: {answer:?}"),
            }
        }
    }
}
