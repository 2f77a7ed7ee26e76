//! The thread that owns a log, and the handle others reach it by.
//!
//! Producers leave appends in an inbox and wait; whoever is at the log takes everything that is
//! waiting, stages it, commits once and answers all (group commit). That is the log's thread, or a
//! caller that blocks its own thread (`desk.rs`). What waits is bounded in bytes by a semaphore
//! that producers pass first, so the inbox needs no bound of its own, and a full intake never
//! stands in the way of the flusher's commands, which have their own.
//!
//! No file is ever touched by a future (invariant I9). When nothing waits, the thread sleeps and
//! makes no system call.

// Named in full, since the tests of the schedules take this file in a second time.
#[path = "thread/desk.rs"]
mod desk;
#[path = "thread/end.rs"]
mod end;
#[path = "thread/inbox.rs"]
mod inbox;
#[path = "thread/owner.rs"]
mod owner;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::Nudge;
use super::guard::SameProcess;
use super::sync::{LOOKS, block_on, thread};
use super::{Log, Position, Read};
use crate::clock::Clock;
use crate::error::Error;
use crate::event::Event;
use crate::id::Seq;
use crate::observe::Place;
use desk::{Alive, Desk};
pub(crate) use end::ThreadEnd;
use inbox::Left;
use owner::Owner;

/// What one waiting command costs of the intake beside its bytes.
const COMMAND_BYTES: u64 = 256;

/// Commands other than appends that may wait at once.
const CONTROLS_MAX: usize = 64;

/// Does its work and gives what tells the caller, to be called once the position is public.
type Control = Box<dyn FnOnce(&mut dyn Log) -> Reply + Send>;
type Reply = Box<dyn FnOnce() + Send>;

/// What only the log's thread does.
enum Command {
    Control(Control, OwnedSemaphorePermit),
    Close(oneshot::Sender<Result<(), Error>>),
}

struct Append {
    events: Vec<Event>,
    bytes: u64,
    sync: bool,
    asker: Asker,
    // Given back when the append is answered.
    permit: OwnedSemaphorePermit,
}

/// Who is told what became of an append.
enum Asker {
    /// Somebody who waits, and who appends nothing any more after going away.
    Waits(oneshot::Sender<Result<Seq, Error>>),
    /// Somebody who has gone on and is told on this thread.
    #[cfg(feature = "layer")]
    IsTold(Told),
}

/// Told what became of an append; dropped untold if the log ended before it knew.
#[cfg(feature = "layer")]
pub(crate) type Told = Box<dyn FnOnce(Result<Seq, Error>) + Send>;

impl Asker {
    fn is_gone(&self) -> bool {
        match self {
            Self::Waits(reply) => reply.is_closed(),
            #[cfg(feature = "layer")]
            Self::IsTold(_) => false,
        }
    }

