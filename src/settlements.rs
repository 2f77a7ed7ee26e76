//! What leaves a queue, as it leaves.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use crate::fate::{Fate, Settlement};
use crate::id::Seq;
use crate::log::Position;
use crate::log::thread::Followers;

/// Follows what leaves a queue, in order and without a gap. Made by
/// [`Queue::settlements`](crate::Queue::settlements). Does not keep the queue open.
///
/// Nothing is kept for it, and it holds up no delivery, however slowly it is read: what it has
/// missed is then given in fewer, longer ranges, without the names of the requests, or as
/// [`Fate::Settled`] where it is not known any more how it left.
///
/// A program that keeps the last number of what it has seen goes on from there after a restart. What
/// was delivered just before a power cut may be delivered, and given, once more.
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
/// let mut settlements = queue.settlements(queue.status().cursor);
/// queue.append(Event::json("1")?).await?;
/// let first = settlements.next().await.ok_or("the queue has ended")?;
/// assert_eq!((first.range.first, first.range.last), (1, 1));
/// assert_eq!(first.fate, Fate::Delivered { request_id: None });
/// # Ok(()) }
/// ```
pub struct Settlements {
    position: Arc<watch::Receiver<Position>>,
    followers: Arc<Followers>,
    after: Seq,
}

impl Settlements {
    pub(crate) fn new(
        position: Arc<watch::Receiver<Position>>,
        followers: &Arc<Followers>,
        after: Seq,
    ) -> Self {
        let followers = Arc::clone(followers);
        Self {
            position,
            followers,
            after,
        }
    }

    /// The next events that left in the same way, as many as are known at once: of those that were
    /// delivered, at most what one request carried that the receiver named. `None` once the queue
    /// has ended and all that had left was given.
    ///
    /// # Cancel safety
    /// Nothing is missed if the future is dropped.
    pub async fn next(&mut self) -> Option<Settlement> {
        loop {
            if let Some(settlement) = self.seen() {
                return Some(settlement);
            }
            let next = self.after.saturating_add(1);
            if !self.followers.wait_for(next).await {
                // What left last may have done so since.
                return self.seen();
            }
        }
    }

    fn seen(&mut self) -> Option<Settlement> {
        let (mut range, how) = {
            let position = self.position.borrow();
            let first = self.after.checked_add(1)?;
            if first > position.cursor {
                return None;
            }
            position.fates.from(first, position.cursor)
        };
        let mut fate = Fate::of(how);
        if let Fate::Delivered { request_id } = &mut fate {
            let (name, last) = self.followers.request_of(range.first);
            *request_id = name;
            range.last = range.last.min(last);
        }
        self.after = range.last;
        Some(Settlement::new(range, fate))
    }
}

impl fmt::Debug for Settlements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settlements")
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}
