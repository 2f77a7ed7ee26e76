//! What a queue is doing, in a sentence, and what a person can do about it in another.

use std::time::SystemTime;

use serde::Serialize;

use crate::outcome::{Answer, PauseReason};
use crate::status::{FlusherState, Status};

/// Characters shown of what the receiver said.
const SAID_MAX: usize = 200;

/// How a sentence is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tone {
    /// A person has to do something.
    Act,
    /// It goes on by itself, or a person wanted it so.
    Wait,
    /// There is nothing to deliver with, and is not meant to be.
    Off,
    Well,
}

/// A sentence about a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Sentence {
    /// What it is about, for programs.
    pub(super) kind: &'static str,
    pub(super) tone: Tone,
    pub(super) text: String,
    /// What to do about it.
    pub(super) todo: Option<String>,
    /// Since when, in milliseconds since 1970.
    pub(super) since_ms: Option<u64>,
    /// When it is tried again, in milliseconds since 1970.
    pub(super) until_ms: Option<u64>,
}

impl Sentence {
    pub(super) fn new(kind: &'static str, tone: Tone, text: impl Into<String>) -> Self {
        Self {
            kind,
            tone,
            text: text.into(),
            todo: None,
            since_ms: None,
            until_ms: None,
        }
    }

    pub(super) fn todo(mut self, todo: impl Into<String>) -> Self {
        self.todo = Some(todo.into());
        self
    }

    pub(super) fn since(mut self, since: SystemTime) -> Self {
        self.since_ms = Some(crate::millis::unix_ms(since));
        self
    }

    fn until(mut self, until: Option<SystemTime>) -> Self {
        self.until_ms = until.map(crate::millis::unix_ms);
        self
    }
}

/// An outage that lasts: it goes on while a request is under way.
#[derive(Clone, Debug)]
pub(super) struct Outage {
    pub(super) since: SystemTime,
    pub(super) last_error: Answer,
    /// Events that the receiver had judged when it began.
    pub(super) judged: u64,
}

/// What else is known of a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) outage: Option<&'a Outage>,
    pub(super) is_full: bool,
    pub(super) how_to_set_a_key: &'a str,
}

/// All there is to say, what matters most first: there is at least one sentence.
pub(super) fn sentences(status: &Status, known: Known<'_>) -> Vec<Sentence> {
    let mut all = Vec::new();
    if let Some(fault) = &status.storage_fault {
        let text = format!("The disk refused: {}.", cut(fault));
        all.push(Sentence::new("disk", Tone::Act, text).todo(
            "See that the disk is there, is writable and has room; then press \u{201c}Try now\u{201d}.",
        ));
    }
    if known.is_full {
        let text = "The queue is full: new events are refused until there is room.";
        all.push(Sentence::new("full", Tone::Act, text).todo(
            "Room comes with delivery: see below why it waits. Or discard dead letters, or restart with a larger max_bytes.",
        ));
    }
    all.push(delivery(&status.flusher, status.pending, known));
    if !status.incidents.is_empty() {
        let text = match status.incidents.len() {
            1 => "Damage was found in the spool.".to_owned(),
            n => format!("Damage was found in the spool in {n} places."),
        };
        let sentence = Sentence::new("incidents", Tone::Act, text);
        all.push(sentence.todo("Read the incidents below, then acknowledge them."));
    }
    // Stable: what was said first stays first among equals.
    all.sort_by_key(|sentence| sentence.tone);
    all
}

fn delivery(state: &FlusherState, pending: u64, known: Known<'_>) -> Sentence {
    match state {
        FlusherState::Absent => Sentence::new(
            "absent",
            Tone::Off,
            "This process keeps events and does not deliver them.",
        ),
        FlusherState::Idle if pending == 0 => {
            Sentence::new("idle", Tone::Well, "Nothing waits to be delivered.")
        }
        // Between two batches, or where none is made: what is too old is set aside.
        FlusherState::Idle => Sentence::new("delivering", Tone::Well, "Going through what waits."),
        FlusherState::Sending => match known.outage {
            Some(outage) => waiting(&outage.last_error).since(outage.since),
            None if pending == 0 => {
                Sentence::new("idle", Tone::Well, "Nothing waits to be delivered.")
            }
            None => Sentence::new("delivering", Tone::Well, "Delivering."),
        },
        FlusherState::BackingOff {
            since,
            until,
            last_error,
            ..
        } => waiting(last_error).since(*since).until(Some(*until)),
        FlusherState::Paused {
            reason,
            last_error,
            since,
            next_probe,
        } => paused(*reason, last_error, known.how_to_set_a_key)
            .since(*since)
            .until(*next_probe),
        FlusherState::Failed { message } => {
            let text = format!(
                "Delivery has ended by a fault of the program: {}.",
                cut(message)
            );
            Sentence::new("failed", Tone::Act, text)
                .todo("Restart the service. What waits is kept on disk.")
        }
        FlusherState::Closed => Sentence::new("closed", Tone::Off, "The queue is closed."),
    }
}

fn waiting(last_error: &Answer) -> Sentence {
    let said = said(last_error);
    match last_error.status {
        None => {
            let text = format!("Waiting for the network: {said}.");
            Sentence::new("network", Tone::Wait, text)
        }
        Some(429) => {
            let text = format!("The receiver asks to be sent less: {said}.");
            Sentence::new("slow_down", Tone::Wait, text)
        }
        Some(_) => {
            let text = format!("The receiver cannot take anything at present: {said}.");
            Sentence::new("receiver", Tone::Wait, text)
        }
    }
    .todo("Nothing has to be done: it is tried again by itself, and everything is kept.")
}

