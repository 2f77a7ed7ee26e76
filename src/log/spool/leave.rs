//! Dead letters leave: to the end of the queue, or for ever.
//!
//! First a note goes to the journal, durably, with the books, then the letter is taken away. Should
//! this be cut off in between, the next opening finds the note and removes the letter.

use super::SpoolLog;
use crate::error::Error;
use crate::event::Receipt;
use crate::id::Seq;
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
        let note = self.letters.note_of(Gone::Retried(seq));
        self.staged.note = Some(note);
        self.commit(true)?;
        self.leave(note, seq);
        Ok(Receipt::new(first, id))
    }

    pub(super) fn discard_letter(&mut self, seq: Seq) -> Result<(), Error> {
        self.check_owner()?;
        self.finish_leaving()?;
        if !self.letters.has(seq) {
            return Err(Error::NoSuchLetter { seq });
        }
        self.make_journal_room(LETTERS_BYTES)?;
        let note = self.letters.note_of(Gone::Discarded(seq));
        self.journal.push_letters(note);
        self.sync_journal()?;
        self.leave(note, seq);
        Ok(())
    }

    /// Removes a letter that has left: the note of that is durable in the journal, with the event if it
    /// was appended again, and the spool is ours (I14). So this is done even if the disk refuses to
    /// take the letter away: each file of the journal begins with the note until this process or the
    /// next opening has removed it.
    fn leave(&mut self, note: LetterNote, seq: Seq) {
        self.journal.note_letters(note);
        match self.letters.leave(note, seq) {
            Ok(()) => self.journal.letter_has_left(),
            Err(error) => drop(self.news.note::<()>(Err(error))),
        }
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
        }
        self.news.note(finished)
    }
}
