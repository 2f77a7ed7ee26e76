//! What the machine has to tell of its way.

use std::time::Duration;

use crate::dead::DeadLetter;
use crate::error::Error;
use crate::id::Seq;
use crate::observe;
use crate::outcome::{Answer, PauseReason, Verdict};
use crate::sink::Batch;

/// Something that happened, for the log. The machine decides and writes nothing; the task writes.
#[derive(Debug)]
pub(crate) enum Fact {
    /// A request goes out.
    Sending(Batch),
    /// So many events were taken.
    Delivered(usize, Answer),
    /// A request was answered otherwise.
    NotTaken(Verdict, Answer),
    /// Tries go on, after this wait.
    BackingOff(Duration, Answer),
    /// The receiver was reached after so many tries.
    BackingOffEnded(u32),
    /// Requests keep this distance, since the receiver asked for it.
    Eased(Duration),
    /// They keep none any more.
    EasedNoMore,
    /// Batches have so many events at the most, since a larger one was refused.
    Divided(usize),
    /// Batches have so many events at the most, since the way is slow.
    Slowed(usize),
    /// Delivery waits.
    Paused(PauseReason, Answer),
    /// It goes on.
    Resumed(PauseReason),
    /// An event was set aside.
    Buried(Box<DeadLetter>),
    /// These could not be read.
    Lost(Seq, Seq),
    /// The log took no entry; it is asked again after this wait.
    StorageFault(Error, Duration),
    /// It takes entries again.
    StorageWorks,
    /// What a restart is to find was not stored.
    MemoNotKept(Error),
}

impl Fact {
    /// Writes it into the program's log.
    pub(super) fn log(self) {
        match self {
            Self::Sending(batch) => observe::sending(&batch),
            Self::Delivered(events, answer) => observe::delivered(events, &answer),
            Self::NotTaken(verdict, answer) => observe::not_taken(verdict, &answer),
            Self::BackingOff(wait, answer) => observe::backing_off(wait, &answer),
            Self::BackingOffEnded(attempts) => observe::backing_off_ended(attempts),
            Self::Eased(gap) => observe::eased(gap),
            Self::EasedNoMore => observe::eased_no_more(),
            Self::Divided(events) => observe::divided(events),
            Self::Slowed(events) => observe::slowed(events),
            Self::Paused(reason, answer) => observe::paused(reason, &answer),
            Self::Resumed(reason) => observe::resumed(reason),
            Self::Buried(letter) => observe::buried(&letter),
            Self::Lost(first, last) => observe::lost(first, last),
            Self::StorageFault(error, wait) => observe::flusher_storage_fault(&error, wait),
            Self::StorageWorks => observe::flusher_storage_works(),
            Self::MemoNotKept(error) => observe::memo_not_kept(&error),
        }
    }
}

/// What there is to tell of the requests.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Since they were told last.
    untold: Vec<Fact>,
    requests: u64,
    last_answer: Option<Answer>,
}

impl Facts {
    pub(super) fn note(&mut self, fact: Fact) {
        self.untold.push(fact);
    }

    /// A request goes out.
    pub(super) fn sending(&mut self, batch: &Batch) {
        self.note(Fact::Sending(batch.clone()));
        self.requests = self.requests.saturating_add(1);
    }

    /// The receiver has answered.
    pub(super) fn answered(&mut self, verdict: Verdict, answer: &Answer) {
        self.last_answer = Some(answer.clone());
        if verdict != Verdict::Delivered {
            self.note(Fact::NotTaken(verdict, answer.clone()));
        }
    }

    /// Gives what there is to tell since it was asked last, in order.
    pub(super) fn tell(&mut self, listener: impl FnMut(Fact)) {
        self.untold.drain(..).for_each(listener);
    }

    /// Requests sent.
    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    /// The receiver's last answer.
    pub(super) fn last_answer(&self) -> Option<&Answer> {
        self.last_answer.as_ref()
    }
}
