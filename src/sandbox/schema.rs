//! The documented Universal message as plain tables: which fields there are, of which type, and
//! which of them must be there.

/// What a value must be.
pub(super) enum Kind {
    /// A string.
    Text,
    /// A string out of a fixed list.
    Choice(&'static [&'static str]),
    /// A number without a fraction.
    Integer,
    /// Any number.
    Number,
    /// A number that is not negative: a time in milliseconds.
    Time,
    /// `true` or `false`.
    Flag,
    /// An object of this shape.
    Object(&'static Shape),
    /// A list of objects of this shape.
    List(&'static Shape),
}

/// One documented field.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
}

/// What an object must hold beyond its required fields.
pub(super) enum Need {
    /// Nothing.
    Nothing,
    /// At least one of these names.
    AnyOf(&'static [&'static str]),
    /// Exactly one of the documented fields.
    ExactlyOne,
}

/// One documented object.
pub(super) struct Shape {
    pub(super) fields: &'static [Field],
    pub(super) need: Need,
}

const fn optional(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        required: false,
    }
}

const fn required(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        required: true,
    }
}

const fn shape(fields: &'static [Field]) -> Shape {
    Shape {
        fields,
        need: Need::Nothing,
    }
}

/// What stands around the inner message, in both nestings.
pub(super) static ENVELOPE: Shape = shape(&[
    optional("id", Kind::Text),
    optional("thread", Kind::Object(&THREAD)),
    optional("conversation", Kind::Object(&CONVERSATION)),
]);

static THREAD: Shape = shape(&[
    optional("id", Kind::Text),
    optional("is_group", Kind::Flag),
    optional("is_currently_owned", Kind::Flag),
]);

static CONVERSATION: Shape = shape(&[
    optional("id", Kind::Text),
    optional("is_new", Kind::Flag),
    optional(
        "context",
        Kind::Object(&shape(&[optional("should_end_session", Kind::Flag)])),
    ),
    optional("start_timestamp", Kind::Number),
]);

/// The inner message. Neither `content` nor `event` is marked as required, and nothing forbids
/// both.
pub(super) static INNER: Shape = shape(&[
    required("timestamp", Kind::Time),
    optional("sender", Kind::Object(&SENDER)),
    optional(
        "recipient",
        Kind::Object(&shape(&[optional("id", Kind::Text)])),
    ),
    optional("locale", Kind::Text),
    optional("content", Kind::Object(&CONTENT)),
    optional("event", Kind::Object(&EVENT)),
    optional("reply_to", Kind::Object(&PLATFORM_MESSAGE)),
    optional("context", Kind::Object(&CONTEXT)),
    optional(
        "nlu",
        Kind::Object(&shape(&[optional("intent", Kind::Text)])),
    ),
]);

static SENDER: Shape = shape(&[
    optional("id", Kind::Text),
    optional(
        "type",
        Kind::Choice(&["user", "virtual-agent", "human-agent"]),
    ),
    optional("locale", Kind::Text),
]);

static CONTEXT: Shape = shape(&[
    optional("is_in_sandbox", Kind::Flag),
    optional("is_response_expected", Kind::Flag),
    optional("is_ephemeral", Kind::Flag),
]);

static PLATFORM_MESSAGE: Shape = shape(&[optional("platform_message_id", Kind::Text)]);

/// The fifteen kinds of content.
pub(super) static CONTENT: Shape = Shape {
    fields: &[
        optional("texts", Kind::List(&shape(&[required("text", Kind::Text)]))),
        optional("speeches", Kind::List(&SPEECH)),
        optional("stickers", Kind::List(&STICKER)),
        optional("images", Kind::List(&IMAGE)),
        optional("audios", Kind::List(&AUDIO)),
        optional("videos", Kind::List(&VIDEO)),
        optional(
            "documents",
            Kind::List(&shape(&[required("url", Kind::Text)])),
        ),
        optional("files", Kind::List(&shape(&[required("url", Kind::Text)]))),
        optional("urls", Kind::List(&URL)),
        optional("locations", Kind::List(&LOCATION)),
        optional("postback", Kind::Object(&POSTBACK)),
        optional(
            "suggestions",
            Kind::List(&shape(&[required("title", Kind::Text)])),
        ),
        optional("cards", Kind::List(&CARD)),
        optional("carousel", Kind::Object(&ITEMS)),
        optional("list", Kind::Object(&ITEMS)),
    ],
    need: Need::ExactlyOne,
};

static SPEECH: Shape = Shape {
    fields: &[optional("text", Kind::Text), optional("ssml", Kind::Text)],
    need: Need::AnyOf(&["text", "ssml"]),
};

