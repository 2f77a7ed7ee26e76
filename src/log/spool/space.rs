//! Room: for frames in the journal, for chunks on the disk, and what happens when there is none.

use super::SpoolLog;
use super::budget::OWN_BYTES;
use crate::error::Error;
use crate::id::SeqRange;
use crate::ledger::Settled;
use crate::log::Log;
use crate::log::shelf::Shelf;
use crate::observe;

impl SpoolLog {
    /// Takes note of what was deleted, if it is, or waits for it; and takes the ballast on board
    /// again if it had been given up: there is room now.
    pub(super) fn finish_removing(&mut self, wait: bool) -> Result<(), Error> {
        let Some(removed) = self.removals.finish(wait, &mut self.shelf) else {
            return Ok(());
        };
        self.news.raise();
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
        self.progress.note_synced(self.progress.mark());
        Ok(())
    }

    /// Settles durably or seals what the next journal file still holds (I3).
    pub(super) fn free_next_file(&mut self) -> Result<(), Error> {
        while self.journal.oldest_last_seq() > self.recyclable() {
            // What is settled but not durably so becomes durable first: no need to seal it.
            if self.progress.has_unsynced_cursor() {
                self.sync_journal()?;
            } else if !self.seal_oldest()? {
                break;
            }
        }
        Ok(())
    }

    /// Moves the oldest part of the tail into a chunk, or waits for the one that is under way.
    /// False if the tail is empty.
    pub(in crate::log) fn seal_oldest(&mut self) -> Result<bool, Error> {
        if !self.sealer.is_under_way() && !self.begin_sealing()? {
            return Ok(false);
        }
        self.finish_sealing(true)?;
        Ok(true)
    }

    /// Begins to seal the oldest part of the tail. False if the tail is empty.
    fn begin_sealing(&mut self) -> Result<bool, Error> {
        let bytes = self.sealer.bytes_at_once(self.tail.bytes());
        let runs = self.tail.oldest(bytes);
        let Some(first) = runs.first().map(|run| run.first) else {
            return Ok(false);
        };
        let segments = self.dir.join("segments");
        self.sealer.check_rest(self.clock.monotonic(), &segments)?;
        // At `Written`, what comes before the chunk may not be durable yet. A chunk that outlived
        // it in a power cut would make it look damaged. That does not happen each time, but all of
        // a journal file has to be durable before the next is begun, and there a caller waits for
        // what was not synced here.
        //
        // Likewise the cursor, where the chunk does not follow what is on the shelf, since what lies
        // between was settled: a power cut that took the cursor back would leave a hole in front of
        // the new segment, and segments count as whole up to the name of the next (I2).
        let follows = first <= self.shelf.seen().synced_through + 1;
        let is_ahead = !follows && self.progress.has_unsynced_cursor();
        let sync = (is_ahead || self.is_unsynced()).then(|| self.journal.sync_later());
        let (sync, mark) = (sync.transpose()?, self.progress.mark());
        self.sealer
            .begin(runs, sync, mark, &mut self.shelf, self.dir.guard());
        Ok(true)
    }

    /// Lets go of what was sealed, if it is, or waits for it. Until then the tail and the journal
    /// keep it: it is synced on the shelf first, so that a segment that breaks in between loses
    /// nothing that memory does not have (I2, I3).
    pub(super) fn finish_sealing(&mut self, wait: bool) -> Result<(), Error> {
        let now = self.clock.monotonic();
        let Some(sealed) = self.sealer.finish(wait, &mut self.shelf, now) else {
            return Ok(());
        };
        self.news.raise();
        let sealed = sealed?;
        if let Some((through, mark)) = sealed.synced {
            self.journal.note_synced(through);
            self.progress.note_synced(mark);
        }
        self.tail.release(sealed.last);
        Ok(())
    }

