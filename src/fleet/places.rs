//! Where the events of a partition stand in the stream, by their own numbers: pure.

use std::collections::VecDeque;

use crate::id::{Seq, SeqRange};

/// The partition's numbers from 1, without gaps, and the places in the stream that belong to them, which
/// have gaps: other partitions stand between.
#[derive(Debug)]
pub(super) struct Places {
    /// The number of the last event that left, and its place.
    settled: Seq,
    cursor: u64,
    /// The places of those behind it, as far as they were read.
    read: VecDeque<u64>,
    /// The number of the last one there is, as far as that is known. It never goes back.
    last: Seq,
    /// Numbers whose events are not there any more.
    gap: Option<SeqRange>,
    /// The first and the last number of what was given to be sent, the newest last.
    given: VecDeque<SeqRange>,
}

/// More than the flusher has ready at once.
const GIVEN_MAX: usize = 8;

impl Places {
    pub(super) fn new(settled: Seq, cursor: u64) -> Self {
        Self {
            settled,
            cursor,
            read: VecDeque::new(),
            last: settled,
            gap: None,
            given: VecDeque::new(),
        }
    }

    /// The number of the last event that left.
    pub(super) fn settled(&self) -> Seq {
        self.settled
    }

    /// The number of the last one there is.
    pub(super) fn last(&self) -> Seq {
        self.last
    }

    /// The place of an event that was read, or of the last one that left.
    pub(super) fn place(&self, seq: Seq) -> Option<u64> {
        match seq.checked_sub(self.settled)? {
            0 => Some(self.cursor),
            ahead => self.read.get(usize::try_from(ahead - 1).ok()?).copied(),
        }
    }

    /// These stand from number `from` on, and `behind` more behind them. What was read there before is
    /// forgotten, if it is another. Says `false` if what stands before `from` is not known.
    pub(super) fn found(&mut self, from: Seq, places: &[u64], behind: u64) -> bool {
        let ahead = from.checked_sub(self.settled.saturating_add(1));
        let ahead = ahead.and_then(|ahead| usize::try_from(ahead).ok());
        let Some(ahead) = ahead.filter(|ahead| *ahead <= self.read.len()) else {
            return false;
        };
        // What is found again as it was leaves what is behind it as it is.
        let known = self.read.iter().skip(ahead).take(places.len());
        if !known.eq(places) {
            self.read.truncate(ahead);
            self.read.extend(places);
        }
        let there = (from - 1)
            .saturating_add(places.len() as u64)
            .saturating_add(behind);
        self.last = self.last.max(there);
        true
    }

    /// So many events from number `from` on were given to be sent together.
    pub(super) fn give(&mut self, from: Seq, count: u64) {
        self.given.retain(|given| given.first != from);
        if self.given.len() >= GIVEN_MAX {
            self.given.pop_front();
        }
        let last = from.saturating_add(count.saturating_sub(1));
        self.given.push_back(SeqRange { first: from, last });
    }

    /// The last number of what was given from this number on; 0 if nothing was.
    pub(super) fn given(&self, from: Seq) -> Seq {
        let given = self.given.iter().find(|given| given.first == from);
        given.map_or(0, |given| given.last)
    }

    /// How many fewer stand from number `from` on than were there once, if `there` do.
    pub(super) fn short(&self, from: Seq, there: u64) -> u64 {
        let expected = self.last.saturating_add(1).saturating_sub(from);
        expected.saturating_sub(there)
    }

    /// So many events from number `from` on were removed from the stream: their numbers stand for
    /// nothing, at the place of what is before them.
    pub(super) fn removed(&mut self, from: Seq, count: u64) {
        let last = from.saturating_add(count.saturating_sub(1));
        self.gap = (count > 0).then_some(SeqRange { first: from, last });
    }