/// The documentation asks for "one of text, sticker_id" but lists `url` and `sticker_id`; any of
/// the three will do here.
static STICKER: Shape = Shape {
    fields: &[
        optional("url", Kind::Text),
        optional("sticker_id", Kind::Text),
    ],
    need: Need::AnyOf(&["url", "sticker_id", "text"]),
};

static IMAGE: Shape = shape(&[
    required("url", Kind::Text),
    optional("title", Kind::Text),
    optional("height", Kind::Integer),
    optional("width", Kind::Integer),
]);

static AUDIO: Shape = shape(&[
    required("url", Kind::Text),
    optional("image", Kind::Object(&IMAGE)),
    optional("title", Kind::Text),
]);

static VIDEO: Shape = shape(&[required("url", Kind::Text), optional("title", Kind::Text)]);

static URL: Shape = shape(&[
    required("url", Kind::Text),
    optional("is_displayed", Kind::Flag),
]);

static LOCATION: Shape = shape(&[required("coordinates", Kind::Object(&COORDINATES))]);

static COORDINATES: Shape = shape(&[
    optional("latitude", Kind::Number),
    optional("longitude", Kind::Number),
]);

static POSTBACK: Shape = Shape {
    fields: &[optional("title", Kind::Text), optional("index", Kind::Text)],
    need: Need::AnyOf(&["title", "index"]),
};

static CARD: Shape = shape(&[
    optional("title", Kind::Text),
    optional("subtitle", Kind::Text),
    optional("text", Kind::Text),
    optional("images", Kind::List(&IMAGE)),
    optional("audios", Kind::List(&AUDIO)),
    optional("videos", Kind::List(&VIDEO)),
    optional(
        "animations",
        Kind::List(&shape(&[optional("url", Kind::Text)])),
    ),
    optional(
        "buttons",
        Kind::List(&shape(&[
            optional("title", Kind::Text),
            optional("url", Kind::Text),
        ])),
    ),
]);

static ITEMS: Shape = shape(&[optional(
    "items",
    Kind::List(&shape(&[optional("title", Kind::Text)])),
)]);

/// The kinds of event. The documentation has twenty-two, two of them under one key:
/// `message_reaction_removed` also stands where "message highlighted" is described, with the
/// same field. So there are twenty-one keys.
pub(super) static EVENT: Shape = Shape {
    fields: &[
        optional("conversation_started", Kind::Object(&BARE)),
        optional(
            "conversation_ended",
            Kind::Object(&shape(&[optional("reason", Kind::Text)])),
        ),
        optional("escalated", Kind::Object(&BARE)),
        optional("fallback", Kind::Object(&BARE)),
        optional("optin", Kind::Object(&BARE)),
        optional("game_started", Kind::Object(&BARE)),
        optional("missing_input", Kind::Object(&BARE)),
        optional("slot_reset", Kind::Object(&BARE)),
        optional("handover", Kind::Object(&HANDOVER)),
        optional("message_read", Kind::Object(&UP_TO)),
        optional("message_delivered", Kind::Object(&UP_TO)),
        optional("message_reaction_added", Kind::Object(&REACTION)),
        optional("message_reaction_removed", Kind::Object(&PLATFORM_MESSAGE)),
        optional("message_edited", Kind::Object(&PLATFORM_MESSAGE)),
        optional("message_deleted", Kind::Object(&PLATFORM_MESSAGE)),
        optional("referral", Kind::Object(&REFERRAL)),
        optional(
            "game_completed",
            Kind::Object(&shape(&[optional("score", Kind::Text)])),
        ),
        optional(
            "slot_unset",
            Kind::Object(&shape(&[optional("name", Kind::Text)])),
        ),
        optional(
            "authentication_requested",
            Kind::Object(&shape(&[optional("type", Kind::Text)])),
        ),
        optional("authentication_succeeded", Kind::Object(&AUTHENTICATED)),
        optional(
            "purchase_completed",
            Kind::Object(&shape(&[optional("total", Kind::Integer)])),
        ),
    ],
    need: Need::ExactlyOne,
};

static BARE: Shape = shape(&[]);

static HANDOVER: Shape = shape(&[optional("thread_control_taken_away", Kind::Object(&BARE))]);

static UP_TO: Shape = shape(&[optional("before_or_at_timestamp", Kind::Number)]);

static REACTION: Shape = shape(&[
    optional("platform_message_id", Kind::Text),
    optional("description", Kind::Text),
]);

static REFERRAL: Shape = shape(&[
    optional(
        "source",
        Kind::Object(&shape(&[optional("url", Kind::Text)])),
    ),
    optional("campaign", Kind::Text),
    optional("medium", Kind::Text),
    optional("context", Kind::Text),
]);

static AUTHENTICATED: Shape = shape(&[optional("type", Kind::Text), optional("token", Kind::Text)]);
