//! The budget: how many bytes of the disk a spool takes, and may take.

use crate::error::Error;
use crate::log::journal::FILES;
use crate::log::piece::Layout;
use crate::settings::{OnFull, Settings};

/// What the spool has beside journal, segments, dead letters and ballast: lock, markers, the end of
/// the journal, control socket, and the directories, a block of the disk for each.
pub(crate) const OWN_BYTES: u64 = 48 << 10;

/// What the settings allow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    max_bytes: u64,
    journal_bytes: u64,
    on_full: OnFull,
    layout: Layout,
}

impl Budget {
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            max_bytes: settings.max_bytes,
            journal_bytes: settings.journal_bytes,
            on_full: settings.on_full,
            layout: Layout::of_segments(settings.segment_bytes),
        }
    }

    /// Whether the oldest events are given up rather than new ones refused.
    pub(super) fn gives_up_oldest(&self) -> bool {
        self.on_full == OnFull::DropOldest
    }

    fn log_segment_bytes(&self) -> u64 {
        self.layout.log_segment_bytes() as u64
    }

    /// The bytes that are given up when dead letters or the record of incidents need space. To make
    /// a volume for a letter of 256 KiB took between 700 and 800 KiB.
    ///
    /// Two log segments, with what the spool has beside it; in a small spool without, since little
    /// more than one would be left.
    pub(super) fn ballast_bytes(&self) -> u64 {
        let bytes = 2 * self.log_segment_bytes();
        match self.layout {
            Layout::Large => bytes - OWN_BYTES,
            Layout::Small => bytes,
        }
    }

    /// Bytes of a new spool: the journal, the ballast, and little more.
    pub(super) fn new_spool_bytes(&self) -> u64 {
        FILES as u64 * self.journal_bytes + self.ballast_bytes() + OWN_BYTES
    }

    /// Bytes of the largest file of a new spool.
    pub(super) fn largest_file_bytes(&self) -> u64 {
        self.journal_bytes.max(self.ballast_bytes())
    }

    /// Bytes the disk will hold if everything in memory is sealed. What does not compress takes up
    /// to three times its bytes in sled's file, since a leaf is written again whenever it is filled
    /// or split.
    ///
    /// Three log segments are kept free for what is there twice for a moment: a small segment, or a
    /// volume of dead letters, is copied before the old one goes, and sled makes its files in whole
    /// log segments.
    fn projected_bytes(&self, disk_bytes: u64, memory_bytes: u64) -> u64 {
        disk_bytes + 3 * self.log_segment_bytes() + 3 * memory_bytes
    }

    /// Whether a disk with so many bytes takes what is in memory besides.
    pub(super) fn fits(&self, disk_bytes: u64, memory_bytes: u64) -> bool {
        self.projected_bytes(disk_bytes, memory_bytes) <= self.max_bytes
    }

    /// Why an append is refused if it does not.
    pub(super) fn refusal(&self, disk_bytes: u64, memory_bytes: u64) -> Error {
        Error::Full {
            what: "max_bytes is reached",
            used: self.projected_bytes(disk_bytes, memory_bytes),
            max: self.max_bytes,
        }
    }

    /// Why an append is refused although the bound would allow it. The same to the caller whether
    /// the bound or the disk is full: there is no room.
    pub(super) fn out_of_room(&self, disk_bytes: u64, error: Error) -> Error {
        match error {
            Error::Storage { .. } if error.is_out_of_room() => Error::Full {
                what: "the disk is full",
                used: disk_bytes,
                max: self.max_bytes,
            },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_memory_counts_three_times_and_the_room_to_copy_is_kept() {
        let settings = Settings::default();
        let budget = Budget::of(&settings);
        let segment = budget.log_segment_bytes();
        let free = settings.max_bytes - 3 * segment;
        assert!(budget.fits(free, 0) && !budget.fits(free + 1, 0));
        assert!(budget.fits(free - 3000, 1000) && !budget.fits(free - 2999, 1000));
        assert_eq!(budget.ballast_bytes() + OWN_BYTES, 2 * segment);
    }
}
