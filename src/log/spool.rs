//! The log on disk: journal, tail, segments and state put together.
//!
//! An append goes to the journal and the tail. When the tail has grown past its bound, its
//! oldest part is sealed into a chunk. Reading takes from the tail what is there and from the
//! segments what is not. Settling writes one `Ack` frame; nothing is synced for it, except
//! before a segment is deleted.
//!
//! The order of the steps is what the invariants rest on, and each is named where it matters.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::dir::SpoolDir;
use super::disk::{Disk, create_private_dir};
use super::journal::Journal;
use super::recovery::{Recovered, recover};
use super::shelf::{Shelf, Shelved};
use super::state::State;
use super::tail::Tail;
use super::{Log, Memo, Position, Read, frame};
use crate::clock::Clock;
use crate::dead::DeadLetter;
use crate::error::Error;
use crate::event::{Event, Receipt, Seq, StoredEvent};
use crate::ledger::{Ledger, Settled};
use crate::observe;
use crate::settings::{OnFull, Settings};
use crate::status::{Recovery, SeqRange};

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
    shelf: Shelf,
    state: State,
    /// Bytes of the state on disk, measured when it changed.
    state_bytes: u64,
    state_to_tidy: bool,
    /// The books of everything committed; their sum is the cursor.
    ledger: Ledger,
    /// The cursor that a power cut cannot take back.
    durable_cursor: Seq,
    staged: Vec<Event>,
    /// How many of the staged events belong to each append.
    staged_counts: Vec<usize>,
    /// The dead letter whose event is staged again.
    staged_retried: Option<Seq>,
    /// Committed events wait for their fdatasync.
    events_unsynced: bool,
    missing: Vec<SeqRange>,
    fault: Option<String>,
    /// When sealing may be tried again after it failed.
    seal_at: Option<Duration>,
    /// When the event after the cursor happened, as far as it was read.
    oldest: Option<(Seq, u64)>,
}

impl SpoolLog {
    /// Opens the spool in `path`, or makes one there.
    ///
    /// # Errors
    /// As [`SpoolDir::open`]; [`Error::Storage`] if the disk refuses.
    pub(crate) fn open(
        path: &Path,
        settings: Settings,
        clock: Arc<dyn Clock>,
        disk: Arc<dyn Disk>,
    ) -> Result<(Self, Recovery), Error> {
        settings.check()?;
        let began = clock.monotonic();
        let dir = SpoolDir::open(path, &*clock, |path| make(path, &*disk, &settings))?;
        let journal_dir = dir.join("journal");
        let (journal, found) =
            Journal::open(disk, &journal_dir, settings.journal_bytes, dir.queue())?;
        let mut notes = found.notes;
        let (mut shelf, shelf_notes) = with_ballast(&dir, || {
            Shelf::open(&dir.join("segments"), settings.segment_bytes)
        })?;
        notes.extend(shelf_notes);
        let (state, state_notes) = with_ballast(&dir, || State::open(dir.path()))?;
        notes.extend(state_notes);
        // Chunks that a killed process left in the system's memory count as sealed from here on,
        // so they have to be durable before the journal lets go of their events (I3).
        shelf.sync()?;
        let sealed = shelf.range();
        let Recovered {
            ledger,
            tail,
            tail_first,
            missing,
            islands,
            retried,
            notes: odd,
        } = recover(&found.frames, sealed);
        notes.extend(odd);
        if !missing.is_empty() {
            // What is gone may be behind the last readable chunk: its file is kept for people.
            shelf.keep_last();
        }
        for (first, events) in islands {
            let events: Vec<StoredEvent> = (first..)
                .zip(events)
                .map(|(seq, event)| StoredEvent { seq, event })
                .collect();
            shelf.adopt(&events)?;
        }
        let mut log = Self {
            journal,
            tail: Tail::new(tail_first),
            shelf,
            state_bytes: state.bytes(),
            state_to_tidy: true,
            state,
            ledger,
            durable_cursor: ledger.settled(),
            staged: Vec::new(),
            staged_counts: Vec::new(),
            staged_retried: None,
            events_unsynced: false,
            missing,
            fault: None,
            seal_at: None,
            oldest: None,
            settings,
            clock,
            dir,
        };
        let replayed = tail.len() as u64;
        log.tail.extend(tail);
        log.finish_letters(&retried)?;
        log.resume()?;
        let missing = log.missing.clone();
        for range in &missing {
            observe::damage_found(*range);
        }
        let took = log.clock.monotonic().saturating_sub(began);
        Ok((
            log,
            Recovery {
                replayed,
                missing,
                notes,
                took,
            },
        ))
    }

