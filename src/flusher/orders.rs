//! What people and the sink ask of the flusher.

use std::time::Duration;

use super::machine::{Job, Machine, Pause, State};
use super::step::Now;
use crate::observe;
use crate::sink::{Answer, PauseReason};

impl Machine {
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
            });
        }
    }

    pub(super) fn resume(&mut self, now: &Now) {
        self.pause_wanted = false;
        self.resumed_early = self.remembered.is_none();
        if let State::Paused(pause) = &self.state {
            observe::resumed(pause.reason);
            self.state = State::Sending;
            self.refusals = 0;
            self.backoff.reset();
            self.probes.reset();
        }
        self.wake(now);
    }

    pub(super) fn wake(&mut self, now: &Now) {
        self.nudged = self.job == Some(Job::Send);
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
