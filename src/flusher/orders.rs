//! What people and the sink ask of the flusher.

use std::time::Duration;

use super::machine::{Job, Machine, Pause, State};
use super::step::Now;
use crate::error::Error;
use crate::observe;
use crate::outcome::{Answer, PauseReason};

impl Machine {
    /// A person asks for a pause.
    pub(super) fn pause_asked(&mut self, now: &Now) {
        self.will_answer(now);
        self.pause_on_request(now);
    }

    /// From here on an answer is owed: whether what was asked for is kept on disk.
    fn will_answer(&mut self, now: &Now) {
        self.is_asked = true;
        // A disk that refused before is asked anew, since the answer is about now.
        self.remember_again = None;
        if self.remembered.is_none()
            && let Some(trouble) = &mut self.trouble
        {
            trouble.until = now.after(Duration::ZERO);
        }
    }

    /// What became of the last pause or resume, once it is known.
    pub(crate) fn take_answer(&mut self) -> Option<Result<(), Error>> {
        self.answer.take()
    }

    /// Gives the answer that is owed if what a restart would find is what was asked for.
    pub(super) fn answer_if_kept(&mut self) {
        let is_writing = matches!(self.job, Some(Job::Remember(_)));
        if !self.is_asked || self.pause_wanted || is_writing || self.is_unsure {
            return;
        }
        let paused = self.memo().paused;
        if self
            .remembered
            .as_ref()
            .is_some_and(|memo| memo.paused == paused)
        {
            self.is_asked = false;
            self.answer = Some(Ok(()));
        }
    }

    pub(super) fn pause_on_request(&mut self, now: &Now) {
        self.resumed_early = false;
        if self.job == Some(Job::Send) {
            self.pause_wanted = true;
        } else if !self.is_paused_for(PauseReason::Requested) {
            observe::paused(PauseReason::Requested, &Answer::default());
            self.state = State::Paused(Pause {
                reason: PauseReason::Requested,
                last_error: Answer::default(),
                since: now.wall,
                next_probe: None,
                is_hindered: false,
            });
        }
    }

    pub(super) fn resume(&mut self, now: &Now) {
        self.pause_wanted = false;
        self.resumed_early = self.remembered.is_none();
        self.will_answer(now);
        if let State::Paused(pause) = &self.state {
            observe::resumed(pause.reason);
            self.check = true;
            self.state = State::Sending;
            self.refusals = 0;
            self.backoff.reset();
            self.failing_since = None;
            self.probes.reset();
        }
        self.wake(now);
    }

    pub(super) fn wake(&mut self, now: &Now) {
        self.nudged = matches!(self.job, Some(Job::Send | Job::Check));
        self.end_seen = None;
        self.try_now(now);
    }

    /// Ends every wait, but no pause that was asked for.
    pub(super) fn try_now(&mut self, now: &Now) {
        let at_once = now.after(Duration::ZERO);
        if let Some(trouble) = &mut self.trouble {
            trouble.until = at_once;
        }
        match &mut self.state {
            State::BackingOff { until, .. } => *until = at_once,
            State::Paused(pause) if pause.next_probe.is_some() => {
                pause.next_probe = Some(at_once);
            }
            _ => {}
        }
    }

    /// The earliest time for a probe that a change of the sink calls for: a sink that announces
    /// changes without end does not turn a pause into a storm.
    pub(super) fn earliest_probe(&self) -> Duration {
        self.last_sent.map_or(Duration::ZERO, |sent| {
            sent.saturating_add(self.delivery.backoff_min)
        })
    }

    pub(super) fn changed(&mut self, now: &Now) {
        let wait = self.earliest_probe().saturating_sub(now.mono);
        if let State::Paused(pause) = &mut self.state
            && let Some(probe) = &mut pause.next_probe
        {
            *probe = now.after(wait);
        }
    }
}
