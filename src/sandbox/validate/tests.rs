//! A table for each kind of content and of event, good and bad.

use serde_json::json;

use super::super::schema::{CONTENT, EVENT};
use super::*;

fn faults(message: &Value) -> Vec<String> {
    validate(UNIVERSAL, message).err().unwrap_or_default()
}

fn names(shape: &ObjectShape) -> Vec<&'static str> {
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

fn check_table(part: &str, shape: &ObjectShape, table: Vec<(&str, Value, Value, &str)>) {
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
    let both = json!({"timestamp": 1, "content": {"texts": [], "new": 1}, "event": {"optin": {}}});
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
