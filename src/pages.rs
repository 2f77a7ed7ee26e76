//! What a queue holds, entry by entry, read from the log in pages.

use std::fmt;
use std::ops::{Bound, RangeBounds};

use crate::dead::DeadLetter;
use crate::error::Error;
use crate::event::StoredEvent;
use crate::id::Seq;
use crate::log::thread::LogHandle;
use crate::log::{Log, Read};

/// Bytes of JSON in one page of events, beyond the first.
const PAGE_BYTES: u64 = 8 << 20;
/// Events in a page.
const EVENTS_MAX: usize = 256;
/// Dead letters in a page: each may hold as large an event as there is.
const LETTERS_MAX: usize = 16;

/// Reads the entries after this one, at most so many.
type Reading<T> = fn(&mut dyn Log, Seq, usize) -> Result<Vec<T>, Error>;

/// Entries of a queue in `seq` order: pending events ([`Queue::events`](crate::Queue::events)) or
/// dead letters ([`DeadLetters::list`](crate::DeadLetters::list)).
///
/// They are read as they are asked for, a page at a time, so that memory stays small however many
/// there are. Nothing is moved, and nothing is held in place: what leaves the queue meanwhile is not
/// seen, and what is appended meanwhile is, as far as the range reaches.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// use everpost::{Event, Queue};
///
/// let queue = Queue::open(dir.path().join("spool")).await?;
/// queue.append_all([Event::json("1")?, Event::json("2")?, Event::json("3")?]).await?;
/// let mut events = queue.events(2..);
/// while let Some(stored) = events.next().await? {
///     println!("{} {}", stored.seq, stored.event.id());
/// }
/// assert_eq!(queue.events(..=2).collect().await?.len(), 2);
/// # Ok(()) }
/// ```
pub struct Pages<T> {
    log: LogHandle,
    read: Reading<T>,
    seq: fn(&T) -> Seq,
    page_max: usize,
    /// Read and not given out yet.
    page: std::vec::IntoIter<T>,
    /// The last that was read, or what stands before the first.
    after: Seq,
    last: Seq,
}

impl<T: Send + 'static> Pages<T> {
    /// The next entry; `None` at the end of the range. At the end of a range that is open, ask
    /// again to see what came since.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Storage`], [`Error::Damaged`]. Asked again, it goes on from
    /// there.
    ///
    /// # Cancel safety
    /// Reads only, and skips nothing.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        if self.page.len() == 0 && self.after < self.last {
            let left = usize::try_from(self.last - self.after).unwrap_or(usize::MAX);
            let (read, after, max) = (self.read, self.after, self.page_max.min(left));
            let mut page = self.log.run(move |log| read(log, after, max)).await?;
            page.retain(|entry| (self.seq)(entry) <= self.last);
            self.after = page.last().map_or(after, self.seq);
            self.page = page.into_iter();
        }
        Ok(self.page.next())
    }

    /// At most so many of those that are left.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn take(mut self, max: usize) -> Result<Vec<T>, Error> {
        self.page_max = self.page_max.min(max);
        let mut entries = Vec::new();
        while entries.len() < max
            && let Some(entry) = self.next().await?
        {
            entries.push(entry);
        }
        Ok(entries)
    }

    /// All that are left, in memory.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn collect(self) -> Result<Vec<T>, Error> {
        self.take(usize::MAX).await
    }
}

impl Pages<StoredEvent> {
    /// The pending events in this range.
    pub(crate) fn of_events(log: LogHandle, range: impl RangeBounds<Seq>) -> Self {
        let (after, last) = bounds(range);
        Self {
            log,
            read: events,
            seq: |stored| stored.seq,
            page_max: EVENTS_MAX,
            page: Vec::new().into_iter(),
            after,
            last,
        }
    }
}

impl Pages<DeadLetter> {
    /// The dead letters in this range.
    pub(crate) fn of_letters(log: LogHandle, range: impl RangeBounds<Seq>) -> Self {
        let (after, last) = bounds(range);
        Self {
            log,
            read: |log, after, max| log.letters(after, max),
            seq: |letter| letter.seq,
            page_max: LETTERS_MAX,
            page: Vec::new().into_iter(),
            after,
            last,
        }
    }
}

impl<T> fmt::Debug for Pages<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages")
            .field("after", &self.after)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

/// What stands before the first of a range, and its last. Empty if the second is not larger.
fn bounds(range: impl RangeBounds<Seq>) -> (Seq, Seq) {
    let after = match range.start_bound() {
        Bound::Included(first) => first.saturating_sub(1),
        Bound::Excluded(after) => *after,
        Bound::Unbounded => 0,
    };
    let last = match range.end_bound() {
        Bound::Included(last) => *last,
        Bound::Excluded(end) => end.saturating_sub(1),
        Bound::Unbounded => Seq::MAX,
    };
    (after, last)
}

/// The pending events that stand after `after`, at most `max` of them and [`PAGE_BYTES`], over
/// ranges that are damaged. None if there are no more.
pub(crate) fn events(log: &mut dyn Log, after: Seq, max: usize) -> Result<Vec<StoredEvent>, Error> {
    let mut from = after.saturating_add(1);
    let mut found: Vec<StoredEvent> = Vec::new();
    let mut bytes = PAGE_BYTES;
    while found.len() < max {
        from = from.max(log.position().cursor + 1);
        match log.read(from, max - found.len(), bytes)? {
            Read::Events(events) => {
                let size: usize = events.iter().map(|e| e.event.json_bytes().len()).sum();
                from = events.last().map_or(from, |stored| stored.seq) + 1;
                found.extend(events);
                bytes = bytes.saturating_sub(size as u64);
                if bytes == 0 {
                    break;
                }
            }
            Read::Missing(range) => from = range.last + 1,
            Read::End => break,
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_what_its_bounds_say() {
        assert_eq!(bounds(..), (0, Seq::MAX));
        assert_eq!(bounds(0..), (0, Seq::MAX));
        assert_eq!(bounds(1..), (0, Seq::MAX));
        assert_eq!(bounds(5..9), (4, 8));
        assert_eq!(bounds(5..=9), (4, 9));
        assert_eq!(
            bounds((Bound::Excluded(5), Bound::Unbounded)),
            (5, Seq::MAX)
        );
        for (after, last) in [bounds(5..5), bounds(..0), bounds(..=0), bounds(..1)] {
            assert!(after >= last, "{after} {last}");
        }
    }
}
