//! What the flusher makes of the log's answers, and what it remembers for a restart.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::bisect::Plan;
use super::machine::{Job, Machine, Pause, State};
use super::step::{Due, Entry, Now};
use crate::error::Error;
use crate::ledger::Settled;
use crate::log::{Memo, PausedMemo, Read};
use crate::millis::unix_ms;
use crate::observe;
use crate::outcome::{Answer, PauseReason};
use crate::sink::Request;

/// A `Retry-After` longer than this outlives a restart. A shorter one is not worth a write.
const REMEMBERED_WAIT: Duration = Duration::from_secs(5);

/// The disk refused; what it is asked next waits.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) since: SystemTime,
    pub(super) until: Due,
    pub(super) last_error: Answer,
}

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
            Ok(Read::End) => self.end_seen = Some(self.last_seq),
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
            }) => observe::lost(first, last),
            Some(Entry::Bury(letter, _)) => observe::buried(&letter),
            _ => {}
        }
        self.storage_works();
    }

    fn storage_failed(&mut self, error: &Error, now: &Now) {
        match error {
            Error::Closed => self.state = State::Closed,
            Error::Panicked { .. } => self.state = State::Failed(error.to_string()),
            _ => {
                let wait = self.storage.fail(None);
                if self.trouble.is_none() {
                    observe::flusher_storage_fault(error, wait);
                }
                let since = self.trouble.as_ref().map_or(now.wall, |known| known.since);
                self.trouble = Some(Trouble {
                    since,
                    until: now.after(wait),
                    last_error: Answer::from_detail(error.to_string()),
                });
            }
        }
    }

    fn storage_works(&mut self) {
        if self.trouble.take().is_some() {
            observe::flusher_storage_works();
        }
        self.storage.reset();
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
            not_before_ms: self.not_before_ms,
            batch_events: self.limit.memo(),
        }
    }

    pub(super) fn remembered(&mut self, result: Result<(), Error>, now: &Now) {
        let job = self.job.take();
        match (result, job) {
            (Ok(()), Some(Job::Remember(memo))) => {
                self.remembered = Some(memo);
                self.is_unsure = false;
            }
            (Ok(()), _) => {}
            (Err(error @ (Error::Closed | Error::Panicked { .. })), _) => {
                self.storage_failed(&error, now);
            }
            (Err(error), job) => {
                observe::memo_not_kept(&error);
                self.is_unsure = true;
                self.remember_again = Some(now.after(self.delivery.backoff_max));
                self.answer_refused(job, error);
            }
        }
    }

    fn answer_refused(&mut self, job: Option<Job>, error: Error) {
        let paused = self.memo().paused;
        if !self.is_asked {
            return;
        }
        match job {
            Some(Job::Remember(memo)) if memo.paused == paused => {
                self.is_asked = false;
                self.answer = Some(Err(error));
            }
            // It was about something older; what was asked for since has its own try.
            _ => self.remember_again = None,
        }
    }

    pub(super) fn recalled(&mut self, result: Result<Memo, Error>, now: &Now) {
        self.job = None;
        let memo = match result {
            Ok(memo) => memo,
            Err(error) => {
                if std::mem::take(&mut self.is_asked) {
                    self.answer = Some(Err(error.again()));
                }
                return self.storage_failed(&error, now);
            }
        };
        self.storage_works();
        self.limit.recall(memo.batch_events);
        // The wall clock may have jumped since: no wait is longer than it could have been.
        let ahead_ms = memo
            .not_before_ms
            .map_or(0, |ms| ms.saturating_sub(unix_ms(now.wall)));
        let wait = Duration::from_millis(ahead_ms).min(self.delivery.retry_after_max);
        if !wait.is_zero() && !self.resumed_early {
            self.not_before_ms = memo.not_before_ms;
        }
        let paused_already = matches!(self.state, State::Paused(_));
        match memo.paused.clone() {
            _ if self.resumed_early || paused_already => {}
            Some(paused) => self.pause_again(paused, wait, now),
            None if !wait.is_zero() => {
                self.failing_since = Some(now.wall);
                self.state = State::BackingOff {
                    until: now.after(wait),
                    last_error: Answer::from_detail("the receiver asked to wait"),
                };
            }
            None => {}
        }
        self.remembered = Some(memo);
    }

    /// Takes up a pause of an earlier process. Its cause may be gone, such as by a new key, so
    /// the first probe does not wait longer than the receiver asked for.
    fn pause_again(&mut self, paused: PausedMemo, wait: Duration, now: &Now) {
        observe::paused(paused.reason, &paused.answer);
        if paused.reason == PauseReason::SystemicRejection {
            self.refusals = self.delivery.breaker_refusals.saturating_sub(1);
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

    /// Keeps a long `Retry-After` for the next process.
    pub(super) fn keep_floor(&mut self, floor: Option<Duration>, now: &Now) {
        self.not_before_ms = floor
            .filter(|wait| *wait > REMEMBERED_WAIT)
            .map(|wait| unix_ms(now.after(wait).wall));
    }
}
