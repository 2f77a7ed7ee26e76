//! Whether one message is what its channel documents. Pure: a value in, the faults out.
//!
//! What the documentation does not list is accepted: unknown fields anywhere, and empty lists.
//! A field that is there must have its documented type; `null` is not a way to leave it out. The
//! texts name the field and never repeat a value, for values are personal data.

use std::fmt;

use serde_json::Value;

use super::schema::{ENVELOPE, Field, INNER, Need, ObjectShape, ValueKind};
use crate::intake::UNIVERSAL;

/// Checks one message: field by field for the channel `universal`, and only for being an object
/// for any other.
///
/// # Errors
/// One text for each fault.
pub(super) fn validate(channel: &str, message: &Value) -> Result<(), Vec<String>> {
    let root = FieldPath::Root("message");
    let mut faults = Vec::new();
    if !message.is_object() {
        faults.push(format!("{root} must be an object"));
    } else if channel == UNIVERSAL {
        universal(message, &root, &mut faults);
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}

/// The documentation contradicts itself: its schema nests the inner message under `message`, its
/// example does not. Both are accepted; a field `message` says which one it is.
fn universal(message: &Value, root: &FieldPath<'_>, faults: &mut Vec<String>) {
    check_shape(&ENVELOPE, message, root, faults);
    match message.get("message") {
        Some(inner) => check_shape(&INNER, inner, &FieldPath::Field(root, "message"), faults),
        None => check_shape(&INNER, message, root, faults),
    }
}

fn check_shape(
    shape: &ObjectShape,
    value: &Value,
    place: &FieldPath<'_>,
    faults: &mut Vec<String>,
) {
    let Some(object) = value.as_object() else {
        faults.push(format!("{place} must be an object"));
        return;
    };
    for field in shape.fields {
        let here = FieldPath::Field(place, field.name);
        match object.get(field.name) {
            Some(value) => check_kind(&field.kind, value, &here, faults),
            None if field.required => faults.push(format!("{here} is required")),
            None => {}
        }
    }
    match shape.need {
        Need::Nothing => {}
        Need::AnyOf(names) => {
            if !names.iter().any(|name| object.contains_key(*name)) {
                faults.push(format!("{place} must have one of: {}", names.join(", ")));
            }
        }
        Need::ExactlyOne => {
            let there = |field: &&Field| object.contains_key(field.name);
            if shape.fields.iter().filter(there).count() != 1 {
                let names: Vec<&str> = shape.fields.iter().map(|field| field.name).collect();
                faults.push(format!(
                    "{place} must have exactly one of: {}",
                    names.join(", ")
                ));
            }
        }
    }
}

fn check_kind(kind: &ValueKind, value: &Value, place: &FieldPath<'_>, faults: &mut Vec<String>) {
    let wanted = match kind {
        ValueKind::Object(shape) => return check_shape(shape, value, place, faults),
        ValueKind::List(shape) => return check_list(shape, value, place, faults),
        ValueKind::Choice(choices) => {
            if !value.as_str().is_some_and(|text| choices.contains(&text)) {
                faults.push(format!("{place} must be one of: {}", choices.join(", ")));
            }
            return;
        }
        ValueKind::Text if !value.is_string() => "a string",
        ValueKind::Integer if !is_integer(value) => "an integer",
        ValueKind::Number if !value.is_number() => "a number",
        ValueKind::Time if !value.as_f64().is_some_and(|time| time >= 0.0) => {
            "a number of milliseconds that is not negative"
        }
        ValueKind::Flag if !value.is_boolean() => "true or false",
        ValueKind::Text
        | ValueKind::Integer
        | ValueKind::Number
        | ValueKind::Time
        | ValueKind::Flag => return,
    };
    faults.push(format!("{place} must be {wanted}"));
}

fn check_list(shape: &ObjectShape, value: &Value, place: &FieldPath<'_>, faults: &mut Vec<String>) {
    let Some(items) = value.as_array() else {
        faults.push(format!("{place} must be a list"));
        return;
    };
    for (index, item) in items.iter().enumerate() {
        check_shape(shape, item, &FieldPath::Item(place, index), faults);
    }
}

/// A JSON number has no types of its own: `5.0` is the integer five.
fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

/// Where in the message a value stands. It is only written out when there is a fault to report.
enum FieldPath<'a> {
    Root(&'static str),
    Field(&'a FieldPath<'a>, &'static str),
    Item(&'a FieldPath<'a>, usize),
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

#[cfg(test)]
mod tests;
