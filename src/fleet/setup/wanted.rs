//! The three streams as a fleet needs them, and how others differ.

use serde_json::{Map, Value, json};

use super::finding::{Finding, Risk};
use crate::sink::nats::Names;

/// The number of partitions that a stream was made for, in its metadata.
pub(super) const PARTITIONS: &str = "everpost-partitions";
/// How the streams are laid out, in their metadata.
const LAYOUT: &str = "everpost-layout";
/// The layout that this version makes.
const LAYOUT_VERSION: &str = "1";
/// Of what a stream or an account may hold, as a share of 100: above it there is no room.
const ROOM_PERCENT_MAX: u128 = 90;
/// Subjects that are shown.
const SHOWN: usize = 3;

/// A stream as a fleet needs it: the part of its configuration that matters.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    name: String,
    config: Map<String, Value>,
}

/// What a stream is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Cursors,
    Dead,
    Events,
}

impl Wanted {
    /// All three; the events last, so that devices find them only once all else is there.
    pub(super) fn all(names: &Names, replicas: u8) -> [Self; 3] {
        [Use::Cursors, Use::Dead, Use::Events].map(|of| Self::one(names, replicas, of))
    }

    fn one(names: &Names, replicas: u8, of: Use) -> Self {
        let partitions = 0..names.partitions();
        let (name, subjects) = match of {
            Use::Cursors => (names.cursor_stream(), vec![names.cursor_subjects()]),
            Use::Dead => (names.dead_stream(), vec![names.dead_subjects()]),
            // One by one: a device that counts more partitions is refused, and feeds none that no
            // worker reads.
            Use::Events => (
                names.stream().to_owned(),
                partitions.map(|p| names.partition_subject(p)).collect(),
            ),
        };
        let config = json!({
            "name": name,
            "subjects": subjects,
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "num_replicas": replicas,
            "max_age": 0,
            "max_msgs_per_subject": if of == Use::Cursors { 1 } else { -1 },
            "allow_direct": true,
            "allow_atomic": of == Use::Events,
            // Letters are discarded one by one, events only as a whole and from the oldest on.
            "deny_delete": of != Use::Dead,
            "deny_purge": of == Use::Cursors,
            "metadata": {
                PARTITIONS: names.partitions().to_string(),
                LAYOUT: LAYOUT_VERSION,
            },
        });
        let config = match config {
            Value::Object(config) => config,
            _ => Map::new(),
        };
        Self { name, config }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// All of it, to make the stream.
    pub(super) fn config(&self) -> Value {
        // What is not said has the defaults of the server.
        let all = with(self.config.clone(), "max_bytes", json!(-1));
        let all = with(all, "max_msgs", json!(-1));
        Value::Object(with(all, "max_consumers", json!(-1)))
    }

    /// What is there, with this part changed to what is wanted. More copies than are wanted stay.
    pub(super) fn mended(&self, there: &Map<String, Value>) -> Value {
        let mut mended = there.clone();
        for (key, value) in &self.config {
            if key == "num_replicas" && number(there, key) >= value.as_i64().unwrap_or(0) {
                continue;
            }
            match (mended.get_mut(key), value) {
                // What others keep there is theirs.
                (Some(Value::Object(old)), Value::Object(new)) => old.extend(new.clone()),
                // A server leaves out what is nothing.
                (None, nothing) if *nothing == json!(false) || *nothing == json!(0) => {}
                _ => drop(mended.insert(key.clone(), value.clone())),
            }
        }
        Value::Object(mended)
    }

    /// How a stream with this configuration and this state differs.
    pub(super) fn differs(
        &self,
        there: &Map<String, Value>,
        state: &Map<String, Value>,
    ) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut add = |risk, text: String| found.push(Finding::new(risk, Some(&self.name), text));
        let replicas = number(there, "num_replicas");
        let wanted = number(&self.config, "num_replicas");
        if replicas < wanted.max(3) {
            add(Risk::FewReplicas, format!("it has {}", copies(replicas)));
        }
        for (key, risk) in [
            ("storage", Risk::Memory),
            ("retention", Risk::Retention),
            ("discard", Risk::DiscardOld),
        ] {
            let (there, wanted) = (text(there, key), text(&self.config, key));
            if there != wanted {
                add(risk, format!("{key} is `{there}`, not `{wanted}`"));
            }
        }
        let age = number(there, "max_age");
        if age > 0 {
            let seconds = age / 1_000_000_000;
            add(
                Risk::MaxAge,
                format!("max_age is {seconds} s, not unlimited"),
            );
        }
        let per_subject = number(there, "max_msgs_per_subject");
        let wanted = number(&self.config, "max_msgs_per_subject");
        if per_subject.max(-1) != wanted && !(wanted < 0 && per_subject <= 0) {
            let text = format!("max_msgs_per_subject is {per_subject}, not {wanted}");
            add(Risk::PerSubject, text);
        }
        for (key, risk) in [
            ("allow_atomic", Risk::NoAtomic),
            ("allow_direct", Risk::NoDirect),
        ] {
            if is_on(&self.config, key) && !is_on(there, key) {
                add(risk, format!("{key} is off"));
            }
        }
        for key in ["deny_purge", "deny_delete"] {
            if !is_on(&self.config, key) && is_on(there, key) {
                add(Risk::PurgeDenied, format!("{key} is on"));
            }
        }
        found.extend(self.subjects(there));
        found.extend(self.room(there, state));
        found
    }

