//! What people ask of the flusher.

use super::{Doing, Machine};
use crate::error::Error;
use crate::flusher::step::Now;

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
            self.storage.try_now(now);
        }
    }

    /// What became of the last pause or resume, once it is known.
    pub(crate) fn take_answer(&mut self) -> Option<Result<(), Error>> {
        self.remembered.take_answer()
    }

    pub(super) fn pause_on_request(&mut self, now: &Now) {
        self.remembered.paused();
        if let Some(Doing::Send { then_pause }) = &mut self.doing {
            *then_pause = true;
        } else {
            self.flow.pause_on_request(&mut self.facts, now);
        }
    }

    pub(super) fn resume(&mut self, now: &Now) {
        if let Some(Doing::Send { then_pause }) = &mut self.doing {
            *then_pause = false;
        }
        self.remembered.resumed();
        self.will_answer(now);
        self.flow.resume(&mut self.facts);
        self.wake(now);
    }

    pub(super) fn wake(&mut self, now: &Now) {
        let is_trying = matches!(self.doing, Some(Doing::Send { .. } | Doing::Check));
        self.flow.nudge(is_trying);
        self.storage.look_again();
        self.try_now(now);
    }

    /// Ends every wait, but no pause that was asked for.
    pub(super) fn try_now(&mut self, now: &Now) {
        self.storage.try_now(now);
        self.outbox.hurry();
        self.flow.try_now(now);
    }
}
