//! What an answer said, made fit to be kept: pure, and trusting nothing of it.

use serde_json::Value;

use super::Table;
use super::reply::{Body, ERRORS, HttpReply, says_something};
use crate::outcome::{Answer, PauseReason, Verdict};

/// Characters of one text that are kept.
const TEXT_CHARS_MAX: usize = 500;
/// Texts of one list that are kept.
const TEXTS_MAX: usize = 20;

/// What is said of a page for people where the status alone would condemn an event.
const NOT_THE_API: &str = "HTML instead of JSON: something in the way, or a wrong address";

/// What is said of an answer that was there too early.
const TOO_EARLY: &str = "answered before the whole request was sent";

/// What the body of an answer is, to receivers of which kind.
pub(super) struct Said<'a> {
    pub(super) body: &'a Body,
    pub(super) json: Option<&'a Value>,
    pub(super) table: Table,
}

impl Said<'_> {
    /// Whether only the Botanalytics API can be meant.
    fn is_of_one_api(&self) -> bool {
        matches!(self.table, Table::Considerate | Table::Strict)
    }
}

/// What is kept of an answer. Its secret is struck out wherever it appears.
pub(super) fn answer(reply: &HttpReply<'_>, said: &Said<'_>, verdict: Verdict) -> Answer {
    let mut answer = Answer::from_status(reply.status);
    if let Some(Value::Object(fields)) = said.json {
        let list = |name| fields.get(name).map(|value| texts(value, reply.secret));
        answer.request_id = list("request_id").and_then(|ids| ids.into_iter().next());
        answer.errors = errors([fields], reply.secret);
        answer.warnings = list("warnings").unwrap_or_default();
        if said.table == Table::Otlp {
            partly(reply, said, &mut answer);
        }
        // Of the status of gRPC, and of most else that speaks JSON.
        let is_success = (200..=299).contains(&reply.status);
        if !is_success && answer.errors.is_empty() && !said.is_of_one_api() {
            answer.errors = list("message").unwrap_or_default();
        }
    }
    if let (Some(Value::Array(list)), Body::Errors) = (said.json, said.body) {
        answer.errors = errors(list.iter().filter_map(Value::as_object), reply.secret);
    }
    answer.detail = match (reply.status, reply.location) {
        (300..=399, Some(location)) => Some(not_followed(location, reply.secret)),
        _ => detail(reply, said, verdict),
    };
    answer
}

/// What these objects say was refused.
fn errors<'a>(
    objects: impl IntoIterator<Item = &'a serde_json::Map<String, Value>>,
    secret: &str,
) -> Vec<String> {
    let said = objects
        .into_iter()
        .flat_map(|fields| ERRORS.into_iter().filter_map(|name| fields.get(name)));
    let said = said.filter(|value| says_something(value));
    let texts = said.flat_map(|value| texts(value, secret));
    texts.take(TEXTS_MAX).collect()
}

/// What OTLP says beside a success: words about records that were rejected, else a warning.
fn partly(reply: &HttpReply<'_>, said: &Said<'_>, answer: &mut Answer) {
    let of = |name: &str| said.json?.pointer(&format!("/partialSuccess/{name}"));
    let message = of("errorMessage").filter(|message| says_something(message));
    let words = message.map(|message| texts(message, reply.secret));
    let words = words.unwrap_or_default();
    if *said.body == Body::Partly {
        let number = of("rejectedLogRecords").map(|number| texts(number, reply.secret));
        let number = number.unwrap_or_default().join(" ");
        let told = format!("the receiver rejected some of the records. rejected=`{number}`");
        // Where they count as delivered, this is all that tells of them.
        answer.warnings.insert(0, told);
        answer.errors.extend(words);
    } else {
        answer.warnings.extend(words);
    }
    answer.warnings.truncate(TEXTS_MAX);
    answer.errors.truncate(TEXTS_MAX);
}

