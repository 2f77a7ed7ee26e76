//! How events are given to a queue.

use std::sync::atomic::Ordering;

use super::{Pending, Queue};
use crate::error::AppendError;
use crate::event::{Event, Receipt};
use crate::id::{EventId, Seq};
use crate::log::thread::Unawaited;
use crate::observe;

impl Queue {
    /// Appends one event. When this returns `Ok`, the event is as safe as the settings'
    /// [`Durability`](crate::Durability) says: by default, on disk.
    ///
    /// # Errors
    /// [`AppendError::TooLarge`], [`AppendError::Full`], [`AppendError::Closed`]: nothing was
    /// appended. [`AppendError::NotOwner`]: nothing is acknowledged any more.
    /// [`AppendError::Storage`]: the disk refused; the event is not acknowledged and may or may not
    /// be there after a restart. What to do about each: [`AppendError::kind`].
    ///
    /// # Cancel safety
    /// If the future is dropped, the event was either appended or not, and it is not said which.
    /// Append it again under the same id; a duplicate can then be told by it.
    pub async fn append(&self, event: Event) -> Result<Receipt, AppendError> {
        let id = event.id();
        let seq = self.take_in(vec![event]).await?;
        Ok(Receipt::new(seq, id))
    }

    /// Has one event appended, and returns as soon as it is on its way, so that one task can have
    /// many under way. It waits only while `intake_bytes` of the settings are waiting for the disk
    /// already: that bounds the memory. When the [`Pending`] is ready, the event is as safe as
    /// after [`append`](Self::append).
    ///
    /// Events are appended in the order in which these calls returned.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let spool = dir.path().join("spool");
    /// use everpost::{Event, Queue};
    ///
    /// let queue = Queue::builder(&spool).open().await?;
    /// let mut under_way = Vec::new();
    /// for n in 0..64 {
    ///     under_way.push(queue.submit(Event::json(n.to_string())?).await?);
    /// }
    /// // They share a few commits, each with one write and one fdatasync.
    /// for (pending, seq) in under_way.into_iter().zip(1..) {
    ///     assert_eq!(pending.await?.seq, seq); // from here on a power cut cannot take it
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AppendError::Closed`], [`AppendError::NotOwner`]: the event is not on its way. What else
    /// [`append`](Self::append) can fail with, the [`Pending`] gives.
    ///
    /// # Cancel safety
    /// If the future is dropped before it returned, nothing is appended.
    pub async fn submit(&self, event: Event) -> Result<Pending, AppendError> {
        self.check_open(1)?;
        let (id, sync) = (event.id(), self.shared.sync);
        let submitted = self.shared.log.submit(vec![event], sync, Unawaited::Stays);
        let answer = submitted.await.map_err(AppendError::of)?;
        Ok(Pending::new(id, answer))
    }

    /// As [`submit`](Self::submit), without waiting for anything: where the intake has no room
    /// now, it says so. For code that must not wait, such as a logger.
    ///
    /// Events are appended in the order of these calls.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let spool = dir.path().join("spool");
    /// use everpost::Event;
    /// use everpost::blocking::Queue;
    ///
    /// let queue = Queue::open(&spool)?;
    /// let one = queue.try_append(Event::json("1")?)?;
    /// let two = queue.try_append(Event::json("2")?)?;
    /// assert_eq!((one.wait()?.seq, two.wait()?.seq), (1, 2));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AppendError::Full`]: `intake_bytes` of the settings are waiting for the disk already, or
    /// for room in the spool where [`OnFull::Block`](crate::OnFull::Block) has them wait. [`AppendError::Closed`],
    /// [`AppendError::NotOwner`]. The event is not on its way then. That the spool is full without
    /// `OnFull::Block`, and what else [`append`](Self::append) can fail with, the [`Pending`]
    /// gives.
    pub fn try_append(&self, event: Event) -> Result<Pending, AppendError> {
        self.check_open(1)?;
        let (id, sync) = (event.id(), self.shared.sync);
        let taken = self.shared.log.try_append(vec![event], sync);
        Ok(Pending::new(id, taken.map_err(AppendError::of)?))
    }

    /// Counts so many events as refused if the queue is being closed.
    fn check_open(&self, events: usize) -> Result<(), AppendError> {
        if self.shared.closing.load(Ordering::Acquire) {
            observe::refused(self.place(), events);
            return Err(AppendError::Closed);
        }
        Ok(())
    }

    async fn take_in(&self, events: Vec<Event>) -> Result<Seq, AppendError> {
        self.check_open(events.len())?;
        let taken = self.shared.log.append(events, self.shared.sync).await;
        taken.map_err(AppendError::of)
    }

    pub(super) fn take_in_blocking(&self, events: &mut Vec<Event>) -> Result<Seq, AppendError> {
        self.check_open(events.len())?;
        let taken = self.shared.log.append_blocking(events, self.shared.sync);
        taken.map_err(AppendError::of)
    }

    /// Appends several events as one commit: in this order, next to each other, and, should the
    /// process die, all of them or none. Together they must fit half a journal file.
    ///
    /// # Errors
    /// As [`append`](Self::append), for all of them together.
    ///
    /// # Cancel safety
    /// As [`append`](Self::append), for all of them together.
    pub async fn append_all(
        &self,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<Vec<Receipt>, AppendError> {
        let (events, ids) = gathered(events);
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let first = self.take_in(events).await?;
        Ok(receipts(first, ids))
    }
}

pub(super) fn gathered(events: impl IntoIterator<Item = Event>) -> (Vec<Event>, Vec<EventId>) {
    let events: Vec<Event> = events.into_iter().collect();
    let ids = events.iter().map(Event::id).collect();
    (events, ids)
}

/// The numbers second: they may end with the last one there is.
pub(super) fn receipts(first: Seq, ids: Vec<EventId>) -> Vec<Receipt> {
    ids.into_iter()
        .zip(first..)
        .map(|(id, seq)| Receipt::new(seq, id))
        .collect()
}
