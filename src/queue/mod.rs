//! The handle that programs hold.

mod append;
pub mod blocking;
mod builder;
mod fate;
mod pending;

use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[cfg(feature = "control")]
use crate::clock::{Clock, SystemClock};
use crate::error::{AppendError, Error, OpenError};
use crate::event::StoredEvent;
use crate::flusher::{FlusherEnd, FlusherHandle};
use crate::id::Seq;
use crate::incidents::Incidents;
use crate::letters::DeadLetters;
use crate::log::Log;
#[cfg(feature = "control")]
use crate::log::PausedMemo;
use crate::log::thread::LogHandle;
#[cfg(feature = "control")]
use crate::millis::unix_ms;
use crate::observe::Place;
#[cfg(feature = "control")]
use crate::outcome::{Answer, PauseReason};
#[cfg(feature = "control")]
use crate::pages;
use crate::pages::Pages;
#[cfg(feature = "control")]
use crate::room::{Guest, Room};
use crate::status::{Closed, Pace, Recovery, Status};
use crate::watch::StatusWatch;

pub use self::builder::QueueBuilder;
pub use self::pending::Pending;

/// A durable queue: append now, deliver when the network returns.
///
/// Cloning is cheap and every clone is the same queue. When the last clone is dropped, delivery
/// stops, everything acknowledged is safe on disk, and the next opening goes on from there;
/// dropping never blocks. [`close`](Queue::close) does the same in an orderly way and says what
/// remains.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let spool = dir.path().join("spool");
/// use everpost::{Event, Queue};
///
/// let queue = Queue::open(&spool).await?;
/// let receipt = queue.append(Event::json(r#"{"text":"hello"}"#)?).await?;
/// assert_eq!(receipt.seq, 1); // from here on a power cut cannot take it
/// assert_eq!(queue.status().pending, 1);
/// queue.close(std::time::Duration::ZERO).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Queue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    spool: PathBuf,
    log: LogHandle,
    flusher: Option<FlusherHandle>,
    /// What the flusher runs on, if there is one.
    delivery: Option<FlusherEnd>,
    recovery: Recovery,
    sync: bool,
    max_bytes: u64,
    /// `close` has begun: nothing more is taken in.
    closing: AtomicBool,
    #[cfg(feature = "control")]
    room: Room,
}

impl Queue {
    /// Begins to open the spool in this directory.
    ///
    /// # Processes
    /// A queue belongs to the process that opened it. In one that is forked from it each call fails
    /// with [`Error::NotOwner`], and dropping the queue touches nothing; open it after the fork.
    ///
    /// Where the size of files is limited (`ulimit -f`), the system ends a process that writes
    /// beyond the limit with the signal SIGXFSZ, unless it is ignored or handled, as the command
    /// `everpost` does. Then the write fails, and the queue sees it as a full disk.
    pub fn builder(spool: impl Into<PathBuf>) -> QueueBuilder {
        QueueBuilder::new(spool.into())
    }

    /// Opens the spool in this directory with the default settings and without a sink, making it
    /// if it does not exist: [`builder`](Self::builder) with nothing set. Events are kept for a
    /// later owner that has a sink.
    ///
    /// # Errors
    /// As [`QueueBuilder::open`].
    ///
    /// # Cancel safety
    /// As [`QueueBuilder::open`].
    pub async fn open(spool: impl Into<PathBuf>) -> Result<Self, OpenError> {
        Self::builder(spool).open().await
    }

    /// The same queue for code that is not async: every call blocks its thread. It works anywhere,
    /// but holds up all else that the thread should do.
    #[must_use]
    pub fn blocking(&self) -> blocking::Queue {
        self.clone().into()
    }

    /// Names this queue among those of the process.
    pub(crate) fn place(&self) -> &Place {
        self.shared.log.place()
    }

