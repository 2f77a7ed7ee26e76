//! The work of the log's thread: takes what is waiting, commits once, answers all.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::super::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use super::super::sync::thread;
use super::{Append, Command, Control, Log, Position, ThreadSettings};
use crate::clock::Clock;
use crate::error::Error;
use crate::event::Seq;
use crate::observe;

/// How often a full log is asked for room while appends wait for it.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(1);

/// Bytes gathered into one commit at the most; what waits beyond goes into the next.
const COMMIT_BYTES: u64 = 1 << 20;

/// Looks at the inbox, at the most, while callers are expected back.
const LOOKS_MAX: u32 = 10_000;

/// The state of the thread.
pub(super) struct Owner<L> {
    log: L,
    settings: ThreadSettings,
    clock: Arc<dyn Clock>,
    publish: watch::Sender<Position>,
    /// Appends that wait for room, oldest first, ahead of everything that comes in.
    waiting: VecDeque<Append>,
    /// When the oldest unsynced commit must be synced, on the monotonic clock.
    sync_at: Option<Duration>,
    more_to_tidy: bool,
    /// How many callers the last commit answered, and how long they are waited for.
    company: usize,
    patience: Duration,
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
    pub(super) fn new(
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
            company: 0,
            patience: Duration::ZERO,
            room_may_have_come: false,
        }
    }

    pub(super) fn run(mut self, inbox: &Receiver<Command>) {
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
                // Every round ends with a look at the log.
                Ok(Some(Command::Nudge)) => {}
                Ok(Some(Command::Close(reply))) => {
                    round.close = Some(reply);
                    return round;
                }
                Ok(None) if self.lingers_with(&round) => match self.linger(inbox) {
                    Some(more) => {
                        next = more;
                        continue;
                    }
                    None => return round,
                },
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

    /// Whether callers that the last commit answered are likely to be back in a moment. Without
    /// them, the first one to be back would have a commit to itself and all others would wait
    /// for the next: two fdatasyncs for what one can do.
    fn lingers_with(&self, round: &Round) -> bool {
        round.controls.is_empty() && (1..self.company).contains(&round.appends.len())
    }

    /// Waits for the next command without sleeping, since a wake-up for each of them would cost
    /// more than the wait is worth: it is a part of what a commit takes, and other threads get
    /// the processor meanwhile. None if it is over.
    fn linger(&self, inbox: &Receiver<Command>) -> Option<Result<Option<Command>, Disconnected>> {
        let until = self.clock.monotonic() + self.patience;
        for _ in 0..LOOKS_MAX {
            match poll(inbox) {
                Ok(None) if self.clock.monotonic() < until => thread::yield_now(),
                Ok(None) => return None,
                next => return Some(next),
            }
        }
        None
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
        let began = self.clock.monotonic();
        let result = observe::commit(&*self.clock, || self.log.commit(sync));
        self.company = staged.len();
        self.patience = self.clock.monotonic().saturating_sub(began) / 4;
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
