//! Work that the log has given to the shelf, and what it learns when that is done.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::Shelf;
use crate::id::Seq;

/// What the log has to know of the shelf all the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// As [`Shelf::synced_through`].
    pub(crate) synced_through: Seq,
    /// As [`Shelf::first_segment_last`].
    pub(crate) first_segment_last: Option<Seq>,
    /// As [`Shelf::bytes`].
    pub(crate) bytes: u64,
}

impl Seen {
    pub(super) fn of(shelf: &Shelf) -> Self {
        Self {
            synced_through: shelf.synced_through(),
            first_segment_last: shelf.first_segment_last(),
            bytes: shelf.bytes(),
        }
    }
}

/// Work that was begun and may not be done yet.
#[derive(Debug)]
pub(crate) struct Begun<T> {
    /// There once this is told. Not sent itself, so that all work shares one kind of channel.
    result: Arc<Mutex<Option<T>>>,
    seen: Receiver<Seen>,
    is_done: Arc<AtomicBool>,
}

impl<T> Begun<T> {
    /// The work, and where its result goes.
    pub(super) fn new() -> (Self, impl FnOnce(T, &Shelf) + Send + 'static)
    where
        T: Send + 'static,
    {
        let (sender, seen) = channel();
        let result = Arc::new(Mutex::new(None));
        let is_done = Arc::new(AtomicBool::new(false));
        let begun = Self {
            result: Arc::clone(&result),
            seen,
            is_done: Arc::clone(&is_done),
        };
        let done = move |came: T, shelf: &Shelf| {
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(came);
            // The log may have lost interest.
            let _ = sender.send(Seen::of(shelf));
            is_done.store(true, Ordering::Release);
        };
        (begun, done)
    }

    /// Waits until it is done, and gives what came of it and what there is to know of the shelf
    /// since. None if the shelf's thread has ended without doing it.
    pub(super) fn wait(self) -> Option<(T, Seen)> {
        let seen = self.seen.recv().ok()?;
        let mut result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        result.take().map(|came| (came, seen))
    }

    /// Whether it is done. To be asked at each commit, it looks at nothing but this.
    pub(crate) fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }
}
