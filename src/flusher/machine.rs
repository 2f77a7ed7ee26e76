//! Decides what the flusher does: state and input to state and action.
//!
//! Nothing here waits, sleeps, touches a file or reads a clock, so every path is tested without a
//! runtime. The task (`task.rs`) carries out one [`Action`] at a time and reports what came of it
//! as the next [`Input`]; what a person or the sink wants comes as an input at any time. The
//! inputs are taken in by `verdict.rs`, `storage.rs` and `orders.rs`; this file holds the state and
//! chooses the next action.
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

use std::time::{Duration, SystemTime};

use super::age::Ages;
use super::backoff::Backoff;
use super::bisect::Plan;
use super::limit::Limit;
use super::step::{Action, Due, Entry, Input, Now, Reading};
use super::storage::Trouble;
use crate::dead::{Cause, DeadLetter};
use crate::error::Error;
use crate::id::Seq;
use crate::ledger::Settled;
use crate::log::Memo;
use crate::observe;
use crate::outcome::{Answer, PauseReason};
use crate::settings::Delivery;
use crate::status::FlusherState;

#[derive(Debug)]
pub(super) enum State {
    Idle,
    Sending,
    BackingOff { until: Due, last_error: Answer },
    Paused(Pause),
    Failed(String),
    Closed,
}

#[derive(Debug)]
pub(super) struct Pause {
    pub(super) reason: PauseReason,
    pub(super) last_error: Answer,
    pub(super) since: SystemTime,
    /// None if only a person ends it.
    pub(super) next_probe: Option<Due>,
    /// Whether the sink itself said that it cannot deliver, without any request. Such a pause ends
    /// once the sink says so no more, and a restart finds out anew.
    pub(super) is_hindered: bool,
}

/// The action that is under way.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Job {
    Log,
    Check,
    Send,
    Remember(Memo),
}

/// The flusher's mind.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(super) delivery: Delivery,
    ages: Ages,
    pub(super) state: State,
    pub(super) job: Option<Job>,
    /// The sink is to be asked what keeps it from delivering, before anything is sent.
    pub(super) check: bool,
    pub(super) plan: Plan,
    pub(super) entry: Option<Entry>,
    pub(super) backoff: Backoff,
    /// When the first of the failures in a row came that `backoff` counts.
    pub(super) failing_since: Option<SystemTime>,
    pub(super) probes: Backoff,
    pub(super) storage: Backoff,
    pub(super) trouble: Option<Trouble>,
    /// Different events refused in a row.
    pub(super) refusals: u32,
    /// Requests that stalled since one was answered.
    pub(super) stalls: u32,
    pub(super) limit: Limit,
    pub(super) not_before_ms: Option<u64>,
    /// What the log holds; none until it was asked.
    pub(super) remembered: Option<Memo>,
    pub(super) remember_again: Option<Due>,
    /// The disk failed to take a memo: what it holds may be that or the one before.
    pub(super) is_unsure: bool,
    /// An answer is owed to a pause or a resume: whether the memo says it.
    pub(super) is_asked: bool,
    pub(super) answer: Option<Result<(), Error>>,
    /// A resume that came before the memo was read holds against what the memo says.
    pub(super) resumed_early: bool,
    /// A pause that came while a request was under way; it begins after the answer.
    pub(super) pause_wanted: bool,
    /// Somebody asked to try now while a request was under way; if it fails, one follows at once.
    pub(super) nudged: bool,
    closing: Option<Duration>,
    cursor: Seq,
    pub(super) last_seq: Seq,
    /// The log had nothing although `last_seq` was this: it is not asked again before that moves.
    pub(super) end_seen: Option<Seq>,
    timer: Option<Duration>,
    dry: bool,
    pub(super) last_sent: Option<Duration>,
    pub(super) last_answer: Option<Answer>,
    requests: u64,
}

