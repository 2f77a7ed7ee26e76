//! The names of all settings, and how the value of each is written.

use serde_json::Value;

use super::SERVICE;
use crate::text::size;

/// A setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Name {
    /// As `config` shows it: the key, or `table.key`.
    pub(crate) path: &'static str,
    pub(crate) kind: Kind,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Size,
    Time,
    Whole,
    Fraction,
    Durability,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A text, such as this one.
    Text(&'static str),
    /// Where events go: an address, or a table.
    Receiver,
}

impl Name {
    /// The key alone.
    pub(crate) fn key(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }
}

impl Kind {
    /// What to type.
    pub(crate) fn hint(self) -> String {
        match self {
            Self::Size => {
                "write it as \"64MiB\", \"1 GB\" or \"512k\", or as a number of bytes".into()
            }
            Self::Time => "write it as \"500ms\", \"60s\", \"15min\" or \"1h 30min\"".into(),
            Self::Whole => "write a whole number, such as 16".into(),
            Self::Fraction => "write a number, such as 0.5".into(),
            Self::Durability => "write \"synced\", or { written = { sync_every = \"1s\" } }".into(),
            Self::Word(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                format!("write {}", words.join(" or "))
            }
            Self::Text(example) => format!("write a text in quotes, such as \"{example}\""),
            Self::Receiver => {
                "write an address in quotes, such as \"https://hooks.example/in\", or \
                               let `everpost init --to` write it"
                    .into()
            }
        }
    }
}

impl Kind {
    /// A value in effect, for people.
    pub(crate) fn shown(self, value: &Value) -> String {
        match (value, self) {
            (Value::Null, _) => "none".to_owned(),
            (Value::Number(bytes), Self::Size) => {
                bytes.as_u64().map_or_else(|| bytes.to_string(), size)
            }
            (Value::String(text), _) => text.clone(),
            (Value::Object(written), Self::Durability) => {
                let sync_every = written.get("written").and_then(|w| w.get("sync_every"));
                let sync_every = sync_every.and_then(Value::as_str).unwrap_or_default();
                format!("written, synced every {sync_every}")
            }
            (Value::Object(target), Self::Receiver) if target.contains_key("servers") => {
                let text = |key: &str| target.get(key).and_then(Value::as_str).unwrap_or_default();
                format!("{} as {}", text("servers"), text("spool"))
            }
            (Value::Object(receiver), Self::Receiver) => {
                let url = receiver
                    .get("url")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                let form = match receiver.get("format") {
                    Some(Value::String(word)) => word.as_str(),
                    Some(Value::Object(form)) => form.keys().next().map_or("", String::as_str),
                    _ => "array",
                };
                format!("{url} ({form})")
            }
            (value, _) => value.to_string(),
        }
    }
}

const fn name(path: &'static str, kind: Kind) -> Name {
    Name { path, kind }
}

/// All of them, in the order in which they are shown.
pub(crate) const NAMES: &[Name] = &[
    name("durability", Kind::Durability),
    name("on_full", Kind::Word(&["reject", "block", "drop_oldest"])),
    name("max_bytes", Kind::Size),
    name("max_event_bytes", Kind::Size),
    name("max_age", Kind::Time),
    name("journal_bytes", Kind::Size),
    name("tail_bytes", Kind::Size),
    name("chunk_bytes", Kind::Size),
    name("segment_bytes", Kind::Size),
    name("intake_bytes", Kind::Size),
    name("delivery.batch_events", Kind::Whole),
    name("delivery.batch_events_max", Kind::Whole),
    name("delivery.batch_bytes", Kind::Size),
    name("delivery.rate_events", Kind::Whole),
    name("delivery.rate_bytes", Kind::Size),
    name("delivery.return_delay_max", Kind::Time),
    name("delivery.backoff_min", Kind::Time),
    name("delivery.backoff_max", Kind::Time),
    name("delivery.backoff_multiplier", Kind::Fraction),
    name("delivery.backoff_jitter", Kind::Fraction),
    name("delivery.retry_after_max", Kind::Time),
    name("delivery.breaker_refusals", Kind::Whole),
    name("delivery.probe_min", Kind::Time),
    name("delivery.probe_max", Kind::Time),
    name("service.receiver", Kind::Receiver),
    name("service.base_url", Kind::Text("https://api.example.org/v2")),
    name("service.channel", Kind::Text("universal")),
    name("service.key_file", Kind::Text("/etc/everpost/key")),
    name("service.request_timeout", Kind::Time),
    name("service.listen", Kind::Text("127.0.0.1:9464")),
    name("service.socket_group", Kind::Text("everpost")),
    name("service.log_format", Kind::Word(&["text", "json"])),
    name("service.deadline", Kind::Time),
];

/// The tables a settings file may have.
pub(crate) const TABLES: [&str; 2] = ["delivery", "service"];

pub(crate) fn find(path: &str) -> Option<&'static Name> {
    NAMES.iter().find(|name| name.path == path)
}

/// What may have been meant by a name that is none, as a half sentence.
pub(super) fn meant(path: &str) -> Option<String> {
    let key = path.rsplit('.').next().unwrap_or(path);
    if let Some(name) = NAMES.iter().find(|name| name.key() == key) {
        return Some(match name.path.split_once('.') {
            Some((table, _)) => format!("`{key}` belongs under [{table}]"),
            None => format!("`{key}` belongs above all tables"),
        });
    }
    let likeness = |name: &&Name| strsim::damerau_levenshtein(name.key(), key);
    let nearest = NAMES.iter().min_by_key(likeness)?;
    if likeness(&nearest) > nearest.key().len() / 3 {
        return None;
    }
    let path = nearest.path;
    let shown = match path
        .strip_prefix(SERVICE)
        .or(path.strip_prefix("delivery."))
    {
        Some(key) => format!("did you mean `{key}` under [{}]?", path.split('.').next()?),
        None => format!("did you mean `{path}`?"),
    };
    Some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_none_is_told_what_may_have_been_meant() {
        for (path, meant_by_it) in [
            ("max_byte", Some("did you mean `max_bytes`?")),
            ("base_url", Some("`base_url` belongs under [service]")),
            (
                "delivery.max_bytes",
                Some("`max_bytes` belongs above all tables"),
            ),
            (
                "service.chanel",
                Some("did you mean `channel` under [service]?"),
            ),
            ("zzz", None),
        ] {
            assert_eq!(meant(path).as_deref(), meant_by_it, "{path}");
        }
    }

    #[test]
    fn every_setting_of_a_queue_has_a_name() {
        let mut settings = everpost::Settings::default();
        settings.max_age = Some(std::time::Duration::from_secs(1));
        settings.delivery.rate_events = Some(1);
        settings.delivery.rate_bytes = Some(1);
        let all = toml::Table::try_from(settings).unwrap();
        let mut paths = Vec::new();
        for (key, value) in &all {
            match value {
                toml::Value::Table(table) => {
                    paths.extend(table.keys().map(|inner| format!("{key}.{inner}")));
                }
                _ => paths.push(key.clone()),
            }
        }
        let named = NAMES.iter().filter(|name| !name.path.starts_with(SERVICE));
        let mut named: Vec<String> = named.map(|name| name.path.to_owned()).collect();
        paths.sort();
        named.sort();
        assert_eq!(named, paths);
    }
}
