//! The bytes frames are looked for in: all in memory, or a file that is read piece by piece.

use std::io;

use bytes::Bytes;

use super::Kind;
use crate::log::disk::DiskFile;

/// Bytes of a file in memory at once, if no frame is longer.
const WINDOW_BYTES: usize = 256 << 10;

/// Bytes of a run that say which events it holds.
const RUN_HEAD_BYTES: usize = 12;

/// Where frames may be.
pub(crate) trait Source {
    /// How many bytes there are.
    fn len(&self) -> usize;

    /// Some of the bytes; `None` if there are not so many.
    fn get(&mut self, at: usize, len: usize) -> io::Result<Option<&[u8]>>;

    /// As much of the body of a frame as is to be kept. The whole of it was just asked for.
    fn body(&mut self, kind: Kind, at: usize, len: usize) -> io::Result<Bytes>;
}

/// What is in memory stays where it is.
impl Source for Bytes {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn get(&mut self, at: usize, len: usize) -> io::Result<Option<&[u8]>> {
        Ok(<[u8]>::get(self, at..at.saturating_add(len)))
    }

    fn body(&mut self, _: Kind, at: usize, len: usize) -> io::Result<Bytes> {
        Ok(self.slice(at..at + len))
    }
}

/// A file, of which a part is in memory: a journal is several times as long as what of it is
/// wanted in the end.
pub(crate) struct Window<'a> {
    file: &'a dyn DiskFile,
    len: usize,
    /// Whether runs of events are kept whole, and not only their heads.
    whole: bool,
    buffer: Vec<u8>,
    /// Where the buffer begins in the file, and how much of it is filled.
    start: usize,
    filled: usize,
}

impl<'a> Window<'a> {
    /// Reads a file of so many bytes, and keeps only the heads of runs.
    pub(crate) fn new(file: &'a dyn DiskFile, len: u64) -> Self {
        Self {
            file,
            len: usize::try_from(len).unwrap_or(usize::MAX),
            whole: false,
            buffer: Vec::new(),
            start: 0,
            filled: 0,
        }
    }

    /// Keeps runs whole.
    pub(crate) fn whole(self) -> Self {
        Self {
            whole: true,
            ..self
        }
    }

    /// Moves on to `at`, and reads at least up to `end`.
    fn move_to(&mut self, at: usize, end: usize) -> io::Result<()> {
        let held = self.start..self.start + self.filled;
        if held.contains(&at) {
            self.buffer.copy_within(at - self.start..self.filled, 0);
            self.filled = held.end - at;
        } else {
            self.filled = 0;
        }
        self.start = at;
        let until = end.max(at.saturating_add(WINDOW_BYTES)).min(self.len);
        if self.buffer.len() < until - at {
            self.buffer.resize(until - at, 0);
        }
        if let Some(rest) = self.buffer.get_mut(self.filled..until - at) {
            let from = (at + self.filled) as u64;
            // Should this fail, what is there is not believed.
            let filled = std::mem::take(&mut self.filled);
            self.file.read_at(rest, from)?;
            self.filled = filled + rest.len();
        }
        Ok(())
    }
}

impl Source for Window<'_> {
    fn len(&self) -> usize {
        self.len
    }

    fn get(&mut self, at: usize, len: usize) -> io::Result<Option<&[u8]>> {
        let Some(end) = at.checked_add(len).filter(|end| *end <= self.len) else {
            return Ok(None);
        };
        if at < self.start || end > self.start + self.filled {
            self.move_to(at, end)?;
        }
        Ok(self.buffer.get(at - self.start..end - self.start))
    }

    fn body(&mut self, kind: Kind, at: usize, len: usize) -> io::Result<Bytes> {
        let kept = match kind {
            kind if kind.has_events() && !self.whole => len.min(RUN_HEAD_BYTES),
            _ => len,
        };
        let body = self.get(at, kept)?;
        Ok(Bytes::copy_from_slice(body.unwrap_or_default()))
    }
}
