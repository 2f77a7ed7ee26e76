//! The handle through which a person looks at dead letters and decides on them.

use std::ops::RangeBounds;

use crate::dead::DeadLetter;
use crate::error::Error;
use crate::event::Receipt;
use crate::id::Seq;
use crate::log::thread::LogHandle;
use crate::log::{Log, Position};
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
        self.retry_all_with(|_| {}).await
    }

    /// As [`retry_all`](Self::retry_all), and tells how far it is: once before the first letter,
    /// and after each. `tell` must not block, since nothing goes on meanwhile.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # struct Refusing;
    /// # impl everpost::Sink for Refusing {
    /// #     async fn deliver(&self, _: everpost::Request) -> everpost::Outcome {
    /// #         everpost::Outcome::poison(everpost::Answer::default())
    /// #     }
    /// # }
    /// # use everpost::{Event, Queue};
    /// # let queue = Queue::builder(dir.path().join("spool")).sink(Refusing).open().await?;
    /// # queue.append_all([Event::json("1")?, Event::json("2")?]).await?;
    /// # queue.watch().wait_for(|now| now.dead_letters == 2).await.ok_or("it has ended")?;
    /// # queue.pause().await?;
    /// let mut told = Vec::new();
    /// let letters = queue.dead_letters();
    /// let done = letters.retry_all_with(|now| told.push((now.done, now.of))).await?;
    /// assert_eq!(done, 2);
    /// assert_eq!(told, [(0, 2), (1, 2), (2, 2)]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`retry_all`](Self::retry_all).
    ///
    /// # Cancel safety
    /// As [`retry_all`](Self::retry_all).
    pub async fn retry_all_with(&self, tell: impl FnMut(LetterProgress)) -> Result<u64, NotAll> {
        self.each(|log, seq| log.retry(seq).map(drop), tell).await
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
        self.discard_all_with(|_| {}).await
    }

    /// As [`discard_all`](Self::discard_all), and tells how far it is, as
    /// [`retry_all_with`](Self::retry_all_with) does.
    ///
    /// # Errors
    /// As [`retry_all`](Self::retry_all).
    ///
    /// # Cancel safety
    /// As [`retry_all`](Self::retry_all).
    pub async fn discard_all_with(&self, tell: impl FnMut(LetterProgress)) -> Result<u64, NotAll> {
        self.each(|log, seq| log.discard(seq), tell).await
    }

    async fn each(
        &self,
        act: fn(&mut dyn Log, Seq) -> Result<(), Error>,
        tell: impl FnMut(LetterProgress),
    ) -> Result<u64, NotAll> {
        let mut done = 0;
        match self.each_counted(act, &mut done, tell).await {
            Ok(()) => Ok(done),
            Err(error) => Err(NotAll { done, error }),
        }
    }

    async fn each_counted(
        &self,
        act: fn(&mut dyn Log, Seq) -> Result<(), Error>,
        done: &mut u64,
        mut tell: impl FnMut(LetterProgress),
    ) -> Result<(), Error> {
        // What is appended from here on comes after it, and so do the letters that it becomes.
        let now = |log: &mut dyn Log| Ok(log.position());
        let Position {
            last_seq,
            dead_letters: of,
            ..
        } = self.log.run(now).await?;
        tell(LetterProgress { done: *done, of });
        let mut letters = self.list(..=last_seq);
        while let Some(DeadLetter { seq, .. }) = letters.next().await? {
            match self.log.run(move |log| act(log, seq)).await {
                Ok(()) => *done += 1,
                // Another caller was faster.
                Err(Error::NoSuchLetter { .. }) => continue,
                Err(error) => return Err(error),
            }
            // An event that was pending at the beginning may have become a letter since.
            let of = of.max(*done);
            tell(LetterProgress { done: *done, of });
        }
        Ok(())
    }
}

/// How far [`DeadLetters::retry_all_with`] or [`DeadLetters::discard_all_with`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetterProgress {
    /// Letters that are done.
    pub done: u64,
    /// Letters that there were at the beginning. Fewer are done in the end if another caller takes
    /// some meanwhile.
    pub of: u64,
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
