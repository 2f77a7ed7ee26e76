//! The queue for programs and threads that are not async: every call blocks its thread.
//!
//! A program without an async runtime opens a [`Queue`] here; it then delivers on a thread of its
//! own. A program that has a runtime, and threads beside it, gives them
//! [`Queue::blocking`](crate::Queue::blocking): both are the same queue.
//!
//! ```
//! use everpost::Event;
//! use everpost::blocking::Queue;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let home = tempfile::tempdir()?;
//! let queue = Queue::open(home.path().join("spool"))?;
//! let receipt = queue.append(Event::json(r#"{"text":"hello"}"#)?)?;
//! assert_eq!(receipt.seq, 1); // From here on a power cut cannot take it.
//! queue.close(std::time::Duration::ZERO)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Where it never returns
//! A call that waits for the flusher ([`wake`](Queue::wake), [`pause`](Queue::pause),
//! [`resume`](Queue::resume), [`close`](Queue::close)), or for a delivery
//! ([`settled`](Queue::settled) without a time limit, [`settlements`](Queue::settlements)), never returns on the one thread of a
//! current-thread runtime that the queue delivers on, since delivery then waits for the thread that
//! waits for it. Use the async queue there, or
//! [`flusher_thread`](crate::QueueBuilder::flusher_thread).

use std::cell::Cell;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};

use super::Pending;
use super::append::{gathered, receipts};
use crate::clock::Clock;
use crate::dead::DeadLetter;
use crate::error::{AppendError, Error, OpenError};
use crate::event::{Event, Receipt, StoredEvent};
use crate::fate::{Fate, Settlement};
use crate::id::{EventId, Seq};
use crate::incident::Incident;
use crate::letters::{LetterProgress, NotAll};
use crate::log::sync::{block_on, block_on_for};
use crate::settings::Settings;
use crate::sink::Sink;
use crate::status::{Closed, Pace, Recovery, Status};

thread_local! {
    /// Empty between two appends.
    static ONE: Cell<Vec<Event>> = const { Cell::new(Vec::new()) };
}

/// [`everpost::Queue`](crate::Queue) for code that is not async.
///
/// Cloning is cheap and every clone is the same queue.
#[derive(Clone, Debug)]
pub struct Queue {
    queue: crate::Queue,
}

impl Queue {
    /// Opens the spool in this directory with the default settings and without a sink, making it
    /// if it does not exist.
    ///
    /// # Errors
    /// As [`QueueBuilder::open`](crate::QueueBuilder::open).
    pub fn open(spool: impl Into<PathBuf>) -> Result<Self, OpenError> {
        Self::builder(spool).open()
    }

    /// Begins to open the spool in this directory; see
    /// [`Queue::builder`](crate::Queue::builder).
    pub fn builder(spool: impl Into<PathBuf>) -> QueueBuilder {
        QueueBuilder {
            builder: crate::Queue::builder(spool),
        }
    }

    /// The same queue for code that is async, and for what takes one, such as a tracing layer.
    #[must_use]
    pub fn as_async(&self) -> &crate::Queue {
        &self.queue
    }

    /// Appends one event; when this returns `Ok`, it is as safe as the settings'
    /// [`Durability`](crate::Durability) says.
    ///
    /// The write and the sync are done on this very thread if no other append is under way; that
    /// takes less time than to wait for [`Queue::append`](crate::Queue::append).
    ///
    /// # Errors
    /// As [`Queue::append`](crate::Queue::append).
    pub fn append(&self, event: Event) -> Result<Receipt, AppendError> {
        let id = event.id();
        // Room for one event is kept by the thread, but for one that is about to end.
        let mut events = ONE.try_with(Cell::take).unwrap_or_default();
        events.push(event);
        let taken = self.queue.take_in_blocking(&mut events);
        events.clear();
        let _ = ONE.try_with(|one| one.set(events));
        Ok(Receipt::new(taken?, id))
    }

