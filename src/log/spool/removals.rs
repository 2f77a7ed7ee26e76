//! Settled segments on their way out.

use std::sync::Arc;

use crate::error::Error;
use crate::id::Seq;
use crate::ledger::Ledger;
use crate::log::guard::Guard;
use crate::log::shelf::Removal;
use crate::log::shelf::{begun::Begun, keeper::Keeper};

/// What is being deleted, and when to delete.
#[derive(Debug, Default)]
pub(super) struct Removals {
    under_way: Option<Begun<Result<usize, Error>>>,
    /// The books and the end of the oldest segment when deleting was begun last.
    tried: Option<(Ledger, Option<Seq>)>,
}

impl Removals {
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Whether the oldest segment, which ends there, is settled by these books and is to be deleted
    /// now. What could not be deleted is tried again once something has changed, not in a loop.
    pub(super) fn is_due(&self, ledger: Ledger, oldest: Option<Seq>) -> bool {
        let is_settled = oldest.is_some_and(|last| last <= ledger.settled());
        is_settled && !self.is_under_way() && self.tried != Some((ledger, oldest))
    }

    /// Notes that it is tried with these books.
    pub(super) fn note_tried(&mut self, ledger: Ledger, oldest: Option<Seq>) {
        self.tried = Some((ledger, oldest));
    }

    /// Begins to delete what lies at or before a cursor that is durable (I4). The shelf knows best
    /// what that is.
    pub(super) fn begin(&mut self, durable_cursor: Seq, shelf: &mut Keeper, guard: &Arc<Guard>) {
        let mut removal = Removal::new(durable_cursor);
        let guard = Arc::clone(guard);
        let begun = shelf.begin_in_steps(move |shelf| match guard.check() {
            Ok(()) => removal.step(shelf),
            Err(error) => Some(Err(error)),
        });
        self.under_way = Some(begun);
    }

    /// How many segments were deleted, if that is done, or after waiting for it.
    pub(super) fn finish(
        &mut self,
        wait: bool,
        shelf: &mut Keeper,
    ) -> Option<Result<usize, Error>> {
        let begun = self.under_way.take_if(|begun| wait || begun.is_done())?;
        Some(shelf.finish(begun))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_deleted_is_tried_again_once_something_has_changed() {
        let books = |delivered| Ledger {
            appended: 9,
            delivered,
            ..Ledger::default()
        };
        let mut removals = Removals::default();
        assert!(!removals.is_due(books(3), None));
        assert!(!removals.is_due(books(3), Some(4)), "it is not settled");
        assert!(removals.is_due(books(4), Some(4)));
        removals.note_tried(books(4), Some(4));
        assert!(!removals.is_due(books(4), Some(4)));
        assert!(removals.is_due(books(5), Some(4)));
    }
}
