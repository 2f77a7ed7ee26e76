//! The handle through which a person looks at dead letters and decides on them.

use std::ops::RangeBounds;

use crate::dead::DeadLetter;
use crate::error::Error;
use crate::event::Receipt;
use crate::id::Seq;
use crate::log::Log;
use crate::log::thread::LogHandle;
use crate::pages::Pages;

/// The dead letters of a queue. Made by [`Queue::dead_letters`](crate::Queue::dead_letters).
///
/// They stay until a person retries or discards them; there is no age at which they vanish. They
/// count against `max_bytes`.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    log: LogHandle,
}

impl DeadLetters {
    pub(crate) fn new(log: LogHandle) -> Self {
        Self { log }
    }

    /// The letters that stood in this range of sequence numbers: `..` for all.
    #[must_use]
    pub fn list(&self, range: impl RangeBounds<Seq>) -> Pages<DeadLetter> {
        Pages::of_letters(self.log.clone(), range)
    }

    /// One page of the letters that stood after `after`; none is the end.
    #[cfg(feature = "control")]
    pub(crate) async fn page(&self, after: Seq, max: usize) -> Result<Vec<DeadLetter>, Error> {
        self.log.run(move |log| log.letters(after, max)).await
    }

    /// The letter that stood at `seq`.
    ///
    /// # Errors
    /// [`Error::NoSuchLetter`]; [`Error::Closed`], [`Error::Storage`], [`Error::Damaged`].
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
    /// [`show`](Self::show).
    ///
    /// # Cancel safety
    /// Once begun it is done even if the future is dropped.
    pub async fn retry(&self, seq: Seq) -> Result<Receipt, Error> {
        self.log.run(move |log| log.retry(seq)).await
    }

    /// Removes the letter and its event for ever.
    ///
    /// # Errors
    /// [`Error::NoSuchLetter`]; [`Error::Closed`], [`Error::Storage`], [`Error::Damaged`].
    ///
    /// # Cancel safety
    /// Once begun it is done even if the future is dropped.
    pub async fn discard(&self, seq: Seq) -> Result<(), Error> {
        self.log.run(move |log| log.discard(seq)).await
    }

    /// Does [`retry`](Self::retry) with every letter there is, in order, and gives how many. What
    /// becomes a letter meanwhile is left alone, also if it is one of them that was refused again.
    ///
    /// # Errors
    /// [`NotAll`] with the first error and how many were done before it; the others are still
    /// there.
    ///
    /// # Cancel safety
    /// Each letter is done or not; those that were done stay so.
    pub async fn retry_all(&self) -> Result<u64, NotAll> {
        self.each(|log, seq| log.retry(seq).map(drop)).await
    }

    /// Does [`discard`](Self::discard) with every letter there is, in order, and gives how many.
    /// What becomes a letter meanwhile is left alone.
    ///
    /// # Errors
    /// As [`retry_all`](Self::retry_all).
    ///
    /// # Cancel safety
    /// As [`retry_all`](Self::retry_all).
    pub async fn discard_all(&self) -> Result<u64, NotAll> {
        self.each(|log, seq| log.discard(seq)).await
    }

    async fn each(&self, act: fn(&mut dyn Log, Seq) -> Result<(), Error>) -> Result<u64, NotAll> {
        let mut done = 0;
        match self.each_counted(act, &mut done).await {
            Ok(()) => Ok(done),
            Err(error) => Err(NotAll { done, error }),
        }
    }

    async fn each_counted(
        &self,
        act: fn(&mut dyn Log, Seq) -> Result<(), Error>,
        done: &mut u64,
    ) -> Result<(), Error> {
        // What is appended from here on comes after it, and so do the letters that it becomes.
        let last = self.log.run(|log| Ok(log.position().last_seq)).await?;
        let mut letters = self.list(..=last);
        while let Some(DeadLetter { seq, .. }) = letters.next().await? {
            match self.log.run(move |log| act(log, seq)).await {
                Ok(()) => *done += 1,
                // Another caller was faster.
                Err(Error::NoSuchLetter { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Not every dead letter was retried or discarded. Becomes its [`Error`] by `?`.
#[derive(Debug, thiserror::Error)]
#[error("after {done} dead letters: {error}")]
pub struct NotAll {
    /// How many were, before this one.
    pub done: u64,
    /// Why the next one was not.
    #[source]
    pub error: Error,
}

impl From<NotAll> for Error {
    fn from(not_all: NotAll) -> Self {
        not_all.error
    }
}