    /// Appends several events as one commit; see
    /// [`Queue::append_all`](crate::Queue::append_all).
    ///
    /// # Errors
    /// As [`Queue::append_all`](crate::Queue::append_all).
    pub fn append_all(
        &self,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<Vec<Receipt>, AppendError> {
        let (mut events, ids) = gathered(events);
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let first = self.queue.take_in_blocking(&mut events)?;
        Ok(receipts(first, ids))
    }

    /// Has one event appended, and returns as soon as it is on its way, so that one thread can
    /// have many under way; blocks only for room in the intake. See
    /// [`Queue::submit`](crate::Queue::submit).
    ///
    /// # Errors
    /// As [`Queue::submit`](crate::Queue::submit).
    pub fn submit(&self, event: Event) -> Result<Pending, AppendError> {
        block_on(self.queue.submit(event))
    }

    /// As [`submit`](Self::submit), without blocking for anything; see
    /// [`Queue::try_append`](crate::Queue::try_append).
    ///
    /// # Errors
    /// As [`Queue::try_append`](crate::Queue::try_append).
    pub fn try_append(&self, event: Event) -> Result<Pending, AppendError> {
        self.queue.try_append(event)
    }

    /// Returns when the log's thread has answered; see [`Queue::ping`](crate::Queue::ping).
    ///
    /// # Errors
    /// As [`Queue::ping`](crate::Queue::ping).
    pub fn ping(&self) -> Result<(), Error> {
        block_on(self.queue.ping())
    }

    /// Whether an append of a small event would be taken now; see
    /// [`Queue::check_append`](crate::Queue::check_append).
    ///
    /// # Errors
    /// As [`append`](Self::append) would fail.
    pub fn check_append(&self) -> Result<(), AppendError> {
        block_on(self.queue.check_append())
    }

    /// Tries whether the disk works; see [`Queue::try_disk`](crate::Queue::try_disk).
    ///
    /// # Errors
    /// As [`Queue::try_disk`](crate::Queue::try_disk).
    pub fn try_disk(&self) -> Result<(), Error> {
        block_on(self.queue.try_disk())
    }

    /// What the queue is doing at this moment. Touches no file.
    #[must_use]
    pub fn status(&self) -> Status {
        self.queue.status()
    }

    /// The directory of the spool, as it was given.
    #[must_use]
    pub fn spool(&self) -> &Path {
        self.queue.spool()
    }

    /// What opening the spool found and mended.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        self.queue.recovery()
    }

    /// What was found wrong with the spool, as far as it is on record.
    #[must_use]
    pub fn incidents(&self) -> Incidents {
        Incidents {
            incidents: self.queue.incidents(),
        }
    }

