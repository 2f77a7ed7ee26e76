//! Room: for frames in the journal, for chunks on the disk, and what happens when there is none.

use std::sync::Arc;
use std::time::Duration;

use super::seal::seal;
use super::{SEAL_REST, Sealing, SpoolLog};
use crate::error::Error;
use crate::id::SeqRange;
use crate::ledger::Settled;
use crate::log::Log;
use crate::log::journal::Later;
use crate::log::piece::Layout;
use crate::log::run::Run;
use crate::log::shelf::{Removal, Shelf};
use crate::observe;
use crate::settings::{OnFull, Settings};

/// What the spool has beside journal, segments, state and ballast: lock, markers, the end of the
/// journal, control socket, and the directories, a block of the disk for each.
pub(crate) const OWN_BYTES: u64 = 48 << 10;

/// Chunks that are sealed together at the most: whoever waits for room waits for all of them.
const CHUNKS_AT_ONCE: u64 = 4;

/// The bytes that are given up when dead letters or the record of incidents need space. To make a
/// volume for a letter of 256 KiB took between 700 and 800 KiB.
///
/// Two log segments, with what the spool has beside it; in a small spool without, since little
/// more than one would be left.
pub(super) fn ballast_bytes(settings: &Settings) -> u64 {
    let bytes = 2 * log_segment_bytes(settings);
    match Layout::of_segments(settings.segment_bytes) {
        Layout::Large => bytes - OWN_BYTES,
        Layout::Small => bytes,
    }
}

/// Kept free for what is there twice for a moment: a small segment, or a volume of dead letters, is
/// copied before the old one goes, and sled makes its files in whole log segments.
fn filled_up_bytes(settings: &Settings) -> u64 {
    3 * log_segment_bytes(settings)
}

fn log_segment_bytes(settings: &Settings) -> u64 {
    Layout::of_segments(settings.segment_bytes).log_segment_bytes() as u64
}

impl SpoolLog {
    /// The same to the caller whether the bound or the disk is full: there is no room.
    pub(super) fn out_of_room(&self, error: Error) -> Error {
        match error {
            Error::Storage { .. } if error.is_out_of_room() => self.disk_is_full(),
            other => other,
        }
    }

    fn disk_is_full(&self) -> Error {
        let (used, max) = (self.disk_bytes(), self.settings.max_bytes);
        Error::Full {
            what: "the disk is full",
            used,
            max,
        }
    }

    /// Begins to delete what is durably settled (I4). The shelf knows best what that is.
    fn begin_removing(&mut self) {
        let mut removal = Removal::new(self.durable_cursor);
        let guard = Arc::clone(self.dir.guard());
        let begun = self.shelf.begin_in_steps(move |shelf| match guard.check() {
            Ok(()) => removal.step(shelf),
            Err(error) => Some(Err(error)),
        });
        self.removing = Some(begun);
    }

    /// Takes note of what was deleted, if it is, or waits for it; and takes the ballast on board
    /// again if it had been given up: there is room now.
    pub(super) fn finish_removing(&mut self, wait: bool) -> Result<(), Error> {
        let Some(begun) = self.removing.take_if(|begun| wait || begun.is_done()) else {
            return Ok(());
        };
        let removed = self.shelf.finish(begun);
        self.news = true;
        if removed? > 0 {
            self.dir.restore_ballast();
        }
        Ok(())
    }

    /// Makes the journal take a frame of so many bytes: goes over to the next file if the
    /// current one is full, sealing what the next one still holds.
    pub(super) fn make_journal_room(&mut self, bytes: u64) -> Result<(), Error> {
        self.repair_journal()?;
        if self.journal_fits(bytes) {
            return Ok(());
        }
        self.push_staged();
        self.free_next_file()?;
        self.journal
            .rotate(self.books(), self.recyclable(), self.is_synced())?;
        self.note_synced();
        Ok(())
    }

    /// Settles durably or seals what the next journal file still holds (I3).
    pub(super) fn free_next_file(&mut self) -> Result<(), Error> {
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
        Ok(())
    }

    /// Moves the oldest part of the tail into a chunk, or waits for the one that is under way.
    /// False if the tail is empty.
    pub(in crate::log) fn seal_oldest(&mut self) -> Result<bool, Error> {
        if self.sealing.is_none() && !self.begin_sealing()? {
            return Ok(false);
        }
        self.finish_sealing(true)?;
        Ok(true)
    }