    fn subjects(&self, there: &Map<String, Value>) -> Option<Finding> {
        let of = |config: &Map<String, Value>| -> Vec<String> {
            let list = config.get("subjects").and_then(Value::as_array);
            let texts = list.into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        let (there, wanted) = (of(there), of(&self.config));
        let besides: Vec<_> = there.iter().filter(|one| !wanted.contains(one)).collect();
        let missing: Vec<_> = wanted.iter().filter(|one| !there.contains(one)).collect();
        let mut parts = Vec::new();
        for (what, list) in [("without", missing), ("besides", besides)] {
            if !list.is_empty() {
                let more = list.len().saturating_sub(SHOWN);
                let shown: Vec<&str> = list.iter().take(SHOWN).map(|one| one.as_str()).collect();
                let more = if more > 0 {
                    format!(" and {more} more")
                } else {
                    String::new()
                };
                parts.push(format!("{what} {}{more}", shown.join(", ")));
            }
        }
        let text = format!("its subjects are others: {}", parts.join("; "));
        (!parts.is_empty()).then(|| Finding::new(Risk::Subjects, Some(&self.name), text))
    }

    fn room(&self, there: &Map<String, Value>, state: &Map<String, Value>) -> Option<Finding> {
        for (limit, used) in [("max_bytes", "bytes"), ("max_msgs", "messages")] {
            let max = u64::try_from(number(there, limit)).unwrap_or(0);
            let used_now = state.get(used).and_then(Value::as_u64).unwrap_or(0);
            if is_full(used_now, max) {
                let text = format!("{used_now} of {max} {used} are taken");
                return Some(Finding::new(Risk::NoRoom, Some(&self.name), text));
            }
        }
        None
    }
}

/// For how many partitions a stream was made: by its metadata, or else by its subjects.
pub(super) fn partitions(there: &Map<String, Value>) -> Option<u16> {
    let noted = there.get("metadata").and_then(|of| of.get(PARTITIONS));
    if let Some(noted) = noted.and_then(Value::as_str) {
        return noted.parse().ok();
    }
    let prefix = text(there, "name").to_ascii_lowercase();
    let subjects = there.get("subjects").and_then(Value::as_array)?;
    let numbers = subjects.iter().filter_map(|subject| {
        let rest = subject.as_str()?.strip_prefix(&prefix)?;
        rest.strip_prefix('.')?
            .strip_suffix(".>")?
            .parse::<u16>()
            .ok()
    });
    numbers.max().and_then(|last| last.checked_add(1))
}

/// Whether there is hardly any room left; a limit of nothing is none.
pub(super) fn is_full(used: u64, max: u64) -> bool {
    max > 0 && u128::from(used) * 100 >= u128::from(max) * ROOM_PERCENT_MAX
}

fn with(mut config: Map<String, Value>, key: &str, value: Value) -> Map<String, Value> {
    config.insert(key.to_owned(), value);
    config
}

/// A server leaves out what is nothing.
fn number(config: &Map<String, Value>, key: &str) -> i64 {
    config.get(key).and_then(Value::as_i64).unwrap_or(0)
}

fn text<'a>(config: &'a Map<String, Value>, key: &str) -> &'a str {
    config.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn is_on(config: &Map<String, Value>, key: &str) -> bool {
    config.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn copies(number: i64) -> String {
    match number {
        1 => "one copy, not three".to_owned(),
        number => format!("{number} copies, not three"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new("EVENTS", 2).unwrap()
    }

    fn events(changed: &[(&str, Value)]) -> Map<String, Value> {
        let [.., events] = Wanted::all(&names(), 3);
        let mut config = events.config;
        for (key, value) in changed {
            config.insert((*key).to_owned(), value.clone());
        }
        config
    }

    fn risks(changed: &[(&str, Value)], state: Value) -> Vec<Risk> {
        let [.., wanted] = Wanted::all(&names(), 3);
        let state = state.as_object().cloned().unwrap_or_default();
        let found = wanted.differs(&events(changed), &state);
        found.iter().map(|finding| finding.risk).collect()
    }

    #[test]
    fn each_difference_is_found_by_itself() {
        assert_eq!(risks(&[], json!({})), []);
        // What a server leaves out, and what does no harm.
        assert_eq!(risks(&[("max_msgs_per_subject", json!(0))], json!({})), []);
        assert_eq!(risks(&[("num_replicas", json!(5))], json!({})), []);
        for (key, value, risk) in [
            ("num_replicas", json!(1), Risk::FewReplicas),
            ("storage", json!("memory"), Risk::Memory),
            ("retention", json!("workqueue"), Risk::Retention),
            ("retention", json!("interest"), Risk::Retention),
            ("discard", json!("old"), Risk::DiscardOld),
            ("max_age", json!(7_000_000_000_u64), Risk::MaxAge),
            ("max_msgs_per_subject", json!(10), Risk::PerSubject),
            ("allow_atomic", json!(false), Risk::NoAtomic),
            ("allow_direct", Value::Null, Risk::NoDirect),
            ("deny_purge", json!(true), Risk::PurgeDenied),
            ("subjects", json!(["events.>"]), Risk::Subjects),
            ("subjects", json!(["events.0.>"]), Risk::Subjects),
        ] {
            assert_eq!(
                risks(&[(key, value.clone())], json!({})),
                [risk],
                "{key} {value}"
            );
        }
        let full = [("max_bytes", json!(1000))];
        assert_eq!(risks(&full, json!({"bytes": 900})), [Risk::NoRoom]);
        assert_eq!(risks(&full, json!({"bytes": 899})), []);
    }

    #[test]
    fn mending_changes_what_matters_and_nothing_else() {
        let [.., wanted] = Wanted::all(&names(), 3);
        let there = events(&[
            ("retention", json!("interest")),
            ("num_replicas", json!(5)),
            ("max_bytes", json!(7)),
            ("metadata", json!({"owner": "ops"})),
        ]);
        let mended = wanted.mended(&there);
        assert_eq!(mended["retention"], "limits");
        assert_eq!(
            (&mended["num_replicas"], &mended["max_bytes"]),
            (&json!(5), &json!(7))
        );
        assert_eq!(mended["metadata"]["owner"], "ops");
        assert_eq!(mended["metadata"][PARTITIONS], "2");
        let mended = mended.as_object().unwrap();
        assert_eq!(wanted.differs(mended, &Map::new()), []);
        // What a server leaves out is no change.
        let mut bare = events(&[]);
        bare.remove("max_age");
        bare.remove("deny_purge");
        assert_eq!(wanted.mended(&bare), Value::Object(bare));
    }

    #[test]
    fn the_number_of_partitions_is_noted_or_counted() {
        assert_eq!(partitions(&events(&[])), Some(2));
        assert_eq!(partitions(&events(&[("metadata", json!({}))])), Some(2));
        let bare = events(&[("metadata", json!({})), ("subjects", json!(["events.>"]))]);
        assert_eq!(partitions(&bare), None);
        assert_eq!(
            partitions(&events(&[("metadata", json!({PARTITIONS: "64"}))])),
            Some(64)
        );
    }
}
