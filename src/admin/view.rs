//! A channel as the page shows it: nothing in it is of an event.

use std::collections::VecDeque;
use std::path::Path;

use serde::Serialize;

use super::channel::Shown;
use super::deed::Job;
use super::history::{Point, Rates};
use super::words::{Known, Sentence, sentences};
use crate::id::SeqRange;
use crate::incident::Incident;
use crate::ledger::{Ledger, LetterLedger};
use crate::millis::unix_ms;
use crate::observe::numbers::state_name;
use crate::outcome::Answer;
use crate::status::{FlusherState, Status};

/// Incidents that are sent along; all of them are in a list of their own.
const INCIDENTS_MAX: usize = 20;

/// What the receiver said, and how often in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Said {
    pub(super) at_ms: u64,
    pub(super) answer: Answer,
    pub(super) times: u64,
}

/// What is known of a channel beside its status.
#[derive(Debug)]
pub(super) struct Beside<'a> {
    pub(super) known: Known<'a>,
    pub(super) answers: &'a VecDeque<Said>,
    pub(super) rates: Rates,
    pub(super) point: Option<Point>,
    pub(super) job: Option<Job>,
}

/// A channel.
#[derive(Debug, Serialize)]
pub(super) struct View<'a> {
    name: &'a str,
    /// Where its events go.
    url: Option<&'a str>,
    spool: &'a Path,
    /// At least one, what matters most first.
    sentences: Vec<Sentence>,
    /// What the flusher does, for programs.
    state: &'static str,
    pending: u64,
    oldest_ms: Option<u64>,
    dead_letters: u64,
    last_seq: u64,
    rates: Rates,
    ledger: Ledger,
    /// Whether the books add up, counted from both sides.
    adds_up: bool,
    letters: LetterLedger,
    disk_bytes: u64,
    max_bytes: u64,
    missing: &'a [SeqRange],
    incidents: &'a [Incident],
    incident_count: usize,
    /// The newest last.
    answers: &'a VecDeque<Said>,
    requests: u64,
    job: Option<Job>,
    point: Option<Point>,
}

impl<'a> View<'a> {
    pub(super) fn new(shown: &'a Shown, status: &'a Status, beside: Beside<'a>) -> Self {
        let ledger = status.ledger;
        Self {
            name: shown.name(),
            url: shown.url(),
            spool: shown.queue().spool(),
            sentences: sentences(status, beside.known),
            state: state_name(&status.flusher),
            pending: status.pending,
            oldest_ms: status.oldest_pending.map(unix_ms),
            dead_letters: status.dead_letters,
            last_seq: status.last_seq,
            rates: beside.rates,
            ledger,
            adds_up: ledger.appended == status.last_seq
                && ledger.settled() == status.cursor
                && status.cursor.saturating_add(status.pending) == status.last_seq,
            letters: status.letters,
            disk_bytes: status.disk_bytes,
            max_bytes: status.max_bytes,
            missing: &status.missing,
            incidents: &status.incidents[..status.incidents.len().min(INCIDENTS_MAX)],
            incident_count: status.incidents.len(),
            answers: beside.answers,
            requests: status.requests,
            job: beside.job,
            point: beside.point,
        }
    }

    /// Whether an outage has begun or lasts by this state; `None` if the state does not say.
    pub(super) fn is_failing(state: &FlusherState) -> Option<bool> {
        match state {
            FlusherState::BackingOff { .. } => Some(true),
            FlusherState::Sending => None,
            _ => Some(false),
        }
    }
}
