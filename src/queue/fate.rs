//! What became of events.

use super::Queue;
use crate::error::Error;
use crate::fate::Fate;
use crate::id::{EventId, Seq};
use crate::settlements::Settlements;

impl Queue {
    /// What became of the event with this number, which a [`Receipt`](crate::Receipt) names: as far
    /// as it is known, now and after restarts. See [`Fate`] for how far that is.
    ///
    /// It touches no file for an event that waits, was delivered or made room; for others it looks
    /// whether a dead letter says more.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::FutureFormat`] if the dead letter cannot be read;
    /// [`Error::Panicked`], [`Error::NotOwner`]. A queue that is closed says what it knows without
    /// the letter.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn fate(&self, seq: Seq) -> Result<Fate, Error> {
        let fate = self.shared.log.fate(seq);
        if !fate.may_have_letter() {
            return Ok(fate);
        }
        match self.shared.log.run(move |log| log.letter(seq)).await {
            Ok(Some(letter)) => Ok(Fate::of_letter(letter)),
            // What is damaged is on record. The books know the rest.
            Ok(None) | Err(Error::Closed | Error::Damaged { .. }) => Ok(fate),
            Err(error) => Err(error),
        }
    }

    /// The number and the fate of the event with this id, if it waits or is a dead letter; of more
    /// than one, the one that is sent next. The ids of what was delivered are not kept: `None` says
    /// nothing of those.
    ///
    /// It reads what waits, a page at a time, and then the dead letters, so that it takes as long
    /// as reading the backlog does. Ask by [number](Self::fate) where that is known.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Storage`], [`Error::Damaged`], and as [`fate`](Self::fate).
    ///
    /// # Cancel safety
    /// Reads only. An event that leaves the queue while it is looked for may not be found.
    pub async fn fate_of_id(&self, id: EventId) -> Result<Option<(Seq, Fate)>, Error> {
        let mut events = self.events(..=self.status().last_seq);
        while let Some(stored) = events.next().await? {
            if stored.event.id() == id {
                return Ok(Some((stored.seq, self.fate(stored.seq).await?)));
            }
        }
        let mut letters = self.dead_letters().list(..);
        while let Some(letter) = letters.next().await? {
            if letter.event.id() == id {
                return Ok(Some((letter.seq, Fate::of_letter(letter))));
            }
        }
        Ok(None)
    }

    /// Waits until the event with this number has left the queue, and says how; at once if it has,
    /// or if there is none of that number ([`Fate::Unknown`]). An event that waits for a person, or
    /// for a network that never returns, is waited for without end: give it a time limit.
    ///
    /// It costs nothing while it waits, however many wait. After a restart, ask again.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # struct Printer;
    /// # impl everpost::Sink for Printer {
    /// #     async fn deliver(&self, _: everpost::Request) -> everpost::Outcome { everpost::Outcome::delivered() }
    /// # }
    /// use everpost::{Event, Fate, Queue};
    ///
    /// let queue = Queue::builder(dir.path().join("spool")).sink(Printer).open().await?;
    /// let receipt = queue.append(Event::json(r#"{"text":"hello"}"#)?).await?;
    /// assert_eq!(queue.settled(receipt.seq).await?, Fate::Delivered { request_id: None });
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Panicked`] if the queue ended before: the event is still pending.
    /// As [`fate`](Self::fate).
    ///
    /// # Cancel safety
    /// Only waits.
    pub async fn settled(&self, seq: Seq) -> Result<Fate, Error> {
        self.shared.log.passed(seq).await?;
        self.fate(seq).await
    }

    /// Follows what leaves the queue, from the event behind `after` on, in order: 0 for all that is
    /// known, [`Status::cursor`](crate::Status::cursor) for what leaves from now on, or where an
    /// earlier process had come to.
    #[must_use]
    pub fn settlements(&self, after: Seq) -> Settlements {
        let log = &self.shared.log;
        Settlements::new(log.glimpse(), log.followers(), after)
    }
}
