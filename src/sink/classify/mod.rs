//! What an answer over HTTP means: a pure table of statuses that users can change, and the one
//! function that decides from status, body and `Retry-After` what becomes of a batch.
//!
//! The table follows one thought: what is the event's fault sets the event aside, what is the
//! receiver's or the network's is tried again, and what is the token's or the address's waits for
//! a person with everything kept.

mod reply;
mod text;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::outcome::{Outcome, PauseReason};

use self::reply::Body;
pub use self::reply::HttpReply;
pub(in crate::sink) use self::text::clean;

/// What one status means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The receiver has taken every event, if the body of the answer bears that out: see
    /// [`botanalytics`](super::botanalytics).
    Deliver,
    /// The receiver has taken every event, whatever the body of the answer is: for receivers that
    /// answer with a bare 200, or with a text of their own.
    DeliverUnread,
    /// Send the same batch again later.
    Retry,
    /// The request was too large: send less at once.
    Divide,
    /// An event in it is refused: find it and set it aside.
    Poison,
    /// The fault lies with the token or the address: keep everything, wait.
    Pause(PauseReason),
}

/// What each status means for a batch.
///
/// A plain value: clone it, compare it, keep it among the settings, change single statuses. The
/// default is this table.
///
/// | status | rule |
/// | --- | --- |
/// | 2xx | [`Deliver`](Rule::Deliver) |
/// | 5xx, 408, 421, 423, 425, 429 | [`Retry`](Rule::Retry) |
/// | 413, 414, 431 | [`Divide`](Rule::Divide) |
/// | 401, 402, 403 | [`Pause`](Rule::Pause) for [`PauseReason::Credentials`] |
/// | 3xx, 404, 405, 407, 410, 426, 451 | [`Pause`](Rule::Pause) for [`PauseReason::Address`] |
/// | every other 4xx, 400, 409 and 422 among them | [`Poison`](Rule::Poison) |
/// | anything else | [`Retry`](Rule::Retry), since it says nothing about the events |
///
/// ```
/// use everpost::classify::{Classifier, Rule};
///
/// // A receiver that answers 409 to an event it already has, and otherwise 200 with an empty body.
/// let classifier = Classifier::default()
///     .with(409, Rule::Deliver)
///     .with(200, Rule::DeliverUnread);
/// assert_eq!(classifier.rule(409), Rule::Deliver);
/// assert_eq!(classifier.rule(503), Rule::Retry);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Classifier {
    table: Table,
    overrides: BTreeMap<u16, Rule>,
    #[serde(skip_serializing_if = "Partial::is_search")]
    partial: Partial,
}

/// The rules that hold where nothing is overridden.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Table {
    /// The Botanalytics API.
    #[default]
    Considerate,
    Strict,
    Webhook,
    Otlp,
    Loki,
}

/// What is done where a receiver says that it took a part of a request, and not which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Partial {
    /// The refused events are looked for, as where all are refused: each ends as a dead letter. The
    /// ones that were taken are sent again on the way to them, so the receiver has those more than
    /// once.
    #[default]
    Search,
    /// All count as delivered. What the receiver said is logged as a warning, and is the last answer
    /// of the status; the refused events are gone.
    Deliver,
}

impl Partial {
    fn is_search(&self) -> bool {
        *self == Self::Search
    }
}

impl Table {
    /// What a body is to receivers of this kind.
    fn body(self, reply: &HttpReply<'_>, json: Option<&Value>) -> Body {
        let body = reply.kind(json);
        match (self, &body, json) {
            (Self::Otlp, Body::Api, Some(json)) if reply::rejected(json) > 0 => Body::Partly,
            // How much was rejected may have been about to come.
            (Self::Otlp, Body::Part, _) => Body::Other,
            (Self::Webhook, Body::Other, Some(Value::Array(list))) => {
                let mut objects = list.iter().filter_map(Value::as_object);
                if objects.any(reply::has_errors) {
                    Body::Errors
                } else {
                    Body::Api
                }
            }
            (Self::Webhook, Body::Other, _) if reply.is_yes() && !reply.is_multi() => Body::Api,
            _ => body,
        }
    }
}

impl Classifier {
    /// The literal rule: every 4xx is poison, 401, 404 and 413 included, and every 5xx is tried
    /// again. A 3xx pauses, since it is neither.
    ///
    /// A wrong token or a wrong address then empties the queue into the dead letters, until the
    /// breaker of the flusher stops it.
    #[must_use]
    pub fn strict() -> Self {
        Self::of(Table::Strict)
    }

