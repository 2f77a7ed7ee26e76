//! Who takes part, and in what.

use std::time::SystemTime;

use serde::Serialize;

use super::part::{opaque, part};
use crate::millis::unix_ms;

part! {
    /// The thread a message belongs to.
    Thread {
        ;
        /// Its id. By default the server assigns one.
        id: String,
        /// Whether more than two take part. The server's default is no.
        is_group: bool,
        /// Whether the sender has control of the thread at present. The server's default is no.
        is_currently_owned: bool,
    }
}

impl<T: Into<String>> From<T> for Thread {
    fn from(id: T) -> Self {
        Self::new().id(id)
    }
}

/// The conversation a message belongs to.
#[derive(Clone, Default, PartialEq, Serialize)]
#[must_use]
pub struct Conversation {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_new: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<ConversationContext>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_timestamp: Option<u64>,
}

#[derive(Clone, PartialEq, Serialize)]
struct ConversationContext {
    should_end_session: bool,
}

opaque!(Conversation);

impl Conversation {
    /// With every field absent.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its id.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Whether it begins with this message.
    pub fn is_new(mut self, is_new: bool) -> Self {
        self.is_new = Some(is_new);
        self
    }

    /// Whether the session is to end after this message.
    pub fn should_end_session(mut self, should_end_session: bool) -> Self {
        self.context = Some(ConversationContext { should_end_session });
        self
    }

    /// When it began, sent as whole milliseconds since 1970.
    pub fn start_timestamp(mut self, time: SystemTime) -> Self {
        self.start_timestamp = Some(unix_ms(time));
        self
    }
}

/// What kind of party sends a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SenderKind {
    /// A person who uses the bot.
    User,
    /// The bot.
    VirtualAgent,
    /// A person who answers for the operator.
    HumanAgent,
}

/// Who sent a message.
#[derive(Clone, PartialEq, Serialize)]
#[must_use]
pub struct Sender {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "type")]
    kind: SenderKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    locale: Option<String>,
}

opaque!(Sender);

impl Sender {
    /// A sender of this kind without an id; the server assigns one.
    pub fn unnamed(kind: SenderKind) -> Self {
        Self {
            id: None,
            kind,
            locale: None,
        }
    }

    /// A user.
    pub fn user(id: impl Into<String>) -> Self {
        Self::unnamed(SenderKind::User).id(id)
    }

    /// The bot.
    pub fn virtual_agent(id: impl Into<String>) -> Self {
        Self::unnamed(SenderKind::VirtualAgent).id(id)
    }

    /// A human agent.
    pub fn human_agent(id: impl Into<String>) -> Self {
        Self::unnamed(SenderKind::HumanAgent).id(id)
    }

    /// The sender's id.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The sender's language.
    pub fn locale(mut self, locale: impl Into<String>) -> Self {
        self.locale = Some(locale.into());
        self
    }
}

part! {
    /// Who was to receive a message.
    Recipient {
        ;
        /// The recipient's id. By default the server assigns one.
        id: String,
    }
}

impl<T: Into<String>> From<T> for Recipient {
    fn from(id: T) -> Self {
        Self::new().id(id)
    }
}

part! {
    /// The circumstances of a message.
    Context {
        ;
        /// Whether it was sent for trial only.
        is_in_sandbox: bool,
        /// Whether an answer is expected.
        is_response_expected: bool,
        /// Whether it vanishes after it was seen.
        is_ephemeral: bool,
    }
}
