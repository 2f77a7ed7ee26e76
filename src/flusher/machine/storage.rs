//! What the flusher makes of the log's answers, and what it remembers for a restart.

use std::time::{Duration, UNIX_EPOCH};

use super::{Machine, Pause, State};
use crate::dead::DeadLetter;
use crate::error::Error;
use crate::flusher::bisect::Plan;
use crate::flusher::fact::Fact;
use crate::flusher::step::{Entry, Now};
use crate::ledger::Settled;
use crate::log::{Memo, PausedMemo, Read};
use crate::millis::unix_ms;
use crate::outcome::{Answer, PauseReason};
use crate::sink::Request;

impl Machine {
    pub(super) fn found(&mut self, result: Result<Read, Error>, now: &Now) {
        self.job = None;
        match result {
            Ok(Read::Events(events)) => self.plan = Plan::new(events),
            Ok(Read::Missing(range)) => {
                self.entry = Some(Entry::Settle {
                    first: range.first,
                    last: range.last,
                    how: Settled::Lost,
                });
            }
            Ok(Read::End) => self.seen.end = Some(self.seen.last_seq),
            Err(error) => return self.storage_failed(&error, now),
        }
        self.storage_works();
    }

    /// What was found was ahead of its time.
    pub(super) fn ready(&mut self, request: Request) {
        self.job = None;
        self.plan = Plan::of(request);
        self.storage_works();
    }

    /// What was found is no event: it was never sent, and says nothing of the receiver.
    pub(super) fn unfit(&mut self, letter: Box<DeadLetter>) {
        self.job = None;
        self.entry = Some(Entry::Bury(letter, Settled::Dead));
        self.storage_works();
    }

    pub(super) fn stored(&mut self, result: Result<(), Error>, now: &Now) {
        self.job = None;
        if let Err(error) = result {
            return self.storage_failed(&error, now);
        }
        match self.entry.take() {
            Some(Entry::Settle {
                first,
                last,
                how: Settled::Lost,
            }) => self.note(Fact::Lost(first, last)),
            Some(Entry::Bury(letter, _)) => self.note(Fact::Buried(letter)),
            _ => {}
        }
        self.storage_works();
    }

    fn storage_failed(&mut self, error: &Error, now: &Now) {
        match error {
            Error::Closed => self.state = State::Closed,
            Error::Panicked { .. } => self.state = State::Failed(error.to_string()),
            _ => {
                if let Some(wait) = self.trouble.refused(error, now) {
                    self.note(Fact::StorageFault(error.again(), wait));
                }
            }
        }
    }

    fn storage_works(&mut self) {
        if self.trouble.over() {
            self.note(Fact::StorageWorks);
        }
    }

    /// What a restart must find.
    pub(super) fn memo(&self) -> Memo {
        let paused = match &self.state {
            State::Paused(pause) if !pause.is_hindered => Some(PausedMemo {
                reason: pause.reason,
                answer: pause.last_error.clone(),
                since_ms: unix_ms(pause.since),
            }),
            _ => None,
        };
        Memo {
            paused,
            not_before_ms: self.pacing.not_before_ms(),
            batch_events: self.limit.memo(),
        }
    }

    pub(super) fn remembered(&mut self, result: Result<(), Error>, now: &Now) {
        self.job = None;
        match result {
            Ok(()) => self.remembered.written(),
            Err(error @ (Error::Closed | Error::Panicked { .. })) => {
                self.storage_failed(&error, now);
            }
            Err(error) => {
                self.note(Fact::MemoNotKept(error.again()));
                let wanted = self.memo().paused;
                self.remembered.not_written(error, wanted.as_ref(), now);
            }
        }
    }

    pub(super) fn recalled(&mut self, result: Result<Memo, Error>, now: &Now) {
        self.job = None;
        let memo = match result {
            Ok(memo) => memo,
            Err(error) => {
                self.remembered.not_read(&error);
                return self.storage_failed(&error, now);
            }
        };
        self.storage_works();
        self.limit.recall(memo.batch_events);
        let wait = self.pacing.remaining(memo.not_before_ms, now);
        let resumed_early = self.remembered.was_resumed_early();
        if !wait.is_zero() && !resumed_early {
            self.pacing.recall(memo.not_before_ms);
        }
        let paused_already = matches!(self.state, State::Paused(_));
        match memo.paused.clone() {
            _ if resumed_early || paused_already => {}
            Some(paused) => self.pause_again(paused, wait, now),
            None if !wait.is_zero() => {
                self.pacing.is_failing(now);
                self.state = State::BackingOff {
                    until: now.after(wait),
                    last_error: Answer::from_detail("the receiver asked to wait"),
                };
            }
            None => {}
        }
        self.remembered.read(memo);
    }

    /// Takes up a pause of an earlier process. Its cause may be gone, such as by a new key, so
    /// the first probe does not wait longer than the receiver asked for.
    fn pause_again(&mut self, paused: PausedMemo, wait: Duration, now: &Now) {
        self.note(Fact::Paused(paused.reason, paused.answer.clone()));
        if paused.reason == PauseReason::SystemicRejection {
            self.breaker.recall();
        }
        let requested = paused.reason == PauseReason::Requested;
        let since = Duration::from_millis(paused.since_ms);
        self.state = State::Paused(Pause {
            reason: paused.reason,
            last_error: paused.answer,
            since: UNIX_EPOCH.checked_add(since).unwrap_or(now.wall),
            next_probe: (!requested).then(|| now.after(wait)),
            is_hindered: false,
        });
    }
}
