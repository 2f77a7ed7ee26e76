//! The thread that owns a log, and the handle others reach it by.
//!
//! There is one road in: a caller leaves its append in an inbox and waits for the answer. The
//! thread takes everything that waits, stages it, commits once and answers all (group commit, with
//! the batching window of `window.rs`). What waits is bounded in bytes by a semaphore that callers
//! pass first, so the inbox needs no bound of its own, and a full intake never stands in the way of
//! the flusher's commands, which have their own. There is one shortcut: see `cell.rs`.
//!
//! No file is ever touched by a future (invariant I9). When nothing waits, the thread sleeps and
//! makes no system call.

mod answer;
mod append;
mod cell;
mod end;
mod followers;
mod inbox;
mod owner;
mod told;
mod window;

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::Nudge;
use super::guard::SameProcess;
use super::sync::{block_on, thread};
use super::{Log, Position, Read};
use crate::clock::Clock;
use crate::error::Error;
use crate::event::Event;
use crate::fate::Fate;
use crate::id::Seq;
use crate::observe::{self, Place};
pub(crate) use answer::Answer;
use answer::LogEnd;
use append::Append;
pub(crate) use append::Unawaited;
use cell::{Alive, LogCell};
pub(crate) use end::ThreadEnd;
pub(crate) use followers::Followers;
use followers::Leader;
use owner::Owner;
use told::Told;

/// What one waiting command costs of the intake beside its bytes.
const COMMAND_BYTES: u64 = 256;

/// Commands other than appends that may wait at once.
const CONTROLS_MAX: usize = 64;

/// How often a caller that blocks looks for the answer, giving way to others in between, before its
/// thread sleeps. With 64 of them, sleeping at once takes three times the processor's time, since
/// the log's thread then has each of them woken.
const LOOKS: u32 = 8;

/// Does its work and gives what tells the caller, to be called once the position is public.
type Control = Box<dyn FnOnce(&mut dyn Log) -> Tell + Send>;
type Tell = Box<dyn FnOnce() + Send>;

/// What the log's thread does beside appends.
enum Command {
    Control(Control, OwnedSemaphorePermit),
    Close(oneshot::Sender<Result<(), Error>>),
}

/// How the thread waits and groups.
#[derive(Clone, Debug)]
pub(crate) struct ThreadSettings {
    /// Bytes of appends that may wait at once.
    pub(crate) intake_bytes: u64,
    /// Whether an append waits when the log is full.
    pub(crate) block_when_full: bool,
    /// How long committed events may wait for their fdatasync; none if each commit syncs.
    pub(crate) sync_every: Option<Duration>,
    /// Whose log it is.
    pub(crate) place: Place,
}

/// Reaches the log from anywhere. Cloning is cheap. When the last handle is gone, the thread
/// makes everything durable and ends.
#[derive(Clone)]
pub(crate) struct LogHandle {
    cell: Arc<LogCell>,
    /// When the last one is gone, the log closes.
    _alive: Arc<Alive>,
    intake: Arc<Semaphore>,
    intake_bytes: u64,
    controls: Arc<Semaphore>,
    place: Place,
    /// One for all handles: see `Told::tell`.
    position: Arc<watch::Receiver<Position>>,
    followers: Arc<Followers>,
    end: Arc<LogEnd>,
    /// Where the threads are. In a process forked from it nothing would ever answer.
    process: Arc<SameProcess>,
    /// For what is said then.
    spool: Arc<Path>,
}

impl std::fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogHandle")
            .field("position", &*self.position.borrow())
            .finish()
    }
}

impl LogHandle {
    /// Appends events as one commit and gives the first sequence number.
    ///
    /// # Cancel safety
    /// Dropped before the log took the events up, nothing is appended; after that they are.
    pub(crate) async fn append(&self, events: Vec<Event>, sync: bool) -> Result<Seq, Error> {
        self.submit(events, sync, Unawaited::Goes).await?.await
    }

    /// As [`append`](Self::append), on a thread that may be blocked: the commit is done on it if
    /// the append is the only one. The events are taken out of `events`, whose memory the caller
    /// keeps if it can.
    pub(crate) fn append_blocking(
        &self,
        events: &mut Vec<Event>,
        sync: bool,
    ) -> Result<Seq, Error> {
        self.admit(events.len(), self.check_process())?;
        if let Some(appended) = self.cell.append_alone(&self.place, events, sync) {
            return appended;
        }
        let mut append = pin!(self.append(std::mem::take(events), sync));
        for _ in 0..LOOKS {
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(appended) = append.as_mut().poll(&mut context) {
                return appended;
            }
            thread::yield_now();
        }
        block_on(append)
    }

