//! The work at the log: takes what is waiting, commits once, answers all.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::super::sync::{THREAD_LOOKS, thread};
use super::inbox::{Inbox, Rest, Taken};
use super::told::Told;
use super::window::Window;
use super::{Append, Command, Log, ThreadSettings};
use crate::clock::Clock;
use crate::error::Error;
use crate::event::Event;
use crate::id::Seq;
use crate::observe;

/// How often a full log is asked for room while appends wait for it.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(1);

/// The log, and what is known between two rounds.
pub(super) struct Owner {
    log: Box<dyn Log>,
    settings: ThreadSettings,
    clock: Arc<dyn Clock>,
    told: Told,
    /// Appends that wait for room, oldest first, ahead of everything that comes in.
    waiting: VecDeque<Append>,
    /// When the oldest unsynced commit must be synced, on the monotonic clock.
    sync_at: Option<Duration>,
    more_to_tidy: bool,
    window: Window,
    /// Something changed after the waiting appends were last looked at.
    room_may_have_come: bool,
    /// When the thread wakes up by itself at the latest.
    thread_wakes_at: Option<Duration>,
}

impl Owner {
    pub(super) fn new(
        log: Box<dyn Log>,
        settings: ThreadSettings,
        clock: Arc<dyn Clock>,
        told: Told,
    ) -> Self {
        Self {
            log,
            settings,
            clock,
            told,
            waiting: VecDeque::new(),
            sync_at: None,
            more_to_tidy: true,
            window: Window::default(),
            room_may_have_come: false,
            thread_wakes_at: None,
        }
    }

    /// One round of the log's thread at the log that lies there, and how it may rest then. None if
    /// the log has ended, or ends with this round.
    pub(super) fn round(there: &mut Option<Self>, inbox: &Inbox) -> Option<Rest> {
        let owner = there.as_mut()?;
        let taken = owner.gather(inbox);
        let is_quick = taken.appends.iter().any(|append| !append.sync);
        owner.commit(taken.appends);
        let mut changed = false;
        let mut close = None;
        for command in taken.commands {
            match command {
                Command::Control(control, permit) => {
                    let reply = control(owner.log.as_mut());
                    // Its caller sees in the position what was done for it.
                    changed |= owner.publish();
                    reply();
                    drop(permit);
                    owner.more_to_tidy = true;
                }
                Command::Close(reply) => close = Some(reply),
            }
        }
        owner.sync_if_due();
        owner.tidy_up(changed);
        if taken.is_last {
            there.take()?.close(close);
            return None;
        }
        owner.thread_wakes_at = owner.due();
        // Zero stands for now, and needs no look at the clock.
        let time = owner.thread_wakes_at.map(|at| match at {
            Duration::ZERO => at,
            at => at.saturating_sub(owner.clock.monotonic()),
        });
        let looks = if is_quick { THREAD_LOOKS } else { 0 };
        Some(Rest { time, looks })
    }

    /// A round for one append, by its caller. None, with the events left where they are, if it has
    /// to wait for room, or behind others that do.
    pub(super) fn append_alone(
        &mut self,
        inbox: &Inbox,
        events: &mut Vec<Event>,
        sync: bool,
    ) -> Option<Result<Seq, Error>> {
        if !self.waiting.is_empty() {
            return None;
        }
        let count = events.len();
        let taken_up = self.log.take_up(events);
        if self.has_to_wait(&taken_up) {
            return None;
        }
        let appended = taken_up.and_then(|first| self.commit_staged(1, sync).map(|()| first));
        self.tidy_up(false);
        // What is due next, such as the sync, is done by the thread, which may sleep for longer.
        let due = self.due();
        if due.is_some_and(|at| self.thread_wakes_at.is_none_or(|known| at < known)) {
            self.thread_wakes_at = due;
            inbox.ring();
        }
        if appended.is_err() {
            observe::refused(&self.settings.place, count);
        }
        Some(appended)
    }

    /// Takes what waits, and during the batching window what comes. There may be nothing: the time
    /// has come for something else then.
    fn gather(&self, inbox: &Inbox) -> Taken {
        let mut taken = Taken::default();
        inbox.take_all(&mut taken);
        // Only appends are worth a wait: every other command has a caller that waits for it alone.
        let goes_on = |taken: &Taken| taken.commands.is_empty() && !taken.is_last;
        if !goes_on(&taken) || !self.window.opens(taken.appends.len()) {
            return taken;
        }
        let began = self.clock.monotonic();
        for looks in 1.. {
            let before = taken.appends.len();
            thread::yield_now();
            inbox.take_all(&mut taken);
            let spent = self.clock.monotonic().saturating_sub(began);
            let now = taken.appends.len();
            if !goes_on(&taken) || !self.window.stays_open(looks, before, now, spent) {
                break;
            }
        }
        taken
    }