    /// Begins to seal the oldest part of the tail. False if the tail is empty.
    fn begin_sealing(&mut self) -> Result<bool, Error> {
        // More at once if the tail has grown meanwhile: the syncs are shared then.
        let chunk_bytes = self.settings.chunk_bytes;
        let over = self.tail.bytes().saturating_sub(self.settings.tail_bytes);
        let bytes = over.clamp(chunk_bytes, CHUNKS_AT_ONCE * chunk_bytes);
        let runs = self.tail.oldest(bytes);
        let Some(last) = runs.last().map(Run::last) else {
            return Ok(false);
        };
        if let Some((until, kind, text)) = &self.seal_rest
            && *until > self.clock.monotonic()
        {
            // It failed a moment ago; asking the disk again at every append would only be slow.
            let source = std::io::Error::new(*kind, text.clone());
            return Err(Error::storage("seal a chunk", self.dir.join("segments"))(
                source,
            ));
        }
        // At `Written`, what comes before the chunk may not be durable yet. A chunk that outlived
        // it in a power cut would make it look damaged. That does not happen each time, but all of
        // a journal file has to be durable before the next is begun, and there a caller waits for
        // what was not synced here.
        //
        // Likewise the cursor, where the chunk does not follow what is on the shelf, since what lies
        // between was settled: a power cut that took the cursor back would leave a hole in front of
        // the new segment, and segments count as whole up to the name of the next (I2).
        let follows = runs
            .first()
            .is_some_and(|run| run.first <= self.shelf.seen().synced_through + 1);
        let is_ahead = !follows && self.durable_cursor < self.cursor();
        let sync = (is_ahead || self.is_unsynced()).then(|| self.journal.sync_later());
        let sync = sync.transpose()?;
        let with_sync = (self.ledger.appended, self.cursor());
        let guard = Arc::clone(self.dir.guard());
        let begun = self.shelf.begin(move |shelf| {
            // Segments are made and moved by path.
            guard.check()?;
            let synced = sync.map(Later::sync).transpose()?;
            seal(shelf, &runs)?;
            Ok(synced)
        });
        self.sealing = Some(Sealing {
            last,
            with_sync,
            begun,
        });
        Ok(true)
    }

    /// Lets go of what was sealed, if it is, or waits for it. Until then the tail and the journal
    /// keep it: it is synced on the shelf first, so that a segment that breaks in between loses
    /// nothing that memory does not have (I2, I3).
    pub(super) fn finish_sealing(&mut self, wait: bool) -> Result<(), Error> {
        let sealing = self
            .sealing
            .take_if(|sealing| wait || sealing.begun.is_done());
        let Some(sealing) = sealing else {
            return Ok(());
        };
        let sealed = self.shelf.finish(sealing.begun);
        self.news = true;
        self.seal_rest = sealed.as_ref().err().map(|error| {
            let kind = match error {
                Error::Storage { source, .. } => source.kind(),
                _ => std::io::ErrorKind::Other,
            };
            let until = self.clock.monotonic() + SEAL_REST;
            (until, kind, error.to_string())
        });
        if let Some(through) = sealed? {
            let (last, cursor) = sealing.with_sync;
            self.journal.note_synced(through);
            self.durable_last = self.durable_last.max(last);
            self.durable_cursor = self.durable_cursor.max(cursor);
        }
        self.tail.release(sealing.last);
        Ok(())
    }

