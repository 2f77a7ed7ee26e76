//! What was taken up and is not committed yet.
//!
//! Events wait here, not as frames in the journal, so that the appends of one commit share
//! frames: a frame for each costs 44 bytes and a checksum of its own, a seventh of a short event.
//! A frame holds whole appends, so each of them is still there as a whole or not at all.

use super::SpoolLog;
use crate::error::Error;
use crate::event::Event;
use crate::id::Seq;
use crate::log::codec;
use crate::log::frame::{self, LetterNote};
use crate::log::journal::LETTERS_BYTES;

/// Bytes of a frame beyond which no further append goes into it. Damage takes whole frames, so
/// they stay small: four blocks of a disk.
const FRAME_BYTES: u64 = 16 << 10;

/// Bytes of a frame from which on it is compressed where the disk is waited for: longer than what
/// appends share. In the tests of this crate, where files are small, most appends are.
const PACKED_BYTES: u64 = if cfg!(test) { 1 << 10 } else { FRAME_BYTES };

/// Events that the next commit makes visible.
#[derive(Debug, Default)]
pub(super) struct Staged {
    events: Vec<Event>,
    /// How many of them belong to each append.
    counts: Vec<usize>,
    /// Bytes of the events as they are stored.
    bytes: u64,
    /// Appends, and their events, that the journal has been given as frames.
    pushed: (usize, usize),
    /// The most that the journal needs for the others.
    unpushed_bytes: u64,
    /// The note on the dead letter whose event is staged again.
    pub(super) note: Option<LetterNote>,
}

impl Staged {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// How many events.
    pub(super) fn count(&self) -> u64 {
        self.events.len() as u64
    }

    /// Bytes of the events as they are stored.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn add(&mut self, events: &mut Vec<Event>, frame_bytes: u64) {
        self.counts.push(events.len());
        self.bytes += events.iter().map(codec::event_bytes).sum::<u64>();
        self.unpushed_bytes += frame_bytes;
        self.events.append(events);
    }

    /// The events of the next frame, and how many are before them.
    fn next_frame(&mut self) -> Option<(usize, &[Event])> {
        let (appends, before) = self.pushed;
        let mut counts = self.counts.get(appends..)?.iter();
        let mut taken = (1, *counts.next()?);
        let bytes_of = |from: usize, count: usize| {
            let events = self.events.get(from..from + count).unwrap_or_default();
            events.iter().map(codec::event_bytes).sum::<u64>()
        };
        let mut bytes = bytes_of(before, taken.1);
        for count in counts {
            bytes += bytes_of(before + taken.1, *count);
            if bytes > FRAME_BYTES {
                break;
            }
            taken = (taken.0 + 1, taken.1 + count);
        }
        self.pushed = (appends + taken.0, before + taken.1);
        let events = self.events.get(before..before + taken.1)?;
        Some((before, events))
    }

    /// Forgets everything, but keeps the memory of an ordinary commit.
    pub(super) fn clear(&mut self) {
        self.events.clear();
        self.events.shrink_to(1024);
        self.counts.clear();
        self.counts.shrink_to(1024);
        self.bytes = 0;
        self.pushed = (0, 0);
        self.unpushed_bytes = 0;
        self.note = None;
    }

    /// The events, to be moved elsewhere.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Event> + '_ {
        self.events.drain(..)
    }
}

impl SpoolLog {
    /// Puts one append among what is staged, once the journal has room for it.
    pub(super) fn stage_append(&mut self, events: &mut Vec<Event>) -> Result<Seq, Error> {
        let bytes = frame::events_bytes(events);
        let limit = self.settings.journal_bytes / 2;
        if bytes > limit {
            return Err(Error::TooLarge {
                bytes,
                max: limit,
                setting: "journal_bytes / 2",
            });
        }
        // A note on a dead letter may follow, before anything else does.
        let with_note = bytes + LETTERS_BYTES;
        self.make_journal_room(with_note)
            .or_else(|error| self.evict_for_journal(error, with_note))?;
        let first = self.books().appended + 1;
        let last = self.books().appended + events.len() as u64;
        self.journal.set_numbers_aside(last, self.is_synced())?;
        self.staged.add(events, bytes);
        Ok(first)
    }

