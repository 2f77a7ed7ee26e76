//! The handle through which a person looks at dead letters and decides on them.

use crate::dead::DeadLetter;
use crate::error::Error;
use crate::event::Receipt;
use crate::id::Seq;
use crate::log::thread::LogHandle;

/// The dead letters of a queue. Made by [`Queue::dead_letters`](crate::Queue::dead_letters).
///
/// They stay until somebody retries or discards them; there is no age at which they vanish. They
/// count against `max_bytes`.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    log: LogHandle,
}

impl DeadLetters {
    pub(crate) fn new(log: LogHandle) -> Self {
        Self { log }
    }

    /// At most `max` letters that stood after `after`, in order: 0 begins with the first, the
    /// last one's `seq` goes on from there.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Storage`], [`Error::Damaged`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn list(&self, after: Seq, max: usize) -> Result<Vec<DeadLetter>, Error> {
        self.log.run(move |log| log.letters(after, max)).await
    }

    /// The letter that stood at `seq`.
    ///
    /// # Errors
    /// [`Error::NoSuchLetter`], and as [`list`](Self::list).
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn show(&self, seq: Seq) -> Result<DeadLetter, Error> {
        self.log
            .run(move |log| log.letter(seq)?.ok_or(Error::NoSuchLetter { seq }))
            .await
    }

    /// Appends the event anew, under the same id and a new place at the end of the queue, and
    /// removes the letter. The event is at no moment in neither place, also across a power cut.
    ///
    /// # Errors
    /// [`Error::NoSuchLetter`]; [`Error::Full`], with the letter still there; and as
    /// [`list`](Self::list).
    ///
    /// # Cancel safety
    /// Once begun it is done even if the future is dropped.
    pub async fn retry(&self, seq: Seq) -> Result<Receipt, Error> {
        self.log.run(move |log| log.retry(seq)).await
    }

    /// Removes the letter and its event for ever.
    ///
    /// # Errors
    /// [`Error::NoSuchLetter`], and as [`list`](Self::list).
    ///
    /// # Cancel safety
    /// Once begun it is done even if the future is dropped.
    pub async fn discard(&self, seq: Seq) -> Result<(), Error> {
        self.log.run(move |log| log.discard(seq)).await
    }
}