    /// Ends what a crash interrupted between the journal and the dead letters.
    fn finish_letters(&mut self, retried: &[Seq]) -> Result<(), Error> {
        for &seq in retried {
            self.state.remove_letter(seq)?;
        }
        // A letter whose event the cursor has not passed was being buried. The event is still
        // there and will be sent again, so the letter goes; if it is not there any more, the
        // letter is all that is left of it and stays (promise 4).
        for letter in self.state.letters(self.ledger.settled(), usize::MAX)? {
            if matches!(self.read(letter.seq, 1, 0)?, Read::Events(_)) {
                self.state.remove_letter(letter.seq)?;
            }
        }
        Ok(())
    }

    /// Begins a new generation in the journal, sealing first if there is no room to begin in.
    fn resume(&mut self) -> Result<(), Error> {
        while self.journal.oldest_last_seq() > self.recyclable() && self.seal_oldest()? {}
        self.journal.resume(self.ledger, self.recyclable())?;
        self.note_synced();
        Ok(())
    }

    fn state_changed(&mut self) {
        self.state_bytes = self.state.bytes();
        self.state_to_tidy = true;
    }

    fn cursor(&self) -> Seq {
        self.ledger.settled()
    }

    /// The last event that is durably settled, or sealed and synced (I3).
    fn recyclable(&self) -> Seq {
        self.durable_cursor.max(self.shelf.synced_through())
    }

    /// The books with what is staged, as frames that follow the staged ones must state them.
    fn books(&self) -> Ledger {
        let appended = self.ledger.appended + self.staged.len() as u64;
        Ledger {
            appended,
            ..self.ledger
        }
    }

