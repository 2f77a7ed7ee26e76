//! A line of the input that is not taken.

use everpost::exit;
use serde::Serialize;

use crate::lines::LinePlace;
use crate::out::{remark, remark_json};

/// Why a line is not taken. As JSON it is an error like every other, with its place beside it.
#[derive(Debug, Serialize)]
pub(crate) struct Refusal<'a> {
    error: String,
    hint: Option<&'a str>,
    code: u8,
    file: Option<&'a str>,
    line: u64,
}

impl<'a> Refusal<'a> {
    pub(crate) fn new(place: &'a LinePlace, reason: &str, hint: Option<&'a str>) -> Self {
        Self {
            error: format!("{place} is refused: {reason}"),
            hint,
            code: exit::REFUSED,
            file: place.file.as_deref(),
            line: place.number,
        }
    }

    /// Tells it on standard error.
    pub(crate) fn tell(&self, json: bool) {
        if json {
            return remark_json(self);
        }
        remark(&format!("everpost: {}", crate::text::plain(&self.error)));
        if let Some(hint) = self.hint {
            remark(&format!("hint: {hint}"));
        }
    }
}
