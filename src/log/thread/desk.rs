//! Where the log lies, and who works at it.
//!
//! Most work is done by the log's thread. A caller that blocks its own thread anyway
//! ([`Desk::lead`]) does not wait for that thread to wake up: if nobody is at the log, it does the
//! round itself, for its own append and for all others that wait. That saves two changes of
//! thread, which take longer than a commit without a sync.
//!
//! Nothing is left lying: whoever leaves an append without waking the thread looks afterwards
//! whether the log is free, and whoever leaves the log looks afterwards whether an append came.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, PoisonError};

use super::super::sync::{Mutex, MutexGuard, TryLockError};
use super::inbox::{Inbox, Pause};
use super::owner::{By, Owner};
use super::{Place, panic_text};

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
        while let Some(pause) = self.round(self.lock(), By::Thread) {
            self.inbox.wait(pause);
        }
    }

    /// Does what waits, unless somebody is at it: false then. Called by whoever left an append.
    pub(super) fn lead(&self, place: &Place) -> bool {
        let owner = match self.owner.try_lock() {
            Ok(owner) => owner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Whoever is there looks again before going.
            Err(TryLockError::WouldBlock) => return false,
        };
        place.enter(|| self.round(owner, By::Caller));
        // Only now that the log is free: what came before was seen by the round, or is seen here.
        self.inbox.ring_for_appends();
        true
    }

    /// One round at the log. None if it has ended.
    fn round(&self, mut owner: MutexGuard<'_, Option<Owner>>, by: By) -> Option<Pause> {
        let work = || Owner::round(&mut owner, &self.inbox, by);
        if let Some(pause) = self.guard(work) {
            return pause;
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
