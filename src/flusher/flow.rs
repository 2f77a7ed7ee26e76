//! Whether delivery goes on, waits or is paused, and what ends that.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::breaker::Breaker;
use super::fact::{Fact, Facts};
use super::pacing::Pacing;
use super::step::{Due, Now};
use crate::log::{Memo, PausedMemo};
use crate::millis::unix_ms;
use crate::outcome::{Answer, Hindrance, PauseReason, Verdict};
use crate::settings::Delivery;
use crate::status::FlusherState;

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

impl Pause {
    /// One that only a person ends.
    fn new(reason: PauseReason, last_error: Answer, since: SystemTime) -> Self {
        Self {
            reason,
            last_error,
            since,
            next_probe: None,
            is_hindered: false,
        }
    }
}

/// What delivery waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// This moment on the monotonic clock.
    Until(Duration),
    /// A person who ends the pause.
    ForResume,
}

/// The flow of delivery, as the receiver, the sink and people have it.
#[derive(Debug)]
pub(super) struct Flow {
    state: State,
    /// The sink is to be asked what keeps it from delivering, before anything is sent.
    check: bool,
    pacing: Pacing,
    breaker: Breaker,
}

impl Flow {
    pub(super) fn new(delivery: &Delivery) -> Self {
        Self {
            state: State::Idle,
            check: false,
            pacing: Pacing::new(delivery),
            breaker: Breaker::new(delivery.breaker_refusals),
        }
    }

    /// Before anything is sent, the sink is asked whether it could.
    pub(super) fn check_first(&mut self) {
        self.check = true;
    }

    /// Goes on with what an earlier process was told, or asked for.
    pub(super) fn recall(
        &mut self,
        memo: &Memo,
        resumed_early: bool,
        facts: &mut Facts,
        now: &Now,
    ) {
        if resumed_early {
            return;
        }
        let wait = self.pacing.remaining(memo.not_before_ms, now);
        if !wait.is_zero() {
            self.pacing.recall(memo.not_before_ms);
        }
        match &memo.paused {
            _ if self.is_paused() => {}
            Some(paused) => self.pause_again(paused, wait, facts, now),
            None if !wait.is_zero() => {
                self.pacing.is_failing(now);
                self.state = State::BackingOff {
                    until: now.after(wait),
                    last_error: Answer::from_detail("the receiver asked to wait"),
                };
            }
            None => {}
        }
    }

    /// Takes up a pause of an earlier process. Its cause may be gone, such as by a new key, so
    /// the first probe does not wait longer than the receiver asked for.
    fn pause_again(&mut self, paused: &PausedMemo, wait: Duration, facts: &mut Facts, now: &Now) {
        facts.note(Fact::Paused(paused.reason, paused.answer.clone()));
        if paused.reason == PauseReason::SystemicRejection {
            self.breaker.recall();
        }
        let requested = paused.reason == PauseReason::Requested;
        let since = UNIX_EPOCH.checked_add(Duration::from_millis(paused.since_ms));
        let since = since.unwrap_or(now.wall);
        self.state = State::Paused(Pause {
            next_probe: (!requested).then(|| now.after(wait)),
            ..Pause::new(paused.reason, paused.answer.clone(), since)
        });
    }

