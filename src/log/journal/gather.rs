//! Gathering frames: they are written together, when the owner says so.

use std::sync::Arc;

use super::Journal;
use crate::event::Event;
use crate::id::Seq;
use crate::ledger::Ledger;
use crate::log::fates::Fates;
use crate::log::frame::{Kind, LetterNote};

impl Journal {
    /// Gathers a run of events.
    pub(crate) fn push_events(&mut self, first: Seq, events: &[Event]) {
        let place = self.place();
        self.writer.events(place, first, events);
        self.note_events(first, events);
    }

    /// As [`push_events`](Self::push_events), compressed if that makes it shorter.
    pub(crate) fn push_packed(&mut self, first: Seq, events: &[Event]) {
        let place = self.place();
        self.writer.packed(place, first, events);
        self.note_events(first, events);
    }

    fn note_events(&mut self, first: Seq, events: &[Event]) {
        let last = first.saturating_add(events.len() as u64).saturating_sub(1);
        self.files.note_events(first, last);
    }

    /// Gathers the books after the cursor moved.
    pub(crate) fn push_ack(&mut self, ledger: Ledger) {
        let place = self.place();
        self.writer.books(place, Kind::Ack, ledger);
    }

    /// Gathers the books of dead letters with the one that leaves.
    pub(crate) fn push_letters(&mut self, note: LetterNote) {
        let place = self.place();
        self.writer.letters(place, &note);
    }

    /// Begins files with these books of dead letters, now that they are durable, and with the letter
    /// that leaves until it [has left](Self::letter_has_left).
    pub(crate) fn note_letters(&mut self, note: LetterNote) {
        self.letters = note;
    }

    /// Begins files with this, which goes with the books.
    pub(crate) fn note_fates(&mut self, fates: &Arc<Fates>) {
        self.fates = Arc::clone(fates);
    }

    /// The letter that leaves is removed, durably: no file needs to tell of it any more.
    pub(crate) fn letter_has_left(&mut self) {
        self.letters.gone = None;
    }
}
