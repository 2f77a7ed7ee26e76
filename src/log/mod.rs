//! Where pending events live: the contract every log keeps, and the thread that owns one.
//!
//! A [`Log`] is synchronous and has one owner, so it needs no locks. [`thread`] runs
//! it away from the async runtime (invariant I9) and gathers waiting appends into one commit.
//! There are two logs: the one on disk, and [`memory::MemoryLog`], which says in a hundred lines
//! what the other must do. Both pass `contract.rs`.

pub(crate) mod chunk;
pub(crate) mod codec;
#[cfg(test)]
mod contract;
pub(crate) mod dir;
pub(crate) mod disk;
#[cfg(all(test, unix))]
mod fate_tests;
pub(crate) mod fates;
#[cfg(test)]
mod fault_tests;
#[cfg(all(test, unix))]
mod forgetful_tests;
pub(crate) mod frame;
pub(crate) mod guard;
pub(crate) mod incidents;
pub(crate) mod journal;
pub(crate) mod kept_settings;
pub(crate) mod letter;
pub(crate) mod letters;
pub(crate) mod look;
pub(crate) mod marker;
pub(crate) mod memo;
#[cfg(test)]
pub(crate) mod memory;
#[cfg(test)]
#[cfg(feature = "models")]
mod model_tests;
pub(crate) mod piece;
pub(crate) mod recovery;
mod rights;
pub(crate) mod run;
#[cfg(test)]
#[cfg(feature = "models")]
mod schedule_tests;
pub(crate) mod segment;
pub(crate) mod sheet;
pub(crate) mod shelf;
pub(crate) mod spool;
pub(crate) mod store;
pub(crate) mod sum;
pub(crate) mod sync;
pub(crate) mod tail;
pub(crate) mod thread;
#[cfg(test)]
mod thread_tests;

use std::sync::Arc;

use crate::dead::DeadLetter;
use crate::error::Error;
use crate::event::{Event, Receipt, StoredEvent};
use crate::fate::Fate;
use crate::id::Seq;
use crate::id::SeqRange;
use crate::incident::Incident;
use crate::ledger::{Ledger, LetterLedger, Settled};
use crate::observe::Place;

pub(crate) use codec::{Memo, PausedMemo};
use fates::Fates;

/// An ordered store of pending events with a cursor, books and dead letters.
///
/// Sequence numbers are given from 1 without gaps. Between [`take_up`](Log::take_up)
/// and [`commit`](Log::commit) nothing of an append is visible or durable.
pub(crate) trait Log: Send {
    /// Takes events as one append: all of them or, at a crash or an error, none. Gives the first
    /// sequence number. They become visible and durable with the next `commit`.
    ///
    /// They are moved out of `events`, where they stay on an error.
    ///
    /// Under `OnFull::DropOldest` this may move the cursor over the oldest events, booked under
    /// `evicted`.
    fn take_up(&mut self, events: &mut Vec<Event>) -> Result<Seq, Error>;

    /// As [`take_up`](Log::take_up), for events that the caller keeps.
    fn stage(&mut self, events: &[Event]) -> Result<Seq, Error> {
        self.take_up(&mut events.to_vec())
    }

    /// Whether an append of so many bytes would be taken now, as far as that can be told without
    /// taking one: the spool is ours, and has room for it or makes some. Changes nothing.
    fn check_append(&mut self, bytes: u64) -> Result<(), Error> {
        let _ = bytes;
        Ok(())
    }

    /// Makes everything staged visible, and durable against the death of the process; with
    /// `sync` also against a power cut, together with everything committed before (I1).
    ///
    /// On an error nothing staged is visible and its sequence numbers are given again.
    fn commit(&mut self, sync: bool) -> Result<(), Error>;

    /// Whether something committed still waits for its fdatasync.
    fn is_unsynced(&self) -> bool;

    /// The pending events from `from` on, at most so many and, beyond the first, at most so many
    /// bytes of JSON (I2).
    fn read(&mut self, from: Seq, events_max: usize, bytes_max: u64) -> Result<Read, Error>;

    /// As [`read`](Log::read), but `reply` may be called later and on another thread, so that
    /// commits need not wait for a read from disk.
    fn read_later(&mut self, from: Seq, events_max: usize, bytes_max: u64, reply: ReadReply) {
        reply(self.read(from, events_max, bytes_max));
    }

    /// Moves the cursor over everything up to `through` and books it (I6, I7). What the cursor
    /// has passed already is not booked again. Survives the death of the process.
    fn settle(&mut self, through: Seq, how: Settled) -> Result<(), Error>;

