//! The log on disk: journal, tail, segments and state put together.
//!
//! An append goes to the journal and the tail. When the tail has grown past its bound, its
//! oldest part is sealed into a chunk. Reading takes from the tail what is there and from the
//! segments what is not. Settling writes one `Ack` frame; nothing is synced for it, except
//! before a segment is deleted.
//!
//! The order of the steps is what the invariants rest on, and each is named where it matters.

mod open;
mod read;
mod seal;
mod space;
mod staged;

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::dir::SpoolDir;
use super::journal::{Journal, Through};
use super::shelf::keeper::{Begun, Keeper, Nudge};
use super::state::State;
use super::tail::Tail;
use super::{Log, Memo, Position, Read, ReadReply};
use crate::clock::Clock;
use crate::dead::DeadLetter;
use crate::error::Error;
use crate::event::{Event, Receipt, Seq};
use crate::ledger::{Ledger, Settled};
use crate::observe::{self, Place};
use crate::settings::Settings;
use crate::status::SeqRange;
use read::{Limit, ReadTimes};
use staged::Staged;

/// How long a failed sealing rests before it is tried again.
const SEAL_REST: Duration = Duration::from_secs(1);

/// The log in a spool directory.
#[derive(Debug)]
pub(crate) struct SpoolLog {
    settings: Settings,
    clock: Arc<dyn Clock>,
    dir: SpoolDir,
    journal: Journal,
    tail: Tail,
    shelf: Keeper,
    /// What is being sealed: the tail has it until it is durable on the shelf.
    sealing: Option<Sealing>,
    /// Settled segments that are being deleted.
    removing: Option<Begun<Result<usize, Error>>>,
    /// The books and the end of the oldest segment when deleting was begun last.
    removal_tried: Option<(Ledger, Option<Seq>)>,
    state: State,
    /// Bytes of the state on disk, measured when it changed.
    state_bytes: u64,
    state_to_tidy: bool,
    /// The books of everything committed; their sum is the cursor.
    ledger: Ledger,
    /// The cursor that a power cut cannot take back.
    durable_cursor: Seq,
    staged: Staged,
    /// The last committed event that a power cut cannot take back.
    durable_last: Seq,
    missing: Vec<SeqRange>,
    fault: Option<String>,
    /// Work that can wait has changed the position, or may have.
    news: bool,
    /// When sealing may be tried again after it failed, and what it failed of.
    seal_rest: Option<(Duration, io::ErrorKind, String)>,
    /// When the first events of the last reads happened.
    read: ReadTimes,
    /// The oldest pending event, once it is known when it happened.
    oldest: Cell<Option<(Seq, u64)>>,
}

/// Chunks on their way to the shelf.
#[derive(Debug)]
struct Sealing {
    last: Seq,
    /// The last event and the cursor that are durable when the journal was synced first.
    with_sync: (Seq, Seq),
    begun: Begun<Result<Option<Through>, Error>>,
}

impl SpoolLog {
    fn cursor(&self) -> Seq {
        self.ledger.settled()
    }

    /// When the oldest pending event happened, if it is known: it was in memory, or read lately.
    fn oldest_ms(&self) -> Option<u64> {
        let oldest = self.cursor() + 1;
        if let Some((seq, ms)) = self.oldest.get()
            && seq == oldest
        {
            return Some(ms);
        }
        let read = || self.read.time_ms(oldest);
        let ms = self.tail.time_ms(oldest).or_else(read);
        self.oldest.set(ms.map(|ms| (oldest, ms)));
        ms
    }

    /// The last event that is durably settled, or sealed and synced (I3).
    fn recyclable(&self) -> Seq {
        self.durable_cursor.max(self.shelf.seen().synced_through)
    }

    /// The books with what is staged, as frames that follow the staged ones must state them.
    fn books(&self) -> Ledger {
        let appended = self.ledger.appended + self.staged.count();
        Ledger {
            appended,
            ..self.ledger
        }
    }

    /// After a sync of the journal: everything written is durable, the cursor among it.
    fn note_synced(&mut self) {
        self.durable_cursor = self.cursor();
        self.durable_last = self.ledger.appended;
    }