    /// Bytes on disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        let ballast = self.dir.ballast_bytes();
        self.journal.bytes() + self.shelf.seen().bytes + self.letters.bytes() + ballast + OWN_BYTES
    }

    /// Bytes in memory that are sealed before `more` are.
    fn memory_bytes(&self, more: u64) -> u64 {
        self.tail.bytes() + self.staged.bytes() + more
    }

    /// Whether the bound allows for everything in memory and `more`.
    fn has_room(&self, more: u64) -> bool {
        self.budget.fits(self.disk_bytes(), self.memory_bytes(more))
    }

    fn refusal(&self) -> Error {
        self.budget.refusal(self.disk_bytes(), self.memory_bytes(0))
    }

    /// Keeps the bound: gives up the oldest events, or refuses.
    pub(super) fn make_room(&mut self, more: u64) -> Result<(), Error> {
        while !self.has_room(more) {
            if self.catch_up() {
                continue;
            }
            if !self.budget.gives_up_oldest() || !self.evict_oldest(more)? {
                return Err(self.refusal());
            }
        }
        Ok(())
    }

    /// Whether [`make_room`](Self::make_room) would find or make room for `more` bytes, without
    /// doing anything for it.
    pub(super) fn check_room(&self, more: u64) -> Result<(), Error> {
        let catches_up = self.removals.is_under_way() || self.sealer.is_behind(self.tail.bytes());
        if self.has_room(more) || catches_up || self.budget.gives_up_oldest() {
            return Ok(());
        }
        Err(self.refusal())
    }

    /// Waits for what is done apart, and seals what the tail holds beyond its bound: before the
    /// bound on the disk is held against an append, what is under way has to count. False if there
    /// is nothing to wait for, or the disk refuses.
    fn catch_up(&mut self) -> bool {
        if self.removals.is_under_way() {
            return self.finish_removing(true).is_ok();
        }
        let behind = self.sealer.is_behind(self.tail.bytes());
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
        self.sync_journal()?;
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
        let from = self.cursor() + 1;
        let through = self.journal.oldest_last_seq();
        let can_give_up = self.budget.gives_up_oldest() && through >= from;
        if !error.is_out_of_room() || !can_give_up {
            return Err(self.budget.out_of_room(self.disk_bytes(), error));
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
        let (ledger, oldest) = (self.progress.ledger(), self.shelf.seen().first_segment_last);
        if !self.removals.is_due(ledger, oldest) {
            return Ok(());
        }
        if self.progress.has_unsynced_cursor() {
            self.repair_journal()?;
            self.sync_journal()?;
        }
        self.removals.note_tried(ledger, oldest);
        self.begin_removing();
        self.finish_removing(false)
    }

    /// Begins to delete what is durably settled (I4).
    fn begin_removing(&mut self) {
        let cursor = self.progress.durable_cursor();
        self.removals
            .begin(cursor, &mut self.shelf, self.dir.guard());
    }

    /// Gives back what dead letters that are gone left on the disk.
    pub(super) fn tidy_letters(&mut self) -> Result<(), Error> {
        if !self.letters.take_change() {
            return Ok(());
        }
        if self.finish_leaving().is_err() {
            // The status has it; nothing waits for this.
            return Ok(());
        }
        self.dir.guard().check()?;
        if self.letters.tidy()? {
            self.news.raise();
        }
        Ok(())
    }

    /// Puts on record what the shelf found while it was read, and then moves to quarantine what
    /// belongs elsewhere.
    pub(super) fn take_findings(&mut self) -> Result<(), Error> {
        if !self.shelf.has_findings() && !self.findings.are_waiting() {
            return Ok(());
        }
        let found = self.shelf.run(Shelf::take_findings);
        let now_ms = self.now_ms();
        let put = self.findings.put_waiting(found, &self.dir, now_ms);
        self.news.raise();
        if put.is_err() {
            return self.news.note(put);
        }
        self.shelf.run(Shelf::set_foreign_aside)
    }

    /// Seals one chunk if the tail is past its bound. True if there is more to seal, and nothing
    /// under way that will say so.
    pub(super) fn seal_if_long(&mut self) -> Result<bool, Error> {
        let far_behind = self.sealer.is_far_behind(self.tail.bytes());
        self.finish_sealing(far_behind)?;
        let is_long = |log: &Self| log.sealer.is_long(log.tail.bytes());
        let is_resting = self.sealer.is_resting(self.clock.monotonic());
        if self.sealer.is_under_way() || !is_long(self) || is_resting {
            return Ok(false);
        }
        self.begin_sealing()?;
        self.finish_sealing(!self.shelf.is_apart())?;
        Ok(!self.sealer.is_under_way() && is_long(self))
    }
}
