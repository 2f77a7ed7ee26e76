//! The goals of everpost, and whether a run met them.

use std::fmt;

/// Whether a goal was met.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// The case.
    pub(crate) case: String,
    /// The goal, in words.
    pub(crate) goal: String,
    /// What was measured, in words.
    pub(crate) measured: String,
    /// Whether that meets it; none if it could not be measured.
    pub(crate) met: Option<bool>,
}

impl Verdict {
    /// Judges a number that must be at least so much.
    pub(crate) fn at_least(
        case: &str,
        goal: &str,
        measured: f64,
        least: f64,
        text: String,
    ) -> Self {
        Self::of(
            case,
            goal,
            text,
            measured.is_finite().then_some(measured >= least),
        )
    }

    /// Judges a number that must be at most so much.
    pub(crate) fn at_most(case: &str, goal: &str, measured: f64, most: f64, text: String) -> Self {
        Self::of(
            case,
            goal,
            text,
            measured.is_finite().then_some(measured <= most),
        )
    }

    /// Puts a verdict together.
    pub(crate) fn of(case: &str, goal: &str, measured: String, met: Option<bool>) -> Self {
        Self {
            case: case.to_owned(),
            goal: goal.to_owned(),
            measured,
            met,
        }
    }

    /// The verdict in two words at most.
    pub(crate) fn word(&self) -> &'static str {
        match self.met {
            Some(true) => "met",
            Some(false) => "not met",
            None => "not measured",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            case,
            goal,
            measured,
            ..
        } = self;
        write!(f, "{}: {case}: {goal}: {measured}", self.word())
    }
}
