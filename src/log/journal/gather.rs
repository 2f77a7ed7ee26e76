//! Gathering frames: they are written together, when the owner says so.

use super::Journal;
use crate::event::{Event, Seq};
use crate::ledger::Ledger;
use crate::log::frame::Kind;

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
        if let Some(file) = self.files.last_mut() {
            let begin = file.events.map_or(first, |(begin, _)| begin.min(first));
            file.events = Some((begin, file.events.map_or(last, |(_, end)| end.max(last))));
        }
    }

    /// Gathers the books after the cursor moved.
    pub(crate) fn push_ack(&mut self, ledger: Ledger) {
        let place = self.place();
        self.writer.books(place, Kind::Ack, ledger);
    }

    /// Gathers the note that a dead letter was appended again.
    pub(crate) fn push_retried(&mut self, letter: Seq) {
        let place = self.place();
        self.writer.retried(place, letter);
    }
}
