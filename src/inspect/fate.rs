//! What became of an event, as the files say it.

use super::Look;
use crate::error::Error;
use crate::fate::Fate;
use crate::id::{EventId, Seq};

/// Events, or dead letters, read at a time.
const PAGE: usize = 64;

impl Look {
    /// What became of the event with this number. As
    /// [`Queue::fate`](crate::Queue::fate) of the next owner, which does not know how requests were
    /// called.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::FutureFormat`].
    pub fn fate(&mut self, seq: Seq) -> Result<Fate, Error> {
        let (cursor, last_seq) = (self.ledger.settled(), self.ledger.appended);
        let fate = self.fates.fate(seq, cursor, last_seq);
        if !fate.may_have_letter() {
            return Ok(fate);
        }
        match self.letter(seq) {
            Ok(letter) => Ok(Fate::of_letter(letter)),
            Err(Error::NoSuchLetter { .. } | Error::Damaged { .. }) => Ok(fate),
            Err(error) => Err(error),
        }
    }

    /// The number and the fate of the event with this id, if it waits or is a dead letter. As
    /// [`Queue::fate_of_id`](crate::Queue::fate_of_id), it reads what waits.
    ///
    /// # Errors
    /// As [`peek`](Self::peek) and [`letters`](Self::letters).
    pub fn fate_of_id(&mut self, id: EventId) -> Result<Option<(Seq, Fate)>, Error> {
        let mut after = 0;
        loop {
            let page = self.peek(after, PAGE)?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            if let Some(found) = page.iter().find(|stored| stored.event.id() == id) {
                return Ok(Some((found.seq, self.fate(found.seq)?)));
            }
        }
        after = 0;
        loop {
            let page = self.letters(after, PAGE)?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            if let Some(found) = page.into_iter().find(|letter| letter.event.id() == id) {
                return Ok(Some((found.seq, Fate::of_letter(found))));
            }
        }
        Ok(None)
    }
}
