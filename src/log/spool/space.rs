//! Room: for frames in the journal, for chunks on the disk, and what happens when there is none.

use super::{SEAL_REST, SpoolLog};
use crate::error::Error;
use crate::ledger::Settled;
use crate::log::Log;
use crate::log::codec;
use crate::log::piece::Layout;
use crate::observe;
use crate::settings::{OnFull, Settings};
use crate::status::SeqRange;

/// What the spool has beside journal, segments, state and ballast: lock, markers, the end of the
/// journal, control socket, and the directories, a block of the disk for each.
const OWN_BYTES: u64 = 48 << 10;

/// The bytes that are given up when opening needs space: what sled fills up in the last segment
/// and in the state.
pub(super) fn ballast_bytes(settings: &Settings) -> u64 {
    2 * log_segment_bytes(settings)
}

/// Kept free for what sled does on its own: it fills a file up to a whole log segment when the
/// file is opened again (sled 0.34.7 src/pagecache/snapshot.rs:315), and the state, the first and
/// the last segment are open at once.
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

    /// Deletes what is durably settled (I4), and takes the ballast on board again if it had been
    /// given up: there is room now.
    fn remove_from_shelf(&mut self) -> Result<(), Error> {
        let removed = self.shelf.remove_settled(self.durable_cursor);
        self.shelf_bytes = self.shelf.bytes();
        if removed? > 0 {
            self.dir.restore_ballast();
        }
        Ok(())
    }

    /// Makes the journal take a frame of so many bytes: goes over to the next file if the
    /// current one is full, sealing what the next one still holds.
    pub(super) fn make_journal_room(&mut self, bytes: u64) -> Result<(), Error> {
        self.repair_journal()?;
        if self.journal.fits(bytes) {
            return Ok(());
        }
        self.free_next_file()?;
        self.journal.rotate(self.books(), self.recyclable())?;
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

    /// Moves the oldest part of the tail into a chunk. False if the tail is empty.
    pub(super) fn seal_oldest(&mut self) -> Result<bool, Error> {
        let events = self.tail.oldest(self.settings.chunk_bytes);
        let Some(last) = events.last().map(|stored| stored.seq) else {
            return Ok(false);
        };
        let now = self.clock.monotonic();
        if let Some((until, kind, text)) = &self.seal_rest
            && *until > now
        {
            // It failed a moment ago; asking the disk again at every append would only be slow.
            let source = std::io::Error::new(*kind, text.clone());
            return Err(Error::storage("seal a chunk", self.dir.join("segments"))(
                source,
            ));
        }
        if self.events_unsynced {
            // At `Written`, what comes before the chunk may not be durable yet. A chunk that
            // outlived it in a power cut would make it look damaged.
            self.journal.write()?;
            self.journal.sync()?;
            self.note_synced();
        }
        // Synced before the tail lets go of it, so that a segment that breaks in between loses
        // nothing that memory does not have (I2, I3).
        let sealed = self.shelf.append(&events).and_then(|()| self.shelf.sync());
        self.shelf_bytes = self.shelf.bytes();
        self.seal_rest = sealed.as_ref().err().map(|error| {
            let kind = match error {
                Error::Storage { source, .. } => source.kind(),
                _ => std::io::ErrorKind::Other,
            };
            (now + SEAL_REST, kind, error.to_string())
        });
        sealed?;
        self.tail.release(last);
        Ok(true)
    }

    /// Bytes on disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        let ballast = self.dir.ballast_bytes();
        self.journal.bytes() + self.shelf_bytes + self.state_bytes + ballast + OWN_BYTES
    }

    /// Bytes the disk will hold if everything in memory is sealed, and `more`. What does not
    /// compress takes up to three times its bytes in sled's file, since a leaf is written again
    /// whenever it is filled or split.
    pub(super) fn projected_bytes(&self, more: u64) -> u64 {
        let staged: u64 = self.staged.iter().map(codec::event_bytes).sum();
        self.disk_bytes()
            + filled_up_bytes(&self.settings)
            + 3 * (self.tail.bytes() + staged + more)
    }

    /// Keeps the bound: gives up the oldest events, or refuses.
    pub(super) fn make_room(&mut self, more: u64) -> Result<(), Error> {
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
    pub(super) fn evict_oldest(&mut self, more: u64) -> Result<bool, Error> {
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
        self.remove_from_shelf()?;
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
        self.remove_from_shelf()?;
        Ok(())
    }

    /// Gives back what dead letters that are gone left in sled's file.
    pub(super) fn tidy_state(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.state_to_tidy) && self.state.tidy()? {
            self.state_bytes = self.state.bytes();
        }
        Ok(())
    }

    /// Seals one chunk if the tail is past its bound. True if there is more to seal.
    pub(super) fn seal_if_long(&mut self) -> Result<bool, Error> {
        let now = self.clock.monotonic();
        let resting = self
            .seal_rest
            .as_ref()
            .is_some_and(|(until, ..)| *until > now);
        if self.tail.bytes() <= self.settings.tail_bytes || resting {
            return Ok(false);
        }
        self.seal_oldest()?;
        Ok(self.tail.bytes() > self.settings.tail_bytes)
    }

    pub(super) fn state_changed(&mut self) {
        self.state_bytes = self.state.bytes();
        self.state_to_tidy = true;
    }
}
