//! The Universal message as JSON, field by field and to the byte.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everpost::botanalytics::message::{
    Animation, Audio, Button, Card, Content, Context, Conversation, Document, Empty, Happening,
    Image, Items, Link, Location, Message, Nesting, Postback, Recipient, Referral, Sender,
    SenderKind, Speech, Sticker, Suggestion, Text, Thread, Video,
};
use everpost::clock::Clock;
use everpost::{Error, Event};

const NOW_MS: u64 = 1_764_000_000_123;

/// A clock that stands still.
#[derive(Debug)]
struct Standing;

impl Clock for Standing {
    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(NOW_MS)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

fn at(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms)
}

fn json_of(message: Message) -> Result<String, Error> {
    let event = message.into_event_with_clock(&Standing)?;
    Ok(String::from_utf8_lossy(event.json_bytes()).into_owned())
}

#[test]
fn the_documented_example_is_written_to_the_byte() {
    let said = Message::text("hello")
        .id("9f2c")
        .thread("t-7")
        .timestamp(at(1_764_000_000_123))
        .sender(Sender::user("u-1"));
    assert_eq!(
        json_of(said).unwrap(),
        r#"{"id":"9f2c","thread":{"id":"t-7"},"message":{"timestamp":1764000000123,"sender":{"id":"u-1","type":"user"},"content":{"texts":[{"text":"hello"}]}}}"#
    );
    let happened = Message::event(Happening::Fallback {})
        .id("9f2d")
        .thread("t-7")
        .timestamp(at(1_764_000_000_950))
        .sender(Sender::virtual_agent("bot"));
    assert_eq!(
        json_of(happened).unwrap(),
        r#"{"id":"9f2d","thread":{"id":"t-7"},"message":{"timestamp":1764000000950,"sender":{"id":"bot","type":"virtual-agent"},"event":{"fallback":{}}}}"#
    );
}

fn full() -> Message {
    Message::text("hi")
        .id("m-1")
        .thread(
            Thread::new()
                .id("t")
                .is_group(true)
                .is_currently_owned(false),
        )
        .conversation(
            Conversation::new()
                .id("c")
                .is_new(true)
                .should_end_session(false)
                .start_timestamp(at(5)),
        )
        .timestamp(at(6))
        .sender(Sender::human_agent("h").locale("de"))
        .recipient(Recipient::new().id("r"))
        .locale("en")
        .reply_to("p-1")
        .context(
            Context::new()
                .is_in_sandbox(true)
                .is_response_expected(false)
                .is_ephemeral(true),
        )
        .intent("greet")
}

