//! What the flusher makes of the log's answers.

use super::Machine;
use crate::dead::DeadLetter;
use crate::error::Error;
use crate::flusher::bisect::Plan;
use crate::flusher::fact::Fact;
use crate::flusher::step::Now;
use crate::ledger::Settled;
use crate::log::{Memo, Read};
use crate::sink::Request;

impl Machine {
    pub(super) fn found(&mut self, result: Result<Read, Error>, now: &Now) {
        self.doing = None;
        match result {
            Ok(Read::Events(events)) => self.outbox.fill(Plan::new(events)),
            Ok(Read::Missing(range)) => self.storage.settle(range, Settled::Lost),
            Ok(Read::End) => self.storage.had_none(),
            Err(error) => return self.log_failed(&error, now),
        }
        self.storage.works(&mut self.facts);
    }

    /// What was found was ahead of its time.
    pub(super) fn ready(&mut self, request: Request) {
        self.doing = None;
        self.outbox.fill(Plan::of(request));
        self.storage.works(&mut self.facts);
    }

    /// What was found is no event: it was never sent, and says nothing of the receiver.
    pub(super) fn unfit(&mut self, letter: Box<DeadLetter>) {
        self.doing = None;
        self.storage.bury(letter, Settled::Dead);
        self.storage.works(&mut self.facts);
    }

    pub(super) fn stored(&mut self, result: Result<(), Error>, now: &Now) {
        self.doing = None;
        match result {
            Ok(()) => self.storage.took(&mut self.facts),
            Err(error) => self.log_failed(&error, now),
        }
    }

    fn log_failed(&mut self, error: &Error, now: &Now) {
        match error {
            Error::Closed => self.flow.close(),
            Error::Panicked { .. } => self.flow.fail(error.to_string()),
            _ => self.storage.refused(error, &mut self.facts, now),
        }
    }

    pub(super) fn remembered(&mut self, result: Result<(), Error>, now: &Now) {
        self.doing = None;
        match result {
            Ok(()) => self.remembered.written(),
            Err(error @ (Error::Closed | Error::Panicked { .. })) => self.log_failed(&error, now),
            Err(error) => {
                self.facts.note(Fact::MemoNotKept(error.again()));
                let wanted = self.memo().paused;
                self.remembered.not_written(error, wanted.as_ref(), now);
            }
        }
    }

    pub(super) fn recalled(&mut self, result: Result<Memo, Error>, now: &Now) {
        self.doing = None;
        let memo = match result {
            Ok(memo) => memo,
            Err(error) => {
                self.remembered.not_read(&error);
                return self.log_failed(&error, now);
            }
        };
        self.storage.works(&mut self.facts);
        self.outbox.recall(memo.batch_events);
        let resumed_early = self.remembered.was_resumed_early();
        self.flow.recall(&memo, resumed_early, &mut self.facts, now);
        self.remembered.read(memo);
    }
}
