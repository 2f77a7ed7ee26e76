//! What the API promises, as far as it is documented. The only file that knows axum.

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
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::record::Accepted;
use super::reply::Reply;
use super::shared::{RejectRule, Shared};
use super::validate::validate;

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
        let routes = Router::new()
            .route(&format!("{BASE_PATH}/messages"), post(messages))
            .method_not_allowed_fallback(wrong_method)
            .fallback(wrong_path)
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

async fn wrong_path() -> Reply {
    Reply::status(404).errors(["Resource does not exist."])
}

async fn wrong_method() -> Reply {
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
    if !shared.admits(&head) {
        return Reply::status(401);
    }
    match read_batch(&shared, number, &head.headers, &body) {
        Ok(events) => {
            shared.accept(number, events);
            let answer = serde_json::json!({ "request_id": format!("r-{number}") });
            Reply::status(200)
                .header(CONTENT_TYPE.as_str(), "application/json")
                .body(answer.to_string())
        }
        Err(refusal) => refusal,
    }
}

/// The wrapper of a batch. Fields beside the documented ones are accepted.
#[derive(Deserialize)]
struct Messages<'a> {
    #[serde(borrow)]
    messages: Vec<Wrapper<'a>>,
}

#[derive(Deserialize)]
struct Wrapper<'a> {
    #[serde(borrow)]
    message: &'a RawValue,
}

/// How many messages a body holds, if it is a batch at all.
pub(super) fn count_messages(body: &Bytes) -> Option<usize> {
    let batch: Messages<'_> = serde_json::from_slice(body).ok()?;
    Some(batch.messages.len())
}

/// Checks a whole batch before anything of it is taken: one bad message refuses all.
fn read_batch(
    shared: &Shared,
    number: u64,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Vec<Accepted>, Reply> {
    if !is_json(headers) {
        return Err(Reply::status(400));
    }
    let batch: Messages<'_> = serde_json::from_slice(body).map_err(|error| {
        if error.is_data() {
            bad(["messages must be a list of objects with a message each"])
        } else {
            Reply::status(400)
        }
    })?;
    if batch.messages.is_empty() {
        return Err(bad(["messages must not be empty"]));
    }
    if batch.messages.len() > shared.rules.max_events {
        return Err(Reply::status(413).errors([format!(
            "Request has more than {} messages.",
            shared.rules.max_events
        )]));
    }
    let reject = shared.state().reject.clone();
    batch
        .messages
        .iter()
        .map(|wrapper| read_message(shared, reject.as_ref(), number, wrapper.message, body))
        .collect()
}

fn read_message(
    shared: &Shared,
    reject: Option<&RejectRule>,
    number: u64,
    raw: &RawValue,
    body: &Bytes,
) -> Result<Accepted, Reply> {
    // What is well formed can still be a number beyond all bounds, or nested too deeply.
    let message: Value = serde_json::from_str(raw.get()).map_err(|_| Reply::status(400))?;
    validate(&shared.rules.channel, &message).map_err(bad)?;
    if let Some(text) = reject.and_then(|rule| rule(&message)) {
        return Err(bad([text]));
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

fn bad<T: Into<String>>(errors: impl IntoIterator<Item = T>) -> Reply {
    Reply::status(400).errors(errors)
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}
