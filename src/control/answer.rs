//! Answers: JSON, JSON lines, and errors as JSON with the status that fits.

use std::error::Error as _;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, StatusCode, header::HeaderValue};
use serde::Serialize;

use super::wire::ErrorBody;
use crate::error::{AppendError, Error};

/// What an endpoint gives.
pub(crate) type Answer = Result<Response, Refusal>;

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";

/// A request that is not done, and why.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    body: ErrorBody,
}

impl Refusal {
    pub(crate) fn new(
        status: StatusCode,
        kind: &str,
        error: impl Into<String>,
        hint: &str,
    ) -> Self {
        let body = ErrorBody::new(kind, error, hint);
        Self { status, body }
    }

    pub(crate) fn bad_request(error: impl Into<String>) -> Self {
        let hint = "see the documentation of everpost::control for the request";
        Self::new(StatusCode::BAD_REQUEST, "bad_request", error, hint)
    }

    pub(crate) fn busy(error: impl Into<String>) -> Self {
        let hint = "try again when the others are done";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", error, hint)
    }

    /// The same with other words on what to do.
    pub(crate) fn hinting(mut self, hint: &str) -> Self {
        self.body.hint = hint.to_owned();
        self
    }

    /// What it says.
    pub(crate) fn into_body(self) -> ErrorBody {
        self.body
    }

    /// The same with the number of the line it is about.
    pub(crate) fn at_line(mut self, number: usize) -> Self {
        self.body.error = format!("{}. line=`{number}`", self.body.error);
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        // Texts and numbers always serialise.
        let body = serde_json::to_vec(&self.body).unwrap_or_default();
        respond(self.status, JSON, Body::from(body))
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let (status, kind) = sort(&error);
        // What the system said is no content of an event.
        let text = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        Self::new(status, kind, text, error.hint())
    }
}

/// The status and the machine word of each error.
fn sort(error: &Error) -> (StatusCode, &'static str) {
    match error {
        Error::InvalidEvent { .. } => (StatusCode::BAD_REQUEST, "invalid_event"),
        Error::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        Error::Full { .. } => (StatusCode::INSUFFICIENT_STORAGE, "full"),
        Error::Closed => (StatusCode::SERVICE_UNAVAILABLE, "closed"),
        Error::NoSink => (StatusCode::CONFLICT, "no_sink"),
        Error::NoSuchLetter { .. } => (StatusCode::NOT_FOUND, "no_such_letter"),
        Error::Damaged { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "damaged"),
        Error::Storage { .. } | Error::NoThread { .. } => {
            (StatusCode::INTERNAL_SERVER_ERROR, "storage")
        }
        Error::NotOwner { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "not_owner"),
        Error::Panicked { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "panicked"),
        // Most of these only happen while a queue opens.
        Error::InUse { .. }
        | Error::NotASpool { .. }
        | Error::NoSpool { .. }
        | Error::Changing { .. }
        | Error::NotYours { .. }
        | Error::Unsafe { .. }
        | Error::FutureFormat { .. }
        | Error::Settings { .. }
        | Error::Key(_)
        | Error::Sink { .. }
        | Error::Fleet { .. }
        | Error::Control { .. }
        | Error::Internal { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "unexpected"),
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        Error::from(error).into()
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<PathRejection> for Refusal {
    fn from(rejection: PathRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

/// One JSON object.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec(value).map_err(|error| unwritable(&error))?;
    Ok(respond(status, JSON, Body::from(bytes)))
}

/// JSON lines.
pub(crate) fn lines(body: impl Into<Body>) -> Response {
    respond(StatusCode::OK, LINES, body.into())
}

/// Text of this kind.
pub(crate) fn text(kind: &'static str, body: String) -> Response {
    respond(StatusCode::OK, kind, body.into())
}

/// Writes one line.
pub(crate) fn line(value: &impl Serialize) -> Result<Vec<u8>, Refusal> {
    let mut bytes = serde_json::to_vec(value).map_err(|error| unwritable(&error))?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn unwritable(error: &serde_json::Error) -> Refusal {
    let text = format!(
        "failed to write the answer: {}",
        crate::event::json_fault(error)
    );
    let hint = "this is a fault of everpost; report it";
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "unexpected", text, hint)
}

fn respond(status: StatusCode, kind: &'static str, body: Body) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    (status, headers, body).into_response()
}
