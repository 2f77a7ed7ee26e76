//! Counts what became of logged events, and waits for those that are under way.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{AppendError, Error};
use crate::observe::{self, Place};

/// What became of the events that passed the layer's filters, since the layer was made.
///
/// `emitted = appended + refused + waiting` at every moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Events that passed the filters.
    pub emitted: u64,
    /// Events the queue has acknowledged: as safe as its settings say.
    pub appended: u64,
    /// Events that were not acknowledged: no room in the intake or the spool, too large, refused
    /// by the formatter or the disk, or the queue was closed.
    pub refused: u64,
    /// Events on their way to the disk.
    pub waiting: u64,
}

/// Counts, and lets others wait.
pub(super) struct Tally {
    place: Place,
    account: Mutex<Account>,
    changed: Condvar,
}

#[derive(Default)]
struct Account {
    counts: Counts,
    /// Each wait begins a new era, so that it need not wait for what comes after it.
    era: u64,
    /// Events under way, by the era they began in. Only eras that a flush waits for, and the
    /// present one, are in it.
    waiting: BTreeMap<u64, u64>,
}

impl Tally {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            account: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        // Nothing that can panic happens under the lock.
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn counts(&self) -> Counts {
        self.account().counts
    }

    /// Waits until nothing that began before is under way; false if the time is over first.
    pub(super) fn wait(&self, timeout: Duration) -> bool {
        let mut account = self.account();
        let era = account.era;
        account.era += 1;
        let under_way = |account: &mut Account| account.waiting.range(..=era).next().is_some();
        let waited = self.changed.wait_timeout_while(account, timeout, under_way);
        let (_books, result) = waited.unwrap_or_else(PoisonError::into_inner);
        !result.timed_out()
    }
}

/// One event under way. If it is dropped unsettled, the event counts as refused.
pub(super) struct Ticket {
    tally: Arc<Tally>,
    era: u64,
    settled: bool,
}

impl Ticket {
    /// One more event.
    pub(super) fn new(tally: &Arc<Tally>) -> Self {
        let mut account = tally.account();
        let era = account.era;
        account.counts.emitted += 1;
        account.counts.waiting += 1;
        *account.waiting.entry(era).or_default() += 1;
        drop(account);
        Self {
            tally: Arc::clone(tally),
            era,
            settled: false,
        }
    }

    /// What the queue made of it, which has counted what it refused.
    pub(super) fn settle<T>(mut self, end: Result<T, AppendError>) {
        match end {
            Ok(_) => {
                self.book(true);
            }
            Err(error) => self.tell(&error.into()),
        }
    }

    /// It does not even reach the queue.
    pub(super) fn refuse(mut self, error: &Error) {
        observe::refused(&self.tally.place, 1);
        self.tell(error);
    }

    /// Books a refusal, and tells of the first, the second, the fourth and so on.
    fn tell(&mut self, error: &Error) {
        let refused = self.book(false);
        if refused.is_power_of_two() {
            observe::layer_refused(&self.tally.place, refused, error);
        }
    }

    /// Books the end and gives how many were refused so far.
    fn book(&mut self, appended: bool) -> u64 {
        self.settled = true;
        let mut account = self.tally.account();
        account.counts.waiting = account.counts.waiting.saturating_sub(1);
        if appended {
            account.counts.appended += 1;
        } else {
            account.counts.refused += 1;
        }
        let left = account.waiting.get_mut(&self.era).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            account.waiting.remove(&self.era);
            self.tally.changed.notify_all();
        }
        account.counts.refused
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.settled {
            observe::refused(&self.tally.place, 1);
            self.book(false);
        }
    }
}
