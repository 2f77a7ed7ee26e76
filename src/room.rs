//! Room in the spool's directory for one guest beside the log.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ending::TaskEnd;
use crate::error::Error;

/// Something that stands in the spool's directory for as long as the queue is open: it is
/// dropped, and must be gone by that, before another process can own the spool.
pub(crate) trait Guest: Send + std::fmt::Debug {}

/// Has place for one guest at a time.
#[derive(Debug, Default)]
pub(crate) struct Room(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    /// How many guests there have been; also the number of the last one's stay.
    stays: u64,
    guest: Option<Box<dyn Guest>>,
    is_closed: bool,
    /// What guests have left behind that may still run.
    tasks: Vec<Arc<TaskEnd>>,
}

impl Room {
    /// Lets a guest in and gives the number of its stay; `None` if there is one already.
    ///
    /// # Errors
    /// [`Error::Closed`] once the room is closed, and as `arrive`.
    #[cfg(unix)]
    pub(crate) fn lodge<T>(
        &self,
        arrive: impl FnOnce() -> Result<(Box<dyn Guest>, T), Error>,
    ) -> Result<Option<(u64, T)>, Error> {
        let mut book = self.book();
        if book.is_closed {
            return Err(Error::Closed);
        }
        if book.guest.is_some() {
            return Ok(None);
        }
        let (guest, more) = arrive()?;
        book.stays += 1;
        book.guest = Some(guest);
        Ok(Some((book.stays, more)))
    }

    /// Notes a task that ends after its guest has left, for the queue to wait for; false if the
    /// room is closed and no client waits any more.
    #[cfg(unix)]
    pub(crate) fn note_task(&self, task: &Arc<TaskEnd>) -> bool {
        let mut book = self.book();
        if book.is_closed {
            return false;
        }
        book.tasks.retain(|task| !task.is_over());
        book.tasks.push(Arc::clone(task));
        true
    }

    /// Waits for the tasks of all guests, which have left.
    ///
    /// # Cancel safety
    /// Only waits; call it again.
    pub(crate) async fn wait_for_tasks(&self) {
        let tasks = self.book().tasks.clone();
        for task in tasks {
            // How it ended, its guest's owner is told.
            drop(task.wait().await);
        }
    }

    /// Gives the guest of this stay, unless it has left already. Dropping it ends its stay.
    pub(crate) fn take(&self, stay: u64) -> Option<Box<dyn Guest>> {
        let mut book = self.book();
        if book.stays == stay {
            book.guest.take()
        } else {
            None
        }
    }

    /// Gives the guest, if there is one, and lets no other in.
    pub(crate) fn close(&self) -> Option<Box<dyn Guest>> {
        let mut book = self.book();
        book.is_closed = true;
        book.guest.take()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