    fn tell(self, result: Result<Seq, Error>) {
        match self {
            // Nobody waiting is no fault: the caller may have been cancelled.
            Self::Waits(reply) => drop(reply.send(result)),
            #[cfg(feature = "layer")]
            Self::IsTold(told) => told(result),
        }
    }
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
    desk: Arc<Desk>,
    /// When the last one is gone, the log closes.
    _alive: Arc<Alive>,
    intake: Arc<Semaphore>,
    intake_bytes: u64,
    controls: Arc<Semaphore>,
    place: Place,
    /// One for all handles: see `Owner::publish`.
    position: Arc<watch::Receiver<Position>>,
    /// The thread's end, and with it the log's.
    end: Arc<ThreadEnd>,
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
        self.check_process()?;
        let (bytes, cost) = self.cost(&events);
        let permit = match Arc::clone(&self.intake).try_acquire_many_owned(cost) {
            Ok(permit) => Ok(permit),
            // Only a full intake is worth a place in its queue.
            Err(_) => Arc::clone(&self.intake).acquire_many_owned(cost).await,
        };
        let Ok(permit) = permit else {
            return Err(self.gone().await);
        };
        let (reply, answer) = oneshot::channel();
        let append = Append {
            events,
            bytes,
            sync,
            asker: Asker::Waits(reply),
            permit,
        };
        let sent = self.desk.inbox.send_append(append).is_ok();
        self.answered(sent, answer).await
    }

    /// As [`append`](Self::append), on a thread that may be blocked: the commit is done on it,
    /// unless somebody is at the log already. The events are taken out of `events`, whose memory
    /// the caller keeps if it can.
    pub(crate) fn append_blocking(
        &self,
        events: &mut Vec<Event>,
        sync: bool,
    ) -> Result<Seq, Error> {
        self.check_process()?;
        if let Some(appended) = self.desk.append_alone(&self.place, events, sync) {
            return appended;
        }
        let events = std::mem::take(events);
        let (bytes, cost) = self.cost(&events);
        let Ok(permit) = Arc::clone(&self.intake).try_acquire_many_owned(cost) else {
            return block_on(self.append(events, sync));
        };
        let (reply, mut answer) = oneshot::channel();
        let append = Append {
            events,
            bytes,
            sync,
            asker: Asker::Waits(reply),
            permit,
        };
        let Ok(left) = self.desk.inbox.leave_append(append) else {
            return Err(block_on(self.gone()));
        };
        // Without a sync, whoever is at the log is done sooner than a thread falls asleep.
        let mut looks = match left {
            Left::ToTheThread => 0,
            Left::ToAnyone if sync => 1,
            Left::ToAnyone => LOOKS,
        };
        while looks > 0 {
            if self.desk.lead(&self.place) {
                // The answer is there, or it has to wait for room.
                looks = 1;
            } else {
                thread::yield_now();
            }
            looks -= 1;
            match answer.try_recv() {
                Ok(result) => return result,
                // It must not be asked again.
                Err(TryRecvError::Closed) => return Err(block_on(self.gone())),
                Err(TryRecvError::Empty) => {}
            }
        }
        block_on(self.answered(true, answer))
    }

    /// Appends without waiting for anything: if there is room in the intake now, the events are
    /// taken, in order with all others, and `told` learns on the log's thread what became of
    /// them. If there is none, or the log has ended, it learns that here and now. It must be
    /// quick and must not panic.
    #[cfg(feature = "layer")]
    pub(crate) fn hand_over(&self, events: Vec<Event>, sync: bool, told: Told) {
        if let Err(error) = self.check_process() {
            return told(Err(error));
        }
        let (bytes, cost) = self.cost(&events);
        let permit = match Arc::clone(&self.intake).try_acquire_many_owned(cost) {
            Ok(permit) => permit,
            Err(tokio::sync::TryAcquireError::Closed) => return told(Err(Error::Closed)),
            Err(tokio::sync::TryAcquireError::NoPermits) => {
                let max = self.intake_bytes;
                let room = u64::try_from(self.intake.available_permits()).unwrap_or(max);
                return told(Err(Error::Full {
                    what: "the intake",
                    used: max.saturating_sub(room),
                    max,
                }));
            }
        };
        let append = Append {
            events,
            bytes,
            sync,
            asker: Asker::IsTold(told),
            permit,
        };
        if let Err(append) = self.desk.inbox.send_append(append) {
            append.asker.tell(Err(Error::Closed));
        }
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
    /// Once sent, the work is done even if nobody waits for the answer.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Log) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.check_process()?;
        let permit = Arc::clone(&self.controls).acquire_owned().await;
        let Ok(permit) = permit else {
            return Err(self.gone().await);
        };
        let (reply, answer) = oneshot::channel();
        let control: Control = Box::new(move |log| {
            let result = work(log);
            // Nobody waiting is no fault: the caller may have been cancelled.
            Box::new(move || drop(reply.send(result)))
        });
        self.ask(Command::Control(control, permit), answer).await
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
        self.check_process()?;
        let permit = Arc::clone(&self.controls).acquire_owned().await;
        let Ok(permit) = permit else {
            return Err(self.gone().await);
        };
        let (reply, answer) = oneshot::channel();
        let control: Control = Box::new(move |log| {
            let position = log.position();
            let at = (position.cursor, position.last_seq);
            // Nobody waiting is no fault: the caller may have been cancelled.
            let tell = move |read: Result<Read, Error>| drop(reply.send(read.map(|r| (r, at))));
            log.read_later(from, events_max, bytes_max, Box::new(tell));
            Box::new(|| ())
        });
        self.ask(Command::Control(control, permit), answer).await
    }

    /// Makes everything durable and ends the thread; the spool is free and the thread is gone when
    /// this returns. A second close, and every append after the first, answers [`Error::Closed`].
    ///
    /// # Cancel safety
    /// Once sent, the log closes even if nobody waits.
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
        let sent = self.desk.inbox.send(command).is_ok();
        self.answered(sent, answer).await
    }

    async fn answered<T>(
        &self,
        sent: bool,
        answer: oneshot::Receiver<Result<T, Error>>,
    ) -> Result<T, Error> {
        if sent && let Ok(result) = answer.await {
            return result;
        }
        Err(self.gone().await)
    }

    /// Where everything stands.
    #[cfg(test)]
    pub(crate) fn position(&self) -> Position {
        self.position.borrow().clone()
    }

    /// Where everything stands, and every change of it.
    pub(crate) fn changes(&self) -> watch::Receiver<Position> {
        (*self.position).clone()
    }

    /// Why the log does not answer. Called only when it has ended or is about to.
    async fn gone(&self) -> Error {
        self.end.is_near().await;
        match self.desk.panic() {
            Some(message) => Error::Panicked {
                part: "the log",
                message: message.to_owned(),
            },
            None => Error::Closed,
        }
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
    let desk = Arc::new(Desk::new());
    let nudge = nudge(&desk);
    let (publish, position) = watch::channel(Position::default());
    let (opened, answer) = oneshot::channel();
    let (ending, ended) = watch::channel(());
    let (place, intake_bytes) = (settings.place.clone(), settings.intake_bytes);
    let (alive, outside) = (Alive(Arc::clone(&desk)), Arc::clone(&desk));
    let body = move || {
        let ended = catch_unwind(AssertUnwindSafe(|| match open() {
            Ok((mut log, extra)) => {
                if let Err(error) = log.work_apart(settings.place.clone(), nudge) {
                    return drop(opened.send(Err(error)));
                }
                publish.send_replace(log.position());
                desk.put(Owner::new(Box::new(log), settings, clock, publish));
                if opened.send(Ok(extra)).is_ok() {
                    desk.serve();
                }
            }
            Err(error) => drop(opened.send(Err(error))),
        }));
        if let Err(payload) = ended {
            desk.note_panic(payload.as_ref());
        }
        desk.clear();
        desk.inbox.close();
        // Whoever waits for an answer learns the reason only after it is known.
        drop(ending);
    };
    let within = place.clone();
    let thread = thread::Builder::new()
        .name("everpost-log".into())
        .spawn(move || within.enter(body))
        .map_err(Error::storage("start the log's thread", ""))?;
    let intake = usize::try_from(intake_bytes).unwrap_or(usize::MAX >> 3);
    let handle = LogHandle {
        _alive: Arc::new(alive),
        desk: outside,
        intake: Arc::new(Semaphore::new(intake)),
        intake_bytes,
        controls: Arc::new(Semaphore::new(CONTROLS_MAX)),
        place,
        position: Arc::new(position),
        end: Arc::new(ThreadEnd::new(ended, thread)),
        process: Arc::new(SameProcess::this()),
        spool: Path::new("").into(),
    };
    let result = match answer.await {
        Ok(result) => result,
        Err(_) => Err(handle.gone().await),
    };
    if result.is_err() {
        handle.end.wait().await;
    }
    result.map(|extra| (handle, extra))
}

/// Has the thread look at its log. It keeps nothing alive: only handles do.
fn nudge(desk: &Arc<Desk>) -> Nudge {
    let desk = Arc::downgrade(desk);
    Arc::new(move || {
        if let Some(desk) = desk.upgrade() {
            desk.inbox.ring();
        }
    })
}

/// The text of a panic.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no text".to_owned())
}