/// What there is to say about an answer that does not speak for itself.
fn detail(reply: &HttpReply<'_>, kind: &Said<'_>, verdict: Verdict) -> Option<String> {
    let is_success = (200..=299).contains(&reply.status) && verdict != Verdict::Delivered;
    let (text, secret) = (reply.text(), reply.secret);
    let foreign = if kind.is_of_one_api() {
        "not JSON: "
    } else {
        ""
    };
    let said = match kind.body {
        Body::Html if verdict == Verdict::Pause(PauseReason::Address) => NOT_THE_API.to_owned(),
        Body::Html => "HTML instead of JSON, a captive portal or a proxy?".to_owned(),
        Body::Other | Body::Part | Body::Nothing if is_success && text.is_empty() => {
            if kind.is_of_one_api() {
                "an empty answer, which is not the API's; everything is kept".to_owned()
            } else {
                format!(
                    "an empty answer, everything is kept; to count it as yes, set the rule of {} to \
                     `deliver_unread`",
                    reply.status
                )
            }
        }
        Body::Other | Body::Part if is_success && kind.is_of_one_api() => {
            format!(
                "not the API's answer, everything is kept: {}",
                clean(&text, secret)
            )
        }
        Body::Other | Body::Part if is_success => {
            format!(
                "neither yes nor no, everything is kept; to count it as yes, set the rule of {} to \
                 `deliver_unread`: {}",
                reply.status,
                clean(&text, secret)
            )
        }
        Body::Items(items) => format!("not all was taken; statuses: {}", some(items)),
        _ if is_success && !reply.is_after => TOO_EARLY.to_owned(),
        Body::Other | Body::Part if !text.is_empty() => {
            format!("{foreign}{}", clean(&text, secret))
        }
        _ => return None,
    };
    Some(said)
}

/// Where a redirect points, without what may be secret in it.
fn not_followed(location: &str, secret: &str) -> String {
    let bare = location.split(['?', '#']).next().unwrap_or_default();
    let bare = match bare.rsplit_once('@') {
        Some((_, host)) => host,
        None => bare,
    };
    format!("redirect not followed. location=`{}`", clean(bare, secret))
}

/// The first of these statuses, of which there may be hundreds.
fn some(statuses: &[u16]) -> String {
    let shown = statuses.iter().take(10).map(u16::to_string);
    shown.collect::<Vec<_>>().join(", ")
}

/// A list of texts as documented; one text alone and other shapes are taken as they are.
fn texts(value: &Value, key: &str) -> Vec<String> {
    let one = |value: &Value| match value {
        Value::String(text) => clean(text, key),
        other => clean(&other.to_string(), key),
    };
    match value {
        Value::Null => Vec::new(),
        Value::Array(list) => list.iter().take(TEXTS_MAX).map(one).collect(),
        value => vec![one(value)],
    }
}

/// A foreign text made fit for a log line: the key struck out, control characters turned into
/// blanks, cut to a bounded length.
pub(in crate::sink) fn clean(text: &str, key: &str) -> String {
    // The key goes first, so that no cut can leave a part of it.
    let text = if key.is_empty() {
        text.to_owned()
    } else {
        text.replace(key, "[key]")
    };
    text.chars()
        .map(|c| if is_printable(c) { c } else { ' ' })
        .take(TEXT_CHARS_MAX)
        .collect::<String>()
        .trim()
        .to_owned()
}

