//! An HTTP answer that a fault gives instead of the sandbox's own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An HTTP answer: status, headers, body.
///
/// Without a body of its own it has the one the API documents for the status: `errors` with one
/// text, or `request_id` for a status from 200 to 299.
///
/// ```
/// use std::time::Duration;
/// use everpost::sandbox::{Fault, Reply};
///
/// let busy = Fault::from(
///     Reply::status(429)
///         .retry_after(Duration::from_secs(2))
///         .errors(["Slow down."]),
/// );
/// assert_eq!(busy.to_string(), r#"429 retry-after=2 error="Slow down.""#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    content: ReplyContent,
}

/// What the body is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ReplyContent {
    /// What the API documents for the status.
    Documented,
    /// `{"errors":[...]}`.
    Errors(Vec<String>),
    /// Exactly this.
    Text(String),
}

impl Reply {
    /// An answer with this status and the documented body.
    ///
    /// A status that HTTP cannot carry as a final answer (below 200 or above 999) is sent as a 500
    /// whose error text says so.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            content: ReplyContent::Documented,
        }
    }

    /// What a hotel's network answers to every request before its guest has logged in: status
    /// 200, and a page of HTML. Nothing was taken, though the status is the one of success.
    #[must_use]
    pub fn captive_portal() -> Self {
        Self::status(200)
            .header("content-type", "text/html; charset=utf-8")
            .body("<!doctype html><title>Welcome</title><p>Log in to use this network.")
    }

    /// A redirect: a `Location` header and an empty body. A client that follows it hands its key
    /// to the server that is there.
    #[must_use]
    pub fn redirect(status: u16, location: impl Into<String>) -> Self {
        Self::status(status).header("location", location).body("")
    }

    /// With `Retry-After` in seconds; a part of a second counts as a whole one.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.header("retry-after", seconds.to_string())
    }

    /// With `Retry-After` as a date. HTTP dates have whole seconds and lie between the years 1970
    /// and 9999; other times are moved to the nearest of them.
    #[must_use]
    pub fn retry_after_date(self, time: SystemTime) -> Self {
        /// The last second of the year 9999.
        const LAST: Duration = Duration::from_secs(253_402_300_799);
        let time = time.clamp(UNIX_EPOCH, UNIX_EPOCH + LAST);
        self.header("retry-after", httpdate::fmt_http_date(time))
    }

    /// With one more header, as given: also for a `Retry-After` that is neither seconds nor a
    /// date. Names are lower-cased. A header that HTTP cannot carry turns the answer into a 500
    /// whose error text says so.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into().to_ascii_lowercase();
        self.headers.push((name, value.into()));
        self
    }

    /// With the documented JSON body and these error texts in it.
    #[must_use]
    pub fn errors<T: Into<String>>(mut self, errors: impl IntoIterator<Item = T>) -> Self {
        self.content = ReplyContent::Errors(errors.into_iter().map(Into::into).collect());
        self
    }

    /// With exactly this body. It goes out as `text/plain` unless a `content-type` header says
    /// otherwise.
    #[must_use]
    pub fn body(mut self, body: impl Into<String>) -> Self {
        self.content = ReplyContent::Text(body.into());
        self
    }

    /// The status as a number.
    pub(super) fn code(&self) -> u16 {
        self.status
    }

    pub(super) fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    pub(super) fn content(&self) -> &ReplyContent {
        &self.content
    }

    /// The body as it goes out, and its content type.
    pub(super) fn written_body(&self) -> (&'static str, String) {
        const JSON: &str = "application/json";
        let errors = |texts: &[String]| serde_json::json!({ "errors": texts }).to_string();
        match &self.content {
            ReplyContent::Text(text) => ("text/plain; charset=utf-8", text.clone()),
            ReplyContent::Errors(texts) => (JSON, errors(texts)),
            ReplyContent::Documented if (200..300).contains(&self.status) => {
                (JSON, r#"{"request_id":"r-0"}"#.to_owned())
            }
            ReplyContent::Documented => (JSON, errors(&[documented_text(self.status)])),
        }
    }
}

/// The sample texts of the documentation where it has one, and the name of the status elsewhere.
fn documented_text(status: u16) -> String {
    match status {
        400 => "Request payloads must be in JSON format.".to_owned(),
        401 => "Request is missing a valid Authorization header.".to_owned(),
        500 => "Failed to process the request.".to_owned(),
        _ => hyper::StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .map_or_else(|| format!("Status {status}."), |name| format!("{name}.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_the_documented_ones_unless_given() {
        for (reply, body) in [
            (Reply::status(201), r#"{"request_id":"r-0"}"#),
            (
                Reply::status(500),
                r#"{"errors":["Failed to process the request."]}"#,
            ),
            (Reply::status(503), r#"{"errors":["Service Unavailable."]}"#),
            (Reply::status(599), r#"{"errors":["Status 599."]}"#),
            (
                Reply::status(400).errors(["a", "\""]),
                r#"{"errors":["a","\""]}"#,
            ),
            (Reply::status(500).body("oops"), "oops"),
            (Reply::redirect(302, "/"), ""),
        ] {
            assert_eq!(reply.written_body().1, body, "{reply:?}");
        }
    }

    #[test]
    fn retry_after_is_whole_seconds_or_a_date_that_exists() {
        let header = |reply: Reply| reply.headers()[0].1.clone();
        let reply = || Reply::status(503);
        assert_eq!(
            header(reply().retry_after(Duration::from_millis(1001))),
            "2"
        );
        assert_eq!(
            header(reply().retry_after_date(UNIX_EPOCH)),
            "Thu, 01 Jan 1970 00:00:00 GMT"
        );
        let far = UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert_eq!(
            header(reply().retry_after_date(far)),
            "Fri, 31 Dec 9999 23:59:59 GMT"
        );
    }
}