    /// Replaces the journal file whose write or sync failed: a fresh one gets the books and
    /// everything that was in it and is not sealed, from memory, and is synced.
    ///
    /// Not while something is staged: its frames would be gone with the failed file and the
    /// commit would not know. [`write_staged_again`](Self::write_staged_again) stages it anew.
    fn repair_journal(&mut self) -> Result<(), Error> {
        if !self.journal.is_failed() {
            return Ok(());
        }
        if !self.staged.is_empty() {
            return self.journal.distrust();
        }
        let ledger = self.ledger;
        if let Some(held) = self.journal.replace_current(ledger)? {
            let mut first = held.max(self.tail.first());
            let mut run: Vec<Event> = Vec::new();
            let mut bytes = 0;
            for stored in self.tail.from(first) {
                bytes += super::codec::event_bytes(&stored.event);
                run.push(stored.event);
                if bytes >= 64 << 10 {
                    self.journal.push_events(first, &run);
                    first += run.len() as u64;
                    run.clear();
                    bytes = 0;
                }
            }
            if !run.is_empty() {
                self.journal.push_events(first, &run);
            }
        }
        self.journal.write()?;
        self.journal.sync()?;
        self.journal.forget_failed();
        self.note_synced();
        Ok(())
    }

    /// Writes the books as they are once `count` more events are settled.
    fn write_ack(&mut self, how: Settled, count: u64) -> Result<(), Error> {
        self.repair_journal()?;
        // The books count what is staged, so its frames come first.
        self.push_staged();
        let mut books = self.books();
        books.settle(how, count);
        if self.journal.fits(0) {
            self.journal.push_ack(books);
            return self.journal.write();
        }
        match self.make_journal_room(0) {
            Ok(()) => {
                self.journal.push_ack(books);
                self.journal.write()
            }
            // The disk is full and the next journal file still holds what cannot be sealed.
            // Delivery must go on, since only that makes room again.
            Err(error) if error.is_out_of_room() => self.journal.overwrite_ack(books),
            Err(error) => Err(error),
        }
    }

    fn check_event(&self, event: &Event) -> Result<(), Error> {
        let (bytes, max) = (
            event.json_bytes().len() as u64,
            self.settings.max_event_bytes,
        );
        if bytes > max {
            return Err(Error::TooLarge {
                bytes,
                max,
                setting: "max_event_bytes",
            });
        }
        Ok(())
    }

    fn note_fault<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        match &result {
            Ok(_) => self.news |= self.fault.take().is_some(),
            Err(error) => {
                self.news = true;
                let text = error.to_string();
                if self.fault.as_ref() != Some(&text) {
                    observe::storage_fault(error);
                }
                self.fault = Some(text);
            }
        }
        result
    }
}

impl Log for SpoolLog {
    fn take_up(&mut self, events: &mut Vec<Event>) -> Result<Seq, Error> {
        events
            .iter()
            .try_for_each(|event| self.check_event(event))?;
        if self
            .books()
            .appended
            .checked_add(events.len() as u64 + 1)
            .is_none()
        {
            let (used, max) = (self.books().appended, u64::MAX);
            return Err(Error::Full {
                what: "the sequence numbers are used up",
                used,
                max,
            });
        }
        self.make_room(events.iter().map(super::codec::event_bytes).sum())?;
        let staged = self.stage_append(events);
        self.note_fault(staged)
    }

    fn commit(&mut self, sync: bool) -> Result<(), Error> {
        let mut result = self.write_staged(sync);
        if result.is_err() {
            result = self.write_staged_again();
        }
        let result = self.note_fault(result);
        if result.is_ok() {
            // Only now is it appended (I1).
            self.ledger.appended += self.staged.count();
            self.tail.extend(self.staged.drain());
        }
        self.staged.clear();
        result?;
        if sync || !self.journal.is_unsynced() {
            self.note_synced();
        }
        Ok(())
    }

    fn is_unsynced(&self) -> bool {
        self.durable_last < self.ledger.appended
    }

    fn read(&mut self, from: Seq, events_max: usize, bytes_max: u64) -> Result<Read, Error> {
        let mut limit = Limit::new(events_max, bytes_max);
        match self.read_tail(from, &mut limit) {
            Ok(read) => Ok(read),
            Err(sealed) => self.shelf.run(move |shelf| sealed.read(shelf, &mut limit)),
        }
    }

    fn read_later(&mut self, from: Seq, events_max: usize, bytes_max: u64, reply: ReadReply) {
        let mut limit = Limit::new(events_max, bytes_max);
        match self.read_tail(from, &mut limit) {
            Ok(read) => reply(Ok(read)),
            Err(sealed) => self
                .shelf
                .order(move |shelf| sealed.read_later(shelf, limit, reply)),
        }
    }

    fn work_apart(&mut self, place: Place, nudge: Nudge) -> Result<(), Error> {
        self.shelf.move_apart(place, nudge);
        Ok(())
    }

