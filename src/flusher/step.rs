//! What goes into a step of the machine and what comes out.

use std::pin::Pin;
use std::time::{Duration, SystemTime};

use crate::dead::DeadLetter;
use crate::error::Error;
use crate::id::Seq;
use crate::ledger::Settled;
use crate::log::{Memo, Read};
use crate::outcome::{Hindrance, Outcome};
use crate::sink::Request;
use crate::status::Pace;

/// The cursor and the last sequence number, as they were when the source was asked.
pub(crate) type At = (Seq, Seq);
/// What an action came to, and where the source stood then, if it was asked.
pub(super) type Done = (Input, Option<At>);
/// An action under way.
pub(super) type Job = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What the machine is told of the world at each step.
#[derive(Clone, Debug)]
pub(crate) struct Now {
    /// Only moves forward.
    pub(crate) mono: Duration,
    /// What the program's clock says has passed, to hold the time of day against.
    pub(crate) run: Duration,
    /// The time of day.
    pub(crate) wall: SystemTime,
    /// The last settled sequence number.
    pub(crate) cursor: Seq,
    /// The last one given out.
    pub(crate) last_seq: Seq,
}

impl Now {
    pub(super) fn after(&self, wait: Duration) -> Due {
        Due {
            at: self.mono.saturating_add(wait),
            wall: self.wall.checked_add(wait).unwrap_or(self.wall),
        }
    }
}

/// A moment on both clocks: waited for by the first, shown by the second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) at: Duration,
    pub(super) wall: SystemTime,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// [`Action::Recall`] is done.
    Recalled(Result<Memo, Error>),
    /// [`Action::Read`] is done.
    Found(Result<Read, Error>),
    /// [`Action::Read`] is done, and at the number asked for stands what is no event.
    Unfit(Box<DeadLetter>),
    /// [`Action::Read`] is done, and this was found, which the sink has prepared.
    Ready(Request),
    /// [`Action::Check`] is done.
    Checked(Option<Hindrance>),
    /// [`Action::Send`] is done.
    Answered(Outcome),
    /// [`Action::Store`] is done.
    Stored(Result<(), Error>),
    /// [`Action::Remember`] is done.
    Remembered(Result<(), Error>),
    /// The time of `Machine::wake_at` has come, or the log's position has changed.
    Tick,
    /// The sink has something new, such as a key.
    Changed,
    /// A caller of `wake` thinks that it is worth trying now.
    Wake,
    /// A caller of `set_pace` wants this pace.
    SetPace(Pace),
    /// A caller of `pause` wants delivery to stop, and waits for an answer.
    Pause,
    /// A caller of `resume` wants delivery to go on, and waits for an answer.
    Resume,
    /// Drain until this moment on the monotonic clock, then end.
    Close(Duration),
    /// The last handle is gone.
    Abandoned,
}

/// What is to be done; one at a time.
#[derive(Debug)]
pub(crate) enum Action {
    /// Read the memo.
    Recall,
    /// Read pending events.
    Read(Reading),
    /// Ask the sink whether anything keeps it from delivering.
    Check,
    /// Hand the batch to the sink.
    Send(Request),
    /// Tell the log what became of events.
    Store(Entry),
    /// Write the memo.
    Remember(Memo),
    /// End, and drop what is under way.
    End,
}

/// Which pending events are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// From here on.
    pub(crate) from: Seq,
    /// So many at the most.
    pub(crate) events_max: usize,
    /// And, beyond the first, so many bytes.
    pub(crate) bytes_max: u64,
}

/// What the log is owed.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// Move the cursor.
    Settle { first: Seq, last: Seq, how: Settled },
    /// Set one event aside.
    Bury(Box<DeadLetter>, Settled),
}