    /// Any receiver of JSON, CloudEvents among them. As the default table, but:
    ///
    /// - a JSON array without `errors` in its objects is a delivery as well, and so is a text that is
    ///   one of `ok`, `true`, `accepted`, `success`, `received`, quoted or not;
    /// - 415 pauses for [`PauseReason::Address`]: the form or the compression is wrong, which no
    ///   event is to blame for.
    ///
    /// A 200 with nothing is no delivery, since a server that does nothing answers so. If that is how
    /// this receiver says yes: `.with(200, Rule::DeliverUnread)`.
    #[must_use]
    pub fn webhook() -> Self {
        Self::of(Table::Webhook)
    }

    /// A receiver of OTLP/HTTP
    /// (<https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>). As the default table, but:
    ///
    /// - a 2xx with a JSON object is a delivery unless its `partialSuccess` has `rejectedLogRecords`
    ///   above 0: then what [`Partial`] says;
    /// - 429, 502, 503 and 504 are tried again; every other 5xx must not be, so the refused event is
    ///   looked for and set aside;
    /// - 415 pauses for [`PauseReason::Address`].
    #[must_use]
    pub fn otlp() -> Self {
        Self::of(Table::Otlp)
    }

    /// Loki. As the default table, but 415 pauses for [`PauseReason::Address`]. It says yes with a
    /// bare 204, and takes the good lines of a request that it answers with 400; those it knows when
    /// they come again, by their time and text.
    #[must_use]
    pub fn loki() -> Self {
        Self::of(Table::Loki)
    }

    fn of(table: Table) -> Self {
        Self {
            table,
            ..Self::default()
        }
    }

    /// The same where a receiver took a part of a request.
    #[must_use]
    pub fn with_partial(self, partial: Partial) -> Self {
        Self { partial, ..self }
    }

    /// The same table with another rule for one status. Statuses outside 100 to 999 never come.
    #[must_use]
    pub fn with(mut self, status: u16, rule: Rule) -> Self {
        self.overrides.remove(&status);
        if self.rule(status) != rule {
            self.overrides.insert(status, rule);
        }
        self
    }

    /// What an answer over HTTP means for the batch, and what it said: the one place where that
    /// is decided. Pure; every sink over HTTP can use it.
    ///
    /// A success needs a body that bears it out: a JSON object that names no errors, or nothing
    /// under 201, 202, 204 or 205. `errors` beside it refuse the batch, and under 207 so does the
    /// status of a single event. HTML and other texts are not the receiver's: everything is kept,
    /// and tried again. For receivers that answer with a bare 200, or a text of their own, there is
    /// [`Rule::DeliverUnread`].
    ///
    /// ```
    /// use everpost::classify::{Classifier, HttpReply, Rule};
    /// use everpost::{Outcome, Verdict};
    ///
    /// let classifier = Classifier::default();
    /// let outcome = classifier.outcome(&HttpReply::new(200, br#"{"id":7}"#));
    /// assert_eq!(outcome.verdict, Verdict::Delivered);
    /// let outcome = classifier.outcome(&HttpReply::new(200, br#"{"errors":["no text"]}"#));
    /// assert_eq!(outcome.verdict, Verdict::Poison);
    /// assert_eq!(outcome.answer.errors, ["no text"]);
    ///
    /// let bare = classifier.with(200, Rule::DeliverUnread);
    /// assert_eq!(bare.outcome(&HttpReply::new(200, b"OK")).verdict, Verdict::Delivered);
    /// ```
    #[must_use]
    pub fn outcome(&self, reply: &HttpReply<'_>) -> Outcome {
        let json = serde_json::from_str::<Value>(&reply.text()).ok();
        let body = self.table.body(reply, json.as_ref());
        let verdict = reply.verdict(&body, self);
        let said = text::Said {
            body: &body,
            json: json.as_ref(),
            table: self.table,
        };
        Outcome::new(verdict, text::answer(reply, &said, verdict))
    }

    /// What this status means.
    #[must_use]
    pub fn rule(&self, status: u16) -> Rule {
        match (self.overrides.get(&status), self.table) {
            (Some(rule), _) => *rule,
            (None, Table::Considerate) => considerate(status),
            (None, Table::Strict) => strict(status),
            (None, Table::Webhook | Table::Loki) => webhook(status),
            (None, Table::Otlp) => otlp(status),
        }
    }
}

