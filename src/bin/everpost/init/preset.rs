//! Settings that go together, under one word.

use clap::ValueEnum;
use toml::Value;

use crate::overrides::{Word, written};

/// What the spool is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    /// A device with a small disk and a slow link: 64 MiB, the newest events are kept when it is
    /// full, small requests with more time.
    Edge,
    /// Lines of a log: many, cheap, of use for a week; 256 MiB, a power cut may cost a second, the
    /// newest are kept when it is full.
    Log,
    /// The messages of a bot, none of which may be lost: 1 GiB, each synced before it is
    /// acknowledged, refused when it is full.
    Bot,
}

impl Preset {
    /// What it says.
    pub(super) fn words(self) -> Vec<Word> {
        let text = |text: &str| Value::String(text.to_owned());
        let settings = match self {
            Self::Edge => vec![
                ("durability", text("synced")),
                ("on_full", text("drop_oldest")),
                ("max_bytes", text("64 MiB")),
                ("delivery.batch_bytes", text("128 KiB")),
                ("delivery.backoff_max", text("5min")),
                ("service.request_timeout", text("60s")),
            ],
            Self::Log => vec![
                ("durability", written("1s")),
                ("on_full", text("drop_oldest")),
                ("max_bytes", text("256 MiB")),
                ("max_age", text("7days")),
            ],
            Self::Bot => vec![
                ("durability", text("synced")),
                ("on_full", text("reject")),
                ("max_bytes", text("1 GiB")),
            ],
        };
        let word = |(name, value)| ("--preset", name, value);
        settings.into_iter().map(word).collect()
    }
}
