//! What waits for the log: appends and other commands, each in the order they came.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Duration;

use super::super::sync::{Condvar, Mutex, MutexGuard, thread};
use super::{Append, Command};

/// Bytes gathered into one commit at the most; what waits beyond goes into the next.
const COMMIT_BYTES: u64 = 1 << 20;

/// Places for appends that are kept from one round to the next.
pub(super) const KEPT: usize = 1024;

/// Commands on their way to the log, and the bell that wakes its thread.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    bell: Condvar,
}

#[derive(Default)]
struct Waiting {
    appends: VecDeque<Append>,
    commands: VecDeque<Command>,
    /// The thread sleeps, or is about to, and has not been rung for since.
    is_asleep: bool,
    /// The thread is to look once more before it sleeps.
    was_rung: bool,
    intake: Intake,
}

#[derive(Default, PartialEq, Eq, Clone, Copy)]
enum Intake {
    #[default]
    Open,
    /// Takes nothing more; what is there will be done.
    Closing,
    /// Takes nothing more, and there is nothing.
    Closed,
}

/// What was taken out at once.
#[derive(Default)]
pub(super) struct Mail {
    pub(super) appends: Vec<Append>,
    pub(super) bytes: u64,
    pub(super) commands: VecDeque<Command>,
    /// Nobody can send anything any more, and nothing is left.
    pub(super) is_last: bool,
}

impl Mail {
    /// Empties it for the next round.
    pub(super) fn clear(&mut self) {
        self.appends.clear();
        self.appends.shrink_to(KEPT);
        self.bytes = 0;
        self.commands.clear();
        self.is_last = false;
    }
}

/// Whether somebody else must do what was left in the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Only appends wait.
    ToAnyone,
    /// There is what only the thread does, and it has been rung for.
    ToTheThread,
}

/// What the thread does between two rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pause {
    pub(super) rest: Rest,
    /// How often it looks whether something has come before it falls asleep.
    pub(super) looks: u32,
}

/// How long the thread has nothing to do by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    None,
    For(Duration),
    Forever,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that can panic is done under this lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing waits, and something may come.
    pub(super) fn is_idle(&self) -> bool {
        let waiting = self.lock();
        let is_empty = waiting.appends.is_empty() && waiting.commands.is_empty();
        is_empty && waiting.intake == Intake::Open
    }

    /// Sends an append to the thread; gives it back if the log has closed.
    pub(super) fn send_append(&self, append: Append) -> Result<(), Append> {
        let mut waiting = self.lock();
        if waiting.intake != Intake::Open {
            return Err(append);
        }
        waiting.appends.push_back(append);
        self.wake(waiting);
        Ok(())
    }

    /// Leaves an append without waking anybody: the caller goes on to do it, or finds that
    /// somebody is at it.
    pub(super) fn leave_append(&self, append: Append) -> Result<Left, Append> {
        let mut waiting = self.lock();
        if waiting.intake != Intake::Open {
            return Err(append);
        }
        waiting.appends.push_back(append);
        if waiting.commands.is_empty() {
            return Ok(Left::ToAnyone);
        }
        self.wake(waiting);
        Ok(Left::ToTheThread)
    }

    /// Sends a command to the thread; gives it back if the log has closed. A close is the last.
    pub(super) fn send(&self, command: Command) -> Result<(), Command> {
        let mut waiting = self.lock();
        if waiting.intake != Intake::Open {
            return Err(command);
        }
        if let Command::Close(_) = command {
            waiting.intake = Intake::Closing;
        }
        waiting.commands.push_back(command);
        self.wake(waiting);
        Ok(())
    }

    /// Has the thread look at its log.
    pub(super) fn ring(&self) {
        self.wake(self.lock());
    }

    /// As [`ring`](Self::ring), if an append waits that nobody is at.
    pub(super) fn ring_for_appends(&self) {
        let waiting = self.lock();
        if !waiting.appends.is_empty() {
            self.wake(waiting);
        }
    }

    fn wake(&self, mut waiting: MutexGuard<'_, Waiting>) {
        waiting.was_rung = true;
        let was_asleep = std::mem::take(&mut waiting.is_asleep);
        drop(waiting);
        if was_asleep {
            self.bell.notify_one();
        }
    }

    /// Nobody is left to send anything.
    pub(super) fn end_intake(&self) {
        let mut waiting = self.lock();
        if waiting.intake == Intake::Open {
            waiting.intake = Intake::Closing;
        }
        self.wake(waiting);
    }

    /// Takes appends, up to the size of one commit.
    pub(super) fn take_appends(&self, mail: &mut Mail) {
        self.lock().take_appends(mail);
    }

    /// Takes everything, up to the size of one commit; commands only after the appends before
    /// them, unless those are more than that.
    pub(super) fn take_all(&self, mail: &mut Mail) {
        let mut waiting = self.lock();
        waiting.was_rung = false;
        waiting.take_appends(mail);
        let nothing_left = waiting.appends.is_empty();
        if nothing_left || waiting.intake == Intake::Open {
            mail.commands.append(&mut waiting.commands);
        }
        mail.is_last = nothing_left && waiting.intake == Intake::Closing;
    }

    /// Sleeps until something is sent, the bell is rung, or it is time. For the thread only.
    pub(super) fn wait(&self, Pause { rest, looks }: Pause) {
        let mut looks = 0..looks;
        let mut waiting = loop {
            let waiting = self.lock();
            if rest == Rest::None || waiting.wants_the_thread() {
                return;
            }
            if looks.next().is_none() {
                break waiting;
            }
            drop(waiting);
            thread::yield_now();
        };
        waiting.is_asleep = true;
        // A wake-up for no reason costs one look at the log.
        let mut waiting = match rest {
            Rest::For(time) => match self.bell.wait_timeout(waiting, time) {
                Ok((waiting, _)) => waiting,
                Err(poisoned) => poisoned.into_inner().0,
            },
            _ => self
                .bell
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner),
        };
        waiting.is_asleep = false;
    }

    /// Takes nothing more and forgets what is there: whoever waits for it learns that the log
    /// has ended.
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.intake = Intake::Closed;
        let forgotten = (
            std::mem::take(&mut waiting.appends),
            std::mem::take(&mut waiting.commands),
        );
        self.wake(waiting);
        // Not under the lock: dropping them wakes those who wait.
        drop(forgotten);
    }
}

impl Waiting {
    fn wants_the_thread(&self) -> bool {
        // An append may have been left, without ringing, while the thread was at the log.
        self.was_rung || !self.appends.is_empty()
    }

    fn take_appends(&mut self, mail: &mut Mail) {
        while mail.bytes < COMMIT_BYTES
            && let Some(append) = self.appends.pop_front()
        {
            mail.bytes += append.bytes;
            mail.appends.push(append);
        }
    }
}
