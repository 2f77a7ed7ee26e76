//! The log on disk: journal, tail, segments and state put together.
//!
//! An append goes to the journal and the tail. When the tail has grown past its bound, its
//! oldest part is sealed into a chunk. Reading takes from the tail what is there and from the
//! segments what is not. Settling writes one `Ack` frame; nothing is synced for it, except
//! before a segment is deleted.
//!
//! The order of the steps is what the invariants rest on, and each is named where it matters.

pub(crate) mod budget;
mod findings;
mod leave;
mod letter_box;
mod news;
mod open;
mod progress;
mod read;
mod removals;
mod room;
mod seal;
mod sealer;
mod space;
mod staged;

use std::cell::Cell;
use std::sync::Arc;

use super::Nudge;
use super::dir::SpoolDir;
use super::journal::Journal;
use super::memo;
use super::shelf::keeper::Keeper;
use super::tail::Tail;
use super::{Log, Memo, Position, Read, ReadReply};
use crate::clock::Clock;
use crate::dead::DeadLetter;
use crate::error::Error;
use crate::event::{Event, Receipt};
use crate::id::Seq;
use crate::id::SeqRange;
use crate::incident::{Finding, Incident};
use crate::ledger::{Ledger, Settled};
use crate::millis::unix_ms;
use crate::observe::{self, Place};
use crate::settings::{Durability, Settings};
use budget::Budget;
use findings::Findings;
use letter_box::LetterBox;
use news::News;
use progress::Progress;
use read::Limit;
use removals::Removals;
use sealer::Sealer;
use staged::Staged;

/// The log in a spool directory.
#[derive(Debug)]
pub(crate) struct SpoolLog {
    settings: Settings,
    clock: Arc<dyn Clock>,
    budget: Budget,
    journal: Journal,
    progress: Progress,
    staged: Staged,
    tail: Tail,
    shelf: Keeper,
    sealer: Sealer,
    removals: Removals,
    letters: LetterBox,
    memo: Memo,
    findings: Findings,
    news: News,
    /// The oldest pending event, once it is known when it happened.
    oldest: Cell<Option<(Seq, u64)>>,
    /// Dropped last: the spool is locked until all its files are closed.
    dir: SpoolDir,
}

impl SpoolLog {
    fn cursor(&self) -> Seq {
        self.progress.cursor()
    }

    /// When the oldest pending event happened, if it is known: it is in memory, or was when it
    /// became the oldest.
    fn oldest_ms(&self) -> Option<u64> {
        let oldest = self.cursor() + 1;
        if let Some((seq, ms)) = self.oldest.get()
            && seq == oldest
        {
            return Some(ms);
        }
        let ms = self.tail.time_ms(oldest);
        self.oldest.set(ms.map(|ms| (oldest, ms)));
        ms
    }

    /// The last event that is durably settled, or sealed and synced (I3).
    fn recyclable(&self) -> Seq {
        let sealed = self.shelf.seen().synced_through;
        self.progress.durable_cursor().max(sealed)
    }

    /// The books with what is staged, as frames that follow the staged ones must state them.
    fn books(&self) -> Ledger {
        let ledger = self.progress.ledger();
        let appended = ledger.appended + self.staged.count();
        Ledger { appended, ..ledger }
    }

