//! Who asks, by what right, and from which page: looked at before anything else.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use hyper::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, HeaderValue, ORIGIN,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{HeaderMap, StatusCode};

use super::desk::Desk;
use crate::control::answer::Refusal;
use crate::hosts::{Hosts, Wrong};
use crate::serving::{Peer, Via};

/// What the page may do in a browser: run its own scripts and styles, and ask its own server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'none'";

/// By which door a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Anything on this machine can reach it.
    Tcp,
    /// Only those who may do everything can.
    Trusted,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    right: Right,
    from: Option<Peer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// To look, and not at events.
    Look,
    /// Everything, by the token.
    Token,
    /// Everything, by having reached the socket.
    Socket,
}

impl Caller {
    /// One who has reached the trusted routes.
    #[cfg(test)]
    pub(super) fn on_the_socket() -> Self {
        Self {
            right: Right::Socket,
            from: None,
        }
    }

    /// Whether everything is allowed.
    pub(super) fn may_act(&self) -> bool {
        self.right != Right::Look
    }

    /// Refuses one who may only look.
    pub(super) fn must_act(&self) -> Result<(), Refusal> {
        if self.may_act() {
            return Ok(());
        }
        Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "read_only",
            "that takes the token of this page",
            "start the service with `--admin-token` and send what is in its file as \
             `Authorization: Bearer <token>`, or use the Unix socket",
        ))
    }

    pub(super) fn by(&self) -> &'static str {
        match self.right {
            Right::Look => "nothing",
            Right::Token => "token",
            Right::Socket => "socket",
        }
    }

    pub(super) fn from(&self) -> String {
        match self.from {
            Some(peer) => peer.to_string(),
            // Another server than ours serves the routes.
            None => "unknown".to_owned(),
        }
    }
}

/// A door and what is behind it.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub(super) desk: Arc<Desk>,
    pub(super) hosts: Arc<Hosts>,
    pub(super) door: Door,
}

/// Lets a request in with its [`Caller`], or not, and gives every answer the headers that bind the
/// browser.
pub(super) async fn guard(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let mut response = match gate.admit(&request) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
        (X_FRAME_OPTIONS, "DENY"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

impl Gate {
    fn admit(&self, request: &Request) -> Result<Caller, Refusal> {
        let headers = request.headers();
        let checked = self.hosts.check(request.version(), request.uri(), headers);
        checked.map_err(wrong_host)?;
        // A link on another page may lead to this one. All that tells or does anything is below.
        if request.uri().path().starts_with("/api/") {
            check_origin(headers)?;
        }
        Ok(Caller {
            right: self.right(headers)?,
            from: request.extensions().get().map(Via::peer),
        })
    }

    fn right(&self, headers: &HeaderMap) -> Result<Right, Refusal> {
        if self.door == Door::Trusted {
            return Ok(Right::Socket);
        }
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let Some(header) = given.next() else {
            return Ok(Right::Look);
        };
        let text = header.to_str().ok().and_then(|text| text.split_once(' '));
        match (text, &self.desk.rules.token, given.next()) {
            (Some((scheme, text)), Some(token), None)
                if scheme.eq_ignore_ascii_case("bearer") && token.is(text.trim()) =>
            {
                Ok(Right::Token)
            }
            (_, token, _) => Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "wrong_token",
                "that is not the token of this page",
                match token {
                    Some(_) => {
                        "copy it from its file, `admin.token` in the directory of the service"
                    }
                    None => "there is none: start the service with `--admin-token`",
                },
            )),
        }
    }
}

fn wrong_host(wrong: Wrong) -> Refusal {
    let hint = "ask by address, or name the host with `--listen-host`";
    Refusal::new(wrong.status(), "wrong_host", wrong.to_string(), hint)
}

/// A browser says which page a request is made for. Programs say nothing.
fn check_origin(headers: &HeaderMap) -> Result<(), Refusal> {
    let one = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        let first = values
            .next()
            .map(|value| value.to_str().unwrap_or_default());
        // Two of them are none that fits.
        if values.next().is_some() {
            Some("")
        } else {
            first
        }
    };
    let is_same = |origin: &str| {
        let authority = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        let host = one(&HOST);
        matches!((authority, host), (Some(a), Some(b)) if a.eq_ignore_ascii_case(b))
    };
    let site = one(&HeaderName::from_static("sec-fetch-site"));
    let is_ours = one(&ORIGIN).is_none_or(is_same)
        // `none` is what is typed into the address bar.
        && site.is_none_or(|site| matches!(site, "same-origin" | "none"));
    if is_ours {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        "wrong_origin",
        "the request was made by a page of another origin",
        "open the page by the address that it is asked under",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_ours(headers: &[(&'static str, &'static str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        check_origin(&map).is_ok()
    }

    #[test]
    fn only_a_page_of_the_same_origin_or_a_program_asks() {
        let host = ("host", "127.0.0.1:7680");
        assert!(is_ours(&[host]));
        assert!(is_ours(&[host, ("origin", "http://127.0.0.1:7680")]));
        assert!(is_ours(&[host, ("sec-fetch-site", "same-origin")]));
        for other in [
            "null",
            "",
            "http://127.0.0.1:7681",
            "http://127.0.0.1",
            "http://localhost:7680",
            "http://127.0.0.1:7680.evil.example",
            "http://evil.example",
            "127.0.0.1:7680",
        ] {
            assert!(!is_ours(&[host, ("origin", other)]), "{other}");
        }
        for site in ["cross-site", "same-site", ""] {
            assert!(!is_ours(&[host, ("sec-fetch-site", site)]), "{site}");
        }
        let ours = ("origin", "http://127.0.0.1:7680");
        assert!(!is_ours(&[host, ours, ("origin", "http://evil.example")]));
        assert!(!is_ours(&[ours]), "without a host");
    }
}
