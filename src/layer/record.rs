//! What the program logged, with the types it logged it in.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use tracing::Level;
use tracing::field::{Field, Visit};

/// One logged event as the layer's formatter is given it.
///
/// As JSON, which is what the layer appends if no other format was chosen:
///
/// ```json
/// {"level":"WARN","target":"shop::orders","message":"no stock","fields":{"item":17},
///  "spans":[{"name":"request","fields":{"path":"/order"}}]}
/// ```
#[derive(Serialize)]
#[non_exhaustive]
pub struct Record<'a> {
    /// How bad it is.
    #[serde(serialize_with = "level_name")]
    pub level: Level,
    /// Where in the program it happened; usually a module.
    pub target: &'a str,
    /// The message; empty if there is none.
    pub message: &'a str,
    /// All other fields.
    pub fields: &'a Fields,
    /// The spans it happened in, the outermost first.
    pub spans: &'a [Span],
}

/// A span an event happened in.
#[derive(Clone, Serialize)]
#[non_exhaustive]
pub struct Span {
    /// Its name.
    pub name: &'static str,
    /// Its fields, as they were when the event happened.
    pub fields: Fields,
}

/// Fields in the order they were first recorded, each name once. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Fields(Arc<Vec<(&'static str, Value)>>);

/// The value of a field, in the type it was logged in.
///
/// As JSON, integers of every size are numbers with all their digits, and a float that JSON has
/// no number for is a text: `"NaN"`, `"inf"`, `"-inf"`.
#[derive(Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Value {
    /// A truth value.
    Bool(bool),
    /// An unsigned integer.
    U64(u64),
    /// A signed integer.
    I64(i64),
    /// A large unsigned integer.
    U128(u128),
    /// A large signed integer.
    I128(i128),
    /// A float.
    #[serde(serialize_with = "float")]
    F64(f64),
    /// A text; also what was logged by its `Debug` or `Display`, and an error with its sources.
    Text(String),
}

impl Fields {
    /// The value of a field.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| value)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }

    /// Sets a field; a name that is there keeps its place.
    fn set(&mut self, name: &'static str, value: Value) {
        let fields = Arc::make_mut(&mut self.0);
        match fields.iter_mut().find(|(n, _)| *n == name) {
            Some((_, old)) => *old = value,
            None => fields.push((name, value)),
        }
    }

    /// Sets all these fields.
    pub(super) fn merge(&mut self, newer: Self) {
        for (name, value) in newer.iter() {
            self.set(name, value.clone());
        }
    }

    /// Takes a field out, as a text.
    pub(super) fn take_text(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(n, _)| *n == name)?;
        Some(Arc::make_mut(&mut self.0).remove(at).1.to_string())
    }

    /// Takes out what the bridge from the `log` crate adds, and gives the true target.
    pub(super) fn take_log_target(&mut self) -> Option<String> {
        let target = self.take_text("log.target")?;
        Arc::make_mut(&mut self.0).retain(|(name, _)| !name.starts_with("log."));
        Some(target)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::U64(value) => value.fmt(f),
            Self::I64(value) => value.fmt(f),
            Self::U128(value) => value.fmt(f),
            Self::I128(value) => value.fmt(f),
            Self::F64(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), Value::Bool(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), Value::U64(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), Value::I64(value));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.set(field.name(), Value::U128(value));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.set(field.name(), Value::I128(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name(), Value::F64(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), Value::Text(value.to_owned()));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn StdError + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        self.set(field.name(), Value::Text(text));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field.name(), Value::Text(format!("{value:?}")));
    }
}

fn level_name<S: Serializer>(level: &Level, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(level.as_str())
}

fn float<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() {
        serializer.serialize_f64(*value)
    } else {
        serializer.collect_str(value)
    }
}
