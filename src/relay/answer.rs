//! Answers in the form that the API documents.

use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use serde::Serialize;

use crate::error::Error;
use crate::event::EventId;

/// What a request is answered with.
pub(super) type Answer = Result<Taken, Refusal>;

/// All of the request is in the queue.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Taken {
    /// The id of its first event.
    pub(super) request_id: EventId,
}

/// Nothing of the request is in the queue, and why.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    header: Option<(HeaderName, HeaderValue)>,
    errors: Vec<String>,
}

/// The documented body of an answer that refuses.
#[derive(Serialize)]
struct Errors<'a> {
    errors: &'a [String],
}

impl Refusal {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self {
            status,
            header: None,
            errors: vec![error.into()],
        }
    }

    /// 400 with these texts.
    pub(super) fn bad(errors: Vec<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            header: None,
            errors,
        }
    }

    /// 401; nothing that is said here has any part of a key.
    pub(super) fn unauthorized(error: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, error)
    }

    pub(super) fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Resource does not exist.")
    }

    pub(super) fn no_such_method() -> Self {
        let refusal = Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method is not allowed.");
        refusal.with(ALLOW, HeaderValue::from_static("POST"))
    }

    /// 503: the same request may be taken a little later.
    pub(super) fn later(error: impl Into<String>) -> Self {
        let seconds = HeaderValue::from(super::RETRY_AFTER.as_secs());
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error).with(RETRY_AFTER, seconds)
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }
}

impl From<Error> for Refusal {
    /// The texts name files and sizes, and nothing of an event. A client that is on this machine, or
    /// was let in by its operator, may know them.
    fn from(error: Error) -> Self {
        match error {
            Error::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            Error::InvalidEvent { .. } => Self::bad(vec![error.to_string()]),
            Error::Full { .. } => Self::later(format!("{error}; nothing was taken")),
            Error::Storage { .. } => Self::later(error.to_string()),
            Error::Closed => Self::later("the relay is closing; nothing was taken"),
            error => Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }
}

impl IntoResponse for Taken {
    fn into_response(self) -> Response {
        json(StatusCode::OK, &self)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let errors = &self.errors;
        let mut response = json(self.status, &Errors { errors });
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    // Texts and ids always serialise.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let kind = HeaderValue::from_static("application/json");
    (status, [(CONTENT_TYPE, kind)], body).into_response()
}
