//! The pieces a value is stored in, and the reader that needs nothing but the file.
//!
//! sled 0.34.7 keeps values well only up to about 6,000 bytes: larger leaves become blob files
//! that are never synced and never removed (sled 0.34.7 `src/pagecache/logger.rs:168`). So a value
//! is split, and each piece is complete in itself: it says which value it belongs to and carries
//! its own checksum. sled writes the bytes of a value as they are, in one stretch of `db`
//! (`src/serialization.rs`, `IVec`), so a [`Scan`] of the file finds every piece without sled.
//! That matters because sled refuses, panics on, or silently cuts off a damaged file, and because
//! opening one writes to it.
//!
//! # Layout of a piece, at most 6,000 bytes, or 750 in a small store
//!
//! ```text
//! offset bytes
//!      0     4  magic: F5 65 70 01, or F5 65 70 02 in a small store
//!      4     1  space: what kind of value it is
//!      5     8  number of the value within its space, big-endian
//!     13     2  index of the piece within the value, from 0, big-endian
//!     15     4  length of the whole value, little-endian
//!     19     4  CRC32C of the whole value, little-endian
//!     23     4  CRC32C of bytes 0 to 22 and of the body, little-endian
//!     27        body: the next 5,973 bytes of the value, or 723 in a small store, or what is left
//! ```
//!
//! An empty value has one piece with an empty body. The key in sled is bytes 4 to 14, so keys
//! sort by space, number and index.

mod scan;

use super::codec::array;
use crate::settings::SMALL_SEGMENT_BYTES;

pub(crate) use scan::{Scan, Scanning};

const HEADER_BYTES: usize = 27;
const MAGIC: [u8; 3] = [0xF5, b'e', b'p'];

/// How a store is divided. Both layouts have the same proportions, an eighth of each other, and so
/// keep the same distance from what sled cannot do; a store keeps its layout for life, since sled
/// opens a file only with the log segment it was made with (sled 0.34.7 `src/config.rs:627`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layout {
    /// For spools that must be small.
    Small,
    /// The usual one.
    Large,
}

impl Layout {
    /// The layout that suits segments of so many bytes.
    pub(crate) fn of_segments(segment_bytes: u64) -> Self {
        if segment_bytes < SMALL_SEGMENT_BYTES {
            Self::Small
        } else {
            Self::Large
        }
    }

    /// Bytes of one segment of sled's log. sled allocates its file in these, and fills the last
    /// one up when it opens the file.
    pub(crate) const fn log_segment_bytes(self) -> usize {
        match self {
            Self::Small => 64 << 10,
            Self::Large => 512 << 10,
        }
    }

    /// Bytes of a piece at the most. A leaf of 17 pieces, or of 19 for a moment when leaves are
    /// merged, has to stay below a quarter of a log segment.
    pub(crate) const fn piece_bytes(self) -> usize {
        match self {
            Self::Small => 750,
            Self::Large => 6000,
        }
    }

    const fn body_bytes(self) -> usize {
        self.piece_bytes() - HEADER_BYTES
    }

    /// Bytes of pieces that may wait for a sync, if each is written once; a quarter of it if sled
    /// writes them again and again. So few that what sled writes stays within one log segment.
    pub(crate) const fn unsynced_bytes(self) -> u64 {
        self.log_segment_bytes() as u64 / 4
    }

    /// Bytes of a value at the most: the index of a piece has 16 bits.
    pub(crate) const fn value_bytes_max(self) -> u64 {
        self.body_bytes() as u64 * (u16::MAX as u64 + 1)
    }

    const fn version(self) -> u8 {
        match self {
            Self::Large => 1,
            Self::Small => 2,
        }
    }

    fn of_version(version: u8) -> Option<Self> {
        [Self::Small, Self::Large]
            .into_iter()
            .find(|layout| layout.version() == version)
    }

    /// How many pieces a value of so many bytes has.
    pub(crate) fn pieces(self, whole: Whole) -> usize {
        (whole.len as usize).div_ceil(self.body_bytes()).max(1)
    }

    fn body_of(self, whole: Whole, index: u16) -> Option<usize> {
        let before = usize::from(index) * self.body_bytes();
        (usize::from(index) < self.pieces(whole)).then(|| {
            (whole.len as usize)
                .saturating_sub(before)
                .min(self.body_bytes())
        })
    }
}

/// The name of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// What kind of value it is.
    pub(crate) space: u8,
    /// Which one.
    pub(crate) number: u64,
}

impl Key {
    pub(crate) const fn new(space: u8, number: u64) -> Self {
        Self { space, number }
    }

    /// The key in sled of one piece.
    pub(crate) fn piece(self, index: u16) -> [u8; 11] {
        let mut key = [0; 11];
        key[0] = self.space;
        key[1..9].copy_from_slice(&self.number.to_be_bytes());
        key[9..].copy_from_slice(&index.to_be_bytes());
        key
    }