    /// After a sync of the journal: everything written is durable, the cursor among it.
    fn note_synced(&mut self) {
        self.durable_cursor = self.cursor();
        self.events_unsynced = false;
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

    /// Makes the journal take a frame of so many bytes: goes over to the next file if the
    /// current one is full, sealing what the next one still holds.
    fn make_journal_room(&mut self, bytes: u64) -> Result<(), Error> {
        self.repair_journal()?;
        if self.journal.fits(bytes) {
            return Ok(());
        }
        while self.journal.oldest_last_seq() > self.recyclable() {
            // What is settled but not durably so becomes durable first: no need to seal it.
            if self.durable_cursor < self.cursor() {
                self.journal.write()?;
                self.journal.sync()?;
                self.durable_cursor = self.cursor();
            } else if !self.seal_oldest()? {
                break;
            }
        }
        self.journal.rotate(self.books(), self.recyclable())?;
        self.note_synced();
        Ok(())
    }

    /// Moves the oldest part of the tail into a chunk. False if the tail is empty.
    fn seal_oldest(&mut self) -> Result<bool, Error> {
        let events = self.tail.oldest(self.settings.chunk_bytes);
        let Some(last) = events.last().map(|stored| stored.seq) else {
            return Ok(false);
        };
        // Synced before the tail lets go of it, so that a segment that breaks in between loses
        // nothing that memory does not have (I2, I3).
        self.shelf.append(&events)?;
        self.shelf.sync()?;
        self.tail.release(last);
        Ok(true)
    }

    /// Bytes on disk.
    fn disk_bytes(&self) -> u64 {
        self.journal.bytes() + self.shelf.bytes() + self.state_bytes + SpoolDir::ballast_bytes()
    }

    /// Bytes the disk will hold if everything in memory is sealed, and `more`. A chunk that does
    /// not compress takes up to twice its bytes in sled's file.
    fn projected_bytes(&self, more: u64) -> u64 {
        let staged: u64 = self.staged.iter().map(super::codec::event_bytes).sum();
        self.disk_bytes() + 2 * (self.tail.bytes() + staged + more)
    }

    /// Keeps the bound: gives up the oldest events, or refuses.
    fn make_room(&mut self, more: u64) -> Result<(), Error> {
        while self.projected_bytes(more) > self.settings.max_bytes {
            if self.settings.on_full != OnFull::DropOldest || !self.evict_oldest(more)? {
                return Err(Error::Full {
                    what: "max_bytes is reached",
                    used: self.projected_bytes(0),
                    max: self.settings.max_bytes,
                });
            }
        }
        Ok(())
    }

    /// Gives up the first segment, or as much of the tail as `more` bytes need. False if there
    /// is nothing to give up.
    fn evict_oldest(&mut self, more: u64) -> Result<bool, Error> {
        let from = self.cursor() + 1;
        let through = match self.shelf.first_segment_last() {
            Some(last) if last >= from => last,
            _ => match self.tail.oldest(more).last() {
                Some(stored) => stored.seq,
                None => return Ok(false),
            },
        };
        self.settle(through, Settled::Evicted)?;
        self.journal.write()?;
        self.journal.sync()?;
        self.note_synced();
        self.shelf.remove_settled(self.durable_cursor)?;
        observe::evicted(SeqRange {
            first: from,
            last: through,
        });
        Ok(true)
    }

    /// Puts one append among what is staged.
    fn stage_frame(&mut self, events: &[Event]) -> Result<Seq, Error> {
        let bytes = frame::events_bytes(events);
        let limit = self.settings.journal_bytes / 2;
        if bytes > limit {
            return Err(Error::TooLarge {
                bytes,
                max: limit,
                setting: "journal_bytes / 2",
            });
        }
        self.make_journal_room(bytes)
            .or_else(|error| self.evict_for_journal(error, bytes))?;
        let first = self.books().appended + 1;
        self.journal.push_events(first, events);
        self.staged.extend_from_slice(events);
        self.staged_counts.push(events.len());
        Ok(first)
    }

    /// When the disk is so full that nothing can be sealed, `DropOldest` gives up what the next
    /// journal file holds.
    fn evict_for_journal(&mut self, error: Error, bytes: u64) -> Result<(), Error> {
        if !error.is_out_of_room() || self.settings.on_full != OnFull::DropOldest {
            return Err(out_of_room(error));
        }
        let from = self.cursor() + 1;
        let through = self.journal.oldest_last_seq();
        if through < from {
            return Err(out_of_room(error));
        }
        self.settle(through, Settled::Evicted)?;
        observe::evicted(SeqRange {
            first: from,
            last: through,
        });
        self.make_journal_room(bytes)
    }

    fn write_staged(&mut self, sync: bool) -> Result<(), Error> {
        self.journal.write()?;
        if sync {
            self.journal.sync()?;
        }
        Ok(())
    }

    /// After the journal failed under a commit: replaces the file and writes the same again.
    fn write_staged_again(&mut self) -> Result<(), Error> {
        let staged = std::mem::take(&mut self.staged);
        let mut rest = staged.as_slice();
        self.repair_journal()?;
        for count in std::mem::take(&mut self.staged_counts) {
            // One frame for each append, as before: all of it or none.
            let (events, later) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            self.stage_frame(events)?;
            rest = later;
        }
        if let Some(letter) = self.staged_retried {
            self.journal.push_retried(letter);
        }
        self.write_staged(true)
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

    /// Reads from the segments until the batch is full or the tail begins.
    fn read_sealed(&mut self, from: Seq, limit: &mut Limit) -> Result<Read, Error> {
        let mut events: Vec<StoredEvent> = Vec::new();
        let mut next = from;
        while next < self.tail.first() && !limit.is_reached() {
            let gap_end = match self.shelf.read(next)? {
                Shelved::Chunk(chunk) => {
                    for stored in chunk.iter().skip_while(|stored| stored.seq < next) {
                        if !limit.take(&stored.event) {
                            break;
                        }
                        events.push(stored.clone());
                    }
                    match events.last() {
                        Some(stored) if stored.seq >= next => next = stored.seq + 1,
                        _ => break,
                    }
                    continue;
                }
                Shelved::Missing(range) => range.last.min(self.tail.first() - 1),
                Shelved::NotHere => self.tail.first() - 1,
            };
            if events.is_empty() {
                return Ok(Read::Missing(SeqRange {
                    first: next,
                    last: gap_end,
                }));
            }
            // What is before the gap first.
            limit.close();
        }
        Ok(if events.is_empty() {
            Read::End
        } else {
            Read::Events(events)
        })
    }

    fn note_oldest(&mut self, read: &Read) {
        if let Read::Events(events) = read
            && let Some(stored) = events.first()
        {
            self.oldest = Some((stored.seq, stored.event.time_ms()));
        }
    }

    fn note_fault<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        match &result {
            Ok(_) => self.fault = None,
            Err(error) => {
                let text = error.to_string();
                if self.fault.as_ref() != Some(&text) {
                    observe::storage_fault(error);
                }
                self.fault = Some(text);
            }
        }
        result
    }

    /// Deletes the segments that are settled, making the cursor durable first (I4).
    fn remove_settled(&mut self) -> Result<(), Error> {
        if self
            .shelf
            .first_segment_last()
            .is_none_or(|last| last > self.cursor())
        {
            return Ok(());
        }
        if self.durable_cursor < self.cursor() {
            self.repair_journal()?;
            self.journal.write()?;
            self.journal.sync()?;
            self.note_synced();
        }
        self.shelf.remove_settled(self.durable_cursor)?;
        Ok(())
    }

    /// Gives back what dead letters that are gone left in sled's file.
    fn tidy_state(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.state_to_tidy) && self.state.tidy()? {
            self.state_bytes = self.state.bytes();
        }
        Ok(())
    }

