//! The dead letters of a fleet, for the people who decide on them.

use std::ops::{Bound, RangeBounds};

use serde_json::{Value, json};

use super::api::Refusal;
use super::connect::fleet;
use super::letter::{self, Letter};
use super::wire::{Put, Wanted, Wire};
use crate::error::Error;
use crate::nats::Names;

/// Letters in a page.
const PAGE: usize = 16;
/// Bytes of one page, beyond the first.
const PAGE_BYTES: u64 = 8 << 20;

/// The dead letters of a fleet: what its receiver refused, what outlived `max_age`, and what is in its
/// stream and is no event. They stay until a person retries or discards them.
///
/// A letter is named by the place of its event in the stream of events, which no other has.
#[derive(Clone)]
pub struct Letters {
    wire: Wire,
    names: Names,
}

/// A letter and where it stands.
struct Found {
    letter: Letter,
    /// In the stream of dead letters.
    at: u64,
}

impl Letters {
    pub(super) fn new(wire: Wire, names: Names) -> Self {
        Self { wire, names }
    }

    /// The letters of these places, `..` for all, in the order in which they were set aside.
    pub fn list(&self, range: impl RangeBounds<u64>) -> LetterPages {
        let first = match range.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let last = match range.end_bound() {
            Bound::Included(last) => Some(*last),
            Bound::Excluded(behind) => behind.checked_sub(1),
            Bound::Unbounded => Some(u64::MAX),
        };
        LetterPages {
            letters: self.clone(),
            first,
            last,
            after: 0,
            page: Vec::new().into_iter(),
        }
    }

    /// How many there are.
    ///
    /// # Errors
    /// [`Error::Fleet`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn count(&self) -> Result<u64, Error> {
        let info = self.wire.info(&self.names.dead_stream()).await?;
        Ok(info.state.messages)
    }

    /// The letter of this place.
    ///
    /// # Errors
    /// [`Error::NoSuchLetter`]; [`Error::Fleet`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn show(&self, seq: u64) -> Result<Letter, Error> {
        self.find(seq).await.map(|found| found.letter)
    }

    /// Publishes the event of a letter again, under the same id and a new place in the same partition,
    /// and removes the letter. It is at no moment in neither place; where this was interrupted, or not
    /// answered, it may be called again: the event is published once for a letter, for as long as what
    /// was published the first time is not removed from the stream.
    ///
    /// # Errors
    /// [`Error::NoSuchLetter`]; [`Error::InvalidEvent`] if the letter is of a message that is no event;
    /// [`Error::Fleet`], with the letter still there or not.
    ///
    /// # Cancel safety
    /// As after an error.
    pub async fn retry(&self, seq: u64) -> Result<(), Error> {
        let found = self.find(seq).await?;
        let Some((headers, payload)) = letter::again(&found.letter) else {
            return Err(Error::InvalidEvent {
                reason: format!(
                    "the message at place {seq} is no event of everpost: it can only be discarded"
                ),
            });
        };
        let subject = self.names.again_subject(found.letter.partition, seq);
        match self
            .wire
            .put(self.names.stream(), subject, 0, headers, payload)
            .await?
        {
            // Or it was, when this was tried before.
            Put::Stored(_) | Put::Guarded => self.remove(&found).await,
        }
    }

    /// Removes a letter and its event for ever.
    ///
    /// # Errors
    /// [`Error::NoSuchLetter`]; [`Error::Fleet`], with the letter still there or not.
    ///
    /// # Cancel safety
    /// As after an error.
    pub async fn discard(&self, seq: u64) -> Result<(), Error> {
        let found = self.find(seq).await?;
        self.remove(&found).await
    }

    /// Only the message of this letter, at its own place: one that is gone is gone.
    async fn remove(&self, found: &Found) -> Result<(), Error> {
        let body = json!({"seq": found.at});
        let stream = self.names.dead_stream();
        match self.wire.api::<Value>("MSG.DELETE", &stream, &body).await? {
            Ok(_) | Err(Refusal::NoMessage) => Ok(()),
            Err(refusal) => match self.find(found.letter.letter.seq).await {
                Err(Error::NoSuchLetter { .. }) => Ok(()),
                _ => Err(refusal.into()),
            },
        }
    }

    async fn find(&self, seq: u64) -> Result<Found, Error> {
        let stream = self.names.dead_stream();
        let mut subject = self.names.dead_subjects();
        subject.truncate(subject.len() - 1);
        let subject = format!("{subject}*.{seq}");
        // The leader knows; another server may not have it yet.
        let body = json!({"seq": 1, "next_by_subj": subject});
        let Some(got) = self.wire.get(&stream, &body).await? else {
            return Err(Error::NoSuchLetter { seq });
        };
        let wanted = Wanted::From {
            seq: got.seq,
            subject: &subject,
            max: 1,
            bytes_max: 1,
        };
        let page = self.wire.fetch(&stream, &wanted).await?;
        let entry = page.entries.first();
        let letter = entry.and_then(|entry| letter::read(&self.names, entry));
        match letter {
            Some(letter) => Ok(Found {
                letter,
                at: got.seq,
            }),
            None => Err(fleet(format!(
                "the letter of place {seq} cannot be read at present"
            ))),
        }
    }

    /// The letters that stand behind this place of the stream of dead letters, with the last place that
    /// was looked at; `None` at the end.
    async fn page(&self, after: u64) -> Result<Option<(Vec<Letter>, u64)>, Error> {
        let wanted = Wanted::From {
            seq: after.saturating_add(1),
            subject: &self.names.dead_subjects(),
            max: PAGE,
            bytes_max: PAGE_BYTES,
        };
        let page = self.wire.fetch(&self.names.dead_stream(), &wanted).await?;
        let Some(last) = page.entries.last() else {
            return Ok(None);
        };
        let letters = page
            .entries
            .iter()
            .filter_map(|entry| letter::read(&self.names, entry));
        Ok(Some((letters.collect(), last.seq)))
    }
}

/// Dead letters of a fleet, read as they are asked for, a page at a time.
#[must_use]
pub struct LetterPages {
    letters: Letters,
    first: u64,
    /// `None` if the range is empty.
    last: Option<u64>,
    after: u64,
    page: std::vec::IntoIter<Letter>,
}

impl LetterPages {
    /// The next letter; `None` at the end. Asked again at the end, it looks for what came since.
    ///
    /// # Errors
    /// [`Error::Fleet`]. Asked again, it goes on from there.
    ///
    /// # Cancel safety
    /// Reads only, and skips nothing.
    pub async fn next(&mut self) -> Result<Option<Letter>, Error> {
        let Some(last) = self.last else {
            return Ok(None);
        };
        loop {
            let range = self.first..=last;
            if let Some(letter) = self.page.find(|letter| range.contains(&letter.letter.seq)) {
                return Ok(Some(letter));
            }
            let Some((page, after)) = self.letters.page(self.after).await? else {
                return Ok(None);
            };
            self.after = after;
            self.page = page.into_iter();
        }
    }
}
