//! Decides what the flusher does: state and input to state and action.
//!
//! Nothing here waits, sleeps, touches a file, reads a clock or writes a log line, so every path is tested without a
//! runtime. The task (`task.rs`) carries out one [`Action`] at a time and reports what came of it
//! as the next [`Input`]; what a person or the sink wants comes as an input at any time. The
//! inputs are taken in by `machine/verdict.rs`, `machine/storage.rs` and `machine/orders.rs`; this
//! file holds the state and chooses the next action. When to try again, when a fault is not the
//! events', what a restart finds and what the disk refuses are decided each by a type of its own.
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

mod orders;
mod storage;
mod verdict;

use std::time::{Duration, SystemTime};

use super::age::Ages;
use super::bisect::Plan;
use super::breaker::Breaker;
use super::fact::Fact;
use super::limit::Limit;
use super::pacing::Pacing;
use super::remembered::Remembered;
use super::shape::Shape;
use super::step::{Action, Due, Entry, Input, Now, Reading};
use super::trouble::Trouble;
use crate::dead::Cause;
use crate::id::Seq;
use crate::ledger::Settled;
use crate::outcome::{Answer, PauseReason};
use crate::settings::Delivery;
use crate::status::{FlusherState, PaceStatus};

#[derive(Debug)]
enum State {
    Idle,
    Sending,
    BackingOff { until: Due, last_error: Answer },
    Paused(Pause),
    Failed(String),
    Closed,
}

#[derive(Debug)]
struct Pause {
    reason: PauseReason,
    last_error: Answer,
    since: SystemTime,
    /// None if only a person ends it.
    next_probe: Option<Due>,
    /// Whether the sink itself said that it cannot deliver, without any request. Such a pause ends
    /// once the sink says so no more, and a restart finds out anew.
    is_hindered: bool,
}

/// The action that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Log,
    Check,
    Send {
        /// A pause was asked for meanwhile; it begins after the answer.
        then_pause: bool,
    },
    Remember,
}

/// What is known of the log.
#[derive(Debug, Default)]
struct Seen {
    cursor: Seq,
    last_seq: Seq,
    /// It had nothing although `last_seq` was this: it is not asked again before that moves.
    end: Option<Seq>,
}

/// What is waited for while nothing is under way.
#[derive(Debug, Default)]
struct Rest {
    timer: Option<Duration>,
    /// Something new in the log.
    is_dry: bool,
    /// The deadline of a close.
    closing: Option<Duration>,
}

/// What there is to tell of the requests.
#[derive(Debug, Default)]
struct Told {
    requests: u64,
    last_answer: Option<Answer>,
    /// Since they were told last.
    facts: Vec<Fact>,
}

/// The flusher's mind.
#[derive(Debug)]
pub(crate) struct Machine {
    state: State,
    job: Option<Job>,
    /// The sink is to be asked what keeps it from delivering, before anything is sent.
    check: bool,
    plan: Plan,
    /// What the log is owed.
    entry: Option<Entry>,
    ages: Ages,
    limit: Limit,
    pacing: Pacing,
    shape: Shape,
    breaker: Breaker,
    trouble: Trouble,
    remembered: Remembered,
    seen: Seen,
    rest: Rest,
    told: Told,
}

impl Machine {
    pub(crate) fn new(delivery: &Delivery, max_age: Option<Duration>) -> Self {
        Self {
            state: State::Idle,
            job: None,
            check: false,
            plan: Plan::default(),
            entry: None,
            ages: Ages::new(max_age),
            limit: Limit::new(delivery),
            pacing: Pacing::new(delivery),
            shape: Shape::new(delivery),
            breaker: Breaker::new(delivery.breaker_refusals),
            trouble: Trouble::new(delivery),
            remembered: Remembered::new(delivery.backoff_max),
            seen: Seen::default(),
            rest: Rest::default(),
            told: Told::default(),
        }
    }

    /// Before anything is sent, the sink is asked whether it could.
    pub(crate) fn check_first(mut self) -> Self {
        self.check = true;
        self
    }

