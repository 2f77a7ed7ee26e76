//! Dead letters leave: to the end of the queue, or for ever.

use super::SpoolLog;
use crate::error::Error;
use crate::event::Receipt;
use crate::id::Seq;
use crate::ledger::LetterLedger;
use crate::log::Log as _;
use crate::log::frame::{Gone, LetterNote};
use crate::log::journal::LETTERS_BYTES;

impl SpoolLog {
    pub(super) fn retry_letter(&mut self, seq: Seq) -> Result<Receipt, Error> {
        self.check_owner()?;
        self.finish_leaving()?;
        let letter = self.letter(seq)?.ok_or(Error::NoSuchLetter { seq })?;
        let id = letter.event.id();
        let first = self.stage(std::slice::from_ref(&letter.event.sent_again()))?;
        let note = self.note_gone(Gone::Retried(seq));
        self.staged.note = Some(note);
        self.commit(true)?;
        self.leave(note, seq);
        Ok(Receipt::new(first, id))
    }

    pub(super) fn discard_letter(&mut self, seq: Seq) -> Result<(), Error> {
        self.check_owner()?;
        self.finish_leaving()?;
        if self.letters.seqs(seq - 1, 1) != [seq] {
            return Err(Error::NoSuchLetter { seq });
        }
        self.make_journal_room(LETTERS_BYTES)?;
        let note = self.note_gone(Gone::Discarded(seq));
        self.journal.push_letters(note);
        self.journal.write()?;
        self.journal.sync()?;
        self.note_synced();
        self.leave(note, seq);
        Ok(())
    }

    /// Takes a letter away: first a note in the journal, durably, with the books, then the letter.
    /// Should this be cut off in between, the next opening finds the note and removes the letter.
    fn note_gone(&mut self, gone: Gone) -> LetterNote {
        let mut books = self.letter_books;
        match gone {
            Gone::Retried(_) => books.retried += 1,
            Gone::Discarded(_) => books.discarded += 1,
        }
        let gone = Some(gone);
        LetterNote { gone, ..books }
    }

    /// Removes a letter that has left: the note of that is durable in the journal, with the event if it
    /// was appended again, and the spool is ours (I14). So this is done even if the disk refuses to
    /// take the letter away: each file of the journal begins with the note until this process or the
    /// next opening has removed it.
    fn leave(&mut self, note: LetterNote, seq: Seq) {
        self.letter_books = LetterNote { gone: None, ..note };
        self.journal.note_letters(note);
        match self.letters.remove(seq) {
            Ok(_) => self.journal.letter_has_left(),
            Err(error) => drop(self.note_fault::<()>(Err(error))),
        }
        self.letters_changed();
    }

    /// Removes the letter that the disk refused to take away before. No other leaves until then.
    pub(super) fn finish_leaving(&mut self) -> Result<(), Error> {
        if !self.letters.is_leaving() {
            return Ok(());
        }
        self.dir.guard().check()?;
        let finished = self.letters.finish_leaving();
        if finished.is_ok() {
            self.journal.letter_has_left();
            self.letters_changed();
        }
        self.note_fault(finished)
    }
}

/// The books of dead letters with those that are held.
pub(crate) fn ledger_of(books: LetterNote, held: u64) -> LetterLedger {
    LetterLedger {
        held,
        retried: books.retried,
        discarded: books.discarded,
        lost: books.lost,
        earlier: books.earlier,
        returned: books.returned,
    }
}