    /// Waits until the intake has room for the events, and leaves them with the log's thread, in
    /// the order in which this returns.
    ///
    /// # Cancel safety
    /// Dropped before it returned, nothing is appended. What becomes of the events if the answer
    /// is dropped, `unawaited` says.
    pub(crate) async fn submit(
        &self,
        events: Vec<Event>,
        sync: bool,
        unawaited: Unawaited,
    ) -> Result<Answer<Seq>, Error> {
        let count = events.len();
        self.admit(count, self.check_process())?;
        let (bytes, cost) = self.cost(&events);
        let permit = match Arc::clone(&self.intake).try_acquire_many_owned(cost) {
            Ok(permit) => Some(permit),
            // Only a full intake is worth a place in its queue.
            Err(_) => Arc::clone(&self.intake).acquire_many_owned(cost).await.ok(),
        };
        let append = permit.map(|permit| Append::new(events, bytes, sync, unawaited, permit));
        match append.and_then(|append| self.leave(append)) {
            Some(answer) => Ok(answer),
            None => self.admit(count, Err(self.end.reason().await)),
        }
    }

    /// As [`submit`](Self::submit), without waiting: [`Error::Full`] if the intake has no room now.
    pub(crate) fn try_append(&self, events: Vec<Event>, sync: bool) -> Result<Answer<Seq>, Error> {
        let count = events.len();
        self.admit(count, self.check_process())?;
        let (bytes, cost) = self.cost(&events);
        let Ok(permit) = Arc::clone(&self.intake).try_acquire_many_owned(cost) else {
            let max = self.intake_bytes;
            let room = u64::try_from(self.intake.available_permits()).unwrap_or(max);
            let (what, used) = ("the intake", max.saturating_sub(room));
            return self.admit(count, Err(Error::Full { what, used, max }));
        };
        let append = Append::new(events, bytes, sync, Unawaited::Stays, permit);
        self.admit(count, self.leave(append).ok_or(Error::Closed))
    }

    /// Leaves an append with the log's thread; none if the log has closed.
    fn leave(&self, (append, reply): (Append, append::Reply)) -> Option<Answer<Seq>> {
        let sent = self.cell.inbox.send_append(append);
        sent.then(|| Answer::new(reply, &self.end))
    }

    /// Counts so many events as refused if they are refused before they reach the log.
    fn admit<T>(&self, events: usize, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err() {
            observe::refused(&self.place, events);
        }
        result
    }

    /// The bytes of these events, and what they cost of the intake.
    fn cost(&self, events: &[Event]) -> (u64, u32) {
        let bytes = events.iter().map(super::codec::event_bytes).sum::<u64>();
        let cost = (bytes + COMMAND_BYTES).min(self.intake_bytes);
        (bytes, u32::try_from(cost).unwrap_or(u32::MAX))
    }

    /// Names the spool that the log is in.
    pub(crate) fn of_spool(mut self, spool: &Path) -> Self {
        self.spool = spool.into();
        self
    }

    /// Has it made in another process, as it looks after a fork.
    #[cfg(test)]
    pub(crate) fn forked(mut self) -> Self {
        self.process = Arc::new(SameProcess::of(super::guard::Process::other()));
        self
    }

    /// Before anything is asked of the log, so that a parent and its child never both acknowledge
    /// (I14).
    ///
    /// # Errors
    /// [`Error::NotOwner`] in a process that was forked from the one that opened the log.
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        self.process.check(&self.spool)
    }

    /// Whose log it is.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Runs `work` on the log's thread.
    ///
    /// # Cancel safety
    /// Once sent, the work is done even if its caller goes away.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Log) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.control(|reply| {
            Box::new(move |log| {
                let result = work(log);
                // A caller that has gone away does not want to know.
                Box::new(move || drop(reply.send(result)))
            })
        })
        .await
    }

    /// Reads pending events, as [`Log::read`], and where cursor and last sequence number stood
    /// when that began. Reading from disk holds up no commit.
    ///
    /// # Cancel safety
    /// Reads only.
    pub(crate) async fn read(
        &self,
        from: Seq,
        events_max: usize,
        bytes_max: u64,
    ) -> Result<(Read, (Seq, Seq)), Error> {
        self.control(|reply| {
            Box::new(move |log| {
                let position = log.position();
                let at = (position.cursor, position.last_seq);
                // A caller that has gone away does not want to know.
                let tell = move |read: Result<Read, Error>| drop(reply.send(read.map(|r| (r, at))));
                log.read_later(from, events_max, bytes_max, Box::new(tell));
                Box::new(|| ())
            })
        })
        .await
    }

    /// Has the log's thread do what `control` makes of the caller's address.
    async fn control<T>(
        &self,
        control: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Control,
    ) -> Result<T, Error> {
        self.check_process()?;
        let Ok(permit) = Arc::clone(&self.controls).acquire_owned().await else {
            return Err(self.end.reason().await);
        };
        let (reply, answer) = oneshot::channel();
        self.ask(Command::Control(control(reply), permit), answer)
            .await
    }

    /// Makes everything durable and ends the thread; the spool is free and the thread is gone when
    /// this returns. A second close, and every append after the first, answers [`Error::Closed`].
    ///
    /// # Cancel safety
    /// Once sent, the log closes even if its caller goes away.
    pub(crate) async fn close(&self) -> Result<(), Error> {
        self.check_process()?;
        let (reply, answer) = oneshot::channel();
        let closed = self.ask(Command::Close(reply), answer).await;
        self.end.wait().await;
        closed
    }

    async fn ask<T>(
        &self,
        command: Command,
        answer: oneshot::Receiver<Result<T, Error>>,
    ) -> Result<T, Error> {
        if self.cell.inbox.send(command) {
            Answer::new(answer, &self.end).await
        } else {
            Err(self.end.reason().await)
        }
    }

    /// Where everything stands.
    #[cfg(test)]
    pub(crate) fn position(&self) -> Position {
        self.position.borrow().clone()
    }

    /// Where everything stands, for a look now and then. It counts as no one that follows it: see
    /// `Told::tell`.
    pub(crate) fn glimpse(&self) -> Arc<watch::Receiver<Position>> {
        Arc::clone(&self.position)
    }

    /// What follows the cursor.
    pub(crate) fn followers(&self) -> &Arc<Followers> {
        &self.followers
    }

    /// What became of an event, as far as books and names of requests say. Touches no file.
    pub(crate) fn fate(&self, seq: Seq) -> Fate {
        let fate = self.position.borrow().fate(seq);
        match fate {
            Fate::Delivered { .. } => Fate::Delivered {
                request_id: self.followers.request_of(seq).0,
            },
            fate => fate,
        }
    }

    /// Waits until this event has left the queue; gives at once if there is none of that number.
    ///
    /// # Errors
    /// Why it will not: the log has ended.
    ///
    /// # Cancel safety
    /// Only waits.
    pub(crate) async fn passed(&self, seq: Seq) -> Result<(), Error> {
        let is_there = (1..=self.position.borrow().last_seq).contains(&seq);
        if is_there && !self.followers.wait_for(seq).await {
            return Err(self.end.reason().await);
        }
        Ok(())
    }

    /// Where everything stands, and every change of it.
    pub(crate) fn changes(&self) -> watch::Receiver<Position> {
        (*self.position).clone()
    }
}

