//! Decides what the flusher does: state and input to state and action.
//!
//! Nothing here waits, sleeps, touches a file, reads a clock or writes a log line, so every path is tested without a
//! runtime. The task (`task.rs`) carries out one [`Action`] at a time and reports what came of it
//! as the next [`Input`]; what a person or the sink wants comes as an input at any time. The
//! inputs are taken in by `machine/verdict.rs`, `machine/answers.rs` and `machine/orders.rs`; this
//! file chooses the next action. What it chooses by is decided each by a type of its own: whether
//! delivery goes on ([`Flow`]), which events go into the next request ([`Outbox`]), what the log is
//! owed ([`Storage`]) and what a restart finds ([`Remembered`]).
//!
//! What comes first when nothing is under way, in [`Machine::advance`]:
//!
//! 1. The deadline of a close ends everything.
//! 2. What is owed to the log, a settle or a bury. If the disk refuses, this alone is tried again,
//!    even during a pause; the batch is not sent again for it.
//! 3. The memo, if it differs from what was remembered last. If the disk refuses, delivery goes on.
//! 4. A pause or a wait.
//! 5. The next part of the plan; if there is none, the next batch; if there is none, rest.
//!
//! Waits are counted on the monotonic clock (`Now::mono`). The wall clock is only shown, and
//! asked for the age of events, which `age.rs` does not take at its word.

mod answers;
mod orders;
mod verdict;

use std::time::Duration;

use super::alarm::Alarm;
use super::bisect::PlannedEvent;
use super::fact::{Fact, Facts};
use super::flow::{Flow, Wait};
use super::outbox::{Offer, Outbox};
use super::remembered::Remembered;
use super::step::{Action, Entry, Input, Now, Reading};
use super::storage::Storage;
use crate::dead::Cause;
use crate::id::Seq;
use crate::ledger::Settled;
use crate::log::Memo;
use crate::outcome::{Answer, PauseReason};
use crate::settings::Delivery;
use crate::status::{FlusherState, PaceStatus};

/// The action that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Log,
    Check,
    Send {
        /// A pause was asked for meanwhile; it begins after the answer.
        then_pause: bool,
    },
    Remember,
}

/// The flusher's mind.
#[derive(Debug)]
pub(crate) struct Machine {
    doing: Option<Doing>,
    flow: Flow,
    outbox: Outbox,
    storage: Storage,
    remembered: Remembered,
    alarm: Alarm,
    facts: Facts,
}

impl Machine {
    pub(crate) fn new(delivery: &Delivery, max_age: Option<Duration>) -> Self {
        Self {
            doing: None,
            flow: Flow::new(delivery),
            outbox: Outbox::new(delivery, max_age),
            storage: Storage::new(delivery),
            remembered: Remembered::new(delivery.backoff_max),
            alarm: Alarm::default(),
            facts: Facts::default(),
        }
    }

    /// Before anything is sent, the sink is asked whether it could.
    pub(crate) fn check_first(mut self) -> Self {
        self.flow.check_first();
        self
    }

    /// Takes one input and gives the action to begin, if there is one. After [`Action::End`]
    /// there is no other.
    pub(crate) fn step(&mut self, input: Input, now: &Now) -> Option<Action> {
        self.storage.look(now);
        self.outbox.look(now);
        self.alarm.clear();
        match input {
            Input::Recalled(result) => self.recalled(result, now),
            Input::Found(result) => self.found(result, now),
            Input::Ready(request) => self.ready(request),
            Input::Unfit(letter) => self.unfit(letter),
            Input::Checked(hindrance) => self.checked(hindrance, now),
            Input::Answered(outcome) => self.answered(outcome, now),
            Input::Stored(result) => self.stored(result, now),
            Input::Remembered(result) => self.remembered(result, now),
            Input::Tick => {}
            Input::Changed => self.flow.changed(now),
            Input::Wake => self.wake(now),
            Input::SetPace(pace) => self.outbox.set_pace(pace),
            Input::Pause => self.pause_asked(now),
            Input::Resume => self.resume(now),
            Input::Close(by) => {
                self.alarm.close(by);
                self.try_now(now);
            }
            Input::Abandoned => return self.end(),
        }
        self.advance(now)
    }

