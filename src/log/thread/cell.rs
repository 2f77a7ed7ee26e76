//! Where the log lies, for its thread and for a lone caller.
//!
//! The log's thread does all work at it. There is one shortcut: a caller that blocks its own
//! thread anyway, and whose append is the only one, does it itself ([`LogCell::append_alone`]).
//! That saves two changes of thread, which take longer than a commit without a sync.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, PoisonError};

use super::super::sync::{Mutex, MutexGuard, TryLockError};
use super::inbox::Inbox;
use super::owner::Owner;
use super::{Event, Place, Seq};
use crate::ending::panic_text;
use crate::error::Error;
use crate::observe;

/// The log with its owner, and what waits for it.
pub(super) struct LogCell {
    pub(super) inbox: Inbox,
    /// None before the log is open and after it has ended.
    owner: Mutex<Option<Owner>>,
    /// The text of the panic the log ended by, if it did.
    panic: OnceLock<String>,
}

/// As long as one of these is alive, something may be sent to the log.
pub(super) struct Alive(pub(super) Arc<LogCell>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.inbox.end_intake();
    }
}

impl LogCell {
    pub(super) fn new() -> Self {
        Self {
            inbox: Inbox::default(),
            owner: Mutex::new(None),
            panic: OnceLock::new(),
        }
    }

    pub(super) fn panic(&self) -> Option<&str> {
        self.panic.get().map(String::as_str)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Owner>> {
        // A panic does not leave a round, so what lies there is whole.
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the log there.
    pub(super) fn put(&self, owner: Owner) {
        *self.lock() = Some(owner);
    }

    /// Ends the log, if it has not ended, and takes nothing more in: its files are free after this.
    pub(super) fn clear(&self) {
        let owner = self.lock().take();
        self.guard(|| drop(owner));
        self.inbox.close();
    }

    /// The work of the log's thread, to its end.
    pub(super) fn serve(&self) {
        while let Some(rest) = self.at_the_log(self.lock(), Owner::round) {
            self.inbox.wait(rest);
        }
    }

    /// Appends these events here and now, on the thread of the caller, if nothing waits and the
    /// log's thread is not at the log. None otherwise, or if the log has ended, with the events
    /// left where they are: the caller sends them to the thread then.
    ///
    /// Appends keep their order. What was sent before this began is in the inbox, or was taken out
    /// of it under the lock: then the thread still holds the lock, or has done it, or has put it
    /// among those that wait for room, behind which nothing is appended here either.
    pub(super) fn append_alone(
        &self,
        place: &Place,
        events: &mut Vec<Event>,
        sync: bool,
    ) -> Option<Result<Seq, Error>> {
        if !self.inbox.is_idle() {
            return None;
        }
        let owner = match self.owner.try_lock() {
            Ok(owner) => owner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let append = |owner: &mut Option<Owner>, inbox: &Inbox| {
            owner.as_mut()?.append_alone(inbox, events, sync)
        };
        place.enter(|| self.at_the_log(owner, append))
    }

    /// Does some work at the log. None if it has ended, or does by this.
    fn at_the_log<T>(
        &self,
        mut owner: MutexGuard<'_, Option<Owner>>,
        work: impl FnOnce(&mut Option<Owner>, &Inbox) -> Option<T>,
    ) -> Option<T> {
        if let Some(done) = self.guard(|| work(&mut owner, &self.inbox)) {
            return done;
        }
        // What panicked is not used again, and not even its end may go on unwinding.
        let broken = owner.take();
        drop(owner);
        self.guard(|| drop(broken));
        self.inbox.close();
        None
    }

    /// Remembers the panic that `work` ended by; none if it did not return.
    pub(super) fn guard<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(done) => Some(done),
            Err(payload) => {
                let message = panic_text(payload.as_ref());
                observe::log_panicked(&message);
                // Only the first one is the cause.
                drop(self.panic.set(message));
                None
            }
        }
    }
}
