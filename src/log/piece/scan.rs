//! The reader that needs nothing but the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::{Key, Layout, MAGIC, Piece, Whole};
use crate::log::disk::open_to_look;
use crate::log::sum::{self, Sum};

/// Bytes of a value that a scan remembers, enough for the header of a chunk.
const HEAD_BYTES: usize = 32;

/// Bytes looked through at a time: few enough to stay in a processor's cache.
const BLOCK_BYTES: usize = 128 << 10;
const PIECE_BYTES: usize = Layout::Large.piece_bytes();

/// Pieces that begin no farther from each other are read together: sled puts little between them.
const ROW_BYTES: u64 = 2 * PIECE_BYTES as u64;

/// Where the pieces of every value lie in a `db` file, found without sled and without writing.
///
/// sled moves pieces while it writes: a piece that has moved away is found missing, never
/// mistaken, and is found again where it is now by [`look_on`](Scan::look_on), or by a new scan.
#[derive(Debug)]
pub(crate) struct Scan {
    file: File,
    values: BTreeMap<(Key, Whole), Found>,
    layout: Option<Layout>,
    damaged: u64,
    altered: bool,
    /// Where the last piece ends.
    tip: u64,
}

#[derive(Debug, Default)]
struct Found {
    /// Where each piece begins that is there. There is no place for one that is not: a piece may
    /// claim to be one of 65,536.
    offsets: BTreeMap<u16, u64>,
    /// How many there are to be.
    pieces: usize,
    head: Vec<u8>,
}

impl Found {
    fn is_complete(&self) -> bool {
        self.offsets.len() == self.pieces
    }
}

impl Scan {
    /// Reads the whole file once.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        Scanning::begin(path)?.finish()
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
        self.tip = self.tip.max(offset + piece.bytes() as u64);
        let found = self.values.entry((piece.key, piece.whole)).or_default();
        found.pieces = piece.layout.pieces(piece.whole);
        found.offsets.insert(piece.index, offset);
        if piece.index == 0 {
            found.head = piece.body.iter().take(HEAD_BYTES).copied().collect();
        }
    }

    /// Places that begin like a piece and are not one: signs of damage, or of a write that was
    /// cut off.
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Whether the file is not what it was when it was closed, as the sum beside it says.
    pub(crate) fn is_altered(&self) -> bool {
        self.altered
    }

    /// Looks for what was written to the file since.
    pub(crate) fn look_on(&mut self) -> io::Result<()> {
        let log_segment = self.layout.unwrap_or(Layout::Small).log_segment_bytes() as u64;
        let start = self.tip / log_segment * log_segment;
        let mut window = Vec::with_capacity(BLOCK_BYTES + PIECE_BYTES);
        let damaged = self.damaged;
        let mut at = start;
        loop {
            let had = window.len();
            (&self.file).seek(SeekFrom::Start(at + had as u64))?;
            (&self.file)
                .take((BLOCK_BYTES + PIECE_BYTES - had) as u64)
                .read_to_end(&mut window)?;
            let is_at_end = window.len() < BLOCK_BYTES + PIECE_BYTES;
            let limit = if is_at_end { window.len() } else { BLOCK_BYTES };
            let used = self.look(&window, limit, at);
            at += used as u64;
            window.drain(..used);
            if is_at_end {
                // What is being written now is no damage.
                self.damaged = damaged;
                return Ok(());
            }
        }
    }

    /// The values of a space that are complete, in order, with their first 32 bytes.
    pub(crate) fn values(&self, space: u8) -> impl Iterator<Item = (u64, Whole, &[u8])> {
        self.values
            .iter()
            .filter(move |((key, _), found)| key.space == space && found.is_complete())
            .map(|((key, whole), found)| (key.number, *whole, &found.head[..]))
    }

    /// Bytes of all complete values, each with so many more.
    pub(crate) fn weight(&self, overhead: u64) -> u64 {
        let complete = self.values.iter().filter(|(_, found)| found.is_complete());
        complete
            .map(|((_, whole), _)| whole.bytes() + overhead)
            .sum()
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
        let mut bytes = Vec::new();
        let offsets: Vec<u64> = found.offsets.values().copied().collect();
        for row in offsets.chunk_by(|one, next| (*one..one + ROW_BYTES).contains(next)) {
            let (Some(first), Some(last)) = (row.first(), row.last()) else {
                continue;
            };
            let span = last - first + PIECE_BYTES as u64;
            bytes.clear();
            bytes.reserve(usize::try_from(span).unwrap_or(0));
            (&self.file).seek(SeekFrom::Start(*first))?;
            (&self.file).take(span).read_to_end(&mut bytes)?;
            for offset in row {
                let at = usize::try_from(offset - first).unwrap_or(usize::MAX);
                let piece = Piece::parse_front(bytes.get(at..).unwrap_or_default());
                // The file may have changed since it was scanned.
                let piece = piece.filter(|p| (p.key, p.whole) == (key, whole));
                value.extend_from_slice(piece.map_or(&[], |p| p.body));
            }
        }
        Ok(whole.fits(&value).then_some(value))
    }
}

