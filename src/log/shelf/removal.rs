//! Settled segments and their space.
//!
//! The system takes a millisecond for each mebibyte of a file that it lets go of. A read
//! would wait for that, so a segment loses its name at once and its space a little at a time.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use super::{Shelf, quarantine};
use crate::error::Error;
use crate::id::Seq;
use crate::log::disk::sync_names;
use crate::log::segment::Segment;
use crate::log::store::dir_bytes;

/// Bytes of a file that are let go of at a time.
const STEP_BYTES: u64 = 256 << 10;

/// The settled segments that are to be deleted, and what is left of them.
#[derive(Debug)]
pub(crate) struct Removal {
    cursor: Seq,
    /// How many were deleted, once they are.
    removed: Option<usize>,
    /// Their files, which have no name any more.
    leaving: Vec<File>,
}

impl Removal {
    /// Of the segments that lie wholly at or before `cursor`, which the caller has made durable
    /// (I4).
    pub(crate) fn new(cursor: Seq) -> Self {
        Self {
            cursor,
            removed: None,
            leaving: Vec::new(),
        }
    }

    /// Does a small part of it. Gives how many segments were deleted, once their space is back.
    pub(crate) fn step(&mut self, shelf: &mut Shelf) -> Option<Result<usize, Error>> {
        let Some(removed) = self.removed else {
            return match shelf.delete_settled(self.cursor, &mut self.leaving) {
                Ok(removed) if !self.leaving.is_empty() => {
                    self.removed = Some(removed);
                    None
                }
                done => Some(done),
            };
        };
        if let Some(file) = self.leaving.pop()
            && shorten(&file)
        {
            self.leaving.push(file);
        }
        self.leaving.is_empty().then_some(Ok(removed))
    }
}

/// Takes a part of a file away. False if what is left is no more than that, or the system refuses.
fn shorten(file: &File) -> bool {
    let bytes = file.metadata().map_or(0, |meta| meta.len());
    let left = bytes.saturating_sub(STEP_BYTES);
    left > 0 && file.set_len(left).is_ok()
}

impl Shelf {
    /// Deletes the segments that lie wholly at or before `cursor`, at once. Gives how many.
    #[cfg(test)]
    pub(crate) fn remove_settled(&mut self, cursor: Seq) -> Result<usize, Error> {
        let mut removal = Removal::new(cursor);
        loop {
            if let Some(done) = removal.step(self) {
                return done;
            }
        }
    }

    /// Deletes the segments that lie wholly at or before `cursor`. Gives how many, and adds the
    /// files whose space is not back before they are dropped.
    fn delete_settled(&mut self, cursor: Seq, leaving: &mut Vec<File>) -> Result<usize, Error> {
        let mut removed = 0;
        while let Some((&first, _)) = self.older.first_key_value() {
            let Some(end) = self.next_first(first).map(|next| next - 1) else {
                break;
            };
            if end > cursor {
                break;
            }
            // The file of the reader is closed before it is gone.
            self.reader.take_if(|reader| reader.first_seq() == first);
            self.coming.take_if(|coming| coming.first == first);
            leaving.extend(self.clear_away(first, self.damaged.contains(&first))?);
            self.older.remove(&first);
            self.damaged.remove(&first);
            removed += 1;
        }
        self.homeless.retain(|chunk| chunk.range.last > cursor);
        let settled = |last: &Segment| last.last_seq() <= cursor;
        if self.homeless.is_empty() && self.last.as_ref().is_some_and(settled) {
            leaving.extend(self.delete_last()?);
            removed += 1;
        }
        if removed > 0 {
            if self.cached.back().is_some_and(|event| event.seq <= cursor) {
                self.cached = VecDeque::new();
            }
            sync_names(&self.dir)?;
        }
        Ok(removed)
    }

    fn delete_last(&mut self) -> Result<Option<File>, Error> {
        let Some(last) = self.last.take() else {
            return Ok(None);
        };
        let first = last.first_seq();
        let damaged = self.damaged.remove(&first) || last.is_damaged(last.last_seq());
        self.synced_before = self.synced_before.max(last.last_seq());
        // sled must let go of the files before they are gone.
        drop(last);
        let result = self.clear_away(first, damaged);
        if result.is_err() {
            self.older.insert(first, dir_bytes(&self.path(first)));
        }
        result
    }

    /// Deletes a segment, or moves it to quarantine if it holds more than could be read. Gives its
    /// large file if its space is not back before that is dropped.
    pub(super) fn clear_away(&self, first: Seq, damaged: bool) -> Result<Option<File>, Error> {
        let path = self.path(first);
        if damaged {
            let beside = self.dir.parent().unwrap_or(Path::new("."));
            return quarantine(&path, beside).map(|_| None);
        }
        // Elsewhere, a directory with an open file in it may refuse to go.
        let file = cfg!(unix).then(|| OpenOptions::new().write(true).open(path.join("db")));
        match fs::remove_dir_all(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(Error::storage("delete a settled segment", path)(source))
            }
            _ => Ok(file.and_then(Result::ok)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{drain, fill, open};
    use super::*;

    #[test]
    fn a_settled_segment_loses_its_name_at_once_and_its_space_a_little_at_a_time() {
        let spool = tempfile::tempdir().unwrap();
        let mut shelf = open(spool.path(), 5000);
        fill(&mut shelf, 1, 100);
        let names: Vec<_> = shelf.older.keys().copied().collect();
        let path = shelf.path(names[0]);
        let file = OpenOptions::new().write(true).open(path.join("db"));
        let bytes = 3 * STEP_BYTES + 1;
        file.unwrap().set_len(bytes).unwrap();
        let mut removal = Removal::new(names[1] - 1);
        assert!(removal.step(&mut shelf).is_none());
        assert!(!path.exists() && shelf.older.keys().copied().eq(names[1..].iter().copied()));
        let mut sizes = Vec::new();
        let removed = loop {
            sizes.extend(removal.leaving.iter().map(|f| f.metadata().unwrap().len()));
            // What is read meanwhile is not in its way.
            shelf.read(names[1]).unwrap();
            if let Some(done) = removal.step(&mut shelf) {
                break done.unwrap();
            }
        };
        let steps = [0, 1, 2, 3].map(|step| bytes - step * STEP_BYTES);
        assert_eq!((removed, &sizes[..]), (1, &steps[..]));
        assert!(removal.leaving.is_empty());
        assert_eq!(drain(&mut shelf, names[1]), (vec![], 101));
        assert_eq!(
            Removal::new(names[1] - 1)
                .step(&mut shelf)
                .unwrap()
                .unwrap(),
            0
        );
    }
}
