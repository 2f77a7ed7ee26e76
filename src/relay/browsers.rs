//! Pages in browsers: where a request comes from, and who may see its answer.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, StatusCode};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::answer::Refusal;
use super::desk::Desk;
use super::{Origin, Rules};

/// How long a browser may remember that a page may ask: as long as Chromium does at the most.
const PREFLIGHT_TIME: Duration = Duration::from_secs(7_200);

/// Has browsers show every answer to pages of the origins that are let in, also one that refuses.
pub(super) fn answers(desk: &Arc<Desk>) -> CorsLayer {
    let desk = Arc::clone(desk);
    let is_let_in = move |origin: &HeaderValue, _: &Parts| {
        let origin = origin.to_str().ok().and_then(|text| text.parse().ok());
        origin.is_some_and(|origin| desk.rules().lets_in(&origin))
    };
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(is_let_in))
        .allow_methods([Method::POST])
        // Those that the official clients send, and the one of a request that may be repeated.
        .allow_headers([
            AUTHORIZATION,
            CONTENT_TYPE,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("x-botanalytics-client-id"),
            HeaderName::from_static("x-botanalytics-client-version"),
        ])
        .expose_headers([RETRY_AFTER, HeaderName::from_static("idempotency-replayed")])
        // From a page of the world to a machine of its own network.
        .allow_private_network(true)
        .max_age(PREFLIGHT_TIME)
}

/// The origin that a request comes from, if it comes from a page; refused if pages of that origin are
/// not let in.
pub(super) fn origin(rules: &Rules, headers: &HeaderMap) -> Result<Option<Origin>, Refusal> {
    let mut given = headers.get_all(ORIGIN).iter();
    let (first, None) = (given.next(), given.next()) else {
        return Err(foreign());
    };
    let Some(first) = first else { return Ok(None) };
    // What is no origin in the list's spelling is in no list.
    let origin: Option<Origin> = first.to_str().ok().and_then(|text| text.parse().ok());
    match origin.filter(|origin| rules.lets_in(origin)) {
        Some(origin) => Ok(Some(origin)),
        None => Err(foreign()),
    }
}

fn foreign() -> Refusal {
    let text = "Pages of this origin are not let in: see `everpost relay --allow-origin`.";
    Refusal::new(StatusCode::FORBIDDEN, text)
}
