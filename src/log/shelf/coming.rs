//! The segment that is read next: looked through while the shelf has nothing else to do.
//!
//! Opening a segment reads its whole file. A drain of a backlog would wait for that at the
//! beginning of each segment.

use std::ops::Bound;

use super::{Shelf, dir_of};
use crate::error::Error;
use crate::id::Seq;
use crate::log::segment::{Opening, Segment};

/// A segment that will be read.
#[derive(Debug)]
pub(super) struct Coming {
    pub(super) first: Seq,
    /// None if it failed: the next read meets the fault again.
    opening: Option<Opening>,
    is_ready: bool,
}

impl Shelf {
    /// Does a small part of what will be asked for soon. False if there is nothing of the kind.
    pub(crate) fn get_ahead(&mut self) -> bool {
        let Some(reader) = &self.reader else {
            return false;
        };
        let behind = (Bound::Excluded(reader.first_seq()), Bound::Unbounded);
        let Some((&first, _)) = self.older.range(behind).next() else {
            return false;
        };
        if self.coming.as_ref().is_none_or(|c| c.first != first) {
            let opening = Opening::begin(&dir_of(&self.dir, first), first, self.queue).ok();
            self.coming = Some(Coming {
                first,
                is_ready: opening.is_none(),
                opening,
            });
        }
        self.coming.as_mut().is_some_and(Coming::step)
    }

    /// Opens a segment, or finishes opening it.
    pub(super) fn open_to_read(&mut self, first: Seq) -> Result<Segment, Error> {
        let begun = self.coming.take().filter(|coming| coming.first == first);
        match begun.and_then(|coming| coming.opening) {
            Some(opening) => opening.finish(),
            None => Segment::open_to_read(&dir_of(&self.dir, first), first, self.queue),
        }
    }
}

impl Coming {
    fn step(&mut self) -> bool {
        if self.is_ready {
            return false;
        }
        let more = self.opening.as_mut().map(Opening::step);
        if let Some(Err(_)) = more {
            self.opening = None;
        }
        self.is_ready = !matches!(more, Some(Ok(true)));
        !self.is_ready
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{drain, fill, open};

    #[test]
    fn the_segment_behind_the_one_being_read_is_opened_a_little_at_a_time() {
        let spool = tempfile::tempdir().unwrap();
        let mut shelf = open(spool.path(), 5000);
        fill(&mut shelf, 1, 100);
        let names: Vec<_> = shelf.older.keys().copied().collect();
        assert!(names.len() > 3);
        assert!(!shelf.get_ahead(), "nothing is being read");
        shelf.read(1).unwrap();
        while shelf.get_ahead() {}
        let coming = shelf.coming.as_ref().unwrap();
        assert_eq!((coming.first, coming.is_ready), (names[1], true));
        // It is what is read next, and another one comes behind it.
        let file = spool.path().join("segments");
        let file = file.join(format!("{:020}", names[1])).join("db");
        std::fs::rename(&file, file.with_extension("aside")).unwrap();
        shelf.read(names[1]).unwrap();
        assert_eq!(shelf.reader.as_ref().unwrap().first_seq(), names[1]);
        assert!(shelf.coming.is_none());
        while shelf.get_ahead() {}
        assert_eq!(shelf.coming.as_ref().unwrap().first, names[2]);
        std::fs::rename(file.with_extension("aside"), &file).unwrap();
        assert_eq!(drain(&mut shelf, 1), (vec![], 101));
    }

    #[test]
    fn what_is_read_out_of_turn_or_removed_is_not_waited_for() {
        let spool = tempfile::tempdir().unwrap();
        let mut shelf = open(spool.path(), 5000);
        fill(&mut shelf, 1, 100);
        let names: Vec<_> = shelf.older.keys().copied().collect();
        shelf.read(1).unwrap();
        while shelf.get_ahead() {}
        assert_eq!(drain(&mut shelf, names[2]), (vec![], 101));
        shelf.read(1).unwrap();
        while shelf.get_ahead() {}
        shelf.remove_settled(names[2] - 1).unwrap();
        assert!(shelf.coming.is_none() && !shelf.get_ahead());
        assert_eq!(drain(&mut shelf, names[2]), (vec![], 101));
    }
}