    /// Bytes on disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        let ballast = self.dir.ballast_bytes();
        self.journal.bytes() + self.shelf.seen().bytes + self.letters_bytes + ballast + OWN_BYTES
    }

    /// Bytes the disk will hold if everything in memory is sealed, and `more`. What does not
    /// compress takes up to three times its bytes in sled's file, since a leaf is written again
    /// whenever it is filled or split.
    pub(super) fn projected_bytes(&self, more: u64) -> u64 {
        self.disk_bytes()
            + filled_up_bytes(&self.settings)
            + 3 * (self.tail.bytes() + self.staged.bytes() + more)
    }

    /// Keeps the bound: gives up the oldest events, or refuses.
    pub(super) fn make_room(&mut self, more: u64) -> Result<(), Error> {
        while self.projected_bytes(more) > self.settings.max_bytes {
            if self.catch_up() {
                continue;
            }
            if self.settings.on_full != OnFull::DropOldest || !self.evict_oldest(more)? {
                return Err(self.out_of_bound());
            }
        }
        Ok(())
    }

    fn out_of_bound(&self) -> Error {
        Error::Full {
            what: "max_bytes is reached",
            used: self.projected_bytes(0),
            max: self.settings.max_bytes,
        }
    }

    /// Whether [`make_room`](Self::make_room) would find or make room for `more` bytes, without
    /// doing anything for it.
    pub(super) fn check_room(&self, more: u64) -> Result<(), Error> {
        let has_room = self.projected_bytes(more) <= self.settings.max_bytes;
        let catches_up = self.removing.is_some()
            || self.sealing.is_some()
            || self.tail.bytes() > self.settings.tail_bytes;
        if has_room || catches_up || self.settings.on_full == OnFull::DropOldest {
            return Ok(());
        }
        Err(self.out_of_bound())
    }

    /// Waits for what is done apart, and seals what the tail holds beyond its bound: before the
    /// bound on the disk is held against anybody, what is under way has to count. False if there
    /// is nothing to wait for, or the disk refuses.
    fn catch_up(&mut self) -> bool {
        if self.removing.is_some() {
            return self.finish_removing(true).is_ok();
        }
        let behind = self.sealing.is_some() || self.tail.bytes() > self.settings.tail_bytes;
        behind && self.shelf.is_apart() && self.seal_oldest().unwrap_or(false)
    }

    /// Gives up the first segment, or as much of the tail as `more` bytes need. False if there
    /// is nothing to give up.
    pub(super) fn evict_oldest(&mut self, more: u64) -> Result<bool, Error> {
        let from = self.cursor() + 1;
        let through = match self.shelf.seen().first_segment_last {
            Some(last) if last >= from => last,
            _ => match self.tail.last_of_oldest(more) {
                Some(last) => last,
                None => return Ok(false),
            },
        };
        self.settle(through, Settled::Evicted)?;
        self.journal.write()?;
        self.journal.sync()?;
        self.note_synced();
        self.finish_removing(true)?;
        self.begin_removing();
        self.finish_removing(true)?;
        observe::evicted(SeqRange {
            first: from,
            last: through,
        });
        Ok(true)
    }

    /// When the disk is so full that nothing can be sealed, `DropOldest` gives up what the next
    /// journal file holds.
    pub(super) fn evict_for_journal(&mut self, error: Error, bytes: u64) -> Result<(), Error> {
        if !error.is_out_of_room() || self.settings.on_full != OnFull::DropOldest {
            return Err(self.out_of_room(error));
        }
        let from = self.cursor() + 1;
        let through = self.journal.oldest_last_seq();
        if through < from {
            return Err(self.out_of_room(error));
        }
        self.settle(through, Settled::Evicted)?;
        observe::evicted(SeqRange {
            first: from,
            last: through,
        });
        self.make_journal_room(bytes)
    }

    /// Deletes the segments that are settled, making the cursor durable first (I4).
    pub(super) fn remove_settled(&mut self) -> Result<(), Error> {
        self.finish_removing(false)?;
        let oldest = self.shelf.seen().first_segment_last;
        let settled = oldest.is_some_and(|last| last <= self.cursor());
        // What could not be deleted is tried again once something has changed, not in a loop.
        let tried = Some((self.ledger, oldest));
        if !settled || self.removing.is_some() || self.removal_tried == tried {
            return Ok(());
        }
        if self.durable_cursor < self.cursor() {
            self.repair_journal()?;
            self.journal.write()?;
            self.journal.sync()?;
            self.note_synced();
        }
        self.removal_tried = tried;
        self.begin_removing();
        self.finish_removing(false)
    }

    /// Gives back what dead letters that are gone left on the disk.
    pub(super) fn tidy_letters(&mut self) -> Result<(), Error> {
        if !std::mem::take(&mut self.letters_to_tidy) {
            return Ok(());
        }
        if self.finish_leaving().is_err() {
            // The status has it; nothing waits for this.
            return Ok(());
        }
        self.dir.guard().check()?;
        if self.letters.tidy()? {
            self.news = true;
            self.letters_bytes = self.letters.bytes();
        }
        Ok(())
    }

    /// Puts on record what the shelf found while it was read, and then moves to quarantine what
    /// belongs elsewhere.
    pub(super) fn take_findings(&mut self) -> Result<(), Error> {
        if !self.shelf.has_findings() && self.unrecorded.is_empty() {
            return Ok(());
        }
        let mut findings = std::mem::take(&mut self.unrecorded);
        findings.extend(self.shelf.run(Shelf::take_findings));
        if let Err(error) = self.put_on_record(&findings) {
            self.unrecorded = findings;
            return self.note_fault(Err(error));
        }
        self.shelf.run(Shelf::set_foreign_aside)
    }

    /// Seals one chunk if the tail is past its bound. True if there is more to seal, and nothing
    /// under way that will say so.
    pub(super) fn seal_if_long(&mut self) -> Result<bool, Error> {
        // A shelf that does not keep up is waited for: memory is bounded, and so the rate.
        let far_behind = self.tail.bytes() / 2 > self.settings.tail_bytes;
        self.finish_sealing(false)?;
        if far_behind && self.sealing.is_some() {
            self.finish_sealing(true)?;
        }
        let rests = |(until, ..): &(Duration, _, _)| *until > self.clock.monotonic();
        let resting = self.seal_rest.as_ref().is_some_and(rests);
        if self.sealing.is_some() || self.tail.bytes() <= self.settings.tail_bytes || resting {
            return Ok(false);
        }
        self.begin_sealing()?;
        self.finish_sealing(!self.shelf.is_apart())?;
        Ok(self.sealing.is_none() && self.tail.bytes() > self.settings.tail_bytes)
    }

    pub(super) fn letters_changed(&mut self) {
        self.letters_bytes = self.letters.bytes();
        self.letters_to_tidy = true;
    }
}