    /// When the next [`Input::Tick`] is wanted, on the monotonic clock.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        self.alarm.at()
    }

    /// What will be read next if all goes well with what is under way: a request, or the settle
    /// after the last of a batch.
    pub(crate) fn read_ahead(&self) -> Option<Reading> {
        let last = match (self.doing, self.storage.entry()) {
            (Some(Doing::Send { .. }), _) => self.outbox.last_of_only_part(),
            (Some(Doing::Log), Some(Entry::Settle { last, .. })) => {
                Some(*last).filter(|_| self.outbox.is_empty())
            }
            _ => None,
        };
        let last = last.filter(|_| self.flow.is_sending())?;
        Some(self.outbox.reading(last.saturating_add(1)))
    }

    /// Whether delivery waits for a time or a person: nothing is read ahead of that.
    pub(crate) fn is_held_up(&self) -> bool {
        self.flow.is_held_up()
    }

    /// When the first event that is neither settled nor about to be happened, if it was read.
    pub(crate) fn begins(&self) -> Option<(Seq, u64)> {
        self.outbox.begins()
    }

    /// Whether the log is owed a settle or a bury.
    pub(crate) fn owes(&self) -> bool {
        self.storage.entry().is_some()
    }

    /// Whether a request is under way.
    pub(crate) fn is_sending(&self) -> bool {
        matches!(self.doing, Some(Doing::Send { .. }))
    }

    /// Whether a change of the log's position is worth an [`Input::Tick`].
    pub(crate) fn is_dry(&self) -> bool {
        self.alarm.is_dry()
    }

    /// Whether [`Input::Changed`] would make a difference.
    pub(crate) fn listens(&self) -> bool {
        let is_free = self.doing.is_none() && !self.storage.refuses() && !self.alarm.is_dry();
        is_free && self.flow.listens()
    }

    /// What the flusher is doing, for people. A disk that refuses is shown while nothing else
    /// holds delivery for longer.
    pub(crate) fn state(&self) -> FlusherState {
        let is_held = self.flow.is_paused() || self.flow.has_ended();
        let refusal = self.storage.shown().filter(|_| !is_held);
        refusal.unwrap_or_else(|| self.flow.shown())
    }

    /// The receiver's last answer.
    pub(crate) fn last_answer(&self) -> Option<&Answer> {
        self.facts.last_answer()
    }

    /// How fast delivery may go.
    pub(crate) fn pace(&self) -> PaceStatus {
        let mut pace = self.outbox.pace();
        if !self.flow.is_sending() {
            pace.next = None;
        }
        pace
    }

    /// Gives what there is to tell since it was asked last, in order.
    pub(crate) fn tell(&mut self, listener: impl FnMut(Fact)) {
        self.facts.tell(listener);
    }

    /// Requests sent.
    pub(crate) fn requests(&self) -> u64 {
        self.facts.requests()
    }

    /// Whether nothing is left to deliver.
    pub(crate) fn is_drained(&self) -> bool {
        self.remembered.is_known() && self.storage.is_drained()
    }

    /// What a restart must find.
    fn memo(&self) -> Memo {
        self.flow.memo(self.outbox.memo())
    }

    fn advance(&mut self, now: &Now) -> Option<Action> {
        if self.alarm.is_over_by(now.mono) || self.flow.has_ended() {
            return self.end();
        }
        let memo = self.memo();
        if self.doing != Some(Doing::Send { then_pause: true }) {
            self.remembered.answer_if_kept(memo.paused.as_ref());
        }
        if self.doing.is_some() {
            return None;
        }
        if !self.remembered.is_known() {
            return self.ask_log(Action::Recall, now);
        }
        // A person who waits is not kept waiting by a disk that does not take the entry.
        let memo_first = self.remembered.is_asked() && self.storage.refuses();
        if let Some(entry) = self.storage.entry().filter(|_| !memo_first) {
            let entry = entry.clone();
            return self.ask_log(Action::Store(entry), now);
        }
        if let Some(memo) = self.remembered.write(memo, now) {
            self.doing = Some(Doing::Remember);
            return Some(Action::Remember(memo));
        }
        let action = match self.flow.waits(now) {
            _ if self.flow.is_paused() && self.alarm.is_closing() => self.end(),
            Some(Wait::ForResume) => None,
            Some(Wait::Until(moment)) => self.wait(moment),
            None => self.go_on(now),
        };
        // Only here, where the memo has had its turn and its time lies ahead: a time that has
        // passed and is not acted on would come again and again.
        self.alarm.no_later(self.remembered.again_at());
        action
    }

    /// Sends the next part of the plan, or finds a new one; asks the sink first if it may not be
    /// able to.
    fn go_on(&mut self, now: &Now) -> Option<Action> {
        if self.flow.asks_sink(now) {
            self.doing = Some(Doing::Check);
            return Some(Action::Check);
        }
        // A probe of a receiver that refuses everything is one event, and it stays in the queue.
        let alone = self.flow.is_paused_for(PauseReason::SystemicRejection);
        match self.outbox.next(self.storage.cursor(), alone, now) {
            Offer::Empty => self.read(now),
            Offer::Expired(item) => {
                self.expire(item, now);
                self.advance(now)
            }
            Offer::Later(moment) => {
                self.flow.has_more();
                self.wait(moment)
            }
            Offer::Request(request) => {
                self.flow.has_more();
                self.flow.sent(now);
                self.facts.sending(request.batch());
                self.doing = Some(Doing::Send { then_pause: false });
                Some(Action::Send(request))
            }
        }
    }

    fn read(&mut self, now: &Now) -> Option<Action> {
        if let Some(from) = self.storage.unread() {
            let reading = self.outbox.reading(from);
            return self.ask_log(Action::Read(reading), now);
        }
        if self.alarm.is_closing() {
            return self.end();
        }
        self.flow.has_none();
        self.alarm.dry();
        None
    }

    fn ask_log(&mut self, action: Action, now: &Now) -> Option<Action> {
        if let Some(until) = self.storage.wait(now) {
            return self.wait(until);
        }
        self.doing = Some(Doing::Log);
        Some(action)
    }

    /// Nothing to do until then. If a close would be over by that time, there is no point in
    /// waiting for it.
    fn wait(&mut self, until: Duration) -> Option<Action> {
        if self.alarm.is_over_by(until) {
            return self.end();
        }
        self.alarm.set(until);
        None
    }

    fn end(&mut self) -> Option<Action> {
        self.flow.close();
        Some(Action::End)
    }

    fn expire(&mut self, item: PlannedEvent, now: &Now) {
        // The last word on an event that was never sent is none.
        let answer = item.sent.and(self.facts.last_answer().cloned());
        let letter = item.letter(Cause::Expired, answer.unwrap_or_default(), now.wall);
        self.storage.bury(Box::new(letter), Settled::Expired);
    }
}