/// Control characters and those that turn the direction of writing can forge what a log shows.
fn is_printable(c: char) -> bool {
    let turns = matches!(
        c,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    !c.is_control() && !turns
}

#[cfg(test)]
mod tests {
    use super::super::Classifier;
    use super::*;

    const JSON: &str = "application/json";

    fn read(status: u16, content_type: &str, body: &[u8], key: &str) -> (Body, Answer) {
        let reply = HttpReply::new(status, body)
            .content_type(content_type)
            .secret(key);
        let json = serde_json::from_str::<Value>(&reply.text()).ok();
        let answer = Classifier::default().outcome(&reply).answer;
        (reply.kind(json.as_ref()), answer)
    }

    #[test]
    fn the_documented_answer_is_read() {
        let body = br#"{"request_id":"r-1","warnings":["late","odd"],"errors":["bad"]}"#;
        let (kind, answer) = read(201, JSON, body, "k");
        assert_eq!(kind, Body::Errors);
        assert_eq!(answer.status, Some(201));
        assert_eq!(answer.request_id.as_deref(), Some("r-1"));
        assert_eq!(answer.warnings, ["late", "odd"]);
        assert_eq!(answer.errors, ["bad"]);
        assert_eq!(answer.detail, None);
    }

    #[test]
    fn other_shapes_are_tolerated() {
        let cases: [(&str, &[&str]); 6] = [
            (r#"{"errors":"one"}"#, &["one"]),
            (r#"{"errors":[1,{"a":"b"}]}"#, &["1", r#"{"a":"b"}"#]),
            (r#"{"errors":{"a":"b"}}"#, &[r#"{"a":"b"}"#]),
            (r#"{"errors":null}"#, &[]),
            (r#"{}"#, &[]),
            (r#"{"errors":[]}"#, &[]),
        ];
        for (body, expected) in cases {
            let (kind, answer) = read(400, JSON, body.as_bytes(), "k");
            let has_errors = !expected.is_empty();
            assert_eq!(kind == Body::Errors, has_errors, "{body}");
            assert_eq!(answer.errors, expected, "{body}");
        }
        let (_, answer) = read(200, JSON, br#"{"request_id":7}"#, "k");
        assert_eq!(answer.request_id.as_deref(), Some("7"));
    }

    #[test]
    fn html_is_known_by_its_type_or_its_first_character() {
        let page = b"\xef\xbb\xbf\n <!doctype html><p>Log in".as_slice();
        for (content_type, body, expected) in [
            (JSON, page, Body::Html),
            ("", page, Body::Html),
            ("Text/HTML; charset=utf-8", b"Log in".as_slice(), Body::Html),
            ("text/html", b"".as_slice(), Body::Html),
            ("application/xhtml+xml", b"".as_slice(), Body::Html),
            // A server that names the type wrongly is still the API.
            (
                "text/html",
                br#"{"request_id":"r-1"}"#.as_slice(),
                Body::Api,
            ),
            (JSON, b"".as_slice(), Body::Nothing),
            (JSON, br#"{"request_i"#.as_slice(), Body::Other),
            (JSON, b"\xff\xfe\x00".as_slice(), Body::Other),
            (JSON, b"[]".as_slice(), Body::Other),
        ] {
            let (kind, _) = read(200, content_type, body, "k");
            assert_eq!(kind, expected, "{content_type} {body:?}");
        }
    }

    #[test]
    fn texts_are_cut_cleaned_and_counted() {
        let long = "x".repeat(5_000);
        let many = vec![format!("a\u{1b}[31m\r\nb\u{202e}{long}"); 50];
        let body = serde_json::to_vec(&serde_json::json!({ "errors": many })).unwrap();
        let (_, answer) = read(400, JSON, &body, "k");
        assert_eq!(answer.errors.len(), 20);
        for text in answer.errors {
            assert!(text.chars().count() <= 500, "{}", text.len());
            assert!(text.starts_with("a [31m  b x"), "{text}");
        }
    }

    #[test]
    fn the_key_is_struck_out_even_where_a_text_is_cut() {
        let key = "aaaa.bbbb.cccc";
        let text = format!("{}Bearer {key}", "x".repeat(485));
        let body = serde_json::to_vec(&serde_json::json!({
            "request_id": key, "errors": [text], "warnings": [{ key: 1 }]
        }))
        .unwrap();
        let (_, answer) = read(400, JSON, &body, key);
        assert!(!format!("{answer:?}").contains("aaaa"), "{answer:?}");
        let (_, answer) = read(400, "text/plain", format!("got {key}").as_bytes(), key);
        assert_eq!(answer.detail.as_deref(), Some("not JSON: got [key]"));
    }

    #[test]
    fn a_location_loses_what_may_be_secret() {
        let shown = not_followed("https://me:pw@portal.example/login?token=s#x", "key");
        assert_eq!(
            shown,
            "redirect not followed. location=`portal.example/login`"
        );
        let shown = not_followed("https://x/a.b.c", "a.b.c");
        assert_eq!(shown, "redirect not followed. location=`https://x/[key]`");
    }
}
