//! How events left that were not delivered: ranges of numbers, bounded.
//!
//! The books say how many events left in which way, this says which. Each settle moves one of their
//! accounts, so that two books in a row say how everything between their cursors left: the frames
//! that move the cursor are the record, and nothing is written for it beside them. Only what they
//! added up to has to be said again when a file of the journal is begun, since another one with
//! older frames is given up for it. What was delivered is what no range names, so a delivery adds
//! nothing.
//!
//! It claims nothing it does not know: where books in between are gone, or do not follow from each
//! other, it says of the numbers there that they are settled, and not how.

use serde::{Deserialize, Serialize};

use crate::fate::Fate;
use crate::id::{Seq, SeqRange};
use crate::ledger::{Ledger, Settled};

/// Ranges that are remembered at the most.
pub(crate) const RANGES_MAX: usize = 1024;

/// Bytes of a range in a frame.
const RANGE_BYTES: u64 = 8 + 8 + 4;

/// A part of a journal file that the frame which begins it with these may take.
const PART_OF_FILE: u64 = 32;

/// How events left, if they were not delivered. The names in the format are the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Left {
    Dead,
    Expired,
    Evicted,
    Lost,
    /// In a way that is not known any more.
    Somehow,
}

impl Left {
    fn of(how: Option<Settled>) -> Option<Self> {
        match how {
            Some(Settled::Delivered) => None,
            Some(Settled::Dead) => Some(Self::Dead),
            Some(Settled::Expired) => Some(Self::Expired),
            Some(Settled::Evicted) => Some(Self::Evicted),
            Some(Settled::Lost) => Some(Self::Lost),
            None => Some(Self::Somehow),
        }
    }

    fn how(self) -> Option<Settled> {
        match self {
            Self::Dead => Some(Settled::Dead),
            Self::Expired => Some(Settled::Expired),
            Self::Evicted => Some(Settled::Evicted),
            Self::Lost => Some(Settled::Lost),
            Self::Somehow => None,
        }
    }
}

/// Events that left in the same way, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stretch {
    first: Seq,
    last: Seq,
    left: Left,
}

/// How the events up to a cursor left. The cursor is that of the books it goes with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fates {
    /// Nothing is known of the events up to this one but that they are settled.
    floor: Seq,
    /// What was not delivered of those behind, in order, as few ranges as there can be.
    stretches: Vec<Stretch>,
}

impl Fates {
    /// Those of which nothing is known up to this cursor.
    pub(crate) fn forgotten(cursor: Seq) -> Self {
        Self {
            floor: cursor,
            stretches: Vec::new(),
        }
    }

    /// What books say for themselves, without any before them.
    fn of(ledger: Ledger) -> Self {
        if ledger.delivered == ledger.settled() {
            Self::default()
        } else {
            Self::forgotten(ledger.settled())
        }
    }

    /// How many ranges a file of the journal begins with at the most.
    pub(crate) fn ranges_max(journal_bytes: u64) -> usize {
        let fitting = journal_bytes / PART_OF_FILE / RANGE_BYTES;
        usize::try_from(fitting)
            .unwrap_or(RANGES_MAX)
            .min(RANGES_MAX)
    }

    /// Whether it says that everything was delivered.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it can be true of a spool with this cursor.
    pub(super) fn is_sound(&self, cursor: Seq) -> bool {
        let mut end = self.floor;
        let mut before = None;
        self.floor <= cursor
            && self.stretches.len() <= RANGES_MAX
            && self.stretches.iter().all(|stretch| {
                let follows = end.checked_add(1) == Some(stretch.first);
                let is_next = stretch.first > end && !(follows && before == Some(stretch.left));
                (end, before) = (stretch.last, Some(stretch.left));
                is_next && stretch.first <= stretch.last && stretch.last <= cursor
            })
    }

    /// What became of an event, of a log with this cursor and last number.
    pub(crate) fn fate(&self, seq: Seq, cursor: Seq, last_seq: Seq) -> Fate {
        if seq == 0 || seq > last_seq {
            Fate::Unknown
        } else if seq > cursor {
            Fate::Pending
        } else {
            Fate::of(self.from(seq, seq).1)
        }
    }

    /// The settled events from `seq` on that left in the same way, up to the cursor, and how;
    /// `None` if that is not known.
    pub(crate) fn from(&self, seq: Seq, cursor: Seq) -> (SeqRange, Option<Settled>) {
        let until = |last: Seq| SeqRange {
            first: seq,
            last: last.min(cursor).max(seq),
        };
        if seq <= self.floor {
            return (until(self.floor), None);
        }
        let at = self.stretches.partition_point(|stretch| stretch.last < seq);
        match self.stretches.get(at) {
            Some(stretch) if stretch.first <= seq => (until(stretch.last), stretch.left.how()),
            Some(stretch) => (until(stretch.first - 1), Some(Settled::Delivered)),
            None => (until(cursor), Some(Settled::Delivered)),
        }
    }

