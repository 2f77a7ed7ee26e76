//! What people and the sink ask of the flusher.

use std::time::Duration;

use super::{Job, Machine, Pause, State};
use crate::error::Error;
use crate::flusher::fact::Fact;
use crate::flusher::step::Now;
use crate::outcome::{Answer, PauseReason};

impl Machine {
    /// A person asks for a pause.
    pub(super) fn pause_asked(&mut self, now: &Now) {
        self.will_answer(now);
        self.pause_on_request(now);
    }

    /// From here on an answer is owed: whether what was asked for is kept on disk.
    fn will_answer(&mut self, now: &Now) {
        self.remembered.ask();
        if !self.remembered.is_known() {
            self.trouble.try_now(now);
        }
    }

    /// What became of the last pause or resume, once it is known.
    pub(crate) fn take_answer(&mut self) -> Option<Result<(), Error>> {
        self.remembered.take_answer()
    }

    pub(super) fn pause_on_request(&mut self, now: &Now) {
        self.remembered.paused();
        if let Some(Job::Send { then_pause }) = &mut self.job {
            *then_pause = true;
        } else if !self.is_paused_for(PauseReason::Requested) {
            self.note(Fact::Paused(PauseReason::Requested, Answer::default()));
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
        if let Some(Job::Send { then_pause }) = &mut self.job {
            *then_pause = false;
        }
        self.remembered.resumed();
        self.will_answer(now);
        if let State::Paused(pause) = &self.state {
            self.note(Fact::Resumed(pause.reason));
            self.check = true;
            self.state = State::Sending;
            self.breaker.reset();
            self.pacing.begin_anew();
        }
        self.wake(now);
    }

    pub(super) fn wake(&mut self, now: &Now) {
        let is_trying = matches!(self.job, Some(Job::Send { .. } | Job::Check));
        self.pacing.nudge(is_trying);
        self.seen.end = None;
        self.try_now(now);
    }

    /// Ends every wait, but no pause that was asked for.
    pub(super) fn try_now(&mut self, now: &Now) {
        let at_once = now.after(Duration::ZERO);
        self.trouble.try_now(now);
        self.shape.hurry();
        match &mut self.state {
            State::BackingOff { until, .. } => *until = at_once,
            State::Paused(pause) if pause.next_probe.is_some() => {
                pause.next_probe = Some(at_once);
            }
            _ => {}
        }
    }

    pub(super) fn changed(&mut self, now: &Now) {
        let wait = self.pacing.earliest_probe().saturating_sub(now.mono);
        if let State::Paused(pause) = &mut self.state
            && let Some(probe) = &mut pause.next_probe
        {
            *probe = now.after(wait);
        }
    }
}