    /// Makes everything that was given to the journal durable, the cursor among it.
    fn sync_journal(&mut self) -> Result<(), Error> {
        self.journal.write()?;
        self.journal.sync()?;
        self.progress.note_synced(self.progress.mark());
        Ok(())
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
        let ledger = self.progress.ledger();
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
        self.sync_journal()?;
        self.journal.forget_failed(ledger)
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

    /// Writes what is staged, twice if the journal fails under it, and makes sure that it was
    /// written to the spool that is there: the last thing before it is acknowledged (I14).
    fn commit_staged(&mut self, sync: bool) -> Result<(), Error> {
        if self.dir.guard().is_lost() {
            return self.dir.guard().check();
        }
        if self.write_staged(sync).is_err() {
            self.write_staged_again()?;
        }
        // At `Written`, callers come here only from the process that opened it: see `LogHandle`.
        if sync {
            self.dir.guard().check_written()
        } else {
            Ok(())
        }
    }

    /// Before anything is written that is not an append (I14).
    fn check_owner(&mut self) -> Result<(), Error> {
        let checked = self.dir.guard().check();
        self.news.note(checked)
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

    /// Whether an append waits for the disk.
    fn is_synced(&self) -> bool {
        self.settings.durability == Durability::Synced
    }

    fn now_ms(&self) -> u64 {
        unix_ms(self.clock.wall())
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
        self.news.note(staged)
    }

    fn check_append(&mut self, bytes: u64) -> Result<(), Error> {
        // Not as `check_owner`, which takes it for a sign that the disk works again.
        self.dir.guard().check()?;
        self.check_room(bytes)
    }

    fn commit(&mut self, sync: bool) -> Result<(), Error> {
        let result = self.commit_staged(sync);
        let result = self.news.note(result);
        if result.is_ok() {
            // Only now is it appended (I1).
            self.progress.append(self.staged.count());
            self.tail.extend(self.staged.drain());
        }
        self.staged.clear();
        result?;
        if sync || !self.journal.is_unsynced() {
            self.progress.note_synced(self.progress.mark());
        }
        Ok(())
    }

    fn is_unsynced(&self) -> bool {
        self.progress.has_unsynced_events()
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
                .order(move |shelf| reply(sealed.read(shelf, &mut limit))),
        }
    }

    fn work_apart(&mut self, place: Place, nudge: Nudge) -> Result<(), Error> {
        self.shelf.move_apart(place, nudge);
        Ok(())
    }

    fn settle(&mut self, through: Seq, how: Settled) -> Result<(), Error> {
        let through = through.min(self.progress.last());
        let count = through.saturating_sub(self.cursor());
        if count == 0 {
            return Ok(());
        }
        self.check_owner()?;
        if how == Settled::Lost {
            let first = self.cursor() + 1;
            let last = through;
            let finding = Finding::events("segments", SeqRange { first, last }, "");
            let now_ms = self.now_ms();
            self.findings.put(&[finding], &self.dir, now_ms)?;
            self.news.raise();
        }
        let written = self.write_ack(how, count);
        self.news.note(written)?;
        // The frame is with the system: the cursor moves (I6), and survives the process.
        self.progress.settle(how, count);
        self.journal.note_fates(self.progress.fates());
        self.tail.release(through);
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
                path: self.dir.join("letters"),
            });
        }
        if self.is_unsynced() {
            // The event first: a letter that outlived it would stand at a number that is given
            // again, and go when that other event is found there.
            self.commit(true)?;
        }
        self.check_owner()?;
        // Durable before the cursor passes the event (I5).
        let put = self.letters.put(letter, &self.dir);
        self.news.note(put)?;
        self.settle(letter.seq, how)
    }

    fn letters(&mut self, after: Seq, max: usize) -> Result<Vec<DeadLetter>, Error> {
        self.letters.letters(after, max)
    }

    fn letter(&mut self, seq: Seq) -> Result<Option<DeadLetter>, Error> {
        self.letters.letter(seq)
    }

    fn retry(&mut self, seq: Seq) -> Result<Receipt, Error> {
        self.retry_letter(seq)
    }

    fn discard(&mut self, seq: Seq) -> Result<(), Error> {
        self.discard_letter(seq)
    }

    fn incidents(&mut self) -> Vec<Incident> {
        self.findings.all().to_vec()
    }

    fn acknowledge(&mut self, number: Option<u64>) -> Result<u64, Error> {
        let now_ms = self.now_ms();
        self.news.raise();
        self.findings.acknowledge(number, &self.dir, now_ms)
    }

    fn memo(&mut self) -> Result<Memo, Error> {
        Ok(self.memo.clone())
    }

    fn remember(&mut self, memo: &Memo) -> Result<(), Error> {
        self.check_owner()?;
        let written = memo::write(self.dir.path(), memo);
        if written.is_ok() {
            self.memo = memo.clone();
        }
        self.news.note(written)
    }

    fn position(&self) -> Position {
        Position {
            cursor: self.cursor(),
            last_seq: self.progress.last(),
            ledger: self.progress.ledger(),
            dead_letters: self.letters.count(),
            letters: self.letters.ledger(),
            disk_bytes: self.disk_bytes(),
            oldest_ms: self.oldest_ms(),
            missing: self.progress.missing().to_vec(),
            incidents: self.findings.unseen(),
            fault: self.news.fault().cloned(),
            fates: Arc::clone(self.progress.fates()),
        }
    }

    fn has_news(&mut self) -> bool {
        self.news.take()
    }

    fn tidy(&mut self) -> Result<bool, Error> {
        self.shelf.check();
        self.take_findings()?;
        let removed = self.remove_settled().and_then(|()| self.tidy_letters());
        let result = removed.and_then(|()| self.seal_if_long());
        match result {
            Ok(more) => Ok(more),
            Err(_) => self.news.note(result),
        }
    }

    fn close(&mut self) -> Result<(), Error> {
        self.commit(true)?;
        // Written after everything else was synced, this frame proves at the next opening that
        // all before it was there.
        self.repair_journal()?;
        let witnessed = self.journal.fits(0) || self.make_journal_room(0).is_ok();
        if witnessed {
            self.journal.push_ack(self.progress.ledger());
            self.journal.write()?;
        }
        self.journal.sync()?;
        let ledger = self.progress.ledger();
        self.progress.note_synced(self.progress.mark());
        if witnessed && let Err(error) = self.journal.write_end(ledger) {
            // Everything is safe without it; only damage to the very end would go unnoticed.
            observe::end_not_witnessed(&error);
        }
        // What was being sealed is in the journal, whatever became of it.
        let _ = self.finish_sealing(true);
        // The note of it is in the journal, and the next opening tries again.
        let _ = self.finish_leaving();
        self.remove_settled()?;
        self.finish_removing(true)
    }
}

#[cfg(test)]
mod tests;