fn considerate(status: u16) -> Rule {
    match status {
        200..=299 => Rule::Deliver,
        408 | 421 | 423 | 425 | 429 => Rule::Retry,
        413 | 414 | 431 => Rule::Divide,
        401..=403 => Rule::Pause(PauseReason::Credentials),
        // 407 comes from a proxy on the way, so the way is wrong and not the key.
        300..=399 | 404 | 405 | 407 | 410 | 426 | 451 => Rule::Pause(PauseReason::Address),
        400..=499 => Rule::Poison,
        _ => Rule::Retry,
    }
}

fn webhook(status: u16) -> Rule {
    match status {
        // What is sent how is a setting; no event can help it.
        415 => Rule::Pause(PauseReason::Address),
        _ => considerate(status),
    }
}

fn otlp(status: u16) -> Rule {
    match status {
        429 | 502..=504 => Rule::Retry,
        500..=599 => Rule::Poison,
        _ => webhook(status),
    }
}

fn strict(status: u16) -> Rule {
    match status {
        200..=299 => Rule::Deliver,
        300..=399 => Rule::Pause(PauseReason::Address),
        400..=499 => Rule::Poison,
        _ => Rule::Retry,
    }
}

/// How long a `Retry-After` header asks to wait, counted from `now`.
///
/// Whole seconds or an HTTP date. A date in the past is no wait at all; more seconds than a
/// `u64` holds count as `u64::MAX`; anything else is `None`. The flusher clamps what comes out.
#[must_use]
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const CREDENTIALS: Rule = Rule::Pause(PauseReason::Credentials);
    const ADDRESS: Rule = Rule::Pause(PauseReason::Address);

    #[test]
    fn every_status_has_the_documented_rule() {
        let classifier = Classifier::default();
        for status in 100..=999 {
            let expected = match status {
                200..=299 => Rule::Deliver,
                300..=399 => ADDRESS,
                401..=403 => CREDENTIALS,
                404 | 405 | 407 | 410 | 426 | 451 => ADDRESS,
                408 | 421 | 423 | 425 | 429 => Rule::Retry,
                413 | 414 | 431 => Rule::Divide,
                400 | 406 | 409 | 411 | 412 | 415..=420 | 422 | 424 | 427 | 428 | 430 => {
                    Rule::Poison
                }
                432..=450 | 452..=499 => Rule::Poison,
                _ => Rule::Retry,
            };
            assert_eq!(classifier.rule(status), expected, "status {status}");
        }
    }

    #[test]
    fn the_strict_table_takes_classes_literally() {
        let classifier = Classifier::strict();
        for status in 100..=999 {
            let expected = match status / 100 {
                2 => Rule::Deliver,
                3 => ADDRESS,
                4 => Rule::Poison,
                _ => Rule::Retry,
            };
            assert_eq!(classifier.rule(status), expected, "status {status}");
        }
    }

    #[test]
    fn an_override_changes_its_status_alone_and_can_be_taken_back() {
        let changed = Classifier::default().with(404, Rule::Poison);
        assert_eq!(changed.rule(404), Rule::Poison);
        for status in (100..=999).filter(|s| *s != 404) {
            assert_eq!(changed.rule(status), Classifier::default().rule(status));
        }
        assert_ne!(changed, Classifier::default());
        assert_eq!(changed.with(404, ADDRESS), Classifier::default());
    }

    #[test]
    fn a_classifier_round_trips_as_data() {
        let classifier = Classifier::strict()
            .with(401, CREDENTIALS)
            .with(409, Rule::Deliver);
        let text = serde_json::to_string(&classifier).unwrap();
        assert_eq!(
            text,
            r#"{"table":"strict","overrides":{"401":{"pause":"credentials"},"409":"deliver"}}"#
        );
        assert_eq!(
            serde_json::from_str::<Classifier>(&text).unwrap(),
            classifier
        );
        assert_eq!(
            serde_json::from_str::<Classifier>("{}").unwrap(),
            Classifier::default()
        );
    }

    #[test]
    fn retry_after_reads_seconds_and_dates() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let cases = [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("99999999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:40 GMT", Some(3)),
            ("Sunday, 06-Nov-94 08:49:40 GMT", Some(3)),
            ("Sun Nov  6 08:49:40 1994", Some(3)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(252_618_189_022)),
            ("", None),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("Sun, 99 Nov 1994 08:49:40 GMT", None),
        ];
        for (value, seconds) in cases {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(retry_after(value, now), expected, "{value:?}");
        }
    }
}
