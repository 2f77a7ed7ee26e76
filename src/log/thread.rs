//! The thread that owns a log, and the handle others reach it by.
//!
//! Producers put appends into a queue and wait; the thread takes everything that is waiting,
//! stages it, commits once and answers all (group commit). What waits is bounded in bytes by a
//! semaphore that producers pass first, so the queue behind it needs no bound of its own, and a
//! full intake never stands in the way of the flusher's commands, which have their own.
//!
//! No file is ever touched on a thread of the async runtime (invariant I9). When nothing waits,
//! the thread sleeps in the channel and makes no system call.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use super::sync::thread;
use super::{Log, Position};
use crate::clock::Clock;
use crate::error::Error;
use crate::event::{Event, Seq};
use crate::observe::{self, Place};

/// What one waiting command costs of the intake beside its bytes.
const COMMAND_BYTES: u64 = 256;

/// Commands other than appends that may wait at once.
const CONTROLS_MAX: usize = 64;

/// How often a full log is asked for room while appends wait for it.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(1);

/// Bytes gathered into one commit at the most; what waits beyond goes into the next.
const COMMIT_BYTES: u64 = 1 << 20;

/// Does its work and gives what tells the caller, to be called once the position is public.
type Control = Box<dyn FnOnce(&mut dyn Log) -> Reply + Send>;
type Reply = Box<dyn FnOnce() + Send>;

enum Command {
    Append(Append),
    Control(Control, OwnedSemaphorePermit),
    Close(oneshot::Sender<Result<(), Error>>),
}

