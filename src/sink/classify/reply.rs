//! What an answer over HTTP means: one pure function over its status, its type and its body.
//!
//! The table of the [`Classifier`] says what the status means. Where that is success, the body has a word in it,
//! since what stands between here and the API likes to say 200 too. Each row is tried in
//! `tests/sink_botanalytics/table.rs`.
//!
//! | status | type and body | outcome |
//! | --- | --- | --- |
//! | 2xx | a JSON object without `errors`, under any type | delivered |
//! | 2xx | the same with `warnings` | delivered; the warnings are logged and kept as the last answer |
//! | 2xx | a JSON object with `errors` or `error` that say something | refused: the batch is split, an event alone becomes a dead letter with these words |
//! | 207 | JSON in which a `status` or `code` is 300 or more | as the classifier has that status; of several the one that blames the events least |
//! | 201, 202, 204, 205 | nothing | delivered |
//! | 200 and other 2xx | nothing | again later |
//! | 2xx | a page of HTML, or nothing under its type | again later |
//! | 2xx | text, JSON that is no object, JSON that ends too early, bytes | again later |
//! | 2xx but 207 | JSON of which the connection brought only a part, without `errors` in it | delivered: the status had come |
//! | 207 | the same, or nothing, or what is no JSON | again later: how each event fared is not known |
//! | 4xx that refuses events | a page of HTML, or nothing under its type | pause for the address |
//! | any other | any | as the classifier says |
//!
//! That is the table of the Botanalytics API. Other receivers differ in these rows, each tried in
//! `tests/sink_botanalytics/presets.rs`:
//!
//! | receiver | status | type and body | outcome |
//! | --- | --- | --- | --- |
//! | webhook | 2xx | a JSON array without `errors` or `error` in its objects | delivered |
//! | webhook | 2xx | a JSON array with them | refused |
//! | webhook | 2xx but 207 | a word that says yes: `ok`, `true`, `accepted`, `success`, `received` | delivered |
//! | OTLP | 2xx | a JSON object whose `partialSuccess` rejects records | refused, or as [`Partial`] says |
//! | OTLP | 2xx | the same with an `errorMessage` alone | delivered, with a warning |
//! | OTLP | 2xx | JSON of which the connection brought only a part | again later |
//! | OTLP | 5xx but 502, 503, 504 | any but HTML | refused |
//! | webhook, OTLP, Loki | 415 | any | pause for the address |
//!
//! A status from 200 to 299 whose rule is [`Rule::DeliverUnread`] is a delivery whatever the body
//! says, and so is another status whose rule was changed to [`Rule::Deliver`], unless a page of
//! HTML comes with it.
//!
//! An answer that was read before all of the request had been written never delivers: again later. It may refuse, since for that it need not have seen everything. A
//! 408 then says that the way is too slow for the batch ([`Verdict::Stalled`]).

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::{Classifier, Partial, Rule};
use crate::outcome::{PauseReason, Verdict};

/// An answer over HTTP, as far as it was read: what [`Classifier::outcome`] decides from.
///
/// What is not said counts as plain: a body that is whole, to a request that was sent whole.
/// Nothing of it is shown but the status and the type.
#[derive(Clone, Copy)]
#[must_use]
pub struct HttpReply<'a> {
    pub(super) status: u16,
    pub(super) content_type: &'a str,
    body: &'a [u8],
    is_complete: bool,
    pub(super) is_after: bool,
    not_before: Option<Duration>,
    pub(super) location: Option<&'a str>,
    pub(super) secret: &'a str,
}

impl<'a> HttpReply<'a> {
    /// An answer with this status and body. 64 KiB of the body are enough; only its beginning is
    /// kept.
    pub fn new(status: u16, body: &'a [u8]) -> Self {
        Self {
            status,
            content_type: "",
            body,
            is_complete: true,
            is_after: true,
            not_before: None,
            location: None,
            secret: "",
        }
    }

    /// The header `Content-Type`.
    pub fn content_type(self, content_type: &'a str) -> Self {
        Self {
            content_type,
            ..self
        }
    }

    /// The header `Retry-After`, as [`retry_after`](super::retry_after) reads it.
    pub fn retry_after(self, wait: Option<Duration>) -> Self {
        Self {
            not_before: wait,
            ..self
        }
    }