#[test]
fn every_field_has_its_place_in_both_nestings() {
    let inner = concat!(
        r#""timestamp":6,"sender":{"id":"h","type":"human-agent","locale":"de"},"#,
        r#""recipient":{"id":"r"},"locale":"en","content":{"texts":[{"text":"hi"}]},"#,
        r#""reply_to":{"platform_message_id":"p-1"},"context":{"is_in_sandbox":true,"#,
        r#""is_response_expected":false,"is_ephemeral":true},"nlu":{"intent":"greet"}"#,
    );
    let outer = concat!(
        r#"{"id":"m-1","thread":{"id":"t","is_group":true,"is_currently_owned":false},"#,
        r#""conversation":{"id":"c","is_new":true,"context":{"should_end_session":false},"#,
        r#""start_timestamp":5},"#,
    );
    assert_eq!(
        json_of(full()).unwrap(),
        format!(r#"{outer}"message":{{{inner}}}}}"#)
    );
    assert_eq!(
        json_of(full().nesting(Nesting::Flat)).unwrap(),
        format!("{outer}{inner}}}")
    );
}

#[test]
fn every_kind_of_content_is_written_as_documented() {
    let image = || Image::new("i").title("t").height(2_u32).width(3_u32);
    let audio = || Audio::new("a").image(Image::new("i")).title("t");
    let video = || Video::new("v").title("t");
    let card = Card::new()
        .title("t")
        .subtitle("s")
        .text("x")
        .images([image()])
        .audios([audio()])
        .videos([video()])
        .animations([Animation::new("n")])
        .buttons([Button::new().title("b").url("u"), Button::new()]);
    let kinds = [
        (
            Content::Texts(vec![Text::new("a"), Text::new("\"b\"")]),
            r#"{"texts":[{"text":"a"},{"text":"\"b\""}]}"#,
        ),
        (
            Content::Speeches(vec![
                Speech::text("a"),
                Speech::ssml("<speak/>"),
                Speech::both("a", "b"),
            ]),
            r#"{"speeches":[{"text":"a"},{"ssml":"<speak/>"},{"text":"a","ssml":"b"}]}"#,
        ),
        (
            Content::Stickers(vec![
                Sticker::url("u"),
                Sticker::id("1"),
                Sticker::both("u", "1"),
            ]),
            r#"{"stickers":[{"url":"u"},{"sticker_id":"1"},{"url":"u","sticker_id":"1"}]}"#,
        ),
        (
            Content::Images(vec![image(), Image::new("i")]),
            r#"{"images":[{"url":"i","title":"t","height":2,"width":3},{"url":"i"}]}"#,
        ),
        (
            Content::Audios(vec![audio()]),
            r#"{"audios":[{"url":"a","image":{"url":"i"},"title":"t"}]}"#,
        ),
        (
            Content::Videos(vec![video()]),
            r#"{"videos":[{"url":"v","title":"t"}]}"#,
        ),
        (
            Content::Documents(vec![Document::new("d")]),
            r#"{"documents":[{"url":"d"}]}"#,
        ),
        (
            Content::Files(vec![Document::new("f")]),
            r#"{"files":[{"url":"f"}]}"#,
        ),
        (
            Content::Urls(vec![Link::new("l").is_displayed(false), Link::new("l")]),
            r#"{"urls":[{"url":"l","is_displayed":false},{"url":"l"}]}"#,
        ),
        (
            Content::Locations(vec![Location::new(52.5, -13.0)]),
            r#"{"locations":[{"coordinates":{"latitude":52.5,"longitude":-13.0}}]}"#,
        ),
        (
            Content::Postback(Postback::both("t", "1")),
            r#"{"postback":{"title":"t","index":"1"}}"#,
        ),
        (
            Content::Postback(Postback::index("1")),
            r#"{"postback":{"index":"1"}}"#,
        ),
        (
            Content::Postback(Postback::title("t")),
            r#"{"postback":{"title":"t"}}"#,
        ),
        (
            Content::Suggestions(vec![Suggestion::new("yes")]),
            r#"{"suggestions":[{"title":"yes"}]}"#,
        ),
        (
            Content::Cards(vec![card]),
            concat!(
                r#"{"cards":[{"title":"t","subtitle":"s","text":"x","#,
                r#""images":[{"url":"i","title":"t","height":2,"width":3}],"#,
                r#""audios":[{"url":"a","image":{"url":"i"},"title":"t"}],"#,
                r#""videos":[{"url":"v","title":"t"}],"animations":[{"url":"n"}],"#,
                r#""buttons":[{"title":"b","url":"u"},{}]}]}"#
            ),
        ),
        (
            Content::Carousel(Items::new(["a", "b"])),
            r#"{"carousel":{"items":[{"title":"a"},{"title":"b"}]}}"#,
        ),
        (
            Content::List(Items::new(["a"])),
            r#"{"list":{"items":[{"title":"a"}]}}"#,
        ),
    ];
    for (content, expected) in kinds {
        let json = json_of(Message::of(content).id("x").timestamp(at(1))).unwrap();
        let whole = format!(r#"{{"id":"x","message":{{"timestamp":1,"content":{expected}}}}}"#);
        assert_eq!(json, whole);
    }
}

#[test]
fn every_kind_of_happening_is_written_as_documented() {
    use Happening as H;
    let id = || Some("p".to_owned());
    let kinds = [
        (H::ConversationStarted {}, r#"{"conversation_started":{}}"#),
        (H::Escalated {}, r#"{"escalated":{}}"#),
        (H::Fallback {}, r#"{"fallback":{}}"#),
        (H::Optin {}, r#"{"optin":{}}"#),
        (H::GameStarted {}, r#"{"game_started":{}}"#),
        (H::MissingInput {}, r#"{"missing_input":{}}"#),
        (H::SlotReset {}, r#"{"slot_reset":{}}"#),
        (
            H::ConversationEnded {
                reason: Some("r".into()),
            },
            r#"{"conversation_ended":{"reason":"r"}}"#,
        ),
        (
            H::ConversationEnded { reason: None },
            r#"{"conversation_ended":{}}"#,
        ),
        (
            H::Handover {
                thread_control_taken_away: Some(Empty {}),
            },
            r#"{"handover":{"thread_control_taken_away":{}}}"#,
        ),
        (
            H::MessageRead {
                before_or_at_timestamp: Some(at(7)),
            },
            r#"{"message_read":{"before_or_at_timestamp":7}}"#,
        ),
        (
            H::MessageDelivered {
                before_or_at_timestamp: Some(at(7)),
            },
            r#"{"message_delivered":{"before_or_at_timestamp":7}}"#,
        ),
        (
            H::MessageReactionAdded {
                platform_message_id: id(),
                description: Some("+1".into()),
            },
            r#"{"message_reaction_added":{"platform_message_id":"p","description":"+1"}}"#,
        ),
        (
            H::MessageReactionRemoved {
                platform_message_id: id(),
            },
            r#"{"message_reaction_removed":{"platform_message_id":"p"}}"#,
        ),
        (
            H::MessageEdited {
                platform_message_id: id(),
            },
            r#"{"message_edited":{"platform_message_id":"p"}}"#,
        ),
        (
            H::MessageDeleted {
                platform_message_id: id(),
            },
            r#"{"message_deleted":{"platform_message_id":"p"}}"#,
        ),
        // The slip of the documentation, kept.
        (
            H::MessageHighlighted {
                platform_message_id: id(),
            },
            r#"{"message_reaction_removed":{"platform_message_id":"p"}}"#,
        ),
        (
            H::Referral(
                Referral::new()
                    .source("u")
                    .campaign("c")
                    .medium("m")
                    .context("x"),
            ),
            r#"{"referral":{"source":{"url":"u"},"campaign":"c","medium":"m","context":"x"}}"#,
        ),
        (
            H::GameCompleted {
                score: Some("9".into()),
            },
            r#"{"game_completed":{"score":"9"}}"#,
        ),
        (
            H::SlotUnset {
                name: Some("n".into()),
            },
            r#"{"slot_unset":{"name":"n"}}"#,
        ),
        (
            H::AuthenticationRequested {
                kind: Some("t".into()),
            },
            r#"{"authentication_requested":{"type":"t"}}"#,
        ),
        (
            H::AuthenticationSucceeded {
                kind: Some("t".into()),
                token: Some("k".into()),
            },
            r#"{"authentication_succeeded":{"type":"t","token":"k"}}"#,
        ),
        (
            H::PurchaseCompleted { total: Some(5) },
            r#"{"purchase_completed":{"total":5}}"#,
        ),
    ];
    for (happening, expected) in kinds {
        let json = json_of(Message::event(happening).id("x").timestamp(at(1))).unwrap();
        let whole = format!(r#"{{"id":"x","message":{{"timestamp":1,"event":{expected}}}}}"#);
        assert_eq!(json, whole);
    }
}

#[test]
fn what_is_absent_is_filled_in_from_the_event() {
    for nesting in [Nesting::Schema, Nesting::Flat] {
        let message = Message::text("a").nesting(nesting);
        let event = message.into_event_with_clock(&Standing).unwrap();
        assert_eq!(event.time_ms(), NOW_MS);
        let json: serde_json::Value = serde_json::from_slice(event.json_bytes()).unwrap();
        assert_eq!(json["id"], event.id().to_string());
        let inner = match nesting {
            Nesting::Schema => &json["message"],
            Nesting::Flat => &json,
        };
        assert_eq!(inner["timestamp"], NOW_MS);
    }
}

#[test]
fn what_is_given_becomes_the_events() {
    let uuid = "0190b6d2-5c11-7c3e-8a55-0123456789ab";
    let message = Message::text("a").id(uuid).timestamp(at(42));
    let event = Event::try_from(message).unwrap();
    assert_eq!(
        (event.id().to_string().as_str(), event.time_ms()),
        (uuid, 42)
    );

    // An id that is no UUID stays in the message; the event has one of its own.
    let event = Message::text("a").id("mine").into_event().unwrap();
    assert_ne!(event.id().to_string(), "mine");
    let json: serde_json::Value = serde_json::from_slice(event.json_bytes()).unwrap();
    assert_eq!(json["id"], "mine");
}

#[test]
fn a_coordinate_that_json_cannot_say_is_refused() {
    for (latitude, longitude) in [(f64::NAN, 0.0), (0.0, f64::INFINITY)] {
        let content = Content::Locations(vec![Location::new(latitude, longitude)]);
        let error = Message::of(content).into_event().unwrap_err();
        assert!(error.to_string().contains("not a finite number"), "{error}");
    }
}

#[test]
fn debug_shows_nothing_of_a_message() {
    let happening = Happening::AuthenticationSucceeded {
        kind: None,
        token: Some("hunter2".into()),
    };
    let content = Content::Texts(vec![Text::new("hunter2")]);
    let sender = Sender::unnamed(SenderKind::User).id("hunter2");
    let shown = format!(
        "{happening:?} {content:?} {sender:?} {:?} {:?}",
        Thread::from("hunter2"),
        Message::text("hunter2"),
    );
    assert!(!shown.contains("hunter2"), "{shown}");
}
