//! The documented Universal message.
//!
//! A [`Message`] is built field by field and turned into an [`Event`], with `id` and `timestamp`
//! filled in at that moment: it is the time of the event that counts and not that of its delivery.
//! The queue itself does not care: any JSON can be appended, and the native objects of other
//! channels are appended as they are.
//!
//! ```
//! use everpost::Event;
//! use everpost::botanalytics::message::{Message, Sender};
//!
//! # fn main() -> Result<(), everpost::Error> {
//! let event: Event = Message::text("hello")
//!     .thread("t-7")
//!     .sender(Sender::user("u-1"))
//!     .intent("greet")
//!     .into_event()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Nesting
//! The documentation contradicts itself. Its schema and its list of fields put `timestamp`,
//! `sender`, `content` and so on into a `message` inside the message; its example puts them
//! beside `id` and `thread`. [`Nesting::Schema`] is the default, [`Nesting::Flat`] the other.

mod content;
mod happening;
mod part;
mod party;

use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;
use serde::Serialize;
use uuid::Uuid;

use crate::clock::{Clock, SystemClock};
use crate::error::Error;
use crate::event::{Event, stamp_ms};
use crate::id::EventId;
use crate::millis::unix_ms;

pub use content::{
    Animation, Audio, Button, Card, Content, Document, Image, Items, Link, Location, Postback,
    Speech, Sticker, Suggestion, Text, Video,
};
pub use happening::{Empty, Happening, Referral, Source};
pub use party::{Context, Conversation, Recipient, Sender, SenderKind, Thread};

/// Where the inner fields of a message stand. See the [module](self) for why there are two ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Nesting {
    /// In `message.message`, as the schema has it.
    #[default]
    Schema,
    /// Directly in `message`, as the example has it.
    Flat,
}

/// One message of a conversation, or one event in it.
///
/// Nothing is required here but what the constructors ask for. The documentation marks neither
/// `content` nor `event` as required and does not say whether both may be present.
#[derive(Clone, Default, PartialEq)]
#[must_use]
pub struct Message {
    id: Option<String>,
    thread: Option<Thread>,
    conversation: Option<Conversation>,
    inner: Inner,
    nesting: Nesting,
}

#[derive(Clone, Default, PartialEq, Serialize)]
struct Inner {
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<Sender>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<Recipient>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locale: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Content>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Happening>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<ReplyTo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Context>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nlu: Option<Nlu>,
}

#[derive(Clone, PartialEq, Serialize)]
struct ReplyTo {
    platform_message_id: String,
}

#[derive(Clone, PartialEq, Serialize)]
struct Nlu {
    intent: String,
}

impl Message {
    /// A message without content.
    pub fn new() -> Self {
        Self::default()
    }