    /// The value and the index that a key in sled stands for.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Self, u16)> {
        let number = u64::from_be_bytes(array(bytes.get(1..9)?)?);
        let index = u16::from_be_bytes(array(bytes.get(9..)?)?);
        Some((Self::new(*bytes.first()?, number), index))
    }
}

/// One piece, checked against its own checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) layout: Layout,
    pub(crate) key: Key,
    pub(crate) index: u16,
    /// Length and CRC32C of the whole value.
    pub(crate) whole: Whole,
    pub(crate) body: &'a [u8],
}

/// What every piece knows of the whole value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Whole {
    len: u32,
    crc: u32,
}

impl Whole {
    /// What the pieces of `value` say of it.
    pub(crate) fn of(value: &[u8]) -> Self {
        Self {
            len: u32::try_from(value.len()).unwrap_or(u32::MAX),
            crc: crc32c::crc32c(value),
        }
    }

    /// Bytes of the whole value.
    pub(crate) fn bytes(self) -> u64 {
        self.len.into()
    }

    /// Length and CRC32C, little-endian: a name for the content.
    pub(crate) fn to_bytes(self) -> [u8; 8] {
        (u64::from(self.crc) << 32 | u64::from(self.len)).to_le_bytes()
    }

    /// Whether `value` is the whole value.
    pub(crate) fn fits(self, value: &[u8]) -> bool {
        Self::of(value) == self
    }
}

impl<'a> Piece<'a> {
    /// The piece that `bytes` begins with, if one does and its checksum holds.
    fn parse_front(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.get(..HEADER_BYTES)?;
        let layout = Layout::of_version(*header.strip_prefix(&MAGIC)?.first()?)?;
        let (key, index) = Key::parse(header.get(4..15)?)?;
        let whole = Whole {
            len: u32::from_le_bytes(array(header.get(15..19)?)?),
            crc: u32::from_le_bytes(array(header.get(19..23)?)?),
        };
        let crc = u32::from_le_bytes(array(header.get(23..)?)?);
        let body = bytes
            .get(HEADER_BYTES..)?
            .get(..layout.body_of(whole, index)?)?;
        let seen = crc32c::crc32c_append(crc32c::crc32c(header.get(..23)?), body);
        (seen == crc).then_some(Self {
            layout,
            key,
            index,
            whole,
            body,
        })
    }

    /// The piece that fills `bytes`.
    #[cfg(test)]
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        Self::parse_front(bytes).filter(|piece| piece.bytes() == bytes.len())
    }

    fn bytes(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }
}

/// Splits a value of at most [`Layout::value_bytes_max`] into its pieces, each with its key in
/// sled.
pub(crate) fn split(
    layout: Layout,
    key: Key,
    value: &[u8],
) -> impl Iterator<Item = ([u8; 11], Vec<u8>)> + '_ {
    let whole = Whole::of(value);
    (0..=u16::MAX)
        .take(layout.pieces(whole))
        .zip(
            value
                .chunks(layout.body_bytes())
                .chain(value.is_empty().then_some(&[][..])),
        )
        .map(move |(index, body)| {
            let name = key.piece(index);
            let mut piece = Vec::with_capacity(HEADER_BYTES + body.len());
            piece.extend_from_slice(&MAGIC);
            piece.push(layout.version());
            piece.extend_from_slice(&name);
            piece.extend_from_slice(&whole.len.to_le_bytes());
            piece.extend_from_slice(&whole.crc.to_le_bytes());
            let crc = crc32c::crc32c_append(crc32c::crc32c(&piece), body);
            piece.extend_from_slice(&crc.to_le_bytes());
            piece.extend_from_slice(body);
            (name, piece)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: Layout = Layout::Large;

    fn value(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 % 251) as u8).collect()
    }

    #[test]
    fn the_layout_of_a_piece_is_fixed_to_the_byte() {
        let (name, piece) = split(LARGE, Key::new(b'c', 258), b"abc").next().unwrap();
        assert_eq!(name, [b'c', 0, 0, 0, 0, 0, 0, 1, 2, 0, 0]);
        let golden = [
            0xF5, 0x65, 0x70, 1, 0x63, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 3, 0, 0, 0, 0xB7, 0x3F, 0x4B,
            0x36,
        ];
        assert_eq!(piece[..23], golden);
        assert_eq!(piece[27..], *b"abc");
        assert_eq!(Piece::parse(&piece).unwrap().body, b"abc");
    }

    #[test]
    fn no_altered_piece_is_believed() {
        let (_, piece) = split(LARGE, Key::new(1, 2), &value(100)).next().unwrap();
        for bit in 0..piece.len() * 8 {
            let mut bad = piece.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Piece::parse(&bad).is_none(), "bit {bit}");
        }
        for cut in 0..piece.len() {
            assert!(Piece::parse(&piece[..cut]).is_none(), "cut at {cut}");
        }
    }
}
