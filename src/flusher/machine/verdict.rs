//! What the flusher makes of the receiver's answers.

use std::time::Duration;

use super::{Job, Machine, Pause, State};
use crate::dead::Cause;
use crate::flusher::fact::Fact;
use crate::flusher::shape::Change;
use crate::flusher::step::{Entry, Now};
use crate::ledger::Settled;
use crate::outcome::{Answer, Hindrance, Outcome, PauseReason, Verdict};

impl Machine {
    /// Takes the answer to the part of the plan that was sent last.
    pub(super) fn answered(&mut self, outcome: Outcome, now: &Now) {
        let then_pause = self.job.take() == Some(Job::Send { then_pause: true });
        let Outcome { verdict, answer } = outcome;
        self.told.last_answer = Some(answer.clone());
        if verdict != Verdict::Delivered {
            self.note(Fact::NotTaken(verdict, answer.clone()));
        }
        let floor = self.pacing.floor(verdict, now);
        match self.shape.answered(verdict, &answer, now) {
            Some(Change::Eased(gap)) => self.note(Fact::Eased(gap)),
            Some(Change::Over) => self.note(Fact::EasedNoMore),
            None => {}
        }
        match verdict {
            Verdict::Delivered => self.delivered(&answer, now),
            Verdict::Retry { .. } => self.retry(floor, answer, now),
            Verdict::Stalled => self.stalled(answer, now),
            Verdict::Divide => self.divide(answer, now),
            Verdict::Poison => self.refused(answer, now),
            Verdict::Pause(reason) => self.pause(reason, answer, now),
        }
        if then_pause {
            self.pause_on_request(now);
        }
    }

    fn delivered(&mut self, answer: &Answer, now: &Now) {
        let events = self.plan.front_len();
        let first = self.plan.front().first().map(|stored| stored.seq);
        let last = self.plan.delivered();
        self.note(Fact::Delivered(events, answer.clone()));
        self.judged(now);
        self.breaker.reset();
        self.limit.delivered(events, self.shape.took(now));
        if let (Some(first), Some(last)) = (first, last) {
            self.entry = Some(Entry::Settle {
                first,
                last,
                how: Settled::Delivered,
            });
        }
    }

    /// The receiver has looked at the events, whatever it made of them: whatever kept delivery
    /// from reaching it is over.
    fn judged(&mut self, now: &Now) {
        match &self.state {
            State::Paused(pause) => self.note(Fact::Resumed(pause.reason)),
            _ if self.pacing.attempts() > 0 => {
                self.note(Fact::BackingOffEnded(self.pacing.attempts()));
                let is_hurried = self.pacing.is_nudged() || self.rest.closing.is_some();
                if let Some(outage) = self.pacing.failing_for(now).filter(|_| !is_hurried) {
                    self.shape.returned(outage, now);
                }
            }
            _ => {}
        }
        self.state = State::Sending;
        self.pacing.reached();
    }

    fn retry(&mut self, floor: Option<Duration>, last_error: Answer, now: &Now) {
        if matches!(self.state, State::Paused(_)) {
            return self.probe_later(floor, now);
        }
        let (wait, until) = self.pacing.failed(floor, now);
        if self.pacing.attempts() == 1 {
            self.note(Fact::BackingOff(wait, last_error.clone()));
        }
        self.state = State::BackingOff { until, last_error };
    }

    /// A connection stood and the request did not get through. Once may be chance; after that the
    /// way may be slower than the batch is large, so less is sent at once. An event alone is tried
    /// for ever.
    fn stalled(&mut self, answer: Answer, now: &Now) {
        if self.pacing.stalled() && self.plan.front_len() > 1 {
            let half = self.plan.divided();
            self.limit.slow(half);
            self.note(Fact::Slowed(half));
        }
        self.retry(None, answer, now);
    }

    fn divide(&mut self, answer: Answer, now: &Now) {
        if self.plan.front_len() <= 1 {
            return self.condemn(Cause::TooLarge, answer, now);
        }
        self.judged(now);
        let last = self.plan.front().last().map_or(0, |stored| stored.seq);
        let half = self.plan.divided();
        self.limit.shrink(half, last);
        self.note(Fact::Divided(half));
    }

    fn refused(&mut self, answer: Answer, now: &Now) {
        if self.plan.front_len() <= 1 {
            return self.condemn(Cause::Refused, answer, now);
        }
        self.judged(now);
        self.plan.refused();
    }

    /// The receiver refused an event alone. It is buried, unless so many different ones were
    /// refused in a row that the fault cannot be theirs: the one that completes the number stays
    /// in the queue, and delivery pauses.
    fn condemn(&mut self, cause: Cause, answer: Answer, now: &Now) {
        if self.is_paused_for(PauseReason::SystemicRejection) {
            return self.probe_later(None, now);
        }
        self.judged(now);
        if self.breaker.refused() {
            return self.pause(PauseReason::SystemicRejection, answer, now);
        }
        if let Some(item) = self.plan.take_first() {
            if cause == Cause::TooLarge {
                self.limit.blame(item.stored.seq);
            }
            let letter = item.letter(cause, answer, now.wall);
            self.entry = Some(Entry::Bury(Box::new(letter), Settled::Dead));
        }
    }

    fn pause(&mut self, reason: PauseReason, last_error: Answer, now: &Now) {
        if self.is_paused_for(reason) {
            return self.probe_later(None, now);
        }
        self.note(Fact::Paused(reason, last_error.clone()));
        let since = match &self.state {
            State::Paused(pause) => pause.since,
            _ => now.wall,
        };
        self.state = State::Paused(Pause {
            reason,
            last_error,
            since,
            next_probe: None,
            is_hindered: false,
        });
        // A pause that the sink calls requested ends as one: by a person.
        if reason != PauseReason::Requested {
            self.probe_later(None, now);
        }
    }

    /// The sink says what keeps it from delivering, or that nothing does.
    pub(super) fn checked(&mut self, hindrance: Option<Hindrance>, now: &Now) {
        self.job = None;
        // Only people request a pause.
        let hindrance = hindrance.filter(|found| found.reason != PauseReason::Requested);
        match (hindrance, &self.state) {
            (Some(found), _) => self.hindered(found, now),
            (None, State::Paused(pause)) if pause.is_hindered => {
                self.note(Fact::Resumed(pause.reason));
                self.state = State::Sending;
                self.pacing.probes_end();
            }
            (None, _) => {}
        }
    }

    /// A pause that a person or the receiver began stands. One for the same reason is now the
    /// sink's own, because what it says is the news.
    fn hindered(&mut self, found: Hindrance, now: &Now) {
        let Hindrance { reason, answer } = found;
        match &mut self.state {
            State::Paused(pause) if pause.reason == PauseReason::Requested => return,
            State::Paused(pause) if pause.is_hindered || pause.reason == reason => {
                pause.reason = reason;
                pause.last_error = answer;
            }
            State::Paused(_) => return self.probe_later(None, now),
            _ => {
                self.note(Fact::Paused(reason, answer.clone()));
                self.state = State::Paused(Pause {
                    reason,
                    last_error: answer,
                    since: now.wall,
                    next_probe: None,
                    is_hindered: true,
                });
            }
        }
        if let State::Paused(pause) = &mut self.state {
            pause.is_hindered = true;
        }
        self.probe_later(None, now);
    }

    fn probe_later(&mut self, floor: Option<Duration>, now: &Now) {
        let probe = self.pacing.probe(floor, now);
        if let State::Paused(pause) = &mut self.state {
            pause.next_probe = Some(probe);
        }
    }
}