    /// A message of one text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::of(Content::Texts(vec![Text::new(text)]))
    }

    /// A message of this content.
    pub fn of(content: Content) -> Self {
        Self::new().content(content)
    }

    /// Something that happened in the conversation, rather than something that was said.
    pub fn event(happening: Happening) -> Self {
        let mut message = Self::new();
        message.inner.event = Some(happening);
        message
    }

    /// The unique id of the message. If it is a UUID, the [`Event`] gets the same id, so that an
    /// append which is repeated can be recognised. By default the new id of the event.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The thread it belongs to, a [`Thread`] or its id. By default the server assigns one.
    pub fn thread(mut self, thread: impl Into<Thread>) -> Self {
        self.thread = Some(thread.into());
        self
    }

    /// The conversation it belongs to.
    pub fn conversation(mut self, conversation: Conversation) -> Self {
        self.conversation = Some(conversation);
        self
    }

    /// When it happened, to the millisecond. By default the moment of
    /// [`into_event`](Self::into_event).
    pub fn timestamp(mut self, time: SystemTime) -> Self {
        self.inner.timestamp = Some(unix_ms(time));
        self
    }

    /// Who sent it.
    pub fn sender(mut self, sender: Sender) -> Self {
        self.inner.sender = Some(sender);
        self
    }

    /// Who was to receive it, a [`Recipient`] or its id.
    pub fn recipient(mut self, recipient: impl Into<Recipient>) -> Self {
        self.inner.recipient = Some(recipient.into());
        self
    }

    /// The ISO code of its language.
    pub fn locale(mut self, locale: impl Into<String>) -> Self {
        self.inner.locale = Some(locale.into());
        self
    }

    /// What was said or shown.
    pub fn content(mut self, content: Content) -> Self {
        self.inner.content = Some(content);
        self
    }

    /// The platform's id of the message this one answers.
    pub fn reply_to(mut self, platform_message_id: impl Into<String>) -> Self {
        self.inner.reply_to = Some(ReplyTo {
            platform_message_id: platform_message_id.into(),
        });
        self
    }

    /// The circumstances.
    pub fn context(mut self, context: Context) -> Self {
        self.inner.context = Some(context);
        self
    }

    /// The intent that was understood.
    pub fn intent(mut self, intent: impl Into<String>) -> Self {
        self.inner.nlu = Some(Nlu {
            intent: intent.into(),
        });
        self
    }

    /// Where the inner fields stand.
    pub fn nesting(mut self, nesting: Nesting) -> Self {
        self.nesting = nesting;
        self
    }

    /// The event to append, with `id` and `timestamp` filled in where they are absent.
    ///
    /// The event has the time of the message, and its id too if that is a UUID. Do not give the
    /// event another id afterwards: the one in the JSON stays.
    ///
    /// # Errors
    /// [`Error::InvalidEvent`] if a coordinate is not a finite number, which JSON cannot say.
    pub fn into_event(self) -> Result<Event, Error> {
        self.into_event_with_clock(&SystemClock)
    }

    /// As [`into_event`](Self::into_event), with the caller's clock.
    ///
    /// # Errors
    /// As [`into_event`](Self::into_event).
    pub fn into_event_with_clock(mut self, clock: &dyn Clock) -> Result<Event, Error> {
        let given = self.id.as_deref().and_then(|id| Uuid::parse_str(id).ok());
        let now_ms = unix_ms(clock.wall());
        let id = given.map_or_else(|| clock.event_id(now_ms), EventId::from_uuid);
        self.id.get_or_insert_with(|| id.to_string());
        let time_ms = *self.inner.timestamp.get_or_insert(now_ms);
        let json = self.to_json().map_err(|source| Error::InvalidEvent {
            reason: format!("the message cannot be written: {source}"),
        })?;
        Ok(Event::from_parts(id, stamp_ms(time_ms), Bytes::from(json)))
    }

    fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        match self.nesting {
            Nesting::Schema => serde_json::to_vec(&Nested {
                id: &self.id,
                thread: &self.thread,
                conversation: &self.conversation,
                message: &self.inner,
            }),
            Nesting::Flat => serde_json::to_vec(&Flat {
                id: &self.id,
                thread: &self.thread,
                conversation: &self.conversation,
                timestamp: &self.inner.timestamp,
                sender: &self.inner.sender,
                recipient: &self.inner.recipient,
                locale: &self.inner.locale,
                content: &self.inner.content,
                event: &self.inner.event,
                reply_to: &self.inner.reply_to,
                context: &self.inner.context,
                nlu: &self.inner.nlu,
            }),
        }
    }
}

/// As [`Message::into_event`].
impl TryFrom<Message> for Event {
    type Error = Error;

    fn try_from(message: Message) -> Result<Self, Error> {
        message.into_event()
    }
}

/// Never shows what was said: messages are personal data.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Message(..)")
    }
}

#[derive(Serialize)]
struct Nested<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: &'a Option<Thread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation: &'a Option<Conversation>,
    message: &'a Inner,
}

#[derive(Serialize)]
struct Flat<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: &'a Option<Thread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation: &'a Option<Conversation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: &'a Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: &'a Option<Sender>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: &'a Option<Recipient>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locale: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: &'a Option<Content>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: &'a Option<Happening>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: &'a Option<ReplyTo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: &'a Option<Context>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nlu: &'a Option<Nlu>,
}
