//! One append on its way to the log.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::error::Error;
use crate::event::Event;
use crate::id::Seq;
use crate::observe::{self, Place};

/// What becomes of an append whose caller goes away before the log took it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unawaited {
    /// Its events are appended all the same.
    Stays,
    /// It is withdrawn: nothing is appended.
    Goes,
}

/// Events that become one append, and their caller.
pub(super) struct Append {
    pub(super) events: Vec<Event>,
    /// How many they are, also once the log has taken them.
    count: usize,
    pub(super) bytes: u64,
    pub(super) sync: bool,
    unawaited: Unawaited,
    reply: oneshot::Sender<Result<Seq, Error>>,
    /// Its part of the intake.
    permit: OwnedSemaphorePermit,
}

/// What a caller learns.
pub(super) type Reply = oneshot::Receiver<Result<Seq, Error>>;

impl Append {
    pub(super) fn new(
        events: Vec<Event>,
        bytes: u64,
        sync: bool,
        unawaited: Unawaited,
        permit: OwnedSemaphorePermit,
    ) -> (Self, Reply) {
        let (reply, answer) = oneshot::channel();
        let append = Self {
            count: events.len(),
            events,
            bytes,
            sync,
            unawaited,
            reply,
            permit,
        };
        (append, answer)
    }

    /// Whether its caller went away before its events were taken up, and wants nothing appended
    /// then.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.unawaited == Unawaited::Goes && self.reply.is_closed()
    }

    /// Tells the caller what became of it, counts what is refused, and gives back the part of the
    /// intake.
    pub(super) fn answer(self, place: &Place, result: Result<Seq, Error>) -> OwnedSemaphorePermit {
        if result.is_err() {
            observe::refused(place, self.count);
        }
        // A caller that has gone away does not want to know.
        drop(self.reply.send(result));
        self.permit
    }
}