    /// Seals one chunk if the tail is past its bound. True if there is more to seal.
    fn seal_if_long(&mut self) -> Result<bool, Error> {
        let now = self.clock.monotonic();
        if self.tail.bytes() <= self.settings.tail_bytes || self.seal_at.is_some_and(|at| at > now)
        {
            return Ok(false);
        }
        self.seal_at = Some(now + SEAL_REST);
        self.seal_oldest()?;
        self.seal_at = None;
        Ok(self.tail.bytes() > self.settings.tail_bytes)
    }
}

impl Log for SpoolLog {
    fn stage(&mut self, events: &[Event]) -> Result<Seq, Error> {
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
        let staged = self.stage_frame(events);
        self.note_fault(staged)
    }

    fn commit(&mut self, sync: bool) -> Result<(), Error> {
        let mut result = self.write_staged(sync);
        if result.is_err() {
            result = self.write_staged_again();
        }
        let result = self.note_fault(result);
        let staged = std::mem::take(&mut self.staged);
        self.staged_counts.clear();
        self.staged_retried = None;
        result?;
        // Only now is it appended (I1).
        self.events_unsynced |= !staged.is_empty();
        self.ledger.appended += staged.len() as u64;
        self.tail.extend(staged);
        if sync || !self.journal.is_unsynced() {
            self.note_synced();
        }
        Ok(())
    }

    fn is_unsynced(&self) -> bool {
        self.events_unsynced
    }

