//! What the log is owed, what is left in it, and when a log that refuses is asked next.

use std::time::Duration;

use super::fact::{Fact, Facts};
use super::step::{Entry, Now};
use super::trouble::DiskTrouble;
use crate::dead::DeadLetter;
use crate::error::Error;
use crate::id::{Seq, SeqRange};
use crate::ledger::Settled;
use crate::settings::Delivery;
use crate::status::FlusherState;

/// The log, as the flusher knows it.
#[derive(Debug)]
pub(super) struct Storage {
    /// What it is owed.
    entry: Option<Entry>,
    trouble: DiskTrouble,
    cursor: Seq,
    last_seq: Seq,
    /// It had nothing although `last_seq` was this: it is not asked again before that moves.
    end: Option<Seq>,
}

impl Storage {
    pub(super) fn new(delivery: &Delivery) -> Self {
        Self {
            entry: None,
            trouble: DiskTrouble::new(delivery),
            cursor: 0,
            last_seq: 0,
            end: None,
        }
    }

    /// Looks at the log's position.
    pub(super) fn look(&mut self, now: &Now) {
        self.cursor = self.cursor.max(now.cursor);
        self.last_seq = self.last_seq.max(now.last_seq);
    }

    /// The last settled sequence number.
    pub(super) fn cursor(&self) -> Seq {
        self.cursor
    }

    /// Where the next batch begins, if there may be one.
    pub(super) fn unread(&self) -> Option<Seq> {
        let may_be_more = self.last_seq > self.cursor && self.end != Some(self.last_seq);
        may_be_more.then(|| self.cursor.saturating_add(1))
    }

    /// It had no batch.
    pub(super) fn had_none(&mut self) {
        self.end = Some(self.last_seq);
    }

    /// It is asked for a batch even if it had none.
    pub(super) fn look_again(&mut self) {
        self.end = None;
    }

    /// Whether it is owed nothing, and everything in it is settled.
    pub(super) fn is_drained(&self) -> bool {
        self.entry.is_none() && self.last_seq <= self.cursor
    }

    /// What it is owed.
    pub(super) fn entry(&self) -> Option<&Entry> {
        self.entry.as_ref()
    }

    /// From now on it is owed that these events are settled.
    pub(super) fn settle(&mut self, range: SeqRange, how: Settled) {
        let SeqRange { first, last } = range;
        self.entry = Some(Entry::Settle { first, last, how });
    }

    /// From now on it is owed that this event is set aside.
    pub(super) fn bury(&mut self, letter: Box<DeadLetter>, how: Settled) {
        self.entry = Some(Entry::Bury(letter, how));
    }

    /// It has taken what it was owed.
    pub(super) fn took(&mut self, facts: &mut Facts) {
        match self.entry.take() {
            Some(Entry::Settle {
                first,
                last,
                how: Settled::Lost,
            }) => facts.note(Fact::Lost(first, last)),
            Some(Entry::Bury(letter, _)) => facts.note(Fact::Buried(letter)),
            _ => {}
        }
        self.works(facts);
    }

    /// It did what it was asked.
    pub(super) fn works(&mut self, facts: &mut Facts) {
        if self.trouble.over() {
            facts.note(Fact::StorageWorks);
        }
    }

    /// It refused, and is asked again after a wait, which grows.
    pub(super) fn refused(&mut self, error: &Error, facts: &mut Facts, now: &Now) {
        if let Some(wait) = self.trouble.refused(error, now) {
            facts.note(Fact::StorageFault(error.again(), wait));
        }
    }

    /// Whether it refused what it was asked last.
    pub(super) fn refuses(&self) -> bool {
        self.trouble.is_there()
    }

    /// Until when nothing is asked of it.
    pub(super) fn wait(&self, now: &Now) -> Option<Duration> {
        self.trouble.wait(now)
    }

    /// Ends the present wait.
    pub(super) fn try_now(&mut self, now: &Now) {
        self.trouble.try_now(now);
    }

    /// For people: that it refuses, if it does.
    pub(super) fn shown(&self) -> Option<FlusherState> {
        let shown = self.trouble.shown()?;
        Some(FlusherState::BackingOff {
            since: shown.since,
            until: shown.until,
            attempt: shown.attempts,
            last_error: shown.last_error.clone(),
        })
    }
}