struct Append {
    events: Vec<Event>,
    bytes: u64,
    sync: bool,
    asker: Asker,
    // Given back when the append is answered.
    _permit: OwnedSemaphorePermit,
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
    commands: Sender<Command>,
    intake: Arc<Semaphore>,
    intake_bytes: u64,
    controls: Arc<Semaphore>,
    place: Place,
    position: watch::Receiver<Position>,
    /// The text of the panic the thread ended by, if it did.
    panic: Arc<OnceLock<String>>,
    /// Closes when the thread has ended and `panic` is final.
    ended: watch::Receiver<()>,
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
        let (bytes, cost) = self.cost(&events);
        let permit = Arc::clone(&self.intake).acquire_many_owned(cost).await;
        let Ok(permit) = permit else {
            return Err(self.gone().await);
        };
        let (reply, answer) = oneshot::channel();
        let append = Append {
            events,
            bytes,
            sync,
            asker: Asker::Waits(reply),
            _permit: permit,
        };
        self.ask(Command::Append(append), answer).await
    }

    /// Appends without waiting for anything: if there is room in the intake now, the events are
    /// taken, in order with all others, and `told` learns on the log's thread what became of
    /// them. If there is none, or the log has ended, it learns that here and now. It must be
    /// quick and must not panic.
    #[cfg(feature = "layer")]
    pub(crate) fn hand_over(&self, events: Vec<Event>, sync: bool, told: Told) {
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
            _permit: permit,
        };
        if let Err(unsent) = self.commands.send(Command::Append(append))
            && let Command::Append(append) = unsent.0
        {
            append.asker.tell(Err(Error::Closed));
        }
    }

    /// The bytes of these events, and what they cost of the intake.
    fn cost(&self, events: &[Event]) -> (u64, u32) {
        let bytes = events.iter().map(super::codec::event_bytes).sum::<u64>();
        let cost = (bytes + COMMAND_BYTES).min(self.intake_bytes);
        (bytes, u32::try_from(cost).unwrap_or(u32::MAX))
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

    /// Makes everything durable and ends the thread; the spool is free when this returns.
    /// A second close, and every append after the first, answers [`Error::Closed`].
    ///
    /// # Cancel safety
    /// Once sent, the log closes even if nobody waits.
    pub(crate) async fn close(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.ask(Command::Close(reply), answer).await
    }

    async fn ask<T>(
        &self,
        command: Command,
        answer: oneshot::Receiver<Result<T, Error>>,
    ) -> Result<T, Error> {
        if self.commands.send(command).is_ok()
            && let Ok(result) = answer.await
        {
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
        self.position.clone()
    }

    /// Why the thread does not answer. Called only when it has ended or is about to.
    async fn gone(&self) -> Error {
        while self.ended.clone().changed().await.is_ok() {}
        match self.panic.get() {
            Some(message) => Error::Panicked {
                part: "the log",
                message: message.clone(),
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
    let (commands, inbox) = channel();
    let (publish, position) = watch::channel(Position::default());
    let (opened, answer) = oneshot::channel();
    let panic = Arc::new(OnceLock::new());
    let (ending, ended) = watch::channel(());
    let handle = LogHandle {
        commands,
        intake: Arc::new(Semaphore::new(
            usize::try_from(settings.intake_bytes).unwrap_or(usize::MAX >> 3),
        )),
        intake_bytes: settings.intake_bytes,
        controls: Arc::new(Semaphore::new(CONTROLS_MAX)),
        place: settings.place.clone(),
        position,
        panic: Arc::clone(&panic),
        ended,
    };
    let place = settings.place.clone();
    let body = move || {
        let ended = catch_unwind(AssertUnwindSafe(|| match open() {
            Ok((log, extra)) => {
                publish.send_replace(log.position());
                if opened.send(Ok(extra)).is_ok() {
                    Owner::new(log, settings, clock, publish).run(&inbox);
                }
            }
            Err(error) => drop(opened.send(Err(error))),
        }));
        if let Err(payload) = ended {
            let message = panic_text(payload.as_ref());
            tracing::error!(
                message,
                "the log ended by a panic; what was acknowledged is on disk"
            );
            drop(panic.set(message));
        }
        drop(inbox);
        // Whoever waits for an answer learns the reason only after it is known.
        drop(ending);
    };
    thread::Builder::new()
        .name("everpost-log".into())
        .spawn(move || place.enter(body))
        .map_err(Error::storage("start the log's thread", ""))?;
    match answer.await {
        Ok(result) => result.map(|extra| (handle, extra)),
        Err(_) => Err(handle.gone().await),
    }
}

/// The text of a panic.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no text".to_owned())
}

/// The state of the thread.
struct Owner<L> {
    log: L,
    settings: ThreadSettings,
    clock: Arc<dyn Clock>,
    publish: watch::Sender<Position>,
    /// Appends that wait for room, oldest first, ahead of everything that comes in.
    waiting: VecDeque<Append>,
    /// When the oldest unsynced commit must be synced, on the monotonic clock.
    sync_at: Option<Duration>,
    more_to_tidy: bool,
    /// Something changed after the waiting appends were last looked at.
    room_may_have_come: bool,
}

/// What a round takes from the inbox.
#[derive(Default)]
struct Round {
    appends: Vec<Append>,
    controls: Vec<(Control, OwnedSemaphorePermit)>,
    close: Option<oneshot::Sender<Result<(), Error>>>,
    disconnected: bool,
}

impl<L: Log> Owner<L> {
    fn new(
        log: L,
        settings: ThreadSettings,
        clock: Arc<dyn Clock>,
        publish: watch::Sender<Position>,
    ) -> Self {
        let waiting = VecDeque::new();
        Self {
            log,
            settings,
            clock,
            publish,
            waiting,
            sync_at: None,
            more_to_tidy: true,
            room_may_have_come: false,
        }
    }

    fn run(mut self, inbox: &Receiver<Command>) {
        loop {
            let round = self.gather(inbox);
            self.commit(round.appends);
            let mut changed = false;
            for (control, permit) in round.controls {
                let reply = control(&mut self.log);
                // Whoever is answered sees in the position what was done for it.
                changed |= self.publish();
                reply();
                drop(permit);
                self.more_to_tidy = true;
            }
            self.sync_if_due();
            self.tidy();
            changed |= self.publish();
            self.room_may_have_come = changed && !self.waiting.is_empty();
            if round.close.is_some() || round.disconnected {
                return self.close(round.close);
            }
        }
    }

    /// Waits until there is something to do and takes all of it, up to the size of one commit.
    fn gather(&self, inbox: &Receiver<Command>) -> Round {
        let mut round = Round::default();
        let mut bytes = 0;
        let mut next = self.wait(inbox);
        loop {
            match next {
                Ok(Some(Command::Append(append))) => {
                    bytes += append.bytes;
                    round.appends.push(append);
                }
                Ok(Some(Command::Control(control, permit))) => {
                    round.controls.push((control, permit));
                }
                Ok(Some(Command::Close(reply))) => {
                    round.close = Some(reply);
                    return round;
                }
                Ok(None) => return round,
                Err(Disconnected) => {
                    round.disconnected = true;
                    return round;
                }
            }
            if bytes >= COMMIT_BYTES {
                return round;
            }
            next = poll(inbox);
        }
    }

    /// The first command, waiting for it as long as nothing else is due.
    fn wait(&self, inbox: &Receiver<Command>) -> Result<Option<Command>, Disconnected> {
        if self.more_to_tidy || self.room_may_have_come {
            return poll(inbox);
        }
        let sync_in = self
            .sync_at
            .map(|at| at.saturating_sub(self.clock.monotonic()));
        // Room on a disk that was full comes from outside and says nothing.
        let look_in = (!self.waiting.is_empty()).then_some(LOOK_FOR_ROOM);
        let Some(timeout) = sync_in.into_iter().chain(look_in).min() else {
            return inbox.recv().map(Some).map_err(|_| Disconnected);
        };
        match inbox.recv_timeout(timeout) {
            Ok(command) => Ok(Some(command)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Disconnected),
        }
    }

    /// Stages what waits for room and then what is new, commits once, answers all (I1).
    fn commit(&mut self, new: Vec<Append>) {
        let mut staged = Vec::with_capacity(new.len());
        while let Some(append) = self.waiting.pop_front() {
            if let Some(blocked) = self.stage(append, &mut staged) {
                self.waiting.push_front(blocked);
                break;
            }
        }
        for append in new {
            // Once one waits, all later ones wait behind it: appends keep their order.
            if !self.waiting.is_empty() {
                self.waiting.push_back(append);
            } else if let Some(blocked) = self.stage(append, &mut staged) {
                self.waiting.push_back(blocked);
            }
        }
        if staged.is_empty() {
            return;
        }
        let sync = staged.iter().any(|(append, _)| append.sync);
        let result = observe::commit(&*self.clock, || self.log.commit(sync));
        self.more_to_tidy = true;
        self.schedule_sync();
        // The position is public before the callers go on, so that they see their own events.
        self.publish();
        for (append, first) in staged {
            let answer = match &result {
                Ok(()) => Ok(first),
                Err(error) => Err(same_again(error)),
            };
            append.asker.tell(answer);
        }
    }

    /// Stages one append; gives it back if it has to wait for room.
    fn stage(&mut self, append: Append, staged: &mut Vec<(Append, Seq)>) -> Option<Append> {
        // A caller that went away before its events were taken up appends nothing.
        if append.asker.is_gone() {
            return None;
        }
        match self.log.stage(&append.events) {
            Ok(first) => staged.push((append, first)),
            Err(Error::Full { .. }) if self.settings.block_when_full => return Some(append),
            Err(error) => append.asker.tell(Err(error)),
        }
        None
    }

    fn schedule_sync(&mut self) {
        if !self.log.is_unsynced() {
            self.sync_at = None;
        } else if self.sync_at.is_none() {
            self.sync_at = self
                .settings
                .sync_every
                .map(|every| self.clock.monotonic() + every);
        }
    }

    fn sync_if_due(&mut self) {
        if self.sync_at.is_some_and(|at| at <= self.clock.monotonic()) {
            self.sync_at = None;
            // On a fault the log says so in its position; the next round tries again.
            let _ = self.log.commit(true);
            self.schedule_sync();
        }
    }

    fn tidy(&mut self) {
        // A fault here is shown in the position; it is tried again after the next command, not
        // in a loop.
        self.more_to_tidy = self.log.tidy().unwrap_or(false);
    }

    /// Makes the position public. True if it changed.
    fn publish(&self) -> bool {
        let position = self.log.position();
        self.publish.send_if_modified(|old| {
            let changed = *old != position;
            *old = position;
            changed
        })
    }

    fn close(mut self, reply: Option<oneshot::Sender<Result<(), Error>>>) {
        for append in self.waiting.drain(..) {
            append.asker.tell(Err(Error::Closed));
        }
        let result = self.log.close();
        self.publish();
        // The lock is free before anybody is told that the queue is closed.
        drop(self.log);
        if let Some(reply) = reply {
            let _ = reply.send(result);
        }
    }
}

/// All handles are gone.
struct Disconnected;

fn poll(inbox: &Receiver<Command>) -> Result<Option<Command>, Disconnected> {
    match inbox.try_recv() {
        Ok(command) => Ok(Some(command)),
        Err(TryRecvError::Empty) => Ok(None),
        Err(TryRecvError::Disconnected) => Err(Disconnected),
    }
}

/// The same error for each caller of one commit; a system error is not cloneable.
fn same_again(error: &Error) -> Error {
    match error {
        Error::Storage {
            action,
            path,
            source,
        } => {
            let source = std::io::Error::new(source.kind(), source.to_string());
            Error::Storage {
                action,
                path: path.clone(),
                source,
            }
        }
        Error::Full { what, used, max } => Error::Full {
            what,
            used: *used,
            max: *max,
        },
        other => Error::Panicked {
            part: "a commit",
            message: other.to_string(),
        },
    }
}
