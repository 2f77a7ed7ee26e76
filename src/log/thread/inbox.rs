//! What waits for the log: appends and other commands, each in the order they came.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Duration;

use super::super::sync::{Condvar, Mutex, MutexGuard, thread};
use super::{Append, Command};

/// Bytes gathered into one commit at the most; what waits beyond goes into the next.
const COMMIT_BYTES: u64 = 1 << 20;

/// Appends and commands on their way to the log's thread, and what wakes it.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    wake_up: Condvar,
}

#[derive(Default)]
struct Waiting {
    appends: VecDeque<Append>,
    commands: VecDeque<Command>,
    /// The thread sleeps, or is about to, and has not been woken since.
    is_asleep: bool,
    /// The thread is to look once more before it sleeps.
    has_news: bool,
    /// Nothing more is taken in; what is there will be done.
    is_closing: bool,
}

/// How the thread rests between two rounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    /// For how long at the most; without a time until it is woken.
    pub(super) time: Option<Duration>,
    /// How often it looks whether something has come before it sleeps.
    pub(super) looks: u32,
}

/// What was taken out at once.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) appends: Vec<Append>,
    pub(super) bytes: u64,
    pub(super) commands: VecDeque<Command>,
    /// Nothing can be sent any more, and nothing is left.
    pub(super) is_last: bool,
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
        is_empty && !waiting.is_closing
    }

    /// Sends an append to the thread; false if the log has closed.
    pub(super) fn send_append(&self, append: Append) -> bool {
        self.send_by(|waiting| waiting.appends.push_back(append))
    }

    /// Sends a command to the thread; false if the log has closed. A close is the last.
    pub(super) fn send(&self, command: Command) -> bool {
        self.send_by(|waiting| {
            waiting.is_closing = matches!(command, Command::Close(_));
            waiting.commands.push_back(command);
        })
    }

    fn send_by(&self, push: impl FnOnce(&mut Waiting)) -> bool {
        let mut waiting = self.lock();
        if waiting.is_closing {
            return false;
        }
        push(&mut waiting);
        self.wake(waiting);
        true
    }

    /// Has the thread look at its log.
    pub(super) fn ring(&self) {
        self.wake(self.lock());
    }

    fn wake(&self, mut waiting: MutexGuard<'_, Waiting>) {
        waiting.has_news = true;
        let was_asleep = std::mem::take(&mut waiting.is_asleep);
        drop(waiting);
        if was_asleep {
            self.wake_up.notify_one();
        }
    }

    /// Nothing more will be sent.
    pub(super) fn end_intake(&self) {
        let mut waiting = self.lock();
        waiting.is_closing = true;
        self.wake(waiting);
    }

    /// Takes everything, up to the size of one commit; commands only after the appends before
    /// them, unless those are more than that.
    pub(super) fn take_all(&self, taken: &mut Taken) {
        let mut waiting = self.lock();
        while taken.bytes < COMMIT_BYTES
            && let Some(append) = waiting.appends.pop_front()
        {
            taken.bytes += append.bytes;
            taken.appends.push(append);
        }
        let nothing_left = waiting.appends.is_empty();
        waiting.has_news = !nothing_left;
        if nothing_left || !waiting.is_closing {
            taken.commands.append(&mut waiting.commands);
        }
        taken.is_last = nothing_left && waiting.is_closing;
    }

    /// Sleeps until something is sent, the thread is to look at its log, or the time is over, if
    /// there is one. For the thread only.
    pub(super) fn wait(&self, rest: Rest) {
        let mut looks = 0..rest.looks;
        let mut waiting = loop {
            let waiting = self.lock();
            if rest.time == Some(Duration::ZERO) || waiting.has_news {
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
        let mut waiting = match rest.time {
            Some(time) => match self.wake_up.wait_timeout(waiting, time) {
                Ok((waiting, _)) => waiting,
                Err(poisoned) => poisoned.into_inner().0,
            },
            None => self
                .wake_up
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner),
        };
        waiting.is_asleep = false;
    }

    /// Takes nothing more and forgets what is there: all that wait for it learn that the log has
    /// ended.
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.is_closing = true;
        let forgotten = (
            std::mem::take(&mut waiting.appends),
            std::mem::take(&mut waiting.commands),
        );
        self.wake(waiting);
        // Not under the lock: dropping them wakes those that wait.
        drop(forgotten);
    }
}
