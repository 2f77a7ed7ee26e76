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

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::codec::array;
use crate::settings::SMALL_SEGMENT_BYTES;

const HEADER_BYTES: usize = 27;
const MAGIC: [u8; 3] = [0xF5, b'e', b'p'];

/// Bytes of a value that a scan remembers, enough for the header of a chunk.
const HEAD_BYTES: usize = 32;

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

    /// Bytes of pieces that may wait for a sync, if each is written once; a sixth of it if sled
    /// writes them again and again. So few that what sled writes stays within half a log segment.
    pub(crate) const fn unsynced_bytes(self) -> u64 {
        self.log_segment_bytes() as u64 * 3 / 8
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
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
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

/// Where the pieces of every value lie in a `db` file, found without sled and without writing.
///
/// sled moves pieces while it writes, so this is good for a file nobody writes to, and otherwise
/// a last resort: a piece that has moved away is found missing, never mistaken.
#[derive(Debug)]
pub(crate) struct Scan {
    file: File,
    values: BTreeMap<(Key, Whole), Found>,
    layout: Option<Layout>,
    damaged: u64,
}

#[derive(Debug, Default)]
struct Found {
    /// Where each piece begins.
    offsets: Vec<Option<u64>>,
    head: Vec<u8>,
}

impl Found {
    fn is_complete(&self) -> bool {
        self.offsets.iter().all(Option::is_some)
    }
}

impl Scan {
    /// Reads the whole file once.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let mut scan = Self {
            file: File::open(path)?,
            values: BTreeMap::new(),
            layout: None,
            damaged: 0,
        };
        let mut window = Vec::with_capacity(BLOCK_BYTES + PIECE_BYTES);
        let mut start = 0;
        let mut at_end = false;
        while !at_end {
            let had = window.len();
            (&scan.file)
                .take((BLOCK_BYTES + PIECE_BYTES - had) as u64)
                .read_to_end(&mut window)?;
            at_end = window.len() < BLOCK_BYTES + PIECE_BYTES;
            // A piece that begins in the last bytes may be cut: it is left for the next window.
            let limit = if at_end { window.len() } else { BLOCK_BYTES };
            let used = scan.look(&window, limit, start);
            start += used as u64;
            window.drain(..used);
        }
        Ok(scan)
    }

    /// Notes the pieces that begin before `limit`; gives how far it came.
    fn look(&mut self, window: &[u8], limit: usize, start: u64) -> usize {
        let mut at = 0;
        while let Some(rest) = window.get(at..limit) {
            let Some(next) = rest.iter().position(|byte| *byte == MAGIC[0]) else {
                return limit;
            };
            at += next;
            let rest = window.get(at..).unwrap_or_default();
            if let Some(piece) = Piece::parse_front(rest) {
                self.note(&piece, start + at as u64);
                at += piece.bytes();
            } else {
                let version = rest.strip_prefix(&MAGIC).and_then(<[u8]>::first);
                let is_ours = version.is_some_and(|version| Layout::of_version(*version).is_some());
                self.damaged += u64::from(is_ours);
                at += 1;
            }
        }
        at
    }

    fn note(&mut self, piece: &Piece<'_>, offset: u64) {
        // A store has one layout: a piece of another one does not belong there.
        if *self.layout.get_or_insert(piece.layout) != piece.layout {
            self.damaged += 1;
            return;
        }
        let found = self.values.entry((piece.key, piece.whole)).or_default();
        found.offsets.resize(piece.layout.pieces(piece.whole), None);
        if let Some(slot) = found.offsets.get_mut(usize::from(piece.index)) {
            *slot = Some(offset);
        }
        if piece.index == 0 {
            found.head = piece.body.iter().take(HEAD_BYTES).copied().collect();
        }
    }

    /// Places that begin like a piece and are not one: signs of damage, or of a write that was
    /// cut off.
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged
    }

    /// The layout of the pieces; `None` if there are none.
    pub(crate) fn layout(&self) -> Option<Layout> {
        self.layout
    }

    /// Whether the file holds nothing that could be a piece.
    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty() && self.damaged == 0
    }

    /// The values of a space that are complete, in order, with their first 32 bytes.
    pub(crate) fn values(&self, space: u8) -> impl Iterator<Item = (u64, Whole, &[u8])> {
        self.values
            .iter()
            .filter(move |((key, _), found)| key.space == space && found.is_complete())
            .map(|((key, whole), found)| (key.number, *whole, &found.head[..]))
    }

    /// The greatest number in a space, complete or not.
    pub(crate) fn last(&self, space: u8) -> Option<u64> {
        let keys = self.values.keys().map(|(key, _)| key);
        keys.filter(|key| key.space == space)
            .map(|key| key.number)
            .next_back()
    }

    /// Reads a value, if all of it is there.
    pub(crate) fn read(&self, key: Key, whole: Whole) -> io::Result<Option<Vec<u8>>> {
        let found = self.values.get(&(key, whole));
        let Some(found) = found.filter(|found| found.is_complete()) else {
            return Ok(None);
        };
        let mut value = Vec::with_capacity(whole.len.min(1 << 20) as usize);
        let mut bytes = Vec::with_capacity(PIECE_BYTES);
        for offset in found.offsets.iter().flatten() {
            bytes.clear();
            (&self.file).seek(SeekFrom::Start(*offset))?;
            (&self.file)
                .take(PIECE_BYTES as u64)
                .read_to_end(&mut bytes)?;
            // The file may have changed since it was scanned.
            let piece = Piece::parse_front(&bytes).filter(|p| (p.key, p.whole) == (key, whole));
            value.extend_from_slice(piece.map_or(&[], |p| p.body));
        }
        Ok(whole.fits(&value).then_some(value))
    }
}

const BLOCK_BYTES: usize = 1 << 20;
const PIECE_BYTES: usize = Layout::Large.piece_bytes();

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

    #[test]
    fn a_scan_finds_every_piece_wherever_the_blocks_of_the_file_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let mut bytes = Vec::new();
        for number in 0..400 {
            bytes.extend(vec![0xF5; (number % 7) as usize]);
            for (_, piece) in split(LARGE, Key::new(1, number), &value(number as usize * 50)) {
                bytes.extend(piece);
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        assert!(bytes.len() > 3 * BLOCK_BYTES);
        let scan = Scan::of(&path).unwrap();
        assert_eq!((scan.damaged(), scan.last(1)), (0, Some(399)));
        assert_eq!(scan.values(1).count(), 400);
        for number in 0..400 {
            let value = value(number as usize * 50);
            let read = scan.read(Key::new(1, number), Whole::of(&value)).unwrap();
            assert_eq!(read, Some(value), "{number}");
        }
        let other = Whole::of(b"other");
        assert_eq!(scan.read(Key::new(1, 1), other).unwrap(), None);
    }

    #[test]
    fn a_value_whose_pieces_moved_away_after_the_scan_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let (key, value) = (Key::new(1, 1), value(20_000));
        let pieces: Vec<_> = split(LARGE, key, &value).map(|(_, piece)| piece).collect();
        std::fs::write(&path, pieces.concat()).unwrap();
        let scan = Scan::of(&path).unwrap();
        // A piece of the same value in the place of another.
        let moved = [&pieces[0], &pieces[2], &pieces[1], &pieces[3]].map(|p| &p[..]);
        std::fs::write(&path, moved.concat()).unwrap();
        assert_eq!(scan.read(key, Whole::of(&value)).unwrap(), None);
    }
}
