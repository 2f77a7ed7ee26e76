//! How far the log is: what was appended and settled, and how much of that a power cut cannot take
//! back.

use std::sync::Arc;

use crate::id::Seq;
use crate::id::SeqRange;
use crate::ledger::{Ledger, Settled};
use crate::log::fates::Fates;

/// The books of everything committed, and what of it is durable.
#[derive(Debug)]
pub(super) struct Progress {
    /// Their sum is the cursor.
    ledger: Ledger,
    durable: Mark,
    /// What is above the cursor and nowhere to be found.
    missing: Vec<SeqRange>,
    /// How events left that were not delivered.
    fates: Arc<Fates>,
    /// So many ranges of them are remembered.
    ranges_max: usize,
}

/// How far the log was at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    last: Seq,
    cursor: Seq,
}

impl Progress {
    /// As recovery found it: durable, once the journal has been synced.
    pub(super) fn new(
        ledger: Ledger,
        missing: Vec<SeqRange>,
        mut fates: Fates,
        ranges_max: usize,
    ) -> Self {
        fates.cut(ranges_max);
        let durable = Mark {
            last: ledger.appended,
            cursor: ledger.settled(),
        };
        Self {
            ledger,
            durable,
            missing,
            fates: Arc::new(fates),
            ranges_max,
        }
    }

    pub(super) fn ledger(&self) -> Ledger {
        self.ledger
    }

    /// The last settled event.
    pub(super) fn cursor(&self) -> Seq {
        self.ledger.settled()
    }

    /// The last committed event.
    pub(super) fn last(&self) -> Seq {
        self.ledger.appended
    }

    /// The cursor that a power cut cannot take back.
    pub(super) fn durable_cursor(&self) -> Seq {
        self.durable.cursor
    }

    pub(super) fn missing(&self) -> &[SeqRange] {
        &self.missing
    }

    pub(super) fn fates(&self) -> &Arc<Fates> {
        &self.fates
    }

    /// Whether a power cut could take committed events back.
    pub(super) fn has_unsynced_events(&self) -> bool {
        self.durable.last < self.last()
    }

    /// Whether a power cut could take the cursor back.
    pub(super) fn has_unsynced_cursor(&self) -> bool {
        self.durable.cursor < self.cursor()
    }

    /// So many more events are committed.
    pub(super) fn append(&mut self, count: u64) {
        self.ledger.appended += count;
    }

    /// Moves the cursor over the next `count` events (I6).
    pub(super) fn settle(&mut self, how: Settled, count: u64) {
        let first = self.cursor() + 1;
        self.ledger.settle(how, count);
        let through = self.cursor();
        if how != Settled::Delivered {
            let (range, fates) = (
                SeqRange {
                    first,
                    last: through,
                },
                &mut self.fates,
            );
            Arc::make_mut(fates).note(range, Some(how), self.ranges_max);
        }
        self.missing.retain(|range| range.last > through);
    }

    /// How far the log is now, for a sync that covers that and ends later.
    pub(super) fn mark(&self) -> Mark {
        Mark {
            last: self.last(),
            cursor: self.cursor(),
        }
    }

    /// A sync that covers everything up to there has succeeded.
    pub(super) fn note_synced(&mut self, Mark { last, cursor }: Mark) {
        self.durable.last = self.durable.last.max(last);
        self.durable.cursor = self.durable.cursor.max(cursor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_a_sync_was_asked_for_is_not_durable_by_it() {
        let mut progress = Progress::new(Ledger::default(), Vec::new(), Fates::default(), 1);
        progress.append(5);
        progress.settle(Settled::Delivered, 2);
        assert!(progress.has_unsynced_events() && progress.has_unsynced_cursor());
        let mark = progress.mark();
        progress.append(1);
        progress.settle(Settled::Delivered, 1);
        progress.note_synced(mark);
        assert!(progress.has_unsynced_events() && progress.has_unsynced_cursor());
        assert_eq!(progress.durable_cursor(), 2);
        progress.note_synced(progress.mark());
        assert!(!progress.has_unsynced_events() && !progress.has_unsynced_cursor());
        // One that ends late takes nothing back.
        progress.note_synced(mark);
        assert_eq!(progress.durable_cursor(), 3);
        assert!(!progress.has_unsynced_events());
    }

    #[test]
    fn what_is_missing_is_so_until_the_cursor_has_passed_all_of_it() {
        let ledger = Ledger {
            appended: 9,
            ..Ledger::default()
        };
        let missing = SeqRange { first: 2, last: 4 };
        let mut progress = Progress::new(ledger, vec![missing], Fates::default(), 1);
        progress.settle(Settled::Lost, 3);
        assert_eq!(progress.missing(), [missing]);
        progress.settle(Settled::Lost, 1);
        assert_eq!((progress.missing(), progress.cursor()), (&[][..], 4));
    }
}
