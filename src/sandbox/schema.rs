//! The documented Universal message as plain tables: which fields there are, of which type, and
//! which of them must be there.

/// What a value must be.
pub(super) enum ValueKind {
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
    Object(&'static ObjectShape),
    /// A list of objects of this shape.
    List(&'static ObjectShape),
}

/// One documented field.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: ValueKind,
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
pub(super) struct ObjectShape {
    pub(super) fields: &'static [Field],
    pub(super) need: Need,
}

const fn optional(name: &'static str, kind: ValueKind) -> Field {
    Field {
        name,
        kind,
        required: false,
    }
}

const fn required(name: &'static str, kind: ValueKind) -> Field {
    Field {
        name,
        kind,
        required: true,
    }
}

const fn shape(fields: &'static [Field]) -> ObjectShape {
    ObjectShape {
        fields,
        need: Need::Nothing,
    }
}

/// What stands around the inner message, in both nestings.
pub(super) static ENVELOPE: ObjectShape = shape(&[
    optional("id", ValueKind::Text),
    optional("thread", ValueKind::Object(&THREAD)),
    optional("conversation", ValueKind::Object(&CONVERSATION)),
]);

static THREAD: ObjectShape = shape(&[
    optional("id", ValueKind::Text),
    optional("is_group", ValueKind::Flag),
    optional("is_currently_owned", ValueKind::Flag),
]);

static CONVERSATION: ObjectShape = shape(&[
    optional("id", ValueKind::Text),
    optional("is_new", ValueKind::Flag),
    optional(
        "context",
        ValueKind::Object(&shape(&[optional("should_end_session", ValueKind::Flag)])),
    ),
    optional("start_timestamp", ValueKind::Number),
]);

/// The inner message. Neither `content` nor `event` is marked as required, and nothing forbids
/// both.
pub(super) static INNER: ObjectShape = shape(&[
    required("timestamp", ValueKind::Time),
    optional("sender", ValueKind::Object(&SENDER)),
    optional(
        "recipient",
        ValueKind::Object(&shape(&[optional("id", ValueKind::Text)])),
    ),
    optional("locale", ValueKind::Text),
    optional("content", ValueKind::Object(&CONTENT)),
    optional("event", ValueKind::Object(&EVENT)),
    optional("reply_to", ValueKind::Object(&PLATFORM_MESSAGE)),
    optional("context", ValueKind::Object(&CONTEXT)),
    optional(
        "nlu",
        ValueKind::Object(&shape(&[optional("intent", ValueKind::Text)])),
    ),
]);

static SENDER: ObjectShape = shape(&[
    optional("id", ValueKind::Text),
    optional(
        "type",
        ValueKind::Choice(&["user", "virtual-agent", "human-agent"]),
    ),
    optional("locale", ValueKind::Text),
]);

static CONTEXT: ObjectShape = shape(&[
    optional("is_in_sandbox", ValueKind::Flag),
    optional("is_response_expected", ValueKind::Flag),
    optional("is_ephemeral", ValueKind::Flag),
]);

static PLATFORM_MESSAGE: ObjectShape = shape(&[optional("platform_message_id", ValueKind::Text)]);

/// The fifteen kinds of content.
pub(super) static CONTENT: ObjectShape = ObjectShape {
    fields: &[
        optional(
            "texts",
            ValueKind::List(&shape(&[required("text", ValueKind::Text)])),
        ),
        optional("speeches", ValueKind::List(&SPEECH)),
        optional("stickers", ValueKind::List(&STICKER)),
        optional("images", ValueKind::List(&IMAGE)),
        optional("audios", ValueKind::List(&AUDIO)),
        optional("videos", ValueKind::List(&VIDEO)),
        optional(
            "documents",
            ValueKind::List(&shape(&[required("url", ValueKind::Text)])),
        ),
        optional(
            "files",
            ValueKind::List(&shape(&[required("url", ValueKind::Text)])),
        ),
        optional("urls", ValueKind::List(&URL)),
        optional("locations", ValueKind::List(&LOCATION)),
        optional("postback", ValueKind::Object(&POSTBACK)),
        optional(
            "suggestions",
            ValueKind::List(&shape(&[required("title", ValueKind::Text)])),
        ),
        optional("cards", ValueKind::List(&CARD)),
        optional("carousel", ValueKind::Object(&ITEMS)),
        optional("list", ValueKind::Object(&ITEMS)),
    ],
    need: Need::ExactlyOne,
};

static SPEECH: ObjectShape = ObjectShape {
    fields: &[
        optional("text", ValueKind::Text),
        optional("ssml", ValueKind::Text),
    ],
    need: Need::AnyOf(&["text", "ssml"]),
};

/// The documentation asks for "one of text, sticker_id" but lists `url` and `sticker_id`; any of
/// the three will do here.
static STICKER: ObjectShape = ObjectShape {
    fields: &[
        optional("url", ValueKind::Text),
        optional("sticker_id", ValueKind::Text),
    ],
    need: Need::AnyOf(&["url", "sticker_id", "text"]),
};

static IMAGE: ObjectShape = shape(&[
    required("url", ValueKind::Text),
    optional("title", ValueKind::Text),
    optional("height", ValueKind::Integer),
    optional("width", ValueKind::Integer),
]);

static AUDIO: ObjectShape = shape(&[
    required("url", ValueKind::Text),
    optional("image", ValueKind::Object(&IMAGE)),
    optional("title", ValueKind::Text),
]);

static VIDEO: ObjectShape = shape(&[
    required("url", ValueKind::Text),
    optional("title", ValueKind::Text),
]);

static URL: ObjectShape = shape(&[
    required("url", ValueKind::Text),
    optional("is_displayed", ValueKind::Flag),
]);

static LOCATION: ObjectShape = shape(&[required("coordinates", ValueKind::Object(&COORDINATES))]);

static COORDINATES: ObjectShape = shape(&[
    optional("latitude", ValueKind::Number),
    optional("longitude", ValueKind::Number),
]);

static POSTBACK: ObjectShape = ObjectShape {
    fields: &[
        optional("title", ValueKind::Text),
        optional("index", ValueKind::Text),
    ],
    need: Need::AnyOf(&["title", "index"]),
};

static CARD: ObjectShape = shape(&[
    optional("title", ValueKind::Text),
    optional("subtitle", ValueKind::Text),
    optional("text", ValueKind::Text),
    optional("images", ValueKind::List(&IMAGE)),
    optional("audios", ValueKind::List(&AUDIO)),
    optional("videos", ValueKind::List(&VIDEO)),
    optional(
        "animations",
        ValueKind::List(&shape(&[optional("url", ValueKind::Text)])),
    ),
    optional(
        "buttons",
        ValueKind::List(&shape(&[
            optional("title", ValueKind::Text),
            optional("url", ValueKind::Text),
        ])),
    ),
]);

static ITEMS: ObjectShape = shape(&[optional(
    "items",
    ValueKind::List(&shape(&[optional("title", ValueKind::Text)])),
)]);

/// The kinds of event. The documentation has twenty-two, two of them under one key:
/// `message_reaction_removed` also stands where "message highlighted" is described, with the
/// same field. So there are twenty-one keys.
pub(super) static EVENT: ObjectShape = ObjectShape {
    fields: &[
        optional("conversation_started", ValueKind::Object(&BARE)),
        optional(
            "conversation_ended",
            ValueKind::Object(&shape(&[optional("reason", ValueKind::Text)])),
        ),
        optional("escalated", ValueKind::Object(&BARE)),
        optional("fallback", ValueKind::Object(&BARE)),
        optional("optin", ValueKind::Object(&BARE)),
        optional("game_started", ValueKind::Object(&BARE)),
        optional("missing_input", ValueKind::Object(&BARE)),
        optional("slot_reset", ValueKind::Object(&BARE)),
        optional("handover", ValueKind::Object(&HANDOVER)),
        optional("message_read", ValueKind::Object(&UP_TO)),
        optional("message_delivered", ValueKind::Object(&UP_TO)),
        optional("message_reaction_added", ValueKind::Object(&REACTION)),
        optional(
            "message_reaction_removed",
            ValueKind::Object(&PLATFORM_MESSAGE),
        ),
        optional("message_edited", ValueKind::Object(&PLATFORM_MESSAGE)),
        optional("message_deleted", ValueKind::Object(&PLATFORM_MESSAGE)),
        optional("referral", ValueKind::Object(&REFERRAL)),
        optional(
            "game_completed",
            ValueKind::Object(&shape(&[optional("score", ValueKind::Text)])),
        ),
        optional(
            "slot_unset",
            ValueKind::Object(&shape(&[optional("name", ValueKind::Text)])),
        ),
        optional(
            "authentication_requested",
            ValueKind::Object(&shape(&[optional("type", ValueKind::Text)])),
        ),
        optional(
            "authentication_succeeded",
            ValueKind::Object(&AUTHENTICATED),
        ),
        optional(
            "purchase_completed",
            ValueKind::Object(&shape(&[optional("total", ValueKind::Integer)])),
        ),
    ],
    need: Need::ExactlyOne,
};

static BARE: ObjectShape = shape(&[]);

static HANDOVER: ObjectShape = shape(&[optional(
    "thread_control_taken_away",
    ValueKind::Object(&BARE),
)]);

static UP_TO: ObjectShape = shape(&[optional("before_or_at_timestamp", ValueKind::Number)]);

static REACTION: ObjectShape = shape(&[
    optional("platform_message_id", ValueKind::Text),
    optional("description", ValueKind::Text),
]);

static REFERRAL: ObjectShape = shape(&[
    optional(
        "source",
        ValueKind::Object(&shape(&[optional("url", ValueKind::Text)])),
    ),
    optional("campaign", ValueKind::Text),
    optional("medium", ValueKind::Text),
    optional("context", ValueKind::Text),
]);

static AUTHENTICATED: ObjectShape = shape(&[
    optional("type", ValueKind::Text),
    optional("token", ValueKind::Text),
]);
