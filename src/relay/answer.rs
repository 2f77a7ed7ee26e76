//! Answers in the form that the API documents.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use serde::Serialize;

use crate::error::Error;
use crate::id::EventId;

/// What a request is answered with.
pub(super) type Answer = Result<Taken, Refusal>;

/// Says that a request came again and was not taken twice.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// All of the request is in the queue.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Taken {
    /// The id of its first event.
    request_id: EventId,
    /// How many of its messages were taken before.
    #[serde(skip_serializing_if = "is_none")]
    repeated: usize,
    /// Whether it was, as a whole and under its key.
    #[serde(skip)]
    is_again: bool,
}

/// Nothing of the request is in the queue, but where the text says otherwise, and why.
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

impl Taken {
    pub(super) fn new(request_id: EventId) -> Self {
        Self {
            request_id,
            repeated: 0,
            is_again: false,
        }
    }

    /// The whole request, with so many messages, was taken before.
    pub(super) fn again(request_id: EventId, repeated: usize) -> Self {
        Self {
            request_id,
            repeated,
            is_again: true,
        }
    }

    /// Beside messages that were taken before.
    pub(super) fn beside(self, repeated: usize) -> Self {
        Self { repeated, ..self }
    }
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

    /// 422: a key is for one request.
    pub(super) fn other_request() -> Self {
        let text = "Idempotency-Key was used for another request; nothing was taken. Send this one \
                    under a key of its own.";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, text)
    }

    /// 500: how far it came is not known.
    pub(super) fn panicked() -> Self {
        let text = "a part of the relay ended by a panic, which is in its log";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    /// 429: its client asks too often.
    pub(super) fn too_often(wait: Duration) -> Self {
        let seconds = HeaderValue::from(wait.as_secs());
        let error = "This client sends more requests than it may; nothing was taken.";
        Self::new(StatusCode::TOO_MANY_REQUESTS, error).with(RETRY_AFTER, seconds)
    }

    /// 503: there will be another process soon.
    pub(super) fn closing() -> Self {
        Self::later("the relay is closing; nothing was taken")
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
            Error::Storage { .. } | Error::NoThread { .. } => Self::later(error.to_string()),
            Error::Closed => Self::closing(),
            error => Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }
}

impl IntoResponse for Taken {
    fn into_response(self) -> Response {
        let mut response = json(StatusCode::OK, &self);
        if self.is_again {
            let yes = HeaderValue::from_static("true");
            response.headers_mut().insert(REPLAYED, yes);
        }
        response
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "it is what serde calls")]
fn is_none(repeated: &usize) -> bool {
    *repeated == 0
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    // Texts and ids always serialise.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let kind = HeaderValue::from_static("application/json");
    (status, [(CONTENT_TYPE, kind)], body).into_response()
}
