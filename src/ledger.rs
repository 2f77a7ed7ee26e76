//! The books: what became of every event that was ever appended.

use serde::{Deserialize, Serialize};

use crate::id::Seq;

/// How an event left the queue. Together with "still pending" these are all the ways there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    /// The sink took it.
    Delivered,
    /// It was refused and set aside as a dead letter.
    Dead,
    /// It outlived `max_age` and was set aside as a dead letter with that reason.
    Expired,
    /// It made room for newer ones under `OnFull::DropOldest`.
    Evicted,
    /// Damage made it unreadable; its range was reported.
    Lost,
}

/// Counts of events by what became of them, over the whole life of the spool.
///
/// Each sequence number ends in exactly one of them, so at every cursor (invariant I7)
/// `appended = delivered + dead + expired + evicted + lost + pending`.
/// They only grow. Retrying a dead letter appends it anew under a new sequence number; discarding
/// one changes nothing here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Events that were ever given a sequence number.
    pub appended: u64,
    /// Events the sink took.
    pub delivered: u64,
    /// Events that were refused and set aside.
    pub dead: u64,
    /// Events that were set aside because of their age.
    pub expired: u64,
    /// Events that made room for newer ones.
    pub evicted: u64,
    /// Events that damage made unreadable.
    pub lost: u64,
}

impl Ledger {
    /// Everything that has left the queue; this is also the cursor.
    #[must_use]
    pub fn settled(&self) -> Seq {
        [
            self.delivered,
            self.dead,
            self.expired,
            self.evicted,
            self.lost,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// Events that still wait.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.appended.saturating_sub(self.settled())
    }

    /// Books `count` more events under `how`.
    pub(crate) fn settle(&mut self, how: Settled, count: u64) {
        let account = match how {
            Settled::Delivered => &mut self.delivered,
            Settled::Dead => &mut self.dead,
            Settled::Expired => &mut self.expired,
            Settled::Evicted => &mut self.evicted,
            Settled::Lost => &mut self.lost,
        };
        *account = account.saturating_add(count);
    }
}

/// Counts of dead letters by what became of them, over the whole life of the spool.
///
/// `buried + returned = held + retried + discarded + lost + earlier`, where `buried` is `dead` and
/// `expired` of the [`Ledger`] together: so a letter that is missing is a difference in numbers.
///
/// As JSON: an object with these field names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LetterLedger {
    /// Letters that are there.
    pub held: u64,
    /// Letters whose event was appended again.
    pub retried: u64,
    /// Letters that were removed for ever.
    pub discarded: u64,
    /// Letters that damage took.
    pub lost: u64,
    /// Letters that had left the spool before it kept these books (format 1).
    pub earlier: u64,
    /// Letters that were there again after they had left: damage took the note of that.
    pub returned: u64,
}

impl LetterLedger {
    /// How many letters these books account for.
    #[must_use]
    pub fn buried(&self) -> u64 {
        [
            self.held,
            self.retried,
            self.discarded,
            self.lost,
            self.earlier,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
        .saturating_sub(self.returned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i7_the_books_balance_after_every_entry() {
        let mut ledger = Ledger {
            appended: 50,
            ..Ledger::default()
        };
        let ways = [
            Settled::Delivered,
            Settled::Dead,
            Settled::Expired,
            Settled::Evicted,
            Settled::Lost,
        ];
        for (round, how) in ways.into_iter().enumerate() {
            ledger.settle(how, 7);
            assert_eq!(ledger.settled(), 7 * (round as u64 + 1));
            assert_eq!(ledger.appended, ledger.settled() + ledger.pending());
        }
    }
}