    /// The events that were set aside.
    #[must_use]
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters {
            letters: self.queue.dead_letters(),
        }
    }

    /// The pending events in this range of sequence numbers, without moving anything: `..` for
    /// all.
    #[must_use]
    pub fn events(&self, range: impl RangeBounds<Seq>) -> Pages<StoredEvent> {
        Pages::new(self.queue.events(range))
    }

    /// What became of the event with this number; see [`Queue::fate`](crate::Queue::fate).
    ///
    /// # Errors
    /// As [`Queue::fate`](crate::Queue::fate).
    pub fn fate(&self, seq: Seq) -> Result<Fate, Error> {
        block_on(self.queue.fate(seq))
    }

    /// The number and the fate of the event with this id, if it waits or is a dead letter; see
    /// [`Queue::fate_of_id`](crate::Queue::fate_of_id).
    ///
    /// # Errors
    /// As [`Queue::fate_of_id`](crate::Queue::fate_of_id).
    pub fn fate_of_id(&self, id: EventId) -> Result<Option<(Seq, Fate)>, Error> {
        block_on(self.queue.fate_of_id(id))
    }

    /// Waits until the event with this number has left the queue, and says how; after `within`, what
    /// it is then: [`Fate::Pending`]. See [`Queue::settled`](crate::Queue::settled).
    ///
    /// # Errors
    /// As [`Queue::settled`](crate::Queue::settled).
    pub fn settled(&self, seq: Seq, within: Duration) -> Result<Fate, Error> {
        match block_on_for(within, self.queue.settled(seq)) {
            Some(settled) => settled,
            None => self.fate(seq),
        }
    }

    /// Follows what leaves the queue from the event behind `after` on; see
    /// [`Queue::settlements`](crate::Queue::settlements).
    #[must_use]
    pub fn settlements(&self, after: Seq) -> Settlements {
        Settlements {
            settlements: self.queue.settlements(after),
        }
    }

    /// Tries again now what waits for a time; see [`Queue::wake`](crate::Queue::wake).
    ///
    /// # Errors
    /// As [`Queue::wake`](crate::Queue::wake).
    pub fn wake(&self) -> Result<(), Error> {
        block_on(self.queue.wake())
    }

    /// Stops delivery until [`resume`](Self::resume), durably; see
    /// [`Queue::pause`](crate::Queue::pause).
    ///
    /// # Errors
    /// As [`Queue::pause`](crate::Queue::pause).
    pub fn pause(&self) -> Result<(), Error> {
        block_on(self.queue.pause())
    }

    /// Ends a pause, durably, and tries at once; see [`Queue::resume`](crate::Queue::resume).
    ///
    /// # Errors
    /// As [`Queue::resume`](crate::Queue::resume).
    pub fn resume(&self) -> Result<(), Error> {
        block_on(self.queue.resume())
    }

    /// Sets how fast delivery may go, until this queue ends; see
    /// [`Queue::set_pace`](crate::Queue::set_pace).
    ///
    /// # Errors
    /// As [`Queue::set_pace`](crate::Queue::set_pace).
    pub fn set_pace(&self, pace: Pace) -> Result<(), Error> {
        block_on(self.queue.set_pace(pace))
    }

    /// Ends the queue in an orderly way, delivering until nothing is pending or the deadline is
    /// over; see [`Queue::close`](crate::Queue::close).
    ///
    /// Within a current-thread runtime it does not wait for the task of the control socket, which
    /// waits for this thread: that is told to end and does so as soon as the thread is free.
    ///
    /// # Errors
    /// As [`Queue::close`](crate::Queue::close).
    pub fn close(&self, deadline: Duration) -> Result<Closed, Error> {
        let here = Handle::try_current().map(|runtime| runtime.runtime_flavor());
        if matches!(here, Ok(RuntimeFlavor::CurrentThread)) {
            return block_on(self.queue.end(deadline));
        }
        block_on(self.queue.close(deadline))
    }
}

/// Entries of a queue in `seq` order, read a page at a time; see
/// [`everpost::Pages`](crate::Pages). After an error there are no more.
#[derive(Debug)]
pub struct Pages<T> {
    pages: crate::Pages<T>,
    has_failed: bool,
}

impl<T> Pages<T> {
    fn new(pages: crate::Pages<T>) -> Self {
        let has_failed = false;
        Self { pages, has_failed }
    }
}

impl<T: Send + 'static> Iterator for Pages<T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let next = block_on(self.pages.next());
        self.has_failed = next.is_err();
        next.transpose()
    }
}

/// [`everpost::DeadLetters`](crate::DeadLetters) for code that is not async.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    letters: crate::DeadLetters,
}

impl DeadLetters {
    /// The letters that stood in this range of sequence numbers: `..` for all.
    #[must_use]
    pub fn list(&self, range: impl RangeBounds<Seq>) -> Pages<DeadLetter> {
        Pages::new(self.letters.list(range))
    }

    /// The letter that stood at `seq`.
    ///
    /// # Errors
    /// As [`DeadLetters::show`](crate::DeadLetters::show).
    pub fn show(&self, seq: Seq) -> Result<DeadLetter, Error> {
        block_on(self.letters.show(seq))
    }

    /// Appends the event anew and removes the letter; see
    /// [`DeadLetters::retry`](crate::DeadLetters::retry).
    ///
    /// # Errors
    /// As [`DeadLetters::retry`](crate::DeadLetters::retry).
    pub fn retry(&self, seq: Seq) -> Result<Receipt, Error> {
        block_on(self.letters.retry(seq))
    }

    /// Removes the letter and its event for ever.
    ///
    /// # Errors
    /// As [`DeadLetters::discard`](crate::DeadLetters::discard).
    pub fn discard(&self, seq: Seq) -> Result<(), Error> {
        block_on(self.letters.discard(seq))
    }

    /// Retries every letter there is; see
    /// [`DeadLetters::retry_all`](crate::DeadLetters::retry_all).
    ///
    /// # Errors
    /// As [`DeadLetters::retry_all`](crate::DeadLetters::retry_all).
    pub fn retry_all(&self) -> Result<u64, NotAll> {
        block_on(self.letters.retry_all())
    }