    /// Takes one input and gives the action to begin, if there is one. After [`Action::End`]
    /// there is no other.
    pub(crate) fn step(&mut self, input: Input, now: &Now) -> Option<Action> {
        self.seen.cursor = self.seen.cursor.max(now.cursor);
        self.seen.last_seq = self.seen.last_seq.max(now.last_seq);
        self.ages.look(now);
        self.rest.timer = None;
        self.rest.is_dry = false;
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
            Input::Changed => self.changed(now),
            Input::Wake => self.wake(now),
            Input::SetPace(pace) => self.shape.set(pace),
            Input::Pause => self.pause_asked(now),
            Input::Resume => self.resume(now),
            Input::Close(by) => {
                self.rest.closing = Some(self.rest.closing.map_or(by, |old| old.min(by)));
                self.try_now(now);
            }
            Input::Abandoned => return self.end(),
        }
        self.advance(now)
    }

    /// When the next [`Input::Tick`] is wanted, on the monotonic clock.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        match (self.rest.timer, self.rest.closing) {
            (Some(timer), Some(by)) => Some(timer.min(by)),
            (timer, by) => timer.or(by),
        }
    }

    /// What will be read next if all goes well with what is under way: a request, or the settle
    /// after the last of a batch.
    pub(crate) fn read_ahead(&self) -> Option<Reading> {
        let last = match (self.job, &self.entry) {
            (Some(Job::Send { .. }), _) => self.plan.last_of_only_part(),
            (Some(Job::Log), Some(Entry::Settle { last, .. })) => {
                Some(*last).filter(|_| self.plan.is_empty())
            }
            _ => None,
        };
        let last = last.filter(|_| matches!(self.state, State::Sending))?;
        Some(self.reading(last.saturating_add(1)))
    }

    /// The next batch, where it begins at `from`.
    fn reading(&self, from: Seq) -> Reading {
        self.shape.bound(self.limit.reading(from))
    }

    /// Whether delivery waits for a time or a person: nothing is read ahead of that.
    pub(crate) fn is_held_up(&self) -> bool {
        !matches!(self.state, State::Idle | State::Sending)
    }

    /// When the first event that is neither settled nor about to be happened, if it was read.
    pub(crate) fn begins(&self) -> Option<(Seq, u64)> {
        let stored = self.plan.front().first()?;
        Some((stored.seq, stored.event.time_ms()))
    }

    /// Whether the log is owed a settle or a bury.
    pub(crate) fn owes(&self) -> bool {
        self.entry.is_some()
    }

    /// Whether a request is under way.
    pub(crate) fn is_sending(&self) -> bool {
        matches!(self.job, Some(Job::Send { .. }))
    }

    /// Whether a change of the log's position is worth an [`Input::Tick`].
    pub(crate) fn is_dry(&self) -> bool {
        self.rest.is_dry
    }

    /// Whether [`Input::Changed`] would make a difference.
    pub(crate) fn listens(&self) -> bool {
        let State::Paused(pause) = &self.state else {
            return false;
        };
        let earliest = self.pacing.earliest_probe();
        let later = pause.next_probe.is_some_and(|due| due.at > earliest);
        later && self.job.is_none() && !self.trouble.is_there() && !self.rest.is_dry
    }

    /// What the flusher is doing, for people.
    pub(crate) fn state(&self) -> FlusherState {
        if let State::Idle | State::Sending | State::BackingOff { .. } = self.state
            && let Some(shown) = self.trouble.shown()
        {
            return FlusherState::BackingOff {
                since: shown.since,
                until: shown.until,
                attempt: shown.attempts,
                last_error: shown.last_error.clone(),
            };
        }
        match &self.state {
            State::Idle => FlusherState::Idle,
            State::Sending => FlusherState::Sending,
            State::BackingOff { until, last_error } => FlusherState::BackingOff {
                since: self.pacing.failing_since().unwrap_or(until.wall),
                until: until.wall,
                attempt: self.pacing.attempts(),
                last_error: last_error.clone(),
            },
            State::Paused(pause) => FlusherState::Paused {
                reason: pause.reason,
                last_error: pause.last_error.clone(),
                since: pause.since,
                next_probe: pause.next_probe.map(|due| due.wall),
            },
            State::Failed(message) => FlusherState::Failed {
                message: message.clone(),
            },
            State::Closed => FlusherState::Closed,
        }
    }

    /// The receiver's last answer.
    pub(crate) fn last_answer(&self) -> Option<&Answer> {
        self.told.last_answer.as_ref()
    }

    /// How fast delivery may go.
    pub(crate) fn pace(&self) -> PaceStatus {
        let mut pace = self.shape.status();
        if !matches!(self.state, State::Sending) {
            pace.next = None;
        }
        pace
    }

    /// Gives what there is to tell since it was asked last, in order.
    pub(crate) fn tell(&mut self, listener: impl FnMut(Fact)) {
        self.told.facts.drain(..).for_each(listener);
    }

    fn note(&mut self, fact: Fact) {
        self.told.facts.push(fact);
    }

    /// Requests sent.
    pub(crate) fn requests(&self) -> u64 {
        self.told.requests
    }

    /// Whether nothing is left to deliver.
    pub(crate) fn is_drained(&self) -> bool {
        let Seen {
            cursor, last_seq, ..
        } = self.seen;
        self.remembered.is_known() && self.entry.is_none() && last_seq <= cursor
    }

    fn advance(&mut self, now: &Now) -> Option<Action> {
        let due = self.rest.closing.is_some_and(|by| by <= now.mono);
        if due || matches!(self.state, State::Closed | State::Failed(_)) {
            return self.end();
        }
        let memo = self.memo();
        if self.job != Some(Job::Send { then_pause: true }) {
            self.remembered.answer_if_kept(memo.paused.as_ref());
        }
        if self.job.is_some() {
            return None;
        }
        if !self.remembered.is_known() {
            return self.ask_log(Action::Recall, now);
        }
        // A person who waits is not kept waiting by a disk that does not take the entry.
        let memo_first = self.remembered.is_asked() && self.trouble.is_there();
        if let Some(entry) = self.entry.as_ref().filter(|_| !memo_first) {
            let entry = entry.clone();
            return self.ask_log(Action::Store(entry), now);
        }
        if let Some(memo) = self.remembered.write(memo, now) {
            self.job = Some(Job::Remember);
            return Some(Action::Remember(memo));
        }
        let action = match &self.state {
            State::Paused(_) if self.rest.closing.is_some() => self.end(),
            State::Paused(pause) => match pause.next_probe {
                None => None,
                Some(probe) if probe.at > now.mono => self.wait(probe.at),
                Some(_) => self.go_on(now),
            },
            State::BackingOff { until, .. } if until.at > now.mono => self.wait(until.at),
            _ => self.go_on(now),
        };
        // Only here, where the memo has had its turn and its time lies ahead: a time that has
        // passed and is not acted on would come again and again.
        let times = [self.rest.timer, self.remembered.again_at()];
        self.rest.timer = times.into_iter().flatten().min();
        action
    }

    /// Sends the next part of the plan, or finds a new one; asks the sink first if it may not be
    /// able to.
    fn go_on(&mut self, now: &Now) -> Option<Action> {
        if std::mem::take(&mut self.check) || self.is_hindered() {
            self.pacing.sent(now);
            self.job = Some(Job::Check);
            return Some(Action::Check);
        }
        self.plan.skip_through(self.seen.cursor);
        if self.plan.is_empty() {
            return self.read(now);
        }
        // A probe of a receiver that refuses everything is one event, and it stays in the queue.
        let systemic = self.is_paused_for(PauseReason::SystemicRejection);
        self.plan.open();
        let most = if systemic { 1 } else { self.limit.events() };
        let count = self.shape.count(self.plan.front(), most);
        self.plan.narrow(count);
        let mut events = self.plan.front().iter();
        let expired = events.position(|stored| self.ages.is_over(&stored.event, now));
        match expired {
            Some(0) => {
                self.expire_first(now);
                return self.advance(now);
            }
            Some(at) => self.plan.narrow(at),
            None => {}
        }
        if !matches!(self.state, State::Paused(_)) {
            self.state = State::Sending;
        }
        if let Some(until) = self.shape.wait(now) {
            return self.wait(until);
        }
        self.shape.sent(self.plan.front(), now);
        let request = self.plan.send(now.wall)?;
        self.note(Fact::Sending(request.batch().clone()));
        self.job = Some(Job::Send { then_pause: false });
        self.pacing.sent(now);
        self.told.requests = self.told.requests.saturating_add(1);
        Some(Action::Send(request))
    }

    fn read(&mut self, now: &Now) -> Option<Action> {
        let Seen {
            cursor,
            last_seq,
            end,
        } = self.seen;
        if last_seq > cursor && end != Some(last_seq) {
            let reading = self.reading(cursor.saturating_add(1));
            return self.ask_log(Action::Read(reading), now);
        }
        if self.rest.closing.is_some() {
            return self.end();
        }
        if !matches!(self.state, State::Paused(_)) {
            self.state = State::Idle;
        }
        self.rest.is_dry = true;
        None
    }

    fn ask_log(&mut self, action: Action, now: &Now) -> Option<Action> {
        if let Some(until) = self.trouble.wait(now) {
            return self.wait(until);
        }
        self.job = Some(Job::Log);
        Some(action)
    }

    /// Nothing to do until then. If a close would be over by that time, there is no point in
    /// waiting for it.
    fn wait(&mut self, until: Duration) -> Option<Action> {
        if self.rest.closing.is_some_and(|by| by <= until) {
            return self.end();
        }
        self.rest.timer = Some(until);
        None
    }

    fn end(&mut self) -> Option<Action> {
        if !matches!(self.state, State::Failed(_)) {
            self.state = State::Closed;
        }
        Some(Action::End)
    }

    fn expire_first(&mut self, now: &Now) {
        let Some(item) = self.plan.take_first() else {
            return;
        };
        // The last word on an event that was never sent is none.
        let answer = item.sent.and(self.told.last_answer.clone());
        let letter = item.letter(Cause::Expired, answer.unwrap_or_default(), now.wall);
        self.entry = Some(Entry::Bury(Box::new(letter), Settled::Expired));
    }

    fn is_hindered(&self) -> bool {
        matches!(&self.state, State::Paused(pause) if pause.is_hindered)
    }

    fn is_paused_for(&self, reason: PauseReason) -> bool {
        matches!(&self.state, State::Paused(pause) if pause.reason == reason)
    }
}