/// A scan that is under way.
#[derive(Debug)]
pub(crate) struct Scanning {
    scan: Scan,
    window: Vec<u8>,
    start: u64,
    is_at_end: bool,
    /// What the sum beside the file says, and what it is so far.
    sums: (Option<Sum>, Sum),
}

impl Scanning {
    pub(crate) fn begin(path: &Path) -> io::Result<Self> {
        // The sum first: it is written once the file is not written any more.
        let sum = sum::read(path);
        Ok(Self {
            scan: Scan {
                file: open_to_look(path)?,
                values: BTreeMap::new(),
                layout: None,
                damaged: 0,
                altered: false,
                tip: 0,
            },
            window: Vec::with_capacity(BLOCK_BYTES + PIECE_BYTES),
            start: 0,
            is_at_end: false,
            sums: (sum, Sum::default()),
        })
    }

    /// Looks through the next part of the file. False once there is no more.
    pub(crate) fn step(&mut self) -> io::Result<bool> {
        if self.is_at_end {
            return Ok(false);
        }
        let had = self.window.len();
        (&self.scan.file)
            .take((BLOCK_BYTES + PIECE_BYTES - had) as u64)
            .read_to_end(&mut self.window)?;
        self.sums.1.add(self.window.get(had..).unwrap_or_default());
        self.is_at_end = self.window.len() < BLOCK_BYTES + PIECE_BYTES;
        // A piece that begins in the last bytes may be cut: it is left for the next window.
        let limit = if self.is_at_end {
            self.window.len()
        } else {
            BLOCK_BYTES
        };
        let used = self.scan.look(&self.window, limit, self.start);
        self.start += used as u64;
        self.window.drain(..used);
        Ok(!self.is_at_end)
    }

    /// Looks through all that is left.
    pub(crate) fn finish(mut self) -> io::Result<Scan> {
        while self.step()? {}
        let (said, is) = self.sums;
        self.scan.altered = said.is_some_and(|said| said != is);
        Ok(self.scan)
    }
}

#[cfg(test)]
mod tests {
    use super::super::split;
    use super::*;

    const LARGE: Layout = Layout::Large;

    fn value(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 % 251) as u8).collect()
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

    /// Each piece of 750 bytes could make the scan take 90 MiB for the pieces it claimed there are.
    #[test]
    fn a_piece_that_claims_the_longest_value_costs_no_more_than_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let (_, mut piece) = split(Layout::Small, Key::new(1, 1), &value(723))
            .next()
            .unwrap();
        piece[15..19].fill(0xFF);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&piece[..23]), &piece[27..]);
        piece[23..27].copy_from_slice(&crc.to_le_bytes());
        std::fs::write(&path, &piece).unwrap();
        let scan = Scan::of(&path).unwrap();
        assert_eq!((scan.last(1), scan.damaged()), (Some(1), 0));
        let found = scan.values.values().next().unwrap();
        assert_eq!((found.offsets.len(), found.is_complete()), (1, false));
        assert_eq!(scan.values(1).count(), 0);
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
