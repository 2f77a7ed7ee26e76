//! What the flusher makes of the receiver's answers, and of the sink's.

use super::{Doing, Machine};
use crate::dead::Cause;
use crate::flusher::fact::Fact;
use crate::flusher::step::Now;
use crate::ledger::Settled;
use crate::outcome::{Answer, Hindrance, Outcome, PauseReason, Verdict};

impl Machine {
    /// Takes the answer to the part of the plan that was sent last.
    pub(super) fn answered(&mut self, outcome: Outcome, now: &Now) {
        let then_pause = self.doing.take() == Some(Doing::Send { then_pause: true });
        let Outcome { verdict, answer } = outcome;
        self.facts.answered(verdict, &answer);
        let floor = self.flow.floor(verdict, now);
        if let Some(fact) = self.outbox.answered(verdict, &answer, now) {
            self.facts.note(fact);
        }
        match verdict {
            Verdict::Delivered => self.delivered(answer, now),
            Verdict::Retry { .. } => self.flow.retry(floor, answer, &mut self.facts, now),
            Verdict::Stalled => self.stalled(answer, now),
            Verdict::Divide => self.divide(answer, now),
            Verdict::Poison => self.refused(answer, now),
            Verdict::Pause(reason) => self.flow.pause(reason, answer, &mut self.facts, now),
        }
        if then_pause {
            self.pause_on_request(now);
        }
    }

    fn delivered(&mut self, answer: Answer, now: &Now) {
        let (events, range) = self.outbox.delivered(now);
        self.facts.note(Fact::Delivered(events, answer));
        self.judged(now);
        self.flow.delivered();
        if let Some(range) = range {
            self.storage.settle(range, Settled::Delivered);
        }
    }

    /// The receiver has looked at the events. After an outage that has ended by itself, not all
    /// devices return at the same moment.
    fn judged(&mut self, now: &Now) {
        let outage = self.flow.judged(&mut self.facts, now);
        if let Some(outage) = outage.filter(|_| !self.alarm.is_closing()) {
            self.outbox.returned(outage, now);
        }
    }

    /// After the first in a row the way may be slower than the batch is large, so less is sent at
    /// once. An event alone is tried for ever.
    fn stalled(&mut self, answer: Answer, now: &Now) {
        if self.flow.stalled() && !self.outbox.is_alone() {
            let half = self.outbox.slow();
            self.facts.note(Fact::Slowed(half));
        }
        self.flow.retry(None, answer, &mut self.facts, now);
    }

    fn divide(&mut self, answer: Answer, now: &Now) {
        if self.outbox.is_alone() {
            return self.condemn(Cause::TooLarge, answer, now);
        }
        self.judged(now);
        let half = self.outbox.divide();
        self.facts.note(Fact::Divided(half));
    }

    fn refused(&mut self, answer: Answer, now: &Now) {
        if self.outbox.is_alone() {
            return self.condemn(Cause::Refused, answer, now);
        }
        self.judged(now);
        self.outbox.refused();
    }

    /// The receiver refused an event alone. It is buried, unless so many different ones were
    /// refused in a row that the fault cannot be theirs: the one that completes the number stays
    /// in the queue, and delivery pauses.
    fn condemn(&mut self, cause: Cause, answer: Answer, now: &Now) {
        let reason = PauseReason::SystemicRejection;
        if self.flow.is_paused_for(reason) {
            return self.flow.probe_later(None, now);
        }
        self.judged(now);
        if self.flow.refused() {
            return self.flow.pause(reason, answer, &mut self.facts, now);
        }
        if let Some(item) = self.outbox.condemn(cause) {
            let letter = item.letter(cause, answer, now.wall);
            self.storage.bury(Box::new(letter), Settled::Dead);
        }
    }

    /// The sink says what keeps it from delivering, or that nothing does.
    pub(super) fn checked(&mut self, hindrance: Option<Hindrance>, now: &Now) {
        self.doing = None;
        self.flow.checked(hindrance, &mut self.facts, now);
    }
}
