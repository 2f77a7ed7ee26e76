//! How many stores of the process may be inside sled at a time.
//!
//! All databases of a process share sled's pool of threads, and it has seven: it means to start
//! more when they are busy, but counts down from those that wait for each one that works
//! (sled 0.34.7 `src/threadpool.rs:46` and `:103`), so that with four of seven at work the number
//! has gone round to 2^64 - 1 and none seems to be needed (`:131`). What is done on the pool is of
//! three kinds:
//!
//! - A flush waits, on its thread, for the write it asks for, which is put on the same pool
//!   (`src/tree.rs:816`, `src/pagecache/iobuf.rs:997` and `:1183`). Seven at once wait for ever.
//! - A write takes a lock of its database at the end. An insert or a flush may hold that while it
//!   waits for the pool to shorten the file (`src/pagecache/segment.rs:987`). A database has one
//!   such write: what goes into it between two flushes is less than one of its log segments.
//! - Everything else waits for nothing but the disk.
//!
//! So a store inside takes two threads from the others at the most, its flush and its write, and
//! [`PLACES`] stores take six. One is always left for what they wait for.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Deadline;

/// Stores inside at the most: two threads each, of seven.
const PLACES: usize = 3;

/// The gate that all stores of the process go through.
pub(super) static GATE: Gate = Gate::new(PLACES);

/// So many may be inside.
pub(super) struct Gate {
    inside: Mutex<Inside>,
    left: Condvar,
}

struct Inside {
    free: usize,
    /// How often a place was given back: whether there is still any progress.
    given_back: u64,
    waiting: usize,
}

/// A place inside, given back when it is dropped.
pub(super) struct Place(&'static Gate);

impl Gate {
    const fn new(places: usize) -> Self {
        Self {
            inside: Mutex::new(Inside {
                free: places,
                given_back: 0,
                waiting: 0,
            }),
            left: Condvar::new(),
        }
    }

    /// Waits for a place. `None` once no store has given one back for as long as `patience`: then
    /// those inside wait for a disk, or a sled, that does not answer.
    pub(super) fn enter(&'static self, patience: Duration) -> Option<Place> {
        let mut inside = self.lock();
        if inside.free == 0 {
            inside.waiting += 1;
            inside = self.wait(inside, patience);
            inside.waiting -= 1;
        }
        inside.free = inside.free.checked_sub(1)?;
        Some(Place(self))
    }

    fn wait(
        &self,
        mut inside: MutexGuard<'static, Inside>,
        patience: Duration,
    ) -> MutexGuard<'static, Inside> {
        let (mut seen, mut deadline) = (inside.given_back, Deadline::after(patience));
        while inside.free == 0 {
            if inside.given_back != seen {
                // It went to another one that waits.
                (seen, deadline) = (inside.given_back, Deadline::after(patience));
            }
            let Some(left) = deadline.left() else {
                break;
            };
            let waited = self.left.wait_timeout(inside, left);
            inside = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        inside
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.0.lock();
        inside.free += 1;
        inside.given_back = inside.given_back.wrapping_add(1);
        let is_awaited = inside.waiting > 0;
        drop(inside);
        // A store that has the gate to itself pays for the lock and nothing else.
        if is_awaited {
            self.0.left.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn no_more_are_inside_than_there_are_places_and_all_come_in() {
        static GATE: Gate = Gate::new(2);
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let place = GATE.enter(LONG).unwrap();
                        let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(place);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 2);
        assert_eq!(GATE.lock().free, 2);
    }

    #[test]
    fn a_gate_whose_places_do_not_come_back_is_given_up() {
        static GATE: Gate = Gate::new(1);
        let place = GATE.enter(LONG).unwrap();
        assert!(GATE.enter(Duration::from_millis(1)).is_none());
        drop(place);
        assert!(GATE.enter(Duration::ZERO).is_some());
        assert!(GATE.enter(Duration::ZERO).is_some());
    }
}
