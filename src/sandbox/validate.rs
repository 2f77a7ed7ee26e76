//! Whether one message is what its channel documents. Pure: a value in, the faults out.
//!
//! What the documentation does not list is accepted: unknown fields anywhere, and empty lists.
//! A field that is there must have its documented type; `null` is not a way to leave it out. The
//! texts name the field and never repeat a value, for values are personal data.

use std::fmt;

use serde_json::Value;

use super::schema::{ENVELOPE, Field, INNER, Kind, Need, Shape};

/// The channel whose messages are documented field by field.
const UNIVERSAL: &str = "universal";

/// Checks one message: field by field for the channel `universal`, and only for being an object
/// for any other.
///
/// # Errors
/// One text for each fault.
pub(super) fn validate(channel: &str, message: &Value) -> Result<(), Vec<String>> {
    let root = Place::Root("message");
    let mut faults = Vec::new();
    if !message.is_object() {
        faults.push(format!("{root} must be an object"));
    } else if channel == UNIVERSAL {
        universal(message, &root, &mut faults);
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}

/// The documentation contradicts itself: its schema nests the inner message under `message`, its
/// example does not. Both are accepted; a field `message` says which one it is.
fn universal(message: &Value, root: &Place<'_>, faults: &mut Vec<String>) {
    check_shape(&ENVELOPE, message, root, faults);
    match message.get("message") {
        Some(inner) => check_shape(&INNER, inner, &Place::Field(root, "message"), faults),
        None => check_shape(&INNER, message, root, faults),
    }
}

fn check_shape(shape: &Shape, value: &Value, place: &Place<'_>, faults: &mut Vec<String>) {
    let Some(object) = value.as_object() else {
        faults.push(format!("{place} must be an object"));
        return;
    };
    for field in shape.fields {
        let here = Place::Field(place, field.name);
        match object.get(field.name) {
            Some(value) => check_kind(&field.kind, value, &here, faults),
            None if field.required => faults.push(format!("{here} is required")),
            None => {}
        }
    }
    match shape.need {
        Need::Nothing => {}
        Need::AnyOf(names) => {
            if !names.iter().any(|name| object.contains_key(*name)) {
                faults.push(format!("{place} must have one of: {}", names.join(", ")));
            }
        }
        Need::ExactlyOne => {
            let there = |field: &&Field| object.contains_key(field.name);
            if shape.fields.iter().filter(there).count() != 1 {
                let names: Vec<&str> = shape.fields.iter().map(|field| field.name).collect();
                faults.push(format!(
                    "{place} must have exactly one of: {}",
                    names.join(", ")
                ));
            }
        }
    }
}

fn check_kind(kind: &Kind, value: &Value, place: &Place<'_>, faults: &mut Vec<String>) {
    let wanted = match kind {
        Kind::Object(shape) => return check_shape(shape, value, place, faults),
        Kind::List(shape) => return check_list(shape, value, place, faults),
        Kind::Choice(choices) => {
            if !value.as_str().is_some_and(|text| choices.contains(&text)) {
                faults.push(format!("{place} must be one of: {}", choices.join(", ")));
            }
            return;
        }
        Kind::Text if !value.is_string() => "a string",
        Kind::Integer if !is_integer(value) => "an integer",
        Kind::Number if !value.is_number() => "a number",
        Kind::Time if !value.as_f64().is_some_and(|time| time >= 0.0) => {
            "a number of milliseconds that is not negative"
        }
        Kind::Flag if !value.is_boolean() => "true or false",
        Kind::Text | Kind::Integer | Kind::Number | Kind::Time | Kind::Flag => return,
    };
    faults.push(format!("{place} must be {wanted}"));
}

fn check_list(shape: &Shape, value: &Value, place: &Place<'_>, faults: &mut Vec<String>) {
    let Some(items) = value.as_array() else {
        faults.push(format!("{place} must be a list"));
        return;
    };
    for (index, item) in items.iter().enumerate() {
        check_shape(shape, item, &Place::Item(place, index), faults);
    }
}

/// A JSON number has no types of its own: `5.0` is the integer five.
fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

/// Where in the message a value stands. It is only written out when there is a fault to report.
enum Place<'a> {
    Root(&'static str),
    Field(&'a Place<'a>, &'static str),
    Item(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::schema::{CONTENT, EVENT};
    use super::*;

    fn faults(message: &Value) -> Vec<String> {
        validate(UNIVERSAL, message).err().unwrap_or_default()
    }

    fn names(shape: &Shape) -> Vec<&'static str> {
        shape.fields.iter().map(|field| field.name).collect()
    }

    /// Puts a value in its place, in both nestings: their faults must be the same, but for where
    /// they are.
    fn faults_of(part: &str, kind: &str, value: &Value) -> Vec<String> {
        let inner = json!({"timestamp": 1, part: {kind: value}});
        let flat = faults(&inner);
        let nested: Vec<String> = faults(&json!({"message": inner}))
            .iter()
            .map(|text| text.replacen("message.message", "message", 1))
            .collect();
        assert_eq!(flat, nested);
        flat
    }

    fn check_table(part: &str, shape: &Shape, table: Vec<(&str, Value, Value, &str)>) {
        let mut seen = Vec::new();
        for (kind, good, bad, text) in table {
            assert_eq!(faults_of(part, kind, &good), [""; 0], "{part} {kind} good");
            assert_eq!(
                faults_of(part, kind, &bad),
                [format!("message.{part}.{kind}{text}")],
                "{part} {kind} bad"
            );
            seen.push(kind);
        }
        for name in names(shape) {
            assert!(seen.contains(&name), "{part} {name} is not in the table");
        }
    }

    #[test]
    fn every_kind_of_content_is_accepted_when_good_and_named_when_bad() {
        assert_eq!(names(&CONTENT).len(), 15);
        let a = || json!([{"url": "u"}]);
        let table = vec![
            (
                "texts",
                json!([{"text": "t"}]),
                json!([{}]),
                "[0].text is required",
            ),
            (
                "texts",
                json!([]),
                json!([{"text": 1}]),
                "[0].text must be a string",
            ),
            (
                "texts",
                json!([{"text": ""}, {"text": "", "new": 1}]),
                json!({}),
                " must be a list",
            ),
            (
                "speeches",
                json!([{"text": "t"}, {"ssml": "s"}]),
                json!([{}]),
                "[0] must have one of: text, ssml",
            ),
            (
                "stickers",
                json!([{"url": "u"}, {"sticker_id": "s"}]),
                json!([{}]),
                "[0] must have one of: url, sticker_id, text",
            ),
            (
                "images",
                json!([{"url": "u", "height": 1, "width": 2.0}]),
                json!([{"url": "u", "width": 1.5}]),
                "[0].width must be an integer",
            ),
            (
                "images",
                a(),
                json!([{"title": "t"}]),
                "[0].url is required",
            ),
            (
                "audios",
                json!([{"url": "u", "image": {"url": "u"}}]),
                json!([{"url": "u", "image": {}}]),
                "[0].image.url is required",
            ),
            (
                "videos",
                json!([{"url": "u", "title": "t"}]),
                json!([{}]),
                "[0].url is required",
            ),
            ("documents", a(), json!([{}]), "[0].url is required"),
            ("files", a(), json!([1]), "[0] must be an object"),
            (
                "urls",
                json!([{"url": "u", "is_displayed": true}]),
                json!([{"url": "u", "is_displayed": "yes"}]),
                "[0].is_displayed must be true or false",
            ),
            (
                "locations",
                json!([{"coordinates": {"latitude": 1.5, "longitude": 2}}]),
                json!([{}]),
                "[0].coordinates is required",
            ),
            (
                "locations",
                json!([]),
                json!([{"coordinates": {"latitude": "1"}}]),
                "[0].coordinates.latitude must be a number",
            ),
            (
                "postback",
                json!({"title": "t"}),
                json!({}),
                " must have one of: title, index",
            ),
            (
                "suggestions",
                json!([{"title": "t"}]),
                json!([{"title": "t"}, {}]),
                "[1].title is required",
            ),
            (
                "cards",
                json!([{"title": "t", "images": [{"url": "u"}], "buttons": [{"url": "u"}]}]),
                json!([{"images": [{}]}]),
                "[0].images[0].url is required",
            ),
            (
                "carousel",
                json!({"items": [{"title": "t"}]}),
                json!([]),
                " must be an object",
            ),
            (
                "list",
                json!({}),
                json!({"items": [{"title": 1}]}),
                ".items[0].title must be a string",
            ),
        ];
        check_table("content", &CONTENT, table);
    }

    #[test]
    fn every_kind_of_event_is_accepted_when_good_and_named_when_bad() {
        assert_eq!(
            names(&EVENT).len(),
            21,
            "22 kinds, two of them under one key"
        );
        let id = || json!({"platform_message_id": "p"});
        let mut table = vec![
            (
                "conversation_ended",
                json!({"reason": "r"}),
                json!({"reason": 1}),
                ".reason must be a string",
            ),
            (
                "handover",
                json!({"thread_control_taken_away": {}}),
                json!({"thread_control_taken_away": 1}),
                ".thread_control_taken_away must be an object",
            ),
            (
                "message_read",
                json!({"before_or_at_timestamp": 1.5}),
                json!({"before_or_at_timestamp": "1"}),
                ".before_or_at_timestamp must be a number",
            ),
            (
                "message_delivered",
                json!({}),
                json!({"before_or_at_timestamp": null}),
                ".before_or_at_timestamp must be a number",
            ),
            (
                "message_reaction_added",
                json!({"description": "d"}),
                json!({"description": 1}),
                ".description must be a string",
            ),
            (
                "message_reaction_removed",
                id(),
                json!({"platform_message_id": 1}),
                ".platform_message_id must be a string",
            ),
            (
                "message_edited",
                id(),
                json!({"platform_message_id": 1}),
                ".platform_message_id must be a string",
            ),
            (
                "message_deleted",
                id(),
                json!({"platform_message_id": 1}),
                ".platform_message_id must be a string",
            ),
            (
                "referral",
                json!({"source": {"url": "u"}, "medium": "m"}),
                json!({"source": {"url": 1}}),
                ".source.url must be a string",
            ),
            (
                "game_completed",
                json!({"score": "1"}),
                json!({"score": 1}),
                ".score must be a string",
            ),
            (
                "slot_unset",
                json!({"name": "n"}),
                json!({"name": 1}),
                ".name must be a string",
            ),
            (
                "authentication_requested",
                json!({"type": "t"}),
                json!({"type": 1}),
                ".type must be a string",
            ),
            (
                "authentication_succeeded",
                json!({"type": "t", "token": "t"}),
                json!({"token": 1}),
                ".token must be a string",
            ),
            (
                "purchase_completed",
                json!({"total": 5}),
                json!({"total": 5.5}),
                ".total must be an integer",
            ),
        ];
        for bare in [
            "conversation_started",
            "escalated",
            "fallback",
            "optin",
            "game_started",
            "missing_input",
            "slot_reset",
        ] {
            table.push((bare, json!({}), json!(true), " must be an object"));
        }
        check_table("event", &EVENT, table);
    }

    #[test]
    fn content_and_event_hold_exactly_one_documented_kind() {
        for part in ["content", "event"] {
            for bad in [
                json!({}),
                json!({"unknown": {}}),
                json!({"texts": [], "files": []}),
                json!({"fallback": {}, "optin": {}}),
            ] {
                let faults = faults(&json!({"timestamp": 1, part: bad}));
                let start = format!("message.{part} must have exactly one of: ");
                assert!(faults[0].starts_with(&start), "{faults:?}");
            }
        }
        let both =
            json!({"timestamp": 1, "content": {"texts": [], "new": 1}, "event": {"optin": {}}});
        assert_eq!(faults(&both), [""; 0]);
    }

    #[test]
    fn the_fields_around_content_and_event_have_their_types() {
        let whole = json!({
            "id": "i", "thread": {"id": "t", "is_group": false, "is_currently_owned": true},
            "conversation": {"id": "c", "is_new": true, "context": {"should_end_session": true},
                "start_timestamp": 1.5},
            "message": {"timestamp": 1, "sender": {"id": "s", "type": "human-agent", "locale": "en"},
                "recipient": {"id": "r"}, "locale": "en", "reply_to": {"platform_message_id": "p"},
                "context": {"is_in_sandbox": true}, "nlu": {"intent": "i"}, "unknown": null}
        });
        assert_eq!(faults(&whole), [""; 0]);
        for (pointer, bad, text) in [
            ("/id", json!(1), "message.id must be a string"),
            ("/thread", json!("t"), "message.thread must be an object"),
            (
                "/thread/is_group",
                json!(0),
                "message.thread.is_group must be true or false",
            ),
            (
                "/conversation/start_timestamp",
                json!("1"),
                "message.conversation.start_timestamp must be a number",
            ),
            ("/message", json!([]), "message.message must be an object"),
            (
                "/message/timestamp",
                json!("1"),
                "message.message.timestamp must be a number of milliseconds that is not negative",
            ),
            (
                "/message/timestamp",
                json!(-1),
                "message.message.timestamp must be a number of milliseconds that is not negative",
            ),
            (
                "/message/sender/type",
                json!("bot"),
                "message.message.sender.type must be one of: user, virtual-agent, human-agent",
            ),
            (
                "/message/sender/id",
                Value::Null,
                "message.message.sender.id must be a string",
            ),
            (
                "/message/context/is_in_sandbox",
                json!(1),
                "message.message.context.is_in_sandbox must be true or false",
            ),
            (
                "/message/nlu/intent",
                json!({}),
                "message.message.nlu.intent must be a string",
            ),
        ] {
            let mut message = whole.clone();
            *message.pointer_mut(pointer).unwrap() = bad;
            assert_eq!(faults(&message), [text], "{pointer}");
        }
    }

    #[test]
    fn a_timestamp_is_required_in_both_nestings() {
        assert_eq!(faults(&json!({})), ["message.timestamp is required"]);
        assert_eq!(
            faults(&json!({"message": {}})),
            ["message.message.timestamp is required"]
        );
        for time in [json!(0), json!(1_764_000_000_123_u64), json!(1.5)] {
            assert_eq!(faults(&json!({"timestamp": time})), [""; 0]);
        }
    }

    #[test]
    fn other_channels_are_only_checked_for_being_objects() {
        assert_eq!(validate("rasa", &json!({"event": "user"})), Ok(()));
        for channel in [UNIVERSAL, "rasa"] {
            for bad in [json!(1), json!([]), Value::Null] {
                assert_eq!(
                    validate(channel, &bad),
                    Err(vec!["message must be an object".to_owned()])
                );
            }
        }
    }

    #[test]
    fn values_are_never_repeated_in_the_texts() {
        let message = json!({"id": {"secret": 1}, "timestamp": "secret",
            "sender": {"type": "secret"}, "content": {"texts": "secret"}});
        let texts = faults(&message);
        assert_eq!(texts.len(), 4, "{texts:?}");
        assert!(!texts.concat().contains("secret"), "{texts:?}");
    }
}
