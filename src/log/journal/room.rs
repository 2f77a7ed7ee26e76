//! The room in the current file: how far it is written and synced, and what still fits.

use crate::log::frame::HEADER_BYTES;

/// Bytes a frame with the books takes.
pub(super) const BOOKS_BYTES: u64 = (HEADER_BYTES + 6 * 8) as u64;

/// Room at the end of each file that only the books may use: for two frames, so that the older
/// can be overwritten while the newer is durable. See [`Journal::overwrite_ack`].
///
/// [`Journal::overwrite_ack`]: super::Journal::overwrite_ack
const RESERVE_BYTES: u64 = 2 * BOOKS_BYTES;

/// Bytes a frame with the books of dead letters takes: five numbers, and the letter that left.
pub(crate) const LETTERS_BYTES: u64 = (HEADER_BYTES + 5 * 8 + 1 + 4 + 8).next_multiple_of(8) as u64;

/// Places in the current file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Room {
    file_bytes: u64,
    /// The end of what is written.
    written: u64,
    /// The end of what is synced.
    synced: u64,
}

impl Room {
    /// In a file of so many bytes that is written up to there, and not synced.
    pub(super) fn new(file_bytes: u64, written: u64) -> Self {
        Self {
            file_bytes,
            written,
            synced: 0,
        }
    }

    pub(super) fn written(&self) -> u64 {
        self.written
    }

    pub(super) fn synced(&self) -> u64 {
        self.synced
    }

    pub(super) fn is_unsynced(&self) -> bool {
        self.synced < self.written
    }

    /// Whether a frame of so many bytes fits behind what is `gathered`. The reserve for the books is
    /// left out.
    pub(super) fn fits(&self, gathered: usize, bytes: u64) -> bool {
        self.left(gathered) >= bytes.saturating_add(BOOKS_BYTES + RESERVE_BYTES)
    }

    /// Whether the books fit, into the reserve if nowhere else.
    pub(super) fn fits_books(&self) -> bool {
        self.left(0) >= BOOKS_BYTES
    }

    fn left(&self, gathered: usize) -> u64 {
        let taken = self.written.saturating_add(gathered as u64);
        self.file_bytes.saturating_sub(taken)
    }

    pub(super) fn note_written(&mut self, bytes: usize) {
        self.written += bytes as u64;
    }

    /// Everything up to there is synced.
    pub(super) fn note_synced(&mut self, through: u64) {
        self.synced = self.synced.max(through);
    }

    /// Goes back to the beginning of the reserve, which is full and durable.
    pub(super) fn reuse_reserve(&mut self) {
        self.written = self.written.saturating_sub(RESERVE_BYTES);
        self.synced = self.written;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_books_go_into_the_reserve_which_has_two_places() {
        let mut room = Room::new(1000, 0);
        let most = 1000 - BOOKS_BYTES - RESERVE_BYTES;
        assert!(room.fits(0, most) && !room.fits(0, most + 1) && !room.fits(1, most));
        assert!(!room.fits(0, u64::MAX));
        room.note_written(usize::try_from(1000 - RESERVE_BYTES).unwrap());
        assert!(!room.fits(0, 0));
        for _ in 0..2 {
            assert!(room.fits_books());
            room.note_written(usize::try_from(BOOKS_BYTES).unwrap());
        }
        assert!(!room.fits_books() && room.is_unsynced());
        room.note_synced(1000);
        room.reuse_reserve();
        assert!(room.fits_books());
        // A frame must not claim that what it writes over was synced.
        assert_eq!(room.synced(), room.written());
    }
}