    /// When there is something to do that no caller asks for; zero if there is now.
    fn due(&self) -> Option<Duration> {
        if self.more_to_tidy || self.room_may_have_come {
            return Some(Duration::ZERO);
        }
        // Room on a disk that was full comes from outside and says nothing.
        let look_at = (!self.waiting.is_empty()).then(|| self.clock.monotonic() + LOOK_FOR_ROOM);
        self.sync_at.into_iter().chain(look_at).min()
    }

    /// Stages what waits for room and then what is new, commits once, answers all (I1).
    fn commit(&mut self, new: Vec<Append>) {
        let mut staged = Vec::new();
        while let Some(append) = self.waiting.pop_front() {
            if let Some(blocked) = self.stage(append, &mut staged) {
                self.waiting.push_front(blocked);
                break;
            }
        }
        for append in new {
            // Once one waits, all later ones wait behind it: appends keep their order.
            if !self.waiting.is_empty() {
                self.waiting.push_back(append);
            } else if let Some(blocked) = self.stage(append, &mut staged) {
                self.waiting.push_back(blocked);
            }
        }
        if !staged.is_empty() {
            self.commit_and_tell(staged);
        }
    }

    fn commit_and_tell(&mut self, staged: Vec<(Append, Seq)>) {
        let sync = staged.iter().any(|(append, _)| append.sync);
        let result = self.commit_staged(staged.len(), sync);
        let mut permits: Option<OwnedSemaphorePermit> = None;
        for (append, first) in staged {
            let answer = match &result {
                Ok(()) => Ok(first),
                Err(error) => Err(error.again()),
            };
            let permit = append.answer(&self.settings.place, answer);
            // Given back together, since each time takes a lock.
            match &mut permits {
                Some(permits) => permits.merge(permit),
                None => permits = Some(permit),
            }
        }
    }

    /// Commits what is staged, so many appends, and makes the position public before the callers
    /// go on, so that they see their own events.
    fn commit_staged(&mut self, appends: usize, sync: bool) -> Result<(), Error> {
        let is_timed = self.window.commits(appends);
        let began = is_timed.then(|| self.clock.monotonic());
        let result = observe::commit(&*self.clock, || self.log.commit(sync));
        if let Some(began) = began {
            self.window
                .took(self.clock.monotonic().saturating_sub(began));
        }
        self.more_to_tidy = true;
        self.schedule_sync();
        self.publish();
        result
    }

    /// Stages one append; gives it back if it has to wait for room.
    fn stage(&mut self, mut append: Append, staged: &mut Vec<(Append, Seq)>) -> Option<Append> {
        if append.is_withdrawn() {
            return None;
        }
        let taken_up = self.log.take_up(&mut append.events);
        if self.has_to_wait(&taken_up) {
            return Some(append);
        }
        match taken_up {
            Ok(first) => staged.push((append, first)),
            Err(error) => drop(append.answer(&self.settings.place, Err(error))),
        }
        None
    }

    /// Whether this append waits for room, instead of being told that there is none.
    fn has_to_wait(&self, taken_up: &Result<Seq, Error>) -> bool {
        self.settings.block_when_full && matches!(taken_up, Err(Error::Full { .. }))
    }

    fn schedule_sync(&mut self) {
        if !self.log.is_unsynced() {
            self.sync_at = None;
        } else if self.sync_at.is_none() {
            self.sync_at = self
                .settings
                .sync_every
                .map(|every| self.clock.monotonic() + every);
        }
    }

    fn sync_if_due(&mut self) {
        if self.sync_at.is_some_and(|at| at <= self.clock.monotonic()) {
            self.sync_at = None;
            // On a fault the log says so in its position; the next round tries again.
            let _ = self.log.commit(true);
            self.schedule_sync();
        }
    }

    /// What is due after each round. `changed` says whether something happened that is not an
    /// append.
    fn tidy_up(&mut self, mut changed: bool) {
        // A fault here is shown in the position; it is tried again after the next command, not
        // in a loop.
        self.more_to_tidy = self.log.tidy().unwrap_or(false);
        changed |= self.log.has_news() && self.publish();
        self.room_may_have_come = changed && !self.waiting.is_empty();
    }

    /// Makes the position public. True if it changed.
    fn publish(&self) -> bool {
        self.told.tell(self.log.position())
    }

    fn close(mut self, reply: Option<oneshot::Sender<Result<(), Error>>>) {
        for append in self.waiting.drain(..) {
            drop(append.answer(&self.settings.place, Err(Error::Closed)));
        }
        let result = self.log.close();
        self.publish();
        // The lock is free before a caller is told that the queue is closed.
        drop(self.log);
        if let Some(reply) = reply {
            let _ = reply.send(result);
        }
    }
}
