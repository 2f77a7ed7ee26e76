//! What a receiver said of a batch, and what that means for it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the receiver said, kept for the log line, the status and the dead letter.
///
/// Texts come from outside: sinks cut them to a bounded length and remove control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Answer {
    /// The HTTP status, if an answer came at all.
    pub status: Option<u16>,
    /// The receiver's name for the request.
    pub request_id: Option<String>,
    /// The receiver's error texts.
    pub errors: Vec<String>,
    /// The receiver's warnings.
    pub warnings: Vec<String>,
    /// What else there is to say in one line: "connection refused", "HTML instead of JSON".
    pub detail: Option<String>,
}

impl Answer {
    /// An answer with only a status.
    #[must_use]
    pub fn from_status(status: u16) -> Self {
        Self {
            status: Some(status),
            ..Self::default()
        }
    }

    /// No answer, only a reason.
    #[must_use]
    pub fn from_detail(detail: impl Into<String>) -> Self {
        Self {
            detail: Some(detail.into()),
            ..Self::default()
        }
    }
}

impl From<&str> for Answer {
    fn from(detail: &str) -> Self {
        Self::from_detail(detail)
    }
}

impl From<String> for Answer {
    fn from(detail: String) -> Self {
        Self::from_detail(detail)
    }
}

/// What an answer means for the batch.
///
/// ```
/// use std::time::Duration;
///
/// use everpost::{Answer, Outcome, PauseReason};
///
/// Outcome::delivered();
/// Outcome::retry().because("the port is closed");
/// Outcome::retry().after(Duration::from_secs(30)).with_answer(Answer::from_status(503));
/// Outcome::poison("no field `text`");
/// Outcome::pause(PauseReason::Credentials).because("the password was refused");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What is to be done.
    pub verdict: Verdict,
    /// What was said.
    pub answer: Answer,
}

impl Outcome {
    /// Puts the two together.
    #[must_use]
    pub fn new(verdict: Verdict, answer: Answer) -> Self {
        Self { verdict, answer }
    }

    /// Every event of the batch was taken: [`Verdict::Delivered`].
    #[must_use]
    pub fn delivered() -> Self {
        Verdict::Delivered.into()
    }

    /// Send the same batch again later: [`Verdict::Retry`].
    #[must_use]
    pub fn retry() -> Self {
        Verdict::Retry { not_before: None }.into()
    }

    /// No sooner than so long from now. For a [`retry`](Self::retry); it changes no other verdict.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        if let Verdict::Retry { not_before } = &mut self.verdict {
            *not_before = Some(wait);
        }
        self
    }

    /// The request did not get through on a connection that stood: [`Verdict::Stalled`].
    #[must_use]
    pub fn stalled() -> Self {
        Verdict::Stalled.into()
    }

    /// The request was too large, send less at once: [`Verdict::Divide`].
    #[must_use]
    pub fn divide() -> Self {
        Verdict::Divide.into()
    }

    /// An event in the batch is refused, and this is why: [`Verdict::Poison`]. The words stand in
    /// the dead letter.
    #[must_use]
    pub fn poison(answer: impl Into<Answer>) -> Self {
        Self::new(Verdict::Poison, answer.into())
    }

    /// The events are not at fault, a person has to mend something: [`Verdict::Pause`].
    #[must_use]
    pub fn pause(reason: PauseReason) -> Self {
        Verdict::Pause(reason).into()
    }

    /// The same with what the receiver said.
    #[must_use]
    pub fn with_answer(mut self, answer: Answer) -> Self {
        self.answer = answer;
        self
    }

    /// The same with a reason in one line, beside what the receiver said.
    #[must_use]
    pub fn because(mut self, detail: impl Into<String>) -> Self {
        self.answer.detail = Some(detail.into());
        self
    }
}

impl From<Verdict> for Outcome {
    /// With nothing said.
    fn from(verdict: Verdict) -> Self {
        Self::new(verdict, Answer::default())
    }
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every event of it was taken.
    Delivered,
    /// Send the same batch again later; not before `not_before` from now, if given.
    Retry {
        /// The receiver's `Retry-After`.
        not_before: Option<Duration>,
    },
    /// A connection stood, but the request did not get through on it: its time was up, or it was
    /// cut while it was being sent. Send the same batch again later, and less at once if that goes
    /// on; no event is ever condemned for it.
    Stalled,
    /// The request was too large: send less at once. A single event is buried.
    Divide,
    /// An event in it is refused: find it, set it aside, deliver the others.
    Poison,
    /// The fault lies with the token or the address, not with the events: keep everything, wait.
    Pause(PauseReason),
}

/// Why delivery waits for a person, or for a probe to succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PauseReason {
    /// A person asked for it. Only `resume` ends it.
    Requested,
    /// The key is missing, wrong, expired or lacks a right (401, 402, 403).
    Credentials,
    /// The address is wrong or has moved (3xx, 404, 405, 410, 426, 451).
    Address,
    /// So many different events were refused in a row that the fault is not theirs.
    SystemicRejection,
}

/// Why nothing can be delivered at present, found without any request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hindrance {
    /// What kind of fault it is. [`PauseReason::Requested`] is none: only people request a pause.
    pub reason: PauseReason,
    /// What there is to say about it, for the status and the log.
    pub answer: Answer,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_says_what_its_constructor_is_called() {
        let wait = Duration::from_secs(3);
        let later = Outcome::retry().after(wait).because("busy");
        assert_eq!(
            later.verdict,
            Verdict::Retry {
                not_before: Some(wait)
            }
        );
        assert_eq!(later.answer, Answer::from("busy"));
        assert_eq!(Outcome::divide().after(wait), Outcome::divide());
        let answer = Answer::from_status(401);
        let paused = Outcome::pause(PauseReason::Credentials).with_answer(answer.clone());
        assert_eq!(
            paused,
            Outcome::new(Verdict::Pause(PauseReason::Credentials), answer)
        );
        assert_eq!(Outcome::poison("bad").verdict, Verdict::Poison);
        assert_eq!(Outcome::delivered().verdict, Verdict::Delivered);
        assert_eq!(Outcome::stalled().verdict, Verdict::Stalled);
    }
}
