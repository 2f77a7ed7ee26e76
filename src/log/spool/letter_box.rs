//! The letter box: the dead letters of a spool with their books and their bytes.

use crate::dead::DeadLetter;
use crate::error::Error;
use crate::id::Seq;
use crate::ledger::LetterLedger;
use crate::log::dir::SpoolDir;
use crate::log::frame::{Gone, LetterNote};
use crate::log::letters::Letters;

/// The dead letters, and what became of those that left.
#[derive(Debug)]
pub(super) struct LetterBox {
    letters: Letters,
    /// What became of them, but for how many are held.
    books: LetterNote,
    /// Bytes on disk, measured when they changed.
    bytes: u64,
    has_to_tidy: bool,
}

impl LetterBox {
    /// Takes letters over, without those that are `leaving`: their events are pending, or they left,
    /// and the note of that is in the journal (I5).
    pub(super) fn new(
        mut letters: Letters,
        books: LetterNote,
        leaving: Vec<Seq>,
    ) -> Result<Self, Error> {
        for seq in leaving {
            letters.remove(seq)?;
        }
        Ok(Self {
            bytes: letters.bytes(),
            letters,
            books,
            has_to_tidy: true,
        })
    }

    pub(super) fn count(&self) -> u64 {
        self.letters.count()
    }

    pub(super) fn ledger(&self) -> LetterLedger {
        self.books.ledger(self.count())
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn has(&self, seq: Seq) -> bool {
        self.letters.seqs(seq.saturating_sub(1), 1) == [seq]
    }

    pub(super) fn letter(&mut self, seq: Seq) -> Result<Option<DeadLetter>, Error> {
        self.letters.letter(seq)
    }

    pub(super) fn letters(&mut self, after: Seq, max: usize) -> Result<Vec<DeadLetter>, Error> {
        self.letters.letters(after, max)
    }

    /// Keeps a letter: it is durable when this returns (I5).
    pub(super) fn put(&mut self, letter: &DeadLetter, dir: &SpoolDir) -> Result<(), Error> {
        let put = dir.with_ballast(|| self.letters.put(letter));
        self.has_changed();
        put
    }

    /// The books with one letter less, and which: what the journal is to say before it leaves.
    pub(super) fn note_of(&self, gone: Gone) -> LetterNote {
        let mut books = self.books;
        match gone {
            Gone::Retried(_) => books.retried += 1,
            Gone::Discarded(_) => books.discarded += 1,
        }
        let gone = Some(gone);
        LetterNote { gone, ..books }
    }

    /// Takes a letter away whose note is durable in the journal. If the disk refuses, it has left all
    /// the same, and [`finish_leaving`](Self::finish_leaving) goes on.
    pub(super) fn leave(&mut self, note: LetterNote, seq: Seq) -> Result<(), Error> {
        self.books = LetterNote { gone: None, ..note };
        let removed = self.letters.remove(seq);
        self.has_changed();
        removed.map(drop)
    }

    /// Whether a letter left that the disk refused to take away.
    pub(super) fn is_leaving(&self) -> bool {
        self.letters.is_leaving()
    }

    /// Takes that letter away.
    pub(super) fn finish_leaving(&mut self) -> Result<(), Error> {
        self.letters.finish_leaving()?;
        self.has_changed();
        Ok(())
    }

    fn has_changed(&mut self) {
        self.bytes = self.letters.bytes();
        self.has_to_tidy = true;
    }

    /// Whether anything has changed since this was asked last.
    pub(super) fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.has_to_tidy)
    }

    /// Gives back what letters that are gone left on the disk. Gives whether there was any.
    pub(super) fn tidy(&mut self) -> Result<bool, Error> {
        let has_tidied = self.letters.tidy()?;
        if has_tidied {
            self.bytes = self.letters.bytes();
        }
        Ok(has_tidied)
    }

    /// As [`Letters::fail_for_test`].
    #[cfg(test)]
    pub(super) fn fail_for_test(&mut self) {
        self.letters.fail_for_test();
    }
}