    fn settle(&mut self, through: Seq, how: Settled) -> Result<(), Error> {
        let through = through.min(self.ledger.appended);
        let count = through.saturating_sub(self.cursor());
        if count == 0 {
            return Ok(());
        }
        let written = self.write_ack(how, count);
        self.note_fault(written)?;
        // The frame is with the system: the cursor moves (I6), and survives the process.
        self.ledger.settle(how, count);
        self.tail.release(through);
        self.missing.retain(|range| range.last > through);
        Ok(())
    }

    fn bury(&mut self, letter: &DeadLetter, how: Settled) -> Result<(), Error> {
        if letter.seq <= self.cursor() {
            return Ok(());
        }
        if letter.seq != self.cursor() + 1 {
            let what = format!(
                "dead letter {} does not follow the cursor {}",
                letter.seq,
                self.cursor()
            );
            return Err(Error::Damaged {
                what,
                path: self.dir.join("state"),
            });
        }
        if self.is_unsynced() {
            // The event first: a letter that outlived it would stand at a number that is given
            // again, and go when that other event is found there.
            self.commit(true)?;
        }
        // Durable before the cursor passes the event (I5).
        let mut put = self.state.put_letter(letter);
        if put.as_ref().is_err_and(Error::is_out_of_room) && self.dir.drop_ballast() {
            put = self.state.put_letter(letter);
        }
        self.state_changed();
        self.note_fault(put)?;
        self.settle(letter.seq, how)
    }

    fn letters(&mut self, after: Seq, max: usize) -> Result<Vec<DeadLetter>, Error> {
        self.state.letters(after, max)
    }

    fn letter(&mut self, seq: Seq) -> Result<Option<DeadLetter>, Error> {
        self.state.letter(seq)
    }

    fn retry(&mut self, seq: Seq) -> Result<Receipt, Error> {
        let letter = self.letter(seq)?.ok_or(Error::NoSuchLetter { seq })?;
        let receipt = Receipt::new(
            self.stage(std::slice::from_ref(&letter.event))?,
            letter.event.id(),
        );
        self.staged.retried = Some(seq);
        self.commit(true)?;
        // The event is durably in the queue again. If this fails, or the process dies here, the
        // next opening finds the note in the journal and removes the letter then.
        let removed = self.state.remove_letter(seq);
        self.state_changed();
        removed.map(|_| receipt)
    }

    fn discard(&mut self, seq: Seq) -> Result<(), Error> {
        let removed = self.state.remove_letter(seq);
        self.state_changed();
        if removed? {
            Ok(())
        } else {
            Err(Error::NoSuchLetter { seq })
        }
    }

    fn memo(&mut self) -> Result<Memo, Error> {
        self.state.memo()
    }

    fn remember(&mut self, memo: &Memo) -> Result<(), Error> {
        let set = self.state.set_memo(memo);
        self.state_changed();
        self.note_fault(set)
    }

    fn position(&self) -> Position {
        Position {
            cursor: self.cursor(),
            last_seq: self.ledger.appended,
            ledger: self.ledger,
            dead_letters: self.state.count(),
            disk_bytes: self.disk_bytes(),
            oldest_ms: self.oldest_ms(),
            missing: self.missing.clone(),
            fault: self.fault.clone(),
        }
    }

    fn has_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    fn tidy(&mut self) -> Result<bool, Error> {
        self.shelf.check();
        let removed = self.remove_settled().and_then(|()| self.tidy_state());
        let result = removed.and_then(|()| self.seal_if_long());
        match result {
            Ok(more) => Ok(more),
            Err(_) => self.note_fault(result),
        }
    }

    fn close(&mut self) -> Result<(), Error> {
        self.commit(true)?;
        // Written after everything else was synced, this frame proves at the next opening that
        // all before it was there.
        self.repair_journal()?;
        let witnessed = self.journal.fits(0) || self.make_journal_room(0).is_ok();
        if witnessed {
            self.journal.push_ack(self.ledger);
            self.journal.write()?;
        }
        self.journal.sync()?;
        self.note_synced();
        if witnessed && let Err(error) = self.journal.write_end(self.ledger) {
            // Everything is safe without it; only damage to the very end would go unnoticed.
            tracing::warn!(%error, "the end of the journal has no second witness");
        }
        // What was being sealed is in the journal, whatever became of it.
        let _ = self.finish_sealing(true);
        self.remove_settled()?;
        self.finish_removing(true)
    }
}

#[cfg(test)]
mod tests;