    /// Sets the next event aside: the letter is durable before the cursor passes it (I5). `how`
    /// is `Dead` or `Expired`. The letter's `seq` must be the cursor's next; one the cursor has
    /// passed already (evicted meanwhile) is left alone.
    fn bury(&mut self, letter: &DeadLetter, how: Settled) -> Result<(), Error>;

    /// The dead letters after `after` by sequence number, at most `max`.
    fn letters(&mut self, after: Seq, max: usize) -> Result<Vec<DeadLetter>, Error>;

    /// The dead letter that stood at `seq`.
    fn letter(&mut self, seq: Seq) -> Result<Option<DeadLetter>, Error>;

    /// Appends the event of a dead letter anew, under the same id and a new sequence number, and
    /// removes the letter: a crash in between finishes the work at the next open. Durable.
    fn retry(&mut self, seq: Seq) -> Result<Receipt, Error>;

    /// Removes a dead letter for ever: the caller's decision, the one way an event leaves
    /// without having been delivered or booked.
    fn discard(&mut self, seq: Seq) -> Result<(), Error>;

    /// What was found wrong with the log, as far as it is on record.
    fn incidents(&mut self) -> Vec<Incident> {
        Vec::new()
    }

    /// Notes, durably, that a person has seen one of the incidents, or all. Gives how many that
    /// concerned.
    fn acknowledge(&mut self, number: Option<u64>) -> Result<u64, Error> {
        let _ = number;
        Ok(0)
    }

    /// What the flusher asked to remember.
    fn memo(&mut self) -> Result<Memo, Error>;

    /// Remembers for the flusher, durably.
    fn remember(&mut self, memo: &Memo) -> Result<(), Error>;

    /// Where everything stands.
    fn position(&self) -> Position;

    /// Whether [`tidy`](Log::tidy) may have changed the position since this was asked last:
    /// looking costs a copy and a comparison for each append.
    fn has_news(&mut self) -> bool {
        true
    }

    /// One bounded step of work that can wait: sealing, rolling, deleting. True if there is more
    /// to do now; what is done apart does not count.
    fn tidy(&mut self) -> Result<bool, Error>;

    /// Allows the log to do what takes long on a thread of its own, which works for `place`. It
    /// calls `nudge` whenever something is done, and wants to be tidied then.
    fn work_apart(&mut self, place: Place, nudge: Nudge) -> Result<(), Error> {
        // A log that does nothing that takes long has no use for it.
        let _ = (place, nudge);
        Ok(())
    }

    /// Makes everything durable. The log is not used afterwards.
    fn close(&mut self) -> Result<(), Error>;
}

/// Called, on the shelf's thread, whenever a piece of work that the log has to know of has come to
/// its end.
pub(crate) type Nudge = Arc<dyn Fn() + Send + Sync>;

/// Takes what was read.
pub(crate) type ReadReply = Box<dyn FnOnce(Result<Read, Error>) + Send>;

/// What there is to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Consecutive events, at least one, the first at the number asked for.
    Events(Vec<StoredEvent>),
    /// These were damaged; the caller settles them as `Lost`.
    Missing(SeqRange),
    /// Nothing there yet.
    End,
}

/// Where everything stands: published after each change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// The last settled sequence number.
    pub(crate) cursor: Seq,
    /// The last committed one.
    pub(crate) last_seq: Seq,
    /// The books.
    pub(crate) ledger: Ledger,
    /// Dead letters held.
    pub(crate) dead_letters: u64,
    /// The books of dead letters.
    pub(crate) letters: LetterLedger,
    /// Bytes on disk as counted against the bound.
    pub(crate) disk_bytes: u64,
    /// When the oldest pending event happened, if that is known without reading.
    pub(crate) oldest_ms: Option<u64>,
    /// Damaged ranges above the cursor.
    pub(crate) missing: Vec<SeqRange>,
    /// The incidents that no person has seen; `None` if there are none.
    pub(crate) incidents: Option<Arc<Vec<Incident>>>,
    /// What the disk refused last, if it has not worked again since.
    pub(crate) fault: Option<String>,
    /// How events left that were not delivered.
    pub(crate) fates: Arc<Fates>,
}

impl Position {
    /// What became of an event, as far as the books and their record say.
    pub(crate) fn fate(&self, seq: Seq) -> Fate {
        self.fates.fate(seq, self.cursor, self.last_seq)
    }
}