    /// The cursor has moved over these, which left like that; `None` if that is not known. Of more
    /// ranges than `max` the oldest are forgotten.
    pub(crate) fn note(&mut self, range: SeqRange, how: Option<Settled>, max: usize) {
        let Some(left) = Left::of(how).filter(|_| range.first <= range.last) else {
            return;
        };
        match self.stretches.last_mut() {
            Some(stretch) if stretch.left == left && stretch.last + 1 == range.first => {
                stretch.last = range.last;
            }
            _ => {
                let SeqRange { first, last } = range;
                self.stretches.push(Stretch { first, last, left });
            }
        }
        self.cut(max);
    }

    /// Forgets all but so many ranges, the oldest first.
    pub(crate) fn cut(&mut self, max: usize) {
        let over = self.stretches.len().saturating_sub(max);
        if let Some(last) = self.stretches.drain(..over).next_back() {
            self.floor = last.last;
        }
    }

    /// The cursor is back at this one.
    fn take_back(&mut self, cursor: Seq) {
        self.floor = self.floor.min(cursor);
        self.stretches.retain(|stretch| stretch.first <= cursor);
        if let Some(stretch) = self.stretches.last_mut() {
            stretch.last = stretch.last.min(cursor);
        }
    }

    /// Takes the step from one books to the next.
    fn step(&mut self, from: Ledger, to: Ledger) {
        let range = SeqRange {
            first: from.settled().saturating_add(1),
            last: to.settled(),
        };
        if range.last < range.first {
            // What a process knew that was told that its last frames were not written.
            self.take_back(range.last);
            return self.hold_against(to);
        }
        let moved = [
            (from.delivered, to.delivered, Settled::Delivered),
            (from.dead, to.dead, Settled::Dead),
            (from.expired, to.expired, Settled::Expired),
            (from.evicted, to.evicted, Settled::Evicted),
            (from.lost, to.lost, Settled::Lost),
        ];
        if moved.iter().any(|(from, to, _)| from > to) {
            // They do not follow from each other.
            *self = Self::forgotten(range.last);
            return;
        }
        let mut moved = moved.into_iter().filter(|(from, to, _)| from < to);
        let how = match (moved.next(), moved.next()) {
            (Some((.., how)), None) => Some(how),
            _ => None,
        };
        self.note(range, how, RANGES_MAX);
    }

    /// Forgets everything if these books, which it goes with, do not bear it out.
    fn hold_against(&mut self, ledger: Ledger) {
        if !self.agrees_with(ledger) {
            *self = Self::forgotten(ledger.settled());
        }
    }

    /// They count as many in each way as this names, or more where
    /// something is not known.
    fn agrees_with(&self, ledger: Ledger) -> bool {
        let mut known = Ledger::default();
        let mut unknown = self.floor;
        for stretch in &self.stretches {
            let count = stretch.last - stretch.first + 1;
            match stretch.left.how() {
                Some(how) => known.settle(how, count),
                None => unknown += count,
            }
        }
        let named = known.settled() + unknown;
        known.settle(Settled::Delivered, ledger.settled().saturating_sub(named));
        let fits = |known: u64, booked: u64| known <= booked && booked - known <= unknown;
        fits(known.delivered, ledger.delivered)
            && fits(known.dead, ledger.dead)
            && fits(known.expired, ledger.expired)
            && fits(known.evicted, ledger.evicted)
            && fits(known.lost, ledger.lost)
    }
}

/// What a frame says of them: the body of `Fates`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stated {
    /// Of the books just before.
    cursor: Seq,
    fates: Fates,
}

impl Stated {
    /// Those that go with these books.
    pub(crate) fn new(ledger: Ledger, fates: Fates) -> Self {
        Self {
            cursor: ledger.settled(),
            fates,
        }
    }

    /// Whether any log could have written it.
    pub(super) fn is_sound(&self) -> bool {
        self.fates.is_sound(self.cursor)
    }
}

/// Follows the books of a journal in the order they were written.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// The last books.
    at: Option<Ledger>,
    fates: Fates,
}

impl Chain {
    /// Takes the next books.
    pub(super) fn book(&mut self, ledger: Ledger) {
        match self.at.replace(ledger) {
            Some(before) => self.fates.step(before, ledger),
            None => self.fates = Fates::of(ledger),
        }
    }

    /// Takes what the journal says of them itself. If the books that it goes with did not come just
    /// before, they are gone, and it goes with no others.
    pub(super) fn state(&mut self, stated: Stated) {
        if self.at.is_some_and(|at| at.settled() == stated.cursor) {
            self.fates = stated.fates;
        }
    }

    /// The fates as they go with the books that are gone on with.
    pub(super) fn finish(mut self, ledger: Ledger) -> Fates {
        if self.at.is_none() {
            // Nothing but what recovery made of that.
            return Fates::forgotten(ledger.settled());
        }
        self.book(ledger);
        self.fates.hold_against(ledger);
        self.fates
    }
}

#[cfg(test)]
mod tests;