    fn read(&mut self, from: Seq, events_max: usize, bytes_max: u64) -> Result<Read, Error> {
        let from = from.max(self.cursor() + 1);
        if from > self.ledger.appended {
            return Ok(Read::End);
        }
        let mut limit = Limit {
            events: events_max.max(1),
            bytes: bytes_max,
            taken: false,
        };
        let read = if from >= self.tail.first() {
            let events: Vec<_> = self
                .tail
                .from(from)
                .take_while(|s| limit.take(&s.event))
                .collect();
            if events.is_empty() {
                // Numbers were given out whose events are gone.
                Read::Missing(SeqRange {
                    first: from,
                    last: self.ledger.appended,
                })
            } else {
                Read::Events(events)
            }
        } else {
            self.read_sealed(from, &mut limit)?
        };
        self.note_oldest(&read);
        Ok(read)
    }

    fn settle(&mut self, through: Seq, how: Settled) -> Result<(), Error> {
        let through = through.min(self.ledger.appended);
        let count = through.saturating_sub(self.cursor());
        if count == 0 {
            return Ok(());
        }
        let result = self.repair_journal().and_then(|()| {
            let mut books = self.books();
            books.settle(how, count);
            if !self.journal.fits(0) {
                self.make_journal_room(0)?;
            }
            self.journal.push_ack(books);
            self.journal.write()
        });
        self.note_fault(result)?;
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
        // Durable before the cursor passes the event (I5).
        let put = self.state.put_letter(letter);
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
        self.journal.push_retried(seq);
        self.staged_retried = Some(seq);
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
        let oldest = self.cursor() + 1;
        let read = self
            .oldest
            .filter(|(seq, _)| *seq == oldest)
            .map(|(_, ms)| ms);
        Position {
            cursor: self.cursor(),
            last_seq: self.ledger.appended,
            ledger: self.ledger,
            dead_letters: self.state.count(),
            disk_bytes: self.disk_bytes(),
            oldest_ms: read.or_else(|| self.tail.time_ms(oldest)),
            missing: self.missing.clone(),
            fault: self.fault.clone(),
        }
    }

    fn tidy(&mut self) -> Result<bool, Error> {
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
        if !self.journal.fits(0) {
            self.make_journal_room(0)?;
        }
        self.journal.push_ack(self.ledger);
        self.journal.write()?;
        self.journal.sync()?;
        self.note_synced();
        self.remove_settled()
    }
}

/// How much one read may still take.
struct Limit {
    events: usize,
    bytes: u64,
    taken: bool,
}

impl Limit {
    fn is_reached(&self) -> bool {
        self.events == 0
    }

    fn close(&mut self) {
        self.events = 0;
    }

    /// Takes an event if it fits; the first always does.
    fn take(&mut self, event: &Event) -> bool {
        let bytes = event.json_bytes().len() as u64;
        if self.events == 0 || (self.taken && bytes > self.bytes) {
            self.close();
            return false;
        }
        self.taken = true;
        self.events -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }
}

fn make(path: &Path, disk: &dyn Disk, settings: &Settings) -> Result<(), Error> {
    for name in ["journal", "segments"] {
        let dir = path.join(name);
        create_private_dir(&dir).map_err(Error::storage("make a directory of the spool", &dir))?;
    }
    Journal::create(disk, &path.join("journal"), settings.journal_bytes)
}

/// Opens something that needs a little room on the disk; if there is none, the ballast is given
/// up and it is tried once more.
fn with_ballast<T>(dir: &SpoolDir, open: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
    match open() {
        Err(error) if error.is_out_of_room() && dir.drop_ballast() => open(),
        other => other,
    }
}

/// The same to the caller whether the bound or the disk is full: there is no room.
fn out_of_room(error: Error) -> Error {
    match error {
        Error::Storage { .. } if error.is_out_of_room() => Error::Full {
            what: "the disk is full",
            used: 0,
            max: 0,
        },
        other => other,
    }
}