    /// Whether the journal takes a frame of so many bytes behind what is staged.
    pub(super) fn journal_fits(&self, bytes: u64) -> bool {
        self.journal
            .fits(self.staged.unpushed_bytes.saturating_add(bytes))
    }

    /// Gives what is staged to the journal, as frames behind which others may follow. There is
    /// room: that was seen to when it was staged.
    pub(super) fn push_staged(&mut self) {
        self.push_frames(false);
    }

    /// As [`push_staged`](Self::push_staged). If the disk is waited for, a long frame is
    /// compressed, so that fewer blocks are written. Frames that appends share are shorter.
    fn push_frames(&mut self, for_disk: bool) {
        while let Some((before, events)) = self.staged.next_frame() {
            let first = self.progress.last() + 1 + before as u64;
            if for_disk && frame::events_bytes(events) > PACKED_BYTES {
                self.journal.push_packed(first, events);
            } else {
                self.journal.push_events(first, events);
            }
        }
        self.staged.unpushed_bytes = 0;
    }

    pub(super) fn write_staged(&mut self, sync: bool) -> Result<(), Error> {
        self.push_frames(sync);
        // Right behind the frame of its event, which is a commit by itself.
        if let Some(note) = self.staged.note {
            self.journal.push_letters(note);
        }
        self.journal.write()?;
        if sync {
            self.journal.sync()?;
        }
        Ok(())
    }

    /// After the journal failed under a commit: replaces the file and writes the same again.
    pub(super) fn write_staged_again(&mut self) -> Result<(), Error> {
        let staged = std::mem::take(&mut self.staged);
        let mut events = staged.events.into_iter();
        self.repair_journal()?;
        for count in staged.counts {
            self.stage_append(&mut events.by_ref().take(count).collect())?;
        }
        self.staged.note = staged.note;
        self.write_staged(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(appends: &[(usize, usize)]) -> Staged {
        let mut staged = Staged::default();
        for &(count, bytes) in appends {
            let event = Event::json(format!("\"{}\"", "x".repeat(bytes - 2))).unwrap();
            let mut events = vec![event; count];
            let frame_bytes = frame::events_bytes(&events);
            staged.add(&mut events, frame_bytes);
            assert!(events.is_empty());
        }
        staged
    }

    fn frames(staged: &mut Staged) -> Vec<(usize, usize)> {
        std::iter::from_fn(|| {
            staged
                .next_frame()
                .map(|(before, events)| (before, events.len()))
        })
        .collect()
    }

    #[test]
    fn appends_share_a_frame_as_long_as_it_is_small() {
        let mut small = staged(&[(1, 300); 64]);
        // 49 events of 328 bytes are 16,072.
        assert_eq!(frames(&mut small), [(0, 49), (49, 15)]);
        assert_eq!(frames(&mut small), [], "each of them once");
    }

    #[test]
    fn an_append_is_never_divided() {
        let mut mixed = staged(&[(1, 100), (200, 300), (1, 100), (1, 100), (3, 6000), (1, 2)]);
        assert_eq!(
            frames(&mut mixed),
            [(0, 1), (1, 200), (201, 2), (203, 3), (206, 1)]
        );
    }

    #[test]
    fn what_comes_after_frames_were_made_goes_into_others() {
        let mut staged = staged(&[(2, 50)]);
        assert_eq!(frames(&mut staged), [(0, 2)]);
        let mut more = vec![Event::json("1").unwrap()];
        staged.add(&mut more, 8);
        assert_eq!(frames(&mut staged), [(2, 1)]);
    }
}