    /// The header `Location`: where a redirect that was not followed points.
    pub fn location(self, location: Option<&'a str>) -> Self {
        Self { location, ..self }
    }

    /// Whether the body came to the end that its headers had announced.
    pub fn complete(self, is_complete: bool) -> Self {
        Self {
            is_complete,
            ..self
        }
    }

    /// Whether all of the request had been written before the answer was read. One that comes
    /// earlier cannot have seen every event, so that it never delivers.
    pub fn after_request(self, is_after: bool) -> Self {
        Self { is_after, ..self }
    }

    /// What the request was authorised with: it is struck out wherever the answer repeats it.
    pub fn secret(self, secret: &'a str) -> Self {
        Self { secret, ..self }
    }
}

impl fmt::Debug for HttpReply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpReply")
            .field("status", &self.status)
            .field("content_type", &self.content_type)
            .finish_non_exhaustive()
    }
}

/// What the body of an answer turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// A JSON object that refuses nothing.
    Api,
    /// A JSON object with errors.
    Errors,
    /// Each of several events has a status of its own, and these are none of success.
    Items(Vec<u16>),
    /// A page for people: whatever sent it, it was not the API.
    Html,
    /// Nothing at all.
    Nothing,
    /// A JSON object that says that some events were refused, and not which.
    Partly,
    /// The beginning of a JSON object, or nothing of it; more was to come.
    Part,
    /// Something foreign.
    Other,
}

/// What receivers say that answer with a word.
const YES: [&str; 5] = ["ok", "true", "accepted", "success", "received"];

/// Below this nothing is looked for: no receiver nests so deep.
const DEPTH_MAX: usize = 8;

impl HttpReply<'_> {
    /// The body as text, without what may stand around it.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match String::from_utf8_lossy(self.body) {
            Cow::Borrowed(text) => bare(text).into(),
            Cow::Owned(text) => bare(&text).to_owned().into(),
        }
    }

    /// What the body is; `json` is what was read of it as JSON.
    pub(super) fn kind(&self, json: Option<&Value>) -> Body {
        let text = self.text();
        if let Some(json) = json.filter(|json| json.is_object() || self.is_multi()) {
            let mut items = Vec::new();
            if self.is_multi() {
                collect(json, DEPTH_MAX, &mut items);
                items.sort_unstable();
                items.dedup();
            }
            return match json {
                _ if !items.is_empty() => Body::Items(items),
                Value::Object(fields) if has_errors(fields) => Body::Errors,
                Value::Object(_) | Value::Array(_) => Body::Api,
                _ => Body::Other,
            };
        }
        if text.starts_with('<') || is_type(self.content_type, &HTML) {
            return Body::Html;
        }
        let may_be_json = text.starts_with('{') || is_type(self.content_type, &JSON);
        match text.chars().next() {
            None if self.is_complete => Body::Nothing,
            None | Some('{') if !self.is_complete && may_be_json => Body::Part,
            None => Body::Nothing,
            Some(_) => Body::Other,
        }
    }

    /// Whether it is a single word that says yes. A page that stands in the way says more.
    pub(super) fn is_yes(&self) -> bool {
        let text = self.text();
        let word = text.trim_matches('"').trim_end_matches(['.', '!']);
        YES.iter().any(|yes| word.eq_ignore_ascii_case(yes))
    }

    pub(super) fn is_multi(&self) -> bool {
        self.status == 207
    }

    /// The table.
    pub(super) fn verdict(&self, kind: &Body, classifier: &Classifier) -> Verdict {
        let later = Verdict::Retry {
            not_before: self.not_before,
        };
        let verdict = match classifier.rule(self.status) {
            Rule::Deliver => self.success(kind, classifier, later),
            Rule::Retry if self.status == 408 && !self.is_after => Verdict::Stalled,
            // Nor has the API looked at the events, so a page condemns none of them.
            Rule::Poison if *kind == Body::Html => Verdict::Pause(PauseReason::Address),
            rule => plain(rule, later),
        };
        match verdict {
            // It speaks of a request that its sender cannot have seen.
            Verdict::Delivered if !self.is_after => later,
            verdict => verdict,
        }
    }

    /// What is left of a success once the body has had its word.
    fn success(&self, kind: &Body, classifier: &Classifier, later: Verdict) -> Verdict {
        let is_delivered = match kind {
            Body::Html => false,
            // A person made it a success, errors and all.
            _ if !(200..=299).contains(&self.status) => true,
            Body::Api => true,
            Body::Errors => return Verdict::Poison,
            Body::Partly if classifier.partial == Partial::Search => return Verdict::Poison,
            Body::Partly => true,
            Body::Items(items) => return least(items, classifier, later),
            Body::Nothing => matches!(self.status, 201 | 202 | 204 | 205),
            Body::Part => !self.is_multi() && !self.text().contains("\"error"),
            Body::Other => false,
        };
        if is_delivered {
            Verdict::Delivered
        } else {
            later
        }
    }
}

