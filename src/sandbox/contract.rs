//! What the API promises, as far as it is documented, and what its official clients send to it. The
//! only file that knows axum.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Extension, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{Router, post};
use bytes::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request;
use hyper::service::Service as _;
use hyper::{HeaderMap, StatusCode};
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use serde_json::value::RawValue;

use super::forms;
use super::record::Accepted;
use super::reply::Reply;
use super::shared::{RejectRule, Shared};
use super::validate::validate;
use crate::intake::{self, NOT_A_LIST, Unread};

/// The path under which the API lives; the base URL ends with it.
pub(super) const BASE_PATH: &str = "/v2";

/// What an answer is made of.
pub(super) type AnswerBody = Body;

/// The number of the request at hand, on its way through the router.
#[derive(Clone, Copy)]
struct Number(u64);

/// Answers requests as the API documents it.
#[derive(Clone)]
pub(super) struct Contract {
    routes: Router,
}

impl Contract {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let mut routes = Router::new();
        // The Python client drops the version from a base URL without a final `/`, and both take a
        // base URL with one.
        for base in [BASE_PATH, ""] {
            for end in ["", "/"] {
                routes = routes.route(&format!("{base}/messages{end}"), post(messages));
            }
        }
        let routes = if shared.rules.is_any_receiver {
            routes.fallback(any_receiver)
        } else {
            routes.fallback(wrong_path)
        };
        let routes = routes
            .method_not_allowed_fallback(wrong_method)
            // The connection has read the body already, within the limit of the rules.
            .layer(DefaultBodyLimit::disable())
            .with_state(shared);
        Self { routes }
    }

    /// Answers one request. What it takes is recorded under this number.
    pub(super) async fn answer(
        &self,
        number: u64,
        head: request::Parts,
        body: Bytes,
    ) -> Response<Body> {
        let mut request = Request::from_parts(head, Body::from(body));
        request.extensions_mut().insert(Number(number));
        let service = TowerToHyperService::new(self.routes.clone());
        match service.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// A reply as an answer.
pub(super) fn respond(reply: Reply) -> Response<Body> {
    reply.into_response()
}

/// The status, headers and whole body of an answer, as they stand on the wire.
pub(super) async fn write_out(response: Response<Body>) -> (Vec<u8>, Vec<u8>) {
    let (head, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX)
        .await
        .unwrap_or_default();
    let mut text = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
    for (name, value) in &head.headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    let rest = format!(
        "content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    text.extend_from_slice(rest.as_bytes());
    (text, body.to_vec())
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response<Body> {
        let response = build(&self).unwrap_or_else(|reason| {
            let reply = Reply::status(500).errors([reason]);
            build(&reply).unwrap_or_default()
        });
        response.map(Body::from)
    }
}

fn build(reply: &Reply) -> Result<Response<String>, String> {
    let (content_type, body) = reply.written_body();
    let status = StatusCode::from_u16(reply.code())
        .ok()
        .filter(|status| !status.is_informational())
        .ok_or_else(|| {
            format!(
                "the scripted reply has a status HTTP cannot end with. status=`{}`",
                reply.code()
            )
        })?;
    let mut headers = HeaderMap::new();
    for (name, value) in reply.headers() {
        let pair = HeaderName::from_bytes(name.as_bytes())
            .ok()
            .zip(HeaderValue::from_str(value).ok());
        let Some((name, value)) = pair else {
            return Err(format!(
                "the scripted reply has a header HTTP cannot carry. name=`{name}`"
            ));
        };
        headers.append(name, value);
    }
    if !body.is_empty() {
        headers
            .entry(CONTENT_TYPE)
            .or_insert(HeaderValue::from_static(content_type));
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

async fn wrong_path(
    State(shared): State<Arc<Shared>>,
    Extension(Number(number)): Extension<Number>,
) -> Reply {
    shared.refuse(number, format!("the only path is {BASE_PATH}/messages"));
    Reply::status(404).errors(["Resource does not exist."])
}

async fn any_receiver(
    State(shared): State<Arc<Shared>>,
    Extension(Number(number)): Extension<Number>,
    request: Request,
) -> Reply {
    if !["POST", "PUT", "PATCH"].contains(&request.method().as_str()) {
        shared.refuse(number, "the methods are POST, PUT and PATCH");
        return Reply::status(405).errors(["Method is not allowed."]);
    }
    let (head, body) = request.into_parts();
    match axum::body::to_bytes(body, usize::MAX).await {
        Ok(body) => forms::take(&shared, number, &head.headers, &body),
        Err(_) => Reply::status(400),
    }
}

async fn wrong_method(
    State(shared): State<Arc<Shared>>,
    Extension(Number(number)): Extension<Number>,
) -> Reply {
    shared.refuse(number, "the only method is POST");
    Reply::status(405)
        .header(ALLOW.as_str(), "POST")
        .errors(["Method is not allowed."])
}

async fn messages(
    State(shared): State<Arc<Shared>>,
    Extension(Number(number)): Extension<Number>,
    request: Request,
) -> Reply {
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        return Reply::status(400);
    };
    let taken = shared
        .admits(&head)
        .map_err(|reason| Rejection::of(401, reason))
        .and_then(|()| read_batch(&shared, number, &head.headers, &body))
        .and_then(|events| {
            let stored = shared.accept(number, events);
            stored.map_err(|error| Rejection::of(500, format!("it could not be stored: {error}")))
        });
    match taken {
        Ok(()) => {
            let answer = serde_json::json!({ "request_id": format!("r-{number}") });
            Reply::status(200)
                .header(CONTENT_TYPE.as_str(), "application/json")
                .body(answer.to_string())
        }
        Err(Rejection { reply, reason }) => {
            shared.refuse(number, reason);
            reply
        }
    }
}

/// An answer that refuses, and why in more words than it has.
struct Rejection {
    reply: Reply,
    reason: String,
}

impl Rejection {
    /// With the documented text for the client.
    fn of(status: u16, reason: impl Into<String>) -> Self {
        let (reply, reason) = (Reply::status(status), reason.into());
        Self { reply, reason }
    }

    /// 400 with these texts for the client.
    fn bad<T: Into<String>>(errors: impl IntoIterator<Item = T>) -> Self {
        let errors: Vec<String> = errors.into_iter().map(Into::into).collect();
        let reason = errors.join("; ");
        let reply = Reply::status(400).errors(errors);
        Self { reply, reason }
    }

    /// Says which of so many messages it is.
    fn at(mut self, index: usize, messages: usize) -> Self {
        if messages > 1 {
            self.reason = format!("number {}: {}", index + 1, self.reason);
        }
        self
    }
}

/// Checks a whole batch before anything of it is taken: one bad message refuses all.
fn read_batch(
    shared: &Shared,
    number: u64,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Vec<Accepted>, Rejection> {
    if !intake::is_json(headers) {
        let reason = "the Content-Type is not application/json";
        return Err(Rejection::of(400, reason));
    }
    let items = intake::messages(body).map_err(|unread| match unread {
        Unread::NoList => Rejection::bad([NOT_A_LIST]),
        Unread::NoJson { .. } => Rejection::of(400, unread.to_string()),
    })?;
    let messages = items.len();
    if messages == 0 {
        return Err(Rejection::bad(["messages must not be empty"]));
    }
    if messages > shared.rules.max_events {
        let reason = format!(
            "Request has more than {} messages.",
            shared.rules.max_events
        );
        let reply = Reply::status(413).errors([reason.clone()]);
        return Err(Rejection { reply, reason });
    }
    let reject = shared.state().reject.clone();
    let read = |raw| {
        let message = intake::message_in(&shared.rules.channel, raw);
        let message = message.ok_or_else(|| Rejection::bad([NOT_A_LIST]))?;
        read_message(shared, reject.as_ref(), number, message, body)
    };
    let items = items.into_iter().enumerate();
    items
        .map(|(index, raw)| read(raw).map_err(|refusal| refusal.at(index, messages)))
        .collect()
}

fn read_message(
    shared: &Shared,
    reject: Option<&RejectRule>,
    number: u64,
    raw: &RawValue,
    body: &Bytes,
) -> Result<Accepted, Rejection> {
    // What is well formed can still be a number beyond all bounds, or nested too deeply.
    let message: Value = serde_json::from_str(raw.get())
        .map_err(|_| Rejection::of(400, "a number is too large, or it is nested too deeply"))?;
    validate(&shared.rules.channel, &message).map_err(Rejection::bad)?;
    if let Some(text) = reject.and_then(|rule| rule(&message)) {
        return Err(Rejection::bad([text]));
    }
    let id = message
        .pointer(&shared.rules.id_pointer)
        .and_then(Value::as_str);
    let json = shared
        .rules
        .keep_bodies
        .then(|| body.slice_ref(raw.get().as_bytes()));
    Ok(Accepted::new(id, json, number))
}
