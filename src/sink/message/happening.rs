//! What happened in a conversation, other than something being said.

use std::time::SystemTime;

use serde::{Serialize, Serializer};

use super::part::{opaque, part};
use crate::millis::unix_ms;

/// What happened in a conversation: one of twenty-two kinds. It stands under `event` in the
/// documented message.
///
/// Kinds without fields are written as an empty object, as documented.
#[derive(Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Happening {
    /// A conversation began.
    ConversationStarted {},
    /// A conversation ended.
    ConversationEnded {
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A person was called for.
    Escalated {},
    /// The bot did not understand.
    Fallback {},
    /// The user agreed to be written to.
    Optin {},
    /// A game began.
    GameStarted {},
    /// A game ended.
    GameCompleted {
        /// The score, which is a text in the documentation.
        #[serde(skip_serializing_if = "Option::is_none")]
        score: Option<String>,
    },
    /// Nothing was said where something was expected.
    MissingInput {},
    /// All slots were emptied.
    SlotReset {},
    /// One slot was emptied.
    SlotUnset {
        /// Its name.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// The thread passed into other hands.
    Handover {
        /// Present if control of the thread was taken away.
        #[serde(skip_serializing_if = "Option::is_none")]
        thread_control_taken_away: Option<Empty>,
    },
    /// Messages were read.
    MessageRead {
        /// All those up to this time, sent as whole milliseconds since 1970.
        #[serde(
            serialize_with = "milliseconds",
            skip_serializing_if = "Option::is_none"
        )]
        before_or_at_timestamp: Option<SystemTime>,
    },
    /// Messages were delivered.
    MessageDelivered {
        /// All those up to this time, sent as whole milliseconds since 1970.
        #[serde(
            serialize_with = "milliseconds",
            skip_serializing_if = "Option::is_none"
        )]
        before_or_at_timestamp: Option<SystemTime>,
    },
    /// A person reacted to a message.
    MessageReactionAdded {
        /// The platform's id of the message.
        #[serde(skip_serializing_if = "Option::is_none")]
        platform_message_id: Option<String>,
        /// The reaction.
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<String>,
    },
    /// A person took a reaction back.
    MessageReactionRemoved {
        /// The platform's id of the message.
        #[serde(skip_serializing_if = "Option::is_none")]
        platform_message_id: Option<String>,
    },
    /// A message was edited.
    MessageEdited {
        /// The platform's id of the message.
        #[serde(skip_serializing_if = "Option::is_none")]
        platform_message_id: Option<String>,
    },
    /// A message was deleted.
    MessageDeleted {
        /// The platform's id of the message.
        #[serde(skip_serializing_if = "Option::is_none")]
        platform_message_id: Option<String>,
    },
    /// A message was highlighted.
    ///
    /// The documentation prints this kind under the key `message_reaction_removed`, apparently a
    /// slip, and that is what is sent: on the wire it cannot be told from
    /// [`MessageReactionRemoved`](Self::MessageReactionRemoved).
    #[serde(rename = "message_reaction_removed")]
    MessageHighlighted {
        /// The platform's id of the message.
        #[serde(skip_serializing_if = "Option::is_none")]
        platform_message_id: Option<String>,
    },
    /// The user came from somewhere.
    Referral(Referral),
    /// The user was asked to sign in.
    AuthenticationRequested {
        /// In which way.
        #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
    },
    /// The user signed in.
    AuthenticationSucceeded {
        /// In which way.
        #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
        /// The token that came of it. It is stored in the spool and sent like everything else,
        /// so leave it out unless the analysis needs it.
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<String>,
    },
    /// Something was bought.
    PurchaseCompleted {
        /// For how much, a whole number in the documentation.
        #[serde(skip_serializing_if = "Option::is_none")]
        total: Option<i64>,
    },
}

/// An object without fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Empty {}

part! {
    /// Where a user came from.
    Referral {
        ;
        /// The address of the place.
        source: Source,
        /// The campaign.
        campaign: String,
        /// The medium.
        medium: String,
        /// Anything else.
        context: String,
    }
}

/// The address a user came from.
#[derive(Clone, PartialEq, Serialize)]
pub struct Source {
    url: String,
}

impl<T: Into<String>> From<T> for Source {
    fn from(url: T) -> Self {
        Self { url: url.into() }
    }
}

opaque!(Happening, Source);

fn milliseconds<S: Serializer>(
    time: &Option<SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    time.map(unix_ms).serialize(serializer)
}
