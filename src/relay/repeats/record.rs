//! One line of what was taken, and the head of the file that it stands in.

use uuid::Uuid;

use super::mark::{FINGERPRINT_BYTES, Fingerprint, Mark, NAME_BYTES, Name};
use crate::id::EventId;

/// What a file begins with.
const MAGIC: &[u8; 16] = b"everpost repeats";

/// The version that is written, and the newest that is read.
pub(super) const VERSION: u32 = 1;

/// Bytes of the head of a file: the magic, the version and a checksum.
pub(super) const HEAD_BYTES: usize = 24;

/// Bytes of a record: what it is of, the id, the time and a checksum.
pub(super) const RECORD_BYTES: usize = 52;

/// Where the checksum of a head is.
const HEAD_SUM: usize = HEAD_BYTES - 4;

/// Where the checksum of a record is.
const SUM: usize = RECORD_BYTES - 4;

/// Something that was taken: what it is known by, and what was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) mark: Mark,
    pub(super) id: EventId,
    /// When it was taken, in milliseconds since 1970.
    pub(super) time_ms: u64,
}

/// What the head of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    Good,
    /// Whole, and of this version that is not known here.
    Future(u32),
    Damaged,
}

impl Record {
    pub(super) fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let parts: [&[u8]; 4] = [
            &self.mark.name.0,
            &self.mark.fingerprint.0,
            self.id.as_uuid().as_bytes(),
            &self.time_ms.to_le_bytes(),
        ];
        write(&mut bytes, &parts);
        bytes
    }

    /// The record in these bytes, unless they are none that was written whole.
    pub(super) fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let (bytes, sum) = bytes.split_at(SUM);
        if sum != crc32c::crc32c(bytes).to_le_bytes() {
            return None;
        }
        let (name, bytes) = bytes.split_first_chunk::<NAME_BYTES>()?;
        let (fingerprint, bytes) = bytes.split_first_chunk::<FINGERPRINT_BYTES>()?;
        let (id, bytes) = bytes.split_first_chunk::<16>()?;
        Some(Self {
            mark: Mark {
                name: Name(*name),
                fingerprint: Fingerprint(*fingerprint),
            },
            id: EventId::from_uuid(Uuid::from_bytes(*id)),
            time_ms: u64::from_le_bytes(bytes.try_into().ok()?),
        })
    }
}

impl Head {
    pub(super) fn encode(version: u32) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        write(&mut bytes, &[MAGIC, &version.to_le_bytes()]);
        bytes
    }

    pub(super) fn decode(bytes: &[u8; HEAD_BYTES]) -> Self {
        let (said, sum) = bytes.split_at(HEAD_SUM);
        let (magic, version) = said.split_at(MAGIC.len());
        let version = version.try_into().map_or(0, u32::from_le_bytes);
        if magic != MAGIC || sum != crc32c::crc32c(said).to_le_bytes() {
            return Self::Damaged;
        }
        match version {
            0 => Self::Damaged,
            VERSION => Self::Good,
            version => Self::Future(version),
        }
    }
}

/// Writes the parts one after the other, and at the end the checksum of what is before it.
fn write<const N: usize>(bytes: &mut [u8; N], parts: &[&[u8]]) {
    let (said, sum) = bytes.split_at_mut(N - 4);
    for (to, from) in said.iter_mut().zip(parts.iter().copied().flatten()) {
        *to = *from;
    }
    sum.copy_from_slice(&crc32c::crc32c(said).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let request = super::super::mark::Key::parse("k", None).unwrap();
        Record {
            mark: request.of_request("universal", b"{}").mark(),
            id: EventId::from_uuid(Uuid::from_u128(7)),
            time_ms: 1_764_000_000_000,
        }
    }

    #[test]
    fn a_record_with_any_bit_changed_is_none_and_neither_is_a_place_that_was_never_written() {
        let bytes = record().encode();
        assert_eq!(Record::decode(&bytes), Some(record()));
        for n in 0..RECORD_BYTES * 8 {
            let mut bytes = bytes;
            bytes[n / 8] ^= 1 << (n % 8);
            assert_eq!(Record::decode(&bytes), None, "bit {n}");
        }
        assert_eq!(Record::decode(&[0; RECORD_BYTES]), None);
    }

    #[test]
    fn a_head_with_any_bit_changed_is_no_future_version() {
        assert_eq!(Head::decode(&Head::encode(VERSION)), Head::Good);
        assert_eq!(Head::decode(&Head::encode(2)), Head::Future(2));
        for n in 0..HEAD_BYTES * 8 {
            let mut bytes = Head::encode(VERSION);
            bytes[n / 8] ^= 1 << (n % 8);
            assert_eq!(Head::decode(&bytes), Head::Damaged, "bit {n}");
        }
    }
}