    /// Returns when the log's thread has answered: it lives, and no disk holds it up. Touches no
    /// file. For watchdogs, which give it a time limit of their own; a disk that takes long to
    /// sync makes it wait that long.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Panicked`], [`Error::NotOwner`]: it will not answer any more.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn ping(&self) -> Result<(), Error> {
        self.shared.log.run(|_| Ok(())).await
    }

    /// Whether an append of a small event would be taken now: the queue is not closing, the spool
    /// is still its own, and has room. Appends nothing and changes nothing, so that it does not say
    /// whether the disk works: see [`Status::storage_fault`] for when it was last used.
    ///
    /// Where a full queue makes callers wait ([`OnFull::Block`](crate::OnFull::Block)), it is not ready while it is full.
    /// Whether delivery works is not asked: appends are taken meanwhile.
    ///
    /// # Errors
    /// As [`append`](Self::append) would fail.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn check_append(&self) -> Result<(), AppendError> {
        /// Bytes of a small event, with what it takes beside its JSON.
        const SMALL: u64 = 1 << 10;
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(AppendError::Closed);
        }
        let checked = self.shared.log.run(|log| log.check_append(SMALL)).await;
        checked.map_err(AppendError::of)
    }

    /// Tries whether the disk works, by writing durably what is there already: what delivery wants
    /// remembered. That clears [`Status::storage_fault`], or says anew what is wrong. Otherwise the
    /// next work at the disk finds it out, which on a queue that waits for nothing may never come.
    ///
    /// It takes a few KiB. A disk with little more room than that may refuse the next append all the
    /// same.
    ///
    /// # Errors
    /// [`Error::Storage`] if the disk refuses; [`Error::Closed`], [`Error::Panicked`],
    /// [`Error::NotOwner`].
    ///
    /// # Cancel safety
    /// Once sent, it is done even if the answer is not waited for.
    pub async fn try_disk(&self) -> Result<(), Error> {
        let again = |log: &mut dyn Log| {
            let memo = log.memo()?;
            log.remember(&memo)
        };
        self.shared.log.run(again).await
    }

    /// What the queue is doing at this moment. Touches no file.
    #[must_use]
    pub fn status(&self) -> Status {
        self.watch().current()
    }

    /// Follows the status as it changes.
    #[must_use]
    pub fn watch(&self) -> StatusWatch {
        let mut watch = StatusWatch {
            positions: self.shared.log.changes(),
            views: self.shared.flusher.as_ref().map(FlusherHandle::views),
            max_bytes: self.shared.max_bytes,
        };
        watch.mark_unchanged();
        watch
    }

    /// The directory of the spool, as it was given to [`builder`](Self::builder).
    #[must_use]
    pub fn spool(&self) -> &Path {
        &self.shared.spool
    }

    /// Room in the spool's directory for a guest, which leaves before the queue has closed.
    #[cfg(feature = "control")]
    pub(crate) fn room(&self) -> &Room {
        &self.shared.room
    }

    /// Ends the stay of a guest, on the log's thread: it touches the directory (I9).
    #[cfg(feature = "control")]
    pub(crate) async fn send_away(&self, guest: Option<Box<dyn Guest>>) {
        if let Some(guest) = guest {
            let leave = move |_: &mut dyn Log| {
                drop(guest);
                Ok(())
            };
            // If the thread has ended, the guest was dropped with the order.
            let _ = self.shared.log.run(leave).await;
        }
    }

    /// What opening the spool found and mended.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.shared.recovery
    }

    /// What was found wrong with the spool, as far as it is on record. What no person has
    /// acknowledged yet is in [`Status::incidents`] too.
    #[must_use]
    pub fn incidents(&self) -> Incidents {
        Incidents::new(self.shared.log.clone())
    }

    /// The events that were set aside.
    #[must_use]
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters::new(self.shared.log.clone())
    }

    /// The pending events in this range of sequence numbers, without moving anything: `..` for
    /// all. Ranges that are damaged are passed over; they are in [`Status::missing`].
    #[must_use]
    pub fn events(&self, range: impl RangeBounds<Seq>) -> Pages<StoredEvent> {
        Pages::of_events(self.shared.log.clone(), range)
    }

    /// One page of the pending events that stand after `after`; none is the end.
    #[cfg(feature = "control")]
    pub(crate) async fn peek(&self, after: Seq, max: usize) -> Result<Vec<StoredEvent>, Error> {
        let read = move |log: &mut dyn Log| pages::events(log, after, max);
        self.shared.log.run(read).await
    }

    /// Tries again now what waits for a time, or probes what is paused by the receiver. Useful
    /// when the program learns that the network is back. Does nothing to a queue that was paused
    /// on request. Returns when the flusher has taken this up; the try itself comes after that.
    ///
    /// # Errors
    /// [`Error::NoSink`]; [`Error::Panicked`] if delivery has ended by a panic; [`Error::Closed`]
    /// if it has ended otherwise.
    ///
    /// # Cancel safety
    /// If the future is dropped after it was polled, the flusher takes it up all the same.
    pub async fn wake(&self) -> Result<(), Error> {
        self.flusher()?.wake().await
    }

    /// Stops delivery until [`resume`](Self::resume). Appends go on.
    ///
    /// When this returns `Ok`, nothing is being sent, nothing will be, and the pause is on disk:
    /// it outlives a restart, a kill and a power cut. A request in flight is let finish first, so
    /// this takes as long as the sink does. If `resume` is called before that, the newer order
    /// counts, and both return once it is on disk.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Damaged`] or another error of the disk, which did not take
    /// the pause: delivery is paused all the same, but a restart may deliver. The queue tries
    /// again by itself, at most `backoff_max` apart; call this again to try at once and to know.
    /// [`Error::NoSink`]; [`Error::Panicked`] if delivery has ended by a panic; [`Error::Closed`]
    /// if it has ended otherwise, before the pause was on disk.
    ///
    /// # Cancel safety
    /// If the future is dropped after it was polled, the queue is paused all the same, and it is
    /// not told when that is on disk. Call it again to know.
    pub async fn pause(&self) -> Result<(), Error> {
        self.flusher()?.pause().await
    }

    /// Ends a pause, whatever its reason, and tries at once. Returns when the end of the pause is
    /// on disk, so that a restart delivers too; during a probe that is after its answer.
    ///
    /// # Errors
    /// As [`pause`](Self::pause). If the disk did not take the end of the pause, delivery goes on
    /// all the same, but a restart may find the queue paused.
    ///
    /// # Cancel safety
    /// If the future is dropped after it was polled, the pause ends all the same, and it is not
    /// told when that is on disk. Call it again to know.
    pub async fn resume(&self) -> Result<(), Error> {
        self.flusher()?.resume().await
    }

    /// Keeps for the next owner that delivers whether it begins paused. For a queue without a sink,
    /// which has nothing to pause itself.
    #[cfg(feature = "control")]
    pub(crate) async fn keep_pause(&self, is_wanted: bool) -> Result<(), Error> {
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let paused = is_wanted.then(|| PausedMemo {
            reason: PauseReason::Requested,
            answer: Answer::default(),
            since_ms: unix_ms(SystemClock.wall()),
        });
        let keep = move |log: &mut dyn Log| {
            let mut memo = log.memo()?;
            memo.paused = paused;
            log.remember(&memo)
        };
        self.shared.log.run(keep).await
    }

    /// Sets how fast delivery may go, at once and until this queue ends: the next opening begins
    /// with its settings. What was still owed to the pace before is forgotten. The present pace is
    /// in [`Status::pace`]. Returns when the flusher has taken this up.
    ///
    /// # Errors
    /// As [`wake`](Self::wake).
    ///
    /// # Cancel safety
    /// If the future is dropped after it was polled, the flusher takes it up all the same.
    pub async fn set_pace(&self, pace: Pace) -> Result<(), Error> {
        self.flusher()?.set_pace(pace).await
    }

    fn flusher(&self) -> Result<&FlusherHandle, Error> {
        match &self.shared.flusher {
            Some(flusher) => Ok(flusher),
            None if self.shared.closing.load(Ordering::Acquire) => Err(Error::Closed),
            None => Err(Error::NoSink),
        }
    }

    /// Ends the queue in an orderly way: takes nothing more in, makes everything durable, goes on
    /// delivering until nothing is pending or the deadline is over, gives the spool back and says
    /// what remains. What remains is delivered after the next opening.
    ///
    /// When this returns, every thread and task that the queue had started has ended.
    ///
    /// # Errors
    /// [`Error::Closed`] if it was closed before. [`Error::Panicked`] if delivery had ended by a
    /// panic; the spool is closed all the same. [`Error::Storage`] if the last sync failed; what
    /// was acknowledged at [`Durability::Synced`](crate::Durability::Synced) is safe even then.
    ///
    /// # Cancel safety
    /// If the future is dropped, the queue stays open, but takes nothing more in, and delivery may
    /// have ended; call it again.
    pub async fn close(&self, deadline: Duration) -> Result<Closed, Error> {
        self.shared.log.check_process()?;
        let closed = self.end(deadline).await;
        #[cfg(feature = "control")]
        self.shared.room.wait_for_tasks().await;
        closed
    }

    async fn end(&self, deadline: Duration) -> Result<Closed, Error> {
        self.shared.closing.store(true, Ordering::Release);
        let delivery = match &self.shared.flusher {
            Some(flusher) => flusher.close(deadline).await,
            None => Ok(false),
        };
        if let Some(end) = &self.shared.delivery {
            end.wait().await;
        }
        #[cfg(feature = "control")]
        self.send_away(self.shared.room.close()).await;
        self.shared.log.close().await?;
        delivery?;
        let status = self.status();
        Ok(Closed {
            drained: status.pending == 0,
            status,
        })
    }
}