    /// Retries every letter there is and tells how far it is; see
    /// [`DeadLetters::retry_all_with`](crate::DeadLetters::retry_all_with).
    ///
    /// # Errors
    /// As [`DeadLetters::retry_all`](crate::DeadLetters::retry_all).
    pub fn retry_all_with(&self, tell: impl FnMut(LetterProgress)) -> Result<u64, NotAll> {
        block_on(self.letters.retry_all_with(tell))
    }

    /// Discards every letter there is; see
    /// [`DeadLetters::discard_all`](crate::DeadLetters::discard_all).
    ///
    /// # Errors
    /// As [`DeadLetters::discard_all`](crate::DeadLetters::discard_all).
    pub fn discard_all(&self) -> Result<u64, NotAll> {
        block_on(self.letters.discard_all())
    }

    /// Discards every letter there is and tells how far it is; see
    /// [`DeadLetters::discard_all_with`](crate::DeadLetters::discard_all_with).
    ///
    /// # Errors
    /// As [`DeadLetters::discard_all`](crate::DeadLetters::discard_all).
    pub fn discard_all_with(&self, tell: impl FnMut(LetterProgress)) -> Result<u64, NotAll> {
        block_on(self.letters.discard_all_with(tell))
    }
}

/// [`everpost::Settlements`](crate::Settlements) for code that is not async.
#[derive(Debug)]
pub struct Settlements {
    settlements: crate::Settlements,
}

impl Iterator for Settlements {
    type Item = Settlement;

    /// Blocks until more has left the queue; `None` once the queue has ended.
    fn next(&mut self) -> Option<Settlement> {
        block_on(self.settlements.next())
    }
}

/// [`everpost::Incidents`](crate::Incidents) for code that is not async.
#[derive(Clone, Debug)]
pub struct Incidents {
    incidents: crate::Incidents,
}

impl Incidents {
    /// All that are on record, acknowledged or not, in order of their numbers.
    ///
    /// # Errors
    /// As [`Incidents::list`](crate::Incidents::list).
    pub fn list(&self) -> Result<Vec<Incident>, Error> {
        block_on(self.incidents.list())
    }

    /// Notes, durably, that a person has seen the incident of this number, or all; gives how many
    /// that concerned.
    ///
    /// # Errors
    /// As [`Incidents::acknowledge`](crate::Incidents::acknowledge).
    pub fn acknowledge(&self, number: Option<u64>) -> Result<u64, Error> {
        block_on(self.incidents.acknowledge(number))
    }
}

impl From<crate::Queue> for Queue {
    fn from(queue: crate::Queue) -> Self {
        Self { queue }
    }
}

/// Opens a [`Queue`]. Made by [`Queue::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it is opened"]
pub struct QueueBuilder {
    builder: crate::QueueBuilder,
}

impl QueueBuilder {
    /// The settings; see [`QueueBuilder::settings`](crate::QueueBuilder::settings).
    pub fn settings(self, settings: Settings) -> Self {
        Self {
            builder: self.builder.settings(settings),
        }
    }

    /// Where events go; see [`QueueBuilder::sink`](crate::QueueBuilder::sink).
    pub fn sink<S: Sink>(self, sink: S) -> Self {
        Self {
            builder: self.builder.sink(sink),
        }
    }

    /// Delivers on a thread of the queue's own also within a runtime; see
    /// [`QueueBuilder::flusher_thread`](crate::QueueBuilder::flusher_thread).
    pub fn flusher_thread(self) -> Self {
        Self {
            builder: self.builder.flusher_thread(),
        }
    }

    /// Where the time and the ids come from; the system's clock otherwise.
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self {
            builder: self.builder.clock(clock),
        }
    }

    /// Opens the spool, making it if it does not exist, and starts delivery: on a thread of its
    /// own, or on the tokio runtime this is called in.
    ///
    /// # Errors
    /// As [`QueueBuilder::open`](crate::QueueBuilder::open).
    pub fn open(self) -> Result<Queue, OpenError> {
        block_on(self.builder.open()).map(Queue::from)
    }
}