/// Starts a thread, opens a log on it with `open`, and gives the handle and whatever else `open`
/// gave.
///
/// # Cancel safety
/// If the future is dropped, the log is opened all the same and closed at once.
pub(crate) async fn spawn<L: Log + 'static, T: Send + 'static>(
    settings: ThreadSettings,
    clock: Arc<dyn Clock>,
    open: impl FnOnce() -> Result<(L, T), Error> + Send + 'static,
) -> Result<(LogHandle, T), Error> {
    let cell = Arc::new(LogCell::new());
    let (publish, position) = watch::channel(Position::default());
    let (opened, answer) = oneshot::channel();
    let (ending, ended) = watch::channel(());
    let followers = Arc::<Followers>::default();
    let leader = Leader(Arc::clone(&followers));
    let (place, intake_bytes) = (settings.place.clone(), settings.intake_bytes);
    let alive = Alive(Arc::clone(&cell));
    let (within, outside) = (place.clone(), Arc::clone(&cell));
    let body = move || {
        let told = Told::new(publish, leader);
        cell.guard(|| serve(&cell, settings, clock, open, opened, told));
        cell.clear();
        // All that wait for an answer learn the reason only after it is known.
        drop(ending);
    };
    let thread = thread::Builder::new()
        .name("everpost-log".into())
        .spawn(move || within.enter(body))
        .map_err(Error::no_thread("start the log's thread"))?;
    let intake = usize::try_from(intake_bytes).unwrap_or(usize::MAX >> 3);
    let end = LogEnd::new(Arc::clone(&outside), ThreadEnd::new(ended, thread));
    let handle = LogHandle {
        cell: outside,
        _alive: Arc::new(alive),
        intake: Arc::new(Semaphore::new(intake)),
        intake_bytes,
        controls: Arc::new(Semaphore::new(CONTROLS_MAX)),
        place,
        position: Arc::new(position),
        followers,
        end: Arc::new(end),
        process: Arc::new(SameProcess::this()),
        spool: Path::new("").into(),
    };
    let result = match answer.await {
        Ok(result) => result,
        Err(_) => Err(handle.end.reason().await),
    };
    if result.is_err() {
        handle.end.wait().await;
    }
    result.map(|extra| (handle, extra))
}

/// Opens the log and works at it until it ends, all on its thread. `opened` is told how that went.
fn serve<L: Log + 'static, T>(
    cell: &Arc<LogCell>,
    settings: ThreadSettings,
    clock: Arc<dyn Clock>,
    open: impl FnOnce() -> Result<(L, T), Error>,
    opened: oneshot::Sender<Result<T, Error>>,
    told: Told,
) {
    let begun = open().and_then(|(mut log, extra)| {
        log.work_apart(settings.place.clone(), nudge(cell))?;
        Ok((log, extra))
    });
    match begun {
        Ok((log, extra)) => {
            told.begin(log.position());
            cell.put(Owner::new(Box::new(log), settings, clock, told));
            if opened.send(Ok(extra)).is_ok() {
                cell.serve();
            }
        }
        Err(error) => drop(opened.send(Err(error))),
    }
}

/// Has the thread look at its log. It keeps nothing alive: only handles do.
fn nudge(cell: &Arc<LogCell>) -> Nudge {
    let cell = Arc::downgrade(cell);
    Arc::new(move || {
        if let Some(cell) = cell.upgrade() {
            cell.inbox.ring();
        }
    })
}
