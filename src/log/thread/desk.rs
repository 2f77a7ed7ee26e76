//! Where the log lies, and who works at it.
//!
//! Most work is done by the log's thread. A caller that blocks its own thread anyway
//! ([`Desk::lead`]) does not wait for that thread to wake up: if nobody is at the log, it does the
//! round itself, for its own append and for all others that wait. That saves two changes of
//! thread, which take longer than a commit without a sync. If its append is the only one, it does
//! not even go through the inbox ([`Desk::append_alone`]).
//!
//! Nothing is left lying: whoever leaves an append without waking the thread looks afterwards
//! whether the log is free, and whoever leaves the log looks afterwards whether an append came.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, PoisonError};

use super::super::sync::{Mutex, MutexGuard, TryLockError};
use super::inbox::Inbox;
use super::owner::{By, Owner};
use super::{Event, Place, Seq, panic_text};
use crate::error::Error;

/// The log with its owner, and what waits for it.
pub(super) struct Desk {
    pub(super) inbox: Inbox,
    /// None before the log is open and after it has ended.
    owner: Mutex<Option<Owner>>,
    /// The text of the panic the log ended by, if it did.
    panic: OnceLock<String>,
}

/// As long as one of these is alive, somebody may send something.
pub(super) struct Alive(pub(super) Arc<Desk>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.inbox.end_intake();
    }
}

impl Desk {
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

    /// Takes the log away, if it is there, and drops it: its files are free after this.
    pub(super) fn clear(&self) {
        let owner = self.lock().take();
        self.guard(|| drop(owner));
    }

    /// The work of the log's thread, to its end.
    pub(super) fn serve(&self) {
        let round =
            |owner: &mut Option<Owner>, inbox: &Inbox| Owner::round(owner, inbox, By::Thread);
        while let Some(pause) = self.at_the_log(self.lock(), round) {
            self.inbox.wait(pause);
        }
    }

    /// Does what waits, unless somebody is at it: false then. Called by whoever left an append.
    pub(super) fn lead(&self, place: &Place) -> bool {
        self.as_caller(place, |owner, inbox| Owner::round(owner, inbox, By::Caller))
            .is_some()
    }

    /// Appends these events here and now, without a way through the inbox, if nothing waits and
    /// nobody is at the log. None otherwise, or if the log has ended: whoever called leaves an
    /// append then.
    ///
    /// Appends keep their order: what was sent before this began is in the inbox, or somebody is
    /// at it, or it is done.
    pub(super) fn append_alone(
        &self,
        place: &Place,
        events: &mut Vec<Event>,
        sync: bool,
    ) -> Option<Result<Seq, Error>> {
        if !self.inbox.is_idle() {
            return None;
        }
        let append = |owner: &mut Option<Owner>, inbox: &Inbox| {
            let owner = owner.as_mut()?;
            owner.append_alone(inbox, events, sync)
        };
        self.as_caller(place, append).flatten()
    }

    /// Does some work at the log on a caller's thread, unless somebody is at it: none then.
    fn as_caller<T>(
        &self,
        place: &Place,
        work: impl FnOnce(&mut Option<Owner>, &Inbox) -> Option<T>,
    ) -> Option<Option<T>> {
        let owner = match self.owner.try_lock() {
            Ok(owner) => owner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Whoever is there looks again before going.
            Err(TryLockError::WouldBlock) => return None,
        };
        let done = place.enter(|| self.at_the_log(owner, work));
        // Only now that the log is free: what came before was seen by the work, or is seen here.
        self.inbox.ring_for_appends();
        Some(done)
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
    fn guard<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(done) => Some(done),
            Err(payload) => {
                self.note_panic(payload.as_ref());
                None
            }
        }
    }

    /// Remembers what the log ended by.
    pub(super) fn note_panic(&self, payload: &(dyn std::any::Any + Send)) {
        let message = panic_text(payload);
        tracing::error!(
            message,
            "the log ended by a panic; what was acknowledged is on disk"
        );
        // Only the first one is the cause.
        drop(self.panic.set(message));
    }
}
