//! What a worker does, for people.

use serde::Serialize;

use crate::flusher::FlusherView;
use crate::id::Seq;
use crate::ledger::Ledger;
use crate::log::Position;
use crate::outcome::Answer;
use crate::status::FlusherState;

/// What a worker does at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// The name by which records and books know it.
    pub name: String,
    /// The partitions that it has, in order.
    pub held: Vec<Held>,
    /// What the servers do not let it do at present, in their words: a person must act. It tries again by
    /// itself, with the credentials that are in the file then.
    pub trouble: Option<String>,
}

impl WorkerStatus {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            held: Vec::new(),
            trouble: None,
        }
    }
}

/// A partition that a worker has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Held {
    /// Its number.
    pub partition: u16,
    /// What its flusher is doing, and why.
    #[serde(flatten)]
    pub state: FlusherState,
    /// The receiver's last answer.
    pub last_answer: Option<Answer>,
    /// Its books; `appended` are those that left and those that are known to wait.
    pub ledger: Ledger,
    /// Events that are known to wait.
    pub pending: Seq,
    /// Requests sent since this worker has it.
    pub requests: u64,
    /// Whether it is about to be given up.
    pub is_leaving: bool,
}

impl Held {
    pub(super) fn new(
        partition: u16,
        position: &Position,
        view: FlusherView,
        is_leaving: bool,
    ) -> Self {
        Self {
            partition,
            state: view.state,
            last_answer: view.last_answer,
            ledger: position.ledger,
            pending: position.ledger.pending(),
            requests: view.requests,
            is_leaving,
        }
    }
}