impl Machine {
    pub(crate) fn new(delivery: Delivery, max_age: Option<Duration>) -> Self {
        let (min, max) = (delivery.backoff_min, delivery.backoff_max);
        let (multiplier, jitter) = (delivery.backoff_multiplier, delivery.backoff_jitter);
        Self {
            ages: Ages::new(max_age),
            state: State::Idle,
            job: None,
            check: false,
            plan: Plan::default(),
            entry: None,
            backoff: Backoff::new(min, max, multiplier, jitter),
            failing_since: None,
            probes: Backoff::new(delivery.probe_min, delivery.probe_max, 2.0, jitter),
            storage: Backoff::new(min, max, multiplier, jitter),
            trouble: None,
            refusals: 0,
            stalls: 0,
            limit: Limit::new(delivery.batch_events),
            delivery,
            not_before_ms: None,
            remembered: None,
            remember_again: None,
            is_unsure: false,
            is_asked: false,
            answer: None,
            resumed_early: false,
            pause_wanted: false,
            nudged: false,
            closing: None,
            cursor: 0,
            last_seq: 0,
            end_seen: None,
            timer: None,
            dry: false,
            last_sent: None,
            last_answer: None,
            requests: 0,
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
        self.cursor = self.cursor.max(now.cursor);
        self.last_seq = self.last_seq.max(now.last_seq);
        self.ages.look(now);
        self.timer = None;
        self.dry = false;
        match input {
            Input::Recalled(result) => self.recalled(result, now),
            Input::Found(result) => self.found(result, now),
            Input::Ready(request) => self.ready(request),
            Input::Checked(hindrance) => self.checked(hindrance, now),
            Input::Answered(outcome) => {
                self.job = None;
                self.answered(outcome, now);
            }
            Input::Stored(result) => self.stored(result, now),
            Input::Remembered(result) => self.remembered(result, now),
            Input::Tick => {}
            Input::Changed => self.changed(now),
            Input::Wake => self.wake(now),
            Input::Pause => self.pause_asked(now),
            Input::Resume => self.resume(now),
            Input::Close(by) => {
                self.closing = Some(self.closing.map_or(by, |old| old.min(by)));
                self.try_now(now);
            }
            Input::Abandoned => return self.end(),
        }
        self.advance(now)
    }

    /// When the next [`Input::Tick`] is wanted, on the monotonic clock.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        match (self.timer, self.closing) {
            (Some(timer), Some(by)) => Some(timer.min(by)),
            (timer, by) => timer.or(by),
        }
    }

    /// What will be read next if all goes well with what is under way: a request, or the settle
    /// after the last of a batch.
    pub(crate) fn read_ahead(&self) -> Option<Reading> {
        let last = match (&self.job, &self.entry) {
            (Some(Job::Send), _) => self.plan.last_of_only_part(),
            (Some(Job::Log), Some(Entry::Settle { last, .. })) => {
                Some(*last).filter(|_| self.plan.is_empty())
            }
            _ => None,
        };
        let last = last.filter(|_| matches!(self.state, State::Sending))?;
        Some(self.reading_from(last.saturating_add(1)))
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

    fn reading_from(&self, from: Seq) -> Reading {
        Reading {
            from,
            events_max: self.limit.events(),
            bytes_max: self.delivery.batch_bytes,
        }
    }

    /// Whether a request is under way.
    pub(crate) fn is_sending(&self) -> bool {
        self.job == Some(Job::Send)
    }

    /// Whether a change of the log's position is worth an [`Input::Tick`].
    pub(crate) fn is_dry(&self) -> bool {
        self.dry
    }

    /// Whether [`Input::Changed`] would make a difference.
    pub(crate) fn listens(&self) -> bool {
        let State::Paused(pause) = &self.state else {
            return false;
        };
        let earliest = self.earliest_probe();
        let later = pause.next_probe.is_some_and(|due| due.at > earliest);
        later && self.job.is_none() && self.trouble.is_none() && !self.dry
    }

    /// What the flusher is doing, for people.
    pub(crate) fn state(&self) -> FlusherState {
        let backing_off =
            |due: &Due, since, attempt, last_error: &Answer| FlusherState::BackingOff {
                since,
                until: due.wall,
                attempt,
                last_error: last_error.clone(),
            };
        match (&self.state, &self.trouble) {
            (State::Closed, _) => FlusherState::Closed,
            (State::Failed(message), _) => FlusherState::Failed {
                message: message.clone(),
            },
            (State::Paused(pause), _) => FlusherState::Paused {
                reason: pause.reason,
                last_error: pause.last_error.clone(),
                since: pause.since,
                next_probe: pause.next_probe.map(|due| due.wall),
            },
            (_, Some(trouble)) => {
                let attempts = self.storage.attempts();
                backing_off(&trouble.until, trouble.since, attempts, &trouble.last_error)
            }
            (State::BackingOff { until, last_error }, None) => {
                let since = self.failing_since.unwrap_or(until.wall);
                backing_off(until, since, self.backoff.attempts(), last_error)
            }
            (State::Idle, None) => FlusherState::Idle,
            (State::Sending, None) => FlusherState::Sending,
        }
    }

    /// The receiver's last answer.
    pub(crate) fn last_answer(&self) -> Option<&Answer> {
        self.last_answer.as_ref()
    }

    /// Requests sent.
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    /// Whether nothing is left to deliver.
    pub(crate) fn is_drained(&self) -> bool {
        self.remembered.is_some() && self.entry.is_none() && self.last_seq <= self.cursor
    }

    fn advance(&mut self, now: &Now) -> Option<Action> {
        let due = self.closing.is_some_and(|by| by <= now.mono);
        if due || matches!(self.state, State::Closed | State::Failed(_)) {
            return self.end();
        }
        self.answer_if_kept();
        if self.job.is_some() {
            return None;
        }
        let Some(remembered) = &self.remembered else {
            return self.ask_log(Action::Recall, now);
        };
        // A person who waits is not kept waiting by a disk that does not take the entry.
        let memo_first = self.is_asked && self.trouble.is_some();
        if let Some(entry) = self.entry.as_ref().filter(|_| !memo_first) {
            let entry = entry.clone();
            return self.ask_log(Action::Store(entry), now);
        }
        if self.remember_again.is_none_or(|due| due.at <= now.mono) {
            self.remember_again = None;
            let memo = self.memo();
            if self.is_unsure || memo != *remembered {
                self.job = Some(Job::Remember(memo.clone()));
                return Some(Action::Remember(memo));
            }
        }
        let action = match &self.state {
            State::Paused(_) if self.closing.is_some() => self.end(),
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
        let times = [self.timer, self.remember_again.map(|due| due.at)];
        self.timer = times.into_iter().flatten().min();
        action
    }

    /// Sends the next part of the plan, or finds a new one; asks the sink first if it may not be
    /// able to.
    fn go_on(&mut self, now: &Now) -> Option<Action> {
        if std::mem::take(&mut self.check) || self.is_hindered() {
            self.nudged = false;
            self.last_sent = Some(now.mono);
            self.job = Some(Job::Check);
            return Some(Action::Check);
        }
        self.plan.skip_through(self.cursor);
        if self.plan.is_empty() {
            return self.read(now);
        }
        // A probe of a receiver that refuses everything is one event, and it stays in the queue.
        let systemic = self.is_paused_for(PauseReason::SystemicRejection);
        self.plan.open();
        self.plan
            .narrow(if systemic { 1 } else { self.limit.events() });
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
        let request = self.plan.send(now.wall)?;
        observe::sending(request.batch());
        if !matches!(self.state, State::Paused(_)) {
            self.state = State::Sending;
        }
        self.job = Some(Job::Send);
        self.nudged = false;
        self.last_sent = Some(now.mono);
        self.requests = self.requests.saturating_add(1);
        Some(Action::Send(request))
    }

    fn read(&mut self, now: &Now) -> Option<Action> {
        if self.last_seq > self.cursor && self.end_seen != Some(self.last_seq) {
            let reading = self.reading_from(self.cursor.saturating_add(1));
            return self.ask_log(Action::Read(reading), now);
        }
        if self.closing.is_some() {
            return self.end();
        }
        if !matches!(self.state, State::Paused(_)) {
            self.state = State::Idle;
        }
        self.dry = true;
        None
    }

    fn ask_log(&mut self, action: Action, now: &Now) -> Option<Action> {
        match &self.trouble {
            Some(trouble) if trouble.until.at > now.mono => self.wait(trouble.until.at),
            _ => {
                self.job = Some(Job::Log);
                Some(action)
            }
        }
    }

    /// Nothing to do until then. If a close would be over by that time, there is no point in
    /// waiting for it.
    fn wait(&mut self, until: Duration) -> Option<Action> {
        if self.closing.is_some_and(|by| by <= until) {
            return self.end();
        }
        self.timer = Some(until);
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
        let answer = item.sent.and(self.last_answer.clone()).unwrap_or_default();
        let letter = DeadLetter {
            seq: item.stored.seq,
            event: item.stored.event,
            cause: Cause::Expired,
            answer,
            attempts: item.attempts,
            first_attempt: item.sent.map_or(now.wall, |(first, _)| first),
            last_attempt: now.wall,
        };
        self.entry = Some(Entry::Bury(Box::new(letter), Settled::Expired));
    }

    pub(super) fn is_hindered(&self) -> bool {
        matches!(&self.state, State::Paused(pause) if pause.is_hindered)
    }

    pub(super) fn is_paused_for(&self, reason: PauseReason) -> bool {
        matches!(&self.state, State::Paused(pause) if pause.reason == reason)
    }
}
