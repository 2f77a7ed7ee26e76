//! The record of a partition: whose it is, and how far it is delivered.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::id::Seq;
use crate::ledger::{Ledger, Settled};
use crate::log::Memo;

/// The newest version this build reads, and the one it writes.
const VERSION: u32 = 1;
/// A record is far smaller; what is larger was not written by a worker.
const BYTES_MAX: usize = 256 << 10;

/// The record of a partition, as JSON at its subject in the stream of cursors. It is replaced as a
/// whole, and only by a write that names the one it replaces.
///
/// The accounts are those of a [`Ledger`], and their sum is the number of the last event that left, in
/// the partition's own numbers from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    /// The worker that has it; empty if none has.
    pub(super) owner: String,
    /// Counts the workers that had it.
    pub(super) epoch: u64,
    /// The place in the stream of the last event that left.
    pub(super) seq: u64,
    pub(super) delivered: u64,
    pub(super) dead: u64,
    pub(super) expired: u64,
    pub(super) lost: u64,
    /// What the flusher remembers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) memo: Option<Memo>,
    /// The number of the last event of the batch that is under way or about to be; 0 if none is. Another
    /// worker that takes over sends this batch again as it was, under the same idempotency key.
    #[serde(default, skip_serializing_if = "is_none")]
    pub(super) under_way: Seq,
    /// Since when that worker has it, in milliseconds since 1970.
    #[serde(default)]
    pub(super) since_ms: u64,
    /// When it was written, in milliseconds since 1970: for people alone.
    #[serde(default)]
    pub(super) at_ms: u64,
}

/// What every version has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            version: VERSION,
            owner: String::new(),
            epoch: 0,
            seq: 0,
            delivered: 0,
            dead: 0,
            expired: 0,
            lost: 0,
            memo: None,
            under_way: 0,
            since_ms: 0,
            at_ms: 0,
        }
    }
}

impl Record {
    /// Reads the record of a partition.
    ///
    /// # Errors
    /// [`Error::Fleet`] if it is none, or a newer everpost wrote it.
    pub(super) fn read(partition: u16, bytes: &[u8]) -> Result<Self, Error> {
        let bad = |what: String| Error::Fleet {
            reason: format!("the record of partition {partition} {what}"),
        };
        if bytes.len() > BYTES_MAX {
            return Err(bad("is larger than a record can be".to_owned()));
        }
        let unread = |_| bad("cannot be read; it was not written by a worker".to_owned());
        let Versioned { version } = serde_json::from_slice(bytes).map_err(unread)?;
        if version != VERSION {
            return Err(bad(format!(
                "has version {version} and this everpost knows version {VERSION}: use the everpost that wrote it, \
                 or a newer one"
            )));
        }
        serde_json::from_slice(bytes).map_err(unread)
    }

    /// As it is written.
    pub(super) fn bytes(&self) -> Vec<u8> {
        // A struct of numbers and texts always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The number of the last event that left.
    pub(super) fn settled(&self) -> Seq {
        self.ledger(0).settled()
    }

    /// The books, if the last event of the partition has this number.
    pub(super) fn ledger(&self, last: Seq) -> Ledger {
        Ledger {
            appended: last,
            delivered: self.delivered,
            dead: self.dead,
            expired: self.expired,
            evicted: 0,
            lost: self.lost,
        }
    }

    /// Moves it over the events up to number `through`, the last of which stands at `seq` in the stream.
    /// Says `false`, and changes nothing, if it is there already.
    pub(super) fn settle(&mut self, through: Seq, seq: u64, how: Settled) -> bool {
        let count = through.saturating_sub(self.settled());
        if count == 0 {
            return false;
        }
        let account = match how {
            Settled::Delivered => &mut self.delivered,
            Settled::Dead => &mut self.dead,
            Settled::Expired => &mut self.expired,
            // A stream makes no room by itself: what is gone from it was removed.
            Settled::Evicted | Settled::Lost => &mut self.lost,
        };
        *account = account.saturating_add(count);
        self.seq = self.seq.max(seq);
        if self.under_way <= self.settled() {
            self.under_way = 0;
        }
        true
    }
}

/// No number.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none(seq: &Seq) -> bool {
    *seq == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_a_later_field_is_no_obstacle() {
        let mut record = Record {
            owner: "w".to_owned(),
            memo: Some(Memo::default()),
            under_way: 9,
            ..Record::default()
        };
        assert!(record.settle(5, 70, Settled::Delivered));
        assert!(record.settle(6, 71, Settled::Dead));
        let bytes = record.bytes();
        assert_eq!(Record::read(7, &bytes).unwrap(), record);
        let mut value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        value["later"] = 1.into();
        assert_eq!(
            Record::read(7, value.to_string().as_bytes()).unwrap(),
            record
        );
    }

    #[test]
    fn a_record_of_a_later_version_is_refused_with_what_to_do() {
        for (bytes, said) in [
            (&br#"{"version":2,"x":1}"#[..], "newer one"),
            (&b"{}"[..], "not written by a worker"),
            (&b"\xff"[..], "not written by a worker"),
        ] {
            let error = Record::read(7, bytes).unwrap_err().to_string();
            assert!(
                error.contains("partition 7") && error.contains(said),
                "{error}"
            );
        }
        assert!(Record::read(7, &vec![b' '; BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn what_has_left_is_not_booked_again_and_the_cursor_never_goes_back() {
        let mut record = Record::default();
        assert!(record.settle(3, 30, Settled::Delivered));
        assert!(!record.settle(3, 30, Settled::Delivered));
        assert!(!record.settle(2, 20, Settled::Dead));
        assert!(record.settle(5, 30, Settled::Lost));
        assert_eq!((record.seq, record.settled(), record.lost), (30, 5, 2));
        assert_eq!(record.ledger(9).pending(), 4);
    }

    #[test]
    fn what_was_under_way_is_known_until_it_has_left() {
        let mut record = Record {
            under_way: 5,
            ..Record::default()
        };
        assert!(record.settle(4, 40, Settled::Delivered));
        assert_eq!(record.under_way, 5);
        assert!(record.settle(5, 50, Settled::Dead));
        assert_eq!(record.under_way, 0);
        assert!(
            !String::from_utf8(record.bytes())
                .unwrap()
                .contains("under_way")
        );
    }
}