/// Of what several events met, the one that blames the events least.
fn least(items: &[u16], classifier: &Classifier, later: Verdict) -> Verdict {
    let verdicts = items
        .iter()
        .map(|status| plain(classifier.rule(*status), later));
    let rank = |verdict: &Verdict| match verdict {
        Verdict::Pause(_) => 0,
        Verdict::Retry { .. } | Verdict::Stalled => 1,
        Verdict::Divide => 2,
        Verdict::Poison => 3,
        Verdict::Delivered => 4,
    };
    verdicts.min_by_key(rank).unwrap_or(later)
}

fn plain(rule: Rule, later: Verdict) -> Verdict {
    match rule {
        Rule::Deliver | Rule::DeliverUnread => Verdict::Delivered,
        Rule::Retry => later,
        Rule::Divide => Verdict::Divide,
        Rule::Poison => Verdict::Poison,
        Rule::Pause(reason) => Verdict::Pause(reason),
    }
}

fn bare(text: &str) -> &str {
    text.trim_start_matches('\u{feff}').trim()
}

/// Whether an object says that something was refused.
pub(super) fn has_errors(fields: &serde_json::Map<String, Value>) -> bool {
    ERRORS
        .iter()
        .any(|name| fields.get(*name).is_some_and(says_something))
}

/// How many records an answer of OTLP says were rejected. Protobuf's JSON has the number as a text.
pub(super) fn rejected(json: &Value) -> u64 {
    let number = json.pointer("/partialSuccess/rejectedLogRecords");
    match number {
        Some(Value::String(text)) => text.trim().parse().unwrap_or(u64::MAX),
        Some(Value::Number(number)) => match number.as_i64() {
            Some(number) => u64::try_from(number).unwrap_or(0),
            None => u64::MAX,
        },
        // What is there and no number is no zero.
        Some(value) if says_something(value) => u64::MAX,
        _ => 0,
    }
}

/// The names under which a receiver says what it refused. The API uses the first.
pub(super) const ERRORS: [&str; 2] = ["errors", "error"];

/// Whether there is more in a value than that nothing is wrong.
pub(super) fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// The statuses in an answer to several events that are none of success; an item that names errors
/// without a status counts as refused.
fn collect(value: &Value, depth: usize, items: &mut Vec<u16>) {
    if depth == 0 {
        return;
    }
    match value {
        Value::Array(list) => list
            .iter()
            .for_each(|value| collect(value, depth - 1, items)),
        Value::Object(fields) => {
            let own = ["status", "code"]
                .into_iter()
                .filter_map(|name| status(fields.get(name)?));
            let own = own.filter(|status| *status >= 300).max();
            // 422, since what has no status was refused for what is in it.
            items.extend(own.or_else(|| has_errors(fields).then_some(422)));
            fields
                .values()
                .for_each(|value| collect(value, depth - 1, items));
        }
        _ => {}
    }
}

/// A status as number, or at the head of a text such as `HTTP/1.1 404 Not Found` or `404`.
fn status(value: &Value) -> Option<u16> {
    let number = match value {
        Value::Number(number) => number.as_u64()?,
        Value::String(text) => {
            let mut words = text.split_whitespace();
            words.find_map(|word| word.parse::<u64>().ok())?
        }
        _ => return None,
    };
    u16::try_from(number)
        .ok()
        .filter(|status| (100..=999).contains(status))
}

const HTML: [&str; 2] = ["text/html", "application/xhtml+xml"];
const JSON: [&str; 1] = ["application/json"];

fn is_type(content_type: &str, types: &[&str]) -> bool {
    let mime = content_type.split(';').next().unwrap_or_default().trim();
    types.iter().any(|name| mime.eq_ignore_ascii_case(name))
}