fn paused(reason: PauseReason, answer: &Answer, how_to_set_a_key: &str) -> Sentence {
    let said = said(answer);
    match reason {
        PauseReason::Requested => {
            Sentence::new("paused", Tone::Wait, "Delivery is paused on request.")
                .todo("Press \u{201c}Resume\u{201d} to deliver again.")
        }
        PauseReason::Credentials if answer.status.is_none() => {
            let text = format!("There is no key to deliver with yet: {said}.");
            Sentence::new("no_key", Tone::Act, text).todo(how_to_set_a_key)
        }
        PauseReason::Credentials => {
            let text = format!("The key is refused: {said}.");
            Sentence::new("key_refused", Tone::Act, text).todo(how_to_set_a_key)
        }
        PauseReason::Address => {
            let text = format!("The address is wrong: {said}.");
            Sentence::new("address", Tone::Act, text)
                .todo("Set BA_BASE_URL to the address of the API, and restart the service.")
        }
        PauseReason::SystemicRejection => {
            let text = format!("One event after the other is refused: {said}.");
            Sentence::new("rejection", Tone::Act, text).todo(
                "Mend what sends them, or what refuses them, then press \u{201c}Resume\u{201d}. Those that are still refused become dead letters.",
            )
        }
    }
}

/// What the receiver said, in one line.
fn said(answer: &Answer) -> String {
    let mut parts = Vec::new();
    parts.extend(answer.status.map(|status| format!("HTTP {status}")));
    parts.extend(answer.detail.clone());
    parts.extend(answer.errors.iter().cloned());
    if parts.is_empty() {
        return "no answer".to_owned();
    }
    cut(&parts.join(", "))
}

/// Without the full stop that is put behind it.
pub(super) fn cut(text: &str) -> String {
    let text = text.trim_end_matches('.');
    match text.char_indices().nth(SAID_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}\u{2026}", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::queue::Queue;

    const KNOWN: Known<'_> = Known {
        outage: None,
        is_full: false,
        how_to_set_a_key: "Type this.",
    };

    async fn status() -> Status {
        let dir = tempfile::tempdir().unwrap();
        let queue = Queue::builder(dir.path().join("spool")).open().await;
        let queue = queue.unwrap();
        let status = queue.status();
        queue.close(Duration::ZERO).await.unwrap();
        status
    }

    fn paused_by(reason: PauseReason, last_error: Answer) -> FlusherState {
        FlusherState::Paused {
            reason,
            last_error,
            since: SystemTime::UNIX_EPOCH,
            next_probe: None,
        }
    }

    #[tokio::test]
    async fn every_state_says_what_to_do_where_there_is_something_to_do() {
        let refused = || Answer::from_status(401);
        let mut status = status().await;
        for (state, kind, tone) in [
            (FlusherState::Idle, "idle", Tone::Well),
            (FlusherState::Absent, "absent", Tone::Off),
            (FlusherState::Closed, "closed", Tone::Off),
            (
                paused_by(PauseReason::Requested, Answer::default()),
                "paused",
                Tone::Wait,
            ),
            (
                paused_by(
                    PauseReason::Credentials,
                    Answer::from_detail("it is not set"),
                ),
                "no_key",
                Tone::Act,
            ),
            (
                paused_by(PauseReason::Credentials, refused()),
                "key_refused",
                Tone::Act,
            ),
            (
                paused_by(PauseReason::Address, refused()),
                "address",
                Tone::Act,
            ),
            (
                paused_by(PauseReason::SystemicRejection, refused()),
                "rejection",
                Tone::Act,
            ),
            (
                FlusherState::Failed {
                    message: "oh".to_owned(),
                },
                "failed",
                Tone::Act,
            ),
        ] {
            status.flusher = state;
            let all = sentences(&status, KNOWN);
            assert_eq!((all[0].kind, all[0].tone, all.len()), (kind, tone, 1));
            let has_todo = all[0].todo.is_some();
            assert_eq!(has_todo, matches!(tone, Tone::Act | Tone::Wait), "{kind}");
        }
        status.flusher = paused_by(PauseReason::Credentials, refused());
        let all = sentences(&status, KNOWN);
        assert_eq!(all[0].text, "The key is refused: HTTP 401.");
        assert_eq!(all[0].todo.as_deref(), Some("Type this."));
    }

    #[tokio::test]
    async fn an_outage_lasts_while_a_request_is_under_way_and_what_needs_a_person_comes_first() {
        let mut status = status().await;
        (status.flusher, status.pending) = (FlusherState::Sending, 1);
        assert_eq!(sentences(&status, KNOWN)[0].kind, "delivering");
        let outage = Outage {
            since: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
            last_error: Answer::from_detail("connection refused."),
            judged: 0,
        };
        let known = Known {
            outage: Some(&outage),
            is_full: true,
            ..KNOWN
        };
        let all = sentences(&status, known);
        let kinds: Vec<_> = all.iter().map(|sentence| sentence.kind).collect();
        assert_eq!(kinds, ["full", "network"]);
        assert_eq!(all[1].text, "Waiting for the network: connection refused.");
        assert_eq!(all[1].since_ms, Some(1000));
    }

    /// A million events that were too old went into the dead letters for minutes, and the page said that
    /// nothing waits.
    #[tokio::test]
    async fn nothing_waits_is_said_where_nothing_does() {
        let mut status = status().await;
        for (state, pending, kind) in [
            (FlusherState::Idle, 0, "idle"),
            (FlusherState::Sending, 0, "idle"),
            (FlusherState::Idle, 1, "delivering"),
            (FlusherState::Sending, 1, "delivering"),
        ] {
            (status.flusher, status.pending) = (state, pending);
            let all = sentences(&status, KNOWN);
            assert_eq!(all[0].kind, kind, "{pending}");
        }
    }
}