    /// What a restart must find, with the size of batches that was found.
    pub(super) fn memo(&self, batch_events: Option<u32>) -> Memo {
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
            batch_events,
        }
    }

    /// What delivery waits for at present.
    pub(super) fn waits(&self, now: &Now) -> Option<Wait> {
        let due = match &self.state {
            State::Paused(pause) => match pause.next_probe {
                Some(probe) => probe,
                None => return Some(Wait::ForResume),
            },
            State::BackingOff { until, .. } => *until,
            _ => return None,
        };
        (due.at > now.mono).then_some(Wait::Until(due.at))
    }

    /// Whether the sink is to be asked now if it can deliver, instead of being given a request.
    pub(super) fn asks_sink(&mut self, now: &Now) -> bool {
        let asks = std::mem::take(&mut self.check)
            || matches!(&self.state, State::Paused(pause) if pause.is_hindered);
        if asks {
            self.pacing.sent(now);
        }
        asks
    }

    /// There is something to send, which may have to wait for its turn.
    pub(super) fn has_more(&mut self) {
        if !self.is_paused() {
            self.state = State::Sending;
        }
    }

    /// There is nothing to send.
    pub(super) fn has_none(&mut self) {
        if !self.is_paused() {
            self.state = State::Idle;
        }
    }

    /// A request goes out.
    pub(super) fn sent(&mut self, now: &Now) {
        self.pacing.sent(now);
    }

    /// The shortest wait that an answer asks for.
    pub(super) fn floor(&mut self, verdict: Verdict, now: &Now) -> Option<Duration> {
        self.pacing.floor(verdict, now)
    }

    /// The receiver has looked at the events, whatever it made of them: whatever kept delivery
    /// from reaching it is over. Gives how long that lasted, unless a person has hurried the try.
    pub(super) fn judged(&mut self, facts: &mut Facts, now: &Now) -> Option<Duration> {
        let attempts = self.pacing.attempts();
        let outage = match &self.state {
            State::Paused(pause) => {
                facts.note(Fact::Resumed(pause.reason));
                None
            }
            _ if attempts > 0 => {
                facts.note(Fact::BackingOffEnded(attempts));
                let is_hurried = self.pacing.is_nudged();
                self.pacing.failing_for(now).filter(|_| !is_hurried)
            }
            _ => None,
        };
        self.state = State::Sending;
        self.pacing.reached();
        outage
    }

    /// An event was delivered.
    pub(super) fn delivered(&mut self) {
        self.breaker.reset();
    }

    /// Another event was refused alone. True if the fault cannot be the events' any more.
    pub(super) fn refused(&mut self) -> bool {
        self.breaker.refused()
    }

    /// A connection stood and the request did not get through. True if fewer events at once may
    /// help: once may be chance.
    pub(super) fn stalled(&mut self) -> bool {
        self.pacing.stalled()
    }

    /// The request has to be tried again.
    pub(super) fn retry(
        &mut self,
        floor: Option<Duration>,
        last_error: Answer,
        facts: &mut Facts,
        now: &Now,
    ) {
        if self.is_paused() {
            return self.probe_later(floor, now);
        }
        let (wait, until) = self.pacing.failed(floor, now);
        if self.pacing.attempts() == 1 {
            facts.note(Fact::BackingOff(wait, last_error.clone()));
        }
        self.state = State::BackingOff { until, last_error };
    }

    /// The receiver, or the breaker, says that no request gets through until something changes.
    pub(super) fn pause(
        &mut self,
        reason: PauseReason,
        last_error: Answer,
        facts: &mut Facts,
        now: &Now,
    ) {
        if self.is_paused_for(reason) {
            return self.probe_later(None, now);
        }
        facts.note(Fact::Paused(reason, last_error.clone()));
        let since = match &self.state {
            State::Paused(pause) => pause.since,
            _ => now.wall,
        };
        self.state = State::Paused(Pause::new(reason, last_error, since));
        // A pause that the sink calls requested ends as one: by a person.
        if reason != PauseReason::Requested {
            self.probe_later(None, now);
        }
    }

    /// The next probe of a pause comes after a wait, which grows.
    pub(super) fn probe_later(&mut self, floor: Option<Duration>, now: &Now) {
        let probe = self.pacing.probe(floor, now);
        if let State::Paused(pause) = &mut self.state {
            pause.next_probe = Some(probe);
        }
    }

    /// The sink says what keeps it from delivering, or that nothing does.
    pub(super) fn checked(&mut self, hindrance: Option<Hindrance>, facts: &mut Facts, now: &Now) {
        // Only people request a pause.
        let hindrance = hindrance.filter(|found| found.reason != PauseReason::Requested);
        match (hindrance, &self.state) {
            (Some(found), _) => self.hindered(found, facts, now),
            (None, State::Paused(pause)) if pause.is_hindered => {
                facts.note(Fact::Resumed(pause.reason));
                self.state = State::Sending;
                self.pacing.probes_end();
            }
            (None, _) => {}
        }
    }

    /// A pause that a person or the receiver began stands. One for the same reason is now the
    /// sink's own, because what it says is the news.
    fn hindered(&mut self, found: Hindrance, facts: &mut Facts, now: &Now) {
        let Hindrance { reason, answer } = found;
        match &mut self.state {
            State::Paused(pause) if pause.reason == PauseReason::Requested => return,
            State::Paused(pause) if pause.is_hindered || pause.reason == reason => {
                pause.reason = reason;
                pause.last_error = answer;
                pause.is_hindered = true;
            }
            State::Paused(_) => {}
            _ => {
                facts.note(Fact::Paused(reason, answer.clone()));
                self.state = State::Paused(Pause {
                    is_hindered: true,
                    ..Pause::new(reason, answer, now.wall)
                });
            }
        }
        self.probe_later(None, now);
    }

    /// A person wants delivery to stop.
    pub(super) fn pause_on_request(&mut self, facts: &mut Facts, now: &Now) {
        if self.is_paused_for(PauseReason::Requested) {
            return;
        }
        let (reason, answer) = (PauseReason::Requested, Answer::default());
        facts.note(Fact::Paused(reason, answer.clone()));
        self.state = State::Paused(Pause::new(reason, answer, now.wall));
    }

    /// A person ends a pause of any kind.
    pub(super) fn resume(&mut self, facts: &mut Facts) {
        if let State::Paused(pause) = &self.state {
            facts.note(Fact::Resumed(pause.reason));
            self.check = true;
            self.state = State::Sending;
            self.breaker.reset();
            self.pacing.begin_anew();
        }
    }

    /// A person wants a try now; `is_trying` says whether one is under way.
    pub(super) fn nudge(&mut self, is_trying: bool) {
        self.pacing.nudge(is_trying);
    }

    /// Ends every wait, but no pause that was asked for.
    pub(super) fn try_now(&mut self, now: &Now) {
        let at_once = now.after(Duration::ZERO);
        match &mut self.state {
            State::BackingOff { until, .. } => *until = at_once,
            State::Paused(pause) if pause.next_probe.is_some() => {
                pause.next_probe = Some(at_once);
            }
            _ => {}
        }
    }

    /// The sink has something new: the next probe is as early as one may be.
    pub(super) fn changed(&mut self, now: &Now) {
        let wait = self.pacing.earliest_probe().saturating_sub(now.mono);
        if let State::Paused(pause) = &mut self.state
            && let Some(probe) = &mut pause.next_probe
        {
            *probe = now.after(wait);
        }
    }

    /// Whether [`changed`](Self::changed) would make a difference.
    pub(super) fn listens(&self) -> bool {
        let State::Paused(pause) = &self.state else {
            return false;
        };
        let earliest = self.pacing.earliest_probe();
        pause.next_probe.is_some_and(|due| due.at > earliest)
    }

    /// It has come to its end, and a fault is the last word.
    pub(super) fn close(&mut self) {
        if !matches!(self.state, State::Failed(_)) {
            self.state = State::Closed;
        }
    }

    /// It ends with a fault.
    pub(super) fn fail(&mut self, message: String) {
        self.state = State::Failed(message);
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, State::Closed | State::Failed(_))
    }

    pub(super) fn is_sending(&self) -> bool {
        matches!(self.state, State::Sending)
    }

    /// Whether it waits for a time or a person, or has ended.
    pub(super) fn is_held_up(&self) -> bool {
        !matches!(self.state, State::Idle | State::Sending)
    }

    pub(super) fn is_paused(&self) -> bool {
        matches!(self.state, State::Paused(_))
    }

    pub(super) fn is_paused_for(&self, reason: PauseReason) -> bool {
        matches!(&self.state, State::Paused(pause) if pause.reason == reason)
    }

    /// It, for people.
    pub(super) fn shown(&self) -> FlusherState {
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
}
