//! The work at the log: takes what is waiting, commits once, answers all.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::super::sync::{LOOKS, thread};
use super::inbox::{Inbox, KEPT, Mail, Pause, Rest};
use super::{Append, Command, Log, Position, ThreadSettings};
use crate::clock::Clock;
use crate::error::Error;
use crate::event::Event;
use crate::id::Seq;
use crate::observe;

/// How often a full log is asked for room while appends wait for it.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(1);

/// Looks at the inbox, at the most, while callers are expected back.
const LOOKS_MAX: u32 = 10_000;

/// How long a commit that costs next to nothing waits at the most because more and more come.
const GROWTH_MAX: Duration = Duration::from_micros(20);

/// Who does a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// The log's thread, which does everything.
    Thread,
    /// A caller on its own thread, which does appends and what belongs to them.
    Caller,
}

/// The log, and what is known between two rounds.
pub(super) struct Owner {
    log: Box<dyn Log>,
    settings: ThreadSettings,
    clock: Arc<dyn Clock>,
    publish: watch::Sender<Position>,
    /// Appends that wait for room, oldest first, ahead of everything that comes in.
    waiting: VecDeque<Append>,
    /// What is used in each round and empty between two, kept for its memory.
    mail: Mail,
    staged: Vec<(Append, Seq)>,
    /// When the oldest unsynced commit must be synced, on the monotonic clock.
    sync_at: Option<Duration>,
    more_to_tidy: bool,
    /// How many callers a commit had of late, and how long they are waited for.
    company: usize,
    patience: Duration,
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
        publish: watch::Sender<Position>,
    ) -> Self {
        let waiting = VecDeque::new();
        Self {
            log,
            settings,
            clock,
            publish,
            waiting,
            mail: Mail::default(),
            staged: Vec::new(),
            sync_at: None,
            more_to_tidy: true,
            company: 0,
            patience: Duration::ZERO,
            room_may_have_come: false,
            thread_wakes_at: None,
        }
    }

    /// One round of work at the log that lies there, if one does. None if it has ended, or ends
    /// with this round.
    pub(super) fn round(there: &mut Option<Self>, inbox: &Inbox, by: By) -> Option<Pause> {
        let owner = there.as_mut()?;
        let mut mail = std::mem::take(&mut owner.mail);
        owner.gather(inbox, by, &mut mail);
        let is_quick = mail.appends.iter().any(|append| !append.sync);
        owner.commit(&mut mail.appends);
        let mut changed = false;
        let mut close = None;
        for command in mail.commands.drain(..) {
            match command {
                Command::Control(control, permit) => {
                    let reply = control(owner.log.as_mut());
                    // Whoever is answered sees in the position what was done for it.
                    changed |= owner.publish();
                    reply();
                    drop(permit);
                    owner.more_to_tidy = true;
                }
                Command::Close(reply) => close = Some(reply),
            }
        }
        // The thread wakes up for that: a caller need not look at the clock.
        if by == By::Thread {
            owner.sync_if_due();
        }
        owner.tidy_up(changed);
        if mail.is_last {
            there.take()?.close(close);
            return None;
        }
        mail.clear();
        owner.mail = mail;
        owner.plan(inbox, by);
        Some(Pause {
            // Only the thread rests.
            rest: if by == By::Thread {
                owner.rest()
            } else {
                Rest::None
            },
            // Without a sync, whoever was answered is back sooner than the thread could be woken.
            looks: if is_quick { LOOKS } else { 0 },
        })
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
        let taken_up = self.log.take_up(events);
        if self.has_to_wait(&taken_up) {
            return None;
        }
        let appended = taken_up.and_then(|first| self.commit_staged(1, sync).map(|()| first));
        self.tidy_up(false);
        self.plan(inbox, By::Caller);
        Some(appended)
    }

    /// Takes what waits. There may be nothing: the time has come for something else then.
    fn gather(&self, inbox: &Inbox, by: By, mail: &mut Mail) {
        self.take(inbox, by, mail);
        if self.lingers_with(mail) {
            self.linger(inbox, by, mail);
        }
    }

    fn take(&self, inbox: &Inbox, by: By, mail: &mut Mail) {
        match by {
            By::Thread => inbox.take_all(mail),
            By::Caller => inbox.take_appends(mail),
        }
    }

    /// Whether more appends are likely to come in a moment: there are several callers, and
    /// nobody has asked for anything else.
    fn lingers_with(&self, mail: &Mail) -> bool {
        let appends = mail.appends.len();
        mail.commands.is_empty() && !mail.is_last && appends > 0 && self.company.max(appends) > 1
    }

    /// Gives way to the callers, without sleeping, as long as each look finds more of them, and
    /// a moment longer for those that recent commits had: what a commit costs is shared by all
    /// that are in it. The first caller to be back would otherwise have one to itself, and all
    /// others would wait for the next.
    fn linger(&self, inbox: &Inbox, by: By, mail: &mut Mail) {
        let began = self.clock.monotonic();
        for _ in 0..LOOKS_MAX {
            let had = mail.appends.len();
            thread::yield_now();
            self.take(inbox, by, mail);
            let spent = self.clock.monotonic().saturating_sub(began);
            let grows = mail.appends.len() > had && spent < self.patience.max(GROWTH_MAX);
            let waits = mail.appends.len() < self.company && spent < self.patience;
            if !self.lingers_with(mail) || !(grows || waits) {
                return;
            }
        }
    }

    /// When the thread has to be at the log again. It is woken if that is sooner than it knows.
    fn plan(&mut self, inbox: &Inbox, by: By) {
        let due = self.due();
        let is_sooner = due.is_some_and(|at| self.thread_wakes_at.is_none_or(|known| at < known));
        if by == By::Caller && is_sooner {
            inbox.ring();
        }
        if by == By::Thread || is_sooner {
            self.thread_wakes_at = due;
        }
    }

    /// Until when the thread has nothing to do.
    fn rest(&self) -> Rest {
        match self.thread_wakes_at {
            Some(Duration::ZERO) => Rest::None,
            Some(at) => Rest::For(at.saturating_sub(self.clock.monotonic())),
            None => Rest::Forever,
        }
    }

    /// When there is something to do that nobody asks for; zero if there is now.
    fn due(&self) -> Option<Duration> {
        if self.more_to_tidy || self.room_may_have_come {
            return Some(Duration::ZERO);
        }
        // Room on a disk that was full comes from outside and says nothing.
        let look_at = (!self.waiting.is_empty()).then(|| self.clock.monotonic() + LOOK_FOR_ROOM);
        self.sync_at.into_iter().chain(look_at).min()
    }

    /// Stages what waits for room and then what is new, commits once, answers all (I1).
    fn commit(&mut self, new: &mut Vec<Append>) {
        let mut staged = std::mem::take(&mut self.staged);
        while let Some(append) = self.waiting.pop_front() {
            if let Some(blocked) = self.stage(append, &mut staged) {
                self.waiting.push_front(blocked);
                break;
            }
        }
        for append in new.drain(..) {
            // Once one waits, all later ones wait behind it: appends keep their order.
            if !self.waiting.is_empty() {
                self.waiting.push_back(append);
            } else if let Some(blocked) = self.stage(append, &mut staged) {
                self.waiting.push_back(blocked);
            }
        }
        if !staged.is_empty() {
            self.commit_and_tell(&mut staged);
        }
        staged.shrink_to(KEPT);
        self.staged = staged;
    }

    fn commit_and_tell(&mut self, staged: &mut Vec<(Append, Seq)>) {
        let sync = staged.iter().any(|(append, _)| append.sync);
        let result = self.commit_staged(staged.len(), sync);
        let mut permits: Option<OwnedSemaphorePermit> = None;
        for (append, first) in staged.drain(..) {
            let answer = match &result {
                Ok(()) => Ok(first),
                Err(error) => Err(error.again()),
            };
            append.asker.tell(answer);
            // Given back together, since each time takes a lock.
            match &mut permits {
                Some(permits) => permits.merge(append.permit),
                None => permits = Some(append.permit),
            }
        }
    }

    /// Commits what is staged, so many appends, and makes the position public before the callers
    /// go on, so that they see their own events.
    fn commit_staged(&mut self, appends: usize, sync: bool) -> Result<(), Error> {
        self.company = appends.max(self.company - self.company.div_ceil(8));
        let began = (self.company > 1).then(|| self.clock.monotonic());
        let result = observe::commit(&*self.clock, || self.log.commit(sync));
        if let Some(began) = began {
            self.patience = self.clock.monotonic().saturating_sub(began) / 4;
        }
        self.more_to_tidy = true;
        self.schedule_sync();
        self.publish();
        result
    }

    /// Stages one append; gives it back if it has to wait for room.
    fn stage(&mut self, mut append: Append, staged: &mut Vec<(Append, Seq)>) -> Option<Append> {
        // A caller that went away before its events were taken up appends nothing.
        if append.asker.is_gone() {
            return None;
        }
        let taken_up = self.log.take_up(&mut append.events);
        if self.has_to_wait(&taken_up) {
            return Some(append);
        }
        match taken_up {
            Ok(first) => staged.push((append, first)),
            Err(error) => append.asker.tell(Err(error)),
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
        let position = self.log.position();
        let mut changed = false;
        self.publish.send_if_modified(|old| {
            changed = *old != position;
            *old = position;
            // If nobody follows it but the handles, which only look, there is nobody to wake,
            // and to look for them costs more than to publish. Asked under the lock, so whoever
            // begins to follow is either counted here or finds this position there.
            changed && self.publish.receiver_count() > 1
        });
        changed
    }

    fn close(mut self, reply: Option<oneshot::Sender<Result<(), Error>>>) {
        for append in self.waiting.drain(..) {
            append.asker.tell(Err(Error::Closed));
        }
        let result = self.log.close();
        self.publish();
        // The lock is free before anybody is told that the queue is closed.
        drop(self.log);
        if let Some(reply) = reply {
            let _ = reply.send(result);
        }
    }
}