    /// What is missing from number `from` on, if that is so; it has the place of what stands before it.
    pub(super) fn missing(&mut self, from: Seq) -> Option<SeqRange> {
        let gap = self
            .gap
            .filter(|gap| gap.first <= from && from <= gap.last)?;
        let before = self.place(from.checked_sub(1)?)?;
        let range = SeqRange {
            first: from,
            last: gap.last,
        };
        let places = vec![before; usize::try_from(range.count()).ok()?];
        self.found(from, &places, 0).then_some(range)
    }

    /// How many may be read from number `from` on, so that nothing behind a gap is taken for what was
    /// in it.
    pub(super) fn room(&self, from: Seq) -> u64 {
        match self.gap {
            Some(gap) if gap.first > from => gap.first - from,
            _ => u64::MAX,
        }
    }

    /// Everything up to this number has left.
    pub(super) fn settle(&mut self, through: Seq) {
        while self.settled < through {
            let Some(place) = self.read.pop_front() else {
                // Only what was read is ever settled.
                break;
            };
            self.cursor = place;
            self.settled += 1;
        }
        self.settled = self.settled.max(through);
        self.last = self.last.max(self.settled);
        self.gap = self.gap.filter(|gap| gap.last > self.settled);
        let settled = self.settled;
        self.given.retain(|given| given.first > settled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_each_other_where_places_do_not() {
        let mut places = Places::new(10, 500);
        assert_eq!((places.place(10), places.place(11)), (Some(500), None));
        assert!(places.found(11, &[503, 509], 4));
        assert_eq!((places.place(12), places.last()), (Some(509), 16));
        assert!(places.found(13, &[510], 3));
        assert!(!places.found(15, &[999], 0), "14 was not read");
        assert!(!places.found(10, &[999], 0), "it has left");
        places.settle(12);
        assert_eq!(
            (places.settled(), places.place(12), places.place(13)),
            (12, Some(509), Some(510))
        );
        assert_eq!(places.place(11), None);
    }

    #[test]
    fn what_is_read_again_takes_the_place_of_what_was_read_before() {
        let mut places = Places::new(0, 0);
        assert!(places.found(1, &[1, 2, 3], 0));
        assert!(places.found(2, &[2], 1));
        assert_eq!(places.place(3), Some(3), "it is the same");
        assert!(places.found(2, &[5], 1));
        assert_eq!((places.place(2), places.place(3)), (Some(5), None));
        assert_eq!(places.last(), 3);
    }

    #[test]
    fn what_was_given_is_known_by_its_first_number_until_it_has_left() {
        let mut places = Places::new(0, 0);
        assert!(places.found(1, &[1, 2, 3, 4, 5], 0));
        places.give(1, 2);
        places.give(3, 1);
        places.give(3, 3);
        assert_eq!((places.given(1), places.given(3)), (2, 5));
        assert_eq!(places.given(2), 0);
        places.settle(2);
        assert_eq!((places.given(1), places.given(3)), (0, 5));
        (10..100).for_each(|from| places.give(from, 1));
        assert_eq!(places.given.len(), GIVEN_MAX);
    }

    #[test]
    fn what_was_removed_is_missing_once_and_the_rest_keeps_its_numbers() {
        let mut places = Places::new(0, 0);
        assert!(places.found(1, &[4, 5], 8));
        // Places up to 30 are gone; of the eight behind, three are left and one came.
        assert_eq!(places.short(3, 4), 4);
        places.removed(3, 4);
        assert_eq!(places.missing(1), None);
        assert_eq!((places.room(1), places.room(3)), (2, u64::MAX));
        assert_eq!(places.missing(3), Some(SeqRange { first: 3, last: 6 }));
        assert_eq!(
            places.place(6),
            Some(5),
            "nothing is passed that may be there"
        );
        assert!(places.found(7, &[31, 33, 40, 41], 0));
        assert_eq!(places.last(), 10);
        places.settle(6);
        assert_eq!(
            (places.settled(), places.place(6), places.place(7)),
            (6, Some(5), Some(31))
        );
        assert_eq!(places.missing(7), None);
    }
}
