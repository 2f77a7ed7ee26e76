//! The tail: the newest events, in memory, all of them also in the journal.
//!
//! They are kept as they are stored, in blocks, each of which becomes a chunk: what callers gave
//! is let go of at once, so that its memory is there for the next event, and when a chunk is made
//! or forgotten nothing is done event by event.

mod block;

use std::collections::VecDeque;

use bytes::Bytes;

use super::codec;
use super::run::Run;
use crate::event::{Event, StoredEvent};
use crate::id::Seq;
use block::Block;

/// A run of events without gaps that grows at the end and shrinks at the front.
#[derive(Debug)]
pub(crate) struct Tail {
    first: Seq,
    /// Blocks that take no more events, none of them empty. Some of the first may be released.
    full: VecDeque<Block<Bytes>>,
    /// The newest events.
    open: Block<Vec<u8>>,
    /// Bytes of the events from `first` on.
    bytes: u64,
    block_bytes: usize,
}

impl Tail {
    /// An empty tail whose first event will be `first`, in blocks of at most so many bytes, but of
    /// one event at least.
    pub(crate) fn new(first: Seq, block_bytes: u64) -> Self {
        Self {
            first,
            full: VecDeque::new(),
            open: Block::new(first, 0),
            bytes: 0,
            block_bytes: usize::try_from(block_bytes).unwrap_or(usize::MAX),
        }
    }

    /// The number of its first event, or of the next one if it is empty.
    pub(crate) fn first(&self) -> Seq {
        self.first
    }

    /// Bytes of its events as they are stored.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds the next events.
    pub(crate) fn extend(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            let bytes = codec::event_bytes(&event);
            let room = self.block_bytes.saturating_sub(self.open.len());
            if bytes > room as u64 && !self.open.is_empty() {
                // Where one block was filled, another will be.
                self.close_open(self.block_bytes);
            }
            self.open.push(&event);
            self.bytes += bytes;
        }
    }

    fn close_open(&mut self, next_bytes: usize) {
        let next = Block::new(self.open.next(), next_bytes);
        let closed = std::mem::replace(&mut self.open, next);
        self.full.push_back(closed.close());
    }

    /// Drops everything up to `through`: it is settled, or sealed and synced (I2).
    pub(crate) fn release(&mut self, through: Seq) {
        if through < self.first {
            return;
        }
        let first = through.saturating_add(1);
        let mut released = 0;
        while let Some(block) = self.full.front() {
            released += block.start_of(first) - block.start_of(self.first);
            if block.next() > first {
                break;
            }
            self.full.pop_front();
        }
        released += self.open.start_of(first) - self.open.start_of(self.first);
        self.bytes -= released as u64;
        self.first = first;
        if self.open.next() <= first {
            self.open.clear(first);
        }
    }

    /// The events from `from` on, as long as they are here.
    pub(crate) fn from(&self, from: Seq) -> impl Iterator<Item = StoredEvent> + '_ {
        let from = from.max(self.first);
        let at = self.full.partition_point(|block| block.next() <= from);
        let full = self.full.range(at..);
        let open = std::iter::once(&self.open).filter(move |open| open.next() > from);
        full.flat_map(move |block| block.shared_from(from))
            .chain(open.flat_map(move |open| open.copied_from(from)))
    }

    /// The oldest blocks that fit into `bytes` together, one at least if there is any event. They
    /// stay here. A block that was given once is given again as it was, but for what was released
    /// of it.
    pub(crate) fn oldest(&mut self, bytes: u64) -> Vec<Run> {
        if self.full.is_empty() && !self.open.is_empty() {
            self.close_open(0);
        }
        let mut sum = 0;
        let runs = self.full.iter().map(|block| block.run_from(self.first));
        runs.take_while(|run| {
            sum += run.events.len() as u64;
            sum <= bytes || sum == run.events.len() as u64
        })
        .collect()
    }

    /// All its events, in blocks.
    pub(crate) fn into_runs(mut self) -> Vec<Run> {
        if !self.open.is_empty() {
            self.close_open(0);
        }
        let blocks = self.full.iter();
        blocks.map(|block| block.run_from(self.first)).collect()
    }

    /// The last of the oldest events that fit into `bytes` together, the first at least if there
    /// is any. It looks no further than one block.
    pub(crate) fn last_of_oldest(&self, bytes: u64) -> Option<Seq> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        match self.full.front() {
            Some(block) => Some(block.last_within(self.first, bytes)),
            None if self.open.is_empty() => None,
            None => Some(self.open.last_within(self.first, bytes)),
        }
    }

    /// When the event `seq` happened, if it is here.
    pub(crate) fn time_ms(&self, seq: Seq) -> Option<u64> {
        if seq < self.first {
            return None;
        }
        let at = self.full.partition_point(|block| block.next() <= seq);
        match self.full.get(at) {
            Some(block) => block.time_ms(seq),
            None => self.open.time_ms(seq),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events of 33 bytes, three to a block.
    fn tail(first: Seq, count: usize) -> Tail {
        let mut tail = Tail::new(first, 100);
        tail.extend((0..count).map(|_| Event::json("12345").unwrap()));
        tail
    }

    fn seqs(tail: &Tail, from: Seq) -> Vec<Seq> {
        tail.from(from).map(|stored| stored.seq).collect()
    }

    #[test]
    fn what_is_released_is_gone_and_the_rest_keeps_its_numbers() {
        let mut tail = tail(5, 4);
        tail.release(6);
        assert_eq!(seqs(&tail, 1), [7, 8]);
        assert_eq!(tail.bytes(), 2 * (28 + 5));
        tail.release(3);
        assert_eq!(tail.first(), 7);
        tail.release(20);
        assert_eq!((tail.first(), tail.bytes()), (21, 0));
        tail.extend([Event::json("1").unwrap()]);
        assert_eq!((seqs(&tail, 0), tail.bytes()), (vec![21], 29));
    }

    #[test]
    fn every_event_is_found_whatever_was_released_before() {
        for released in 0..=12 {
            let mut tail = Tail::new(1, 100);
            let events: Vec<Event> = (1..=12_u64)
                .map(|n| Event::json(format!("{:03}", 100 + n)).unwrap())
                .collect();
            let at = |n: u64| std::time::UNIX_EPOCH + std::time::Duration::from_millis(n);
            let events: Vec<Event> = (1..).zip(events).map(|(n, e)| e.with_time(at(n))).collect();
            tail.extend(events.iter().cloned());
            tail.release(released);
            assert_eq!(tail.bytes(), (12 - released) * 31);
            for from in 1..=14 {
                let found: Vec<StoredEvent> = tail.from(from).collect();
                let first = from.max(released + 1);
                let expected = (1..).zip(&events).filter(|(seq, _)| *seq >= first);
                let stored = |(seq, event): (u64, &Event)| StoredEvent {
                    seq,
                    event: event.clone(),
                };
                assert!(expected.map(stored).eq(found), "{released} {from}");
                let is_here = from > released && from <= 12;
                assert_eq!(tail.time_ms(from), is_here.then_some(from));
            }
        }
    }

    #[test]
    fn the_oldest_blocks_fit_the_bytes_but_are_never_none() {
        let ranges = |runs: Vec<Run>| -> Vec<(Seq, Seq)> {
            runs.iter().map(|run| (run.first, run.last())).collect()
        };
        let mut tail = tail(1, 11);
        assert_eq!(ranges(tail.oldest(1)), [(1, 3)]);
        assert_eq!(ranges(tail.oldest(2 * 99)), [(1, 3), (4, 6)]);
        // The newest are not taken away from those that still come.
        assert_eq!(ranges(tail.oldest(1000)), [(1, 3), (4, 6), (7, 9)]);
        tail.release(4);
        assert_eq!(ranges(tail.oldest(2 * 99)), [(5, 6), (7, 9)]);
        tail.release(9);
        assert_eq!(ranges(tail.oldest(1)), [(10, 11)]);
        tail.extend([Event::json("1").unwrap()]);
        assert_eq!(ranges(tail.oldest(1000)), [(10, 11)]);
        assert_eq!(seqs(&tail, 11), [11, 12]);
        tail.release(12);
        assert!(tail.oldest(1000).is_empty());
    }

    #[test]
    fn a_run_has_the_events_of_its_block() {
        let mut tail = tail(1, 4);
        tail.release(1);
        let run = tail.oldest(1).remove(0);
        let events = super::codec::decode_run(&run.encode().unwrap().into()).unwrap();
        assert!(events.into_iter().eq(tail.from(2).take(2)));
    }

    #[test]
    fn an_event_longer_than_a_block_has_one_of_its_own() {
        let mut tail = Tail::new(1, 100);
        let long = Event::json(format!("\"{}\"", "x".repeat(500))).unwrap();
        let short = Event::json("1").unwrap();
        tail.extend([long.clone(), short.clone(), long, short]);
        let runs = tail.oldest(10_000);
        assert!(runs.iter().map(|run| run.count).eq([1, 1, 1]));
        assert_eq!(seqs(&tail, 1), [1, 2, 3, 4]);
    }

    #[test]
    fn the_last_of_the_oldest_is_within_the_bytes_or_the_first() {
        let mut tail = tail(1, 5);
        for (bytes, last) in [(0, 1), (33, 1), (65, 1), (66, 2), (1000, 3)] {
            assert_eq!(tail.last_of_oldest(bytes), Some(last));
        }
        tail.release(1);
        assert_eq!(tail.last_of_oldest(40), Some(2));
        tail.release(3);
        assert_eq!(tail.last_of_oldest(66), Some(5));
        tail.release(5);
        assert_eq!(tail.last_of_oldest(66), None);
    }

    #[test]
    fn the_last_numbers_there_are_can_be_held() {
        let mut tail = Tail::new(u64::MAX - 2, 100);
        tail.extend((0..2).map(|_| Event::json("1").unwrap()));
        assert_eq!(seqs(&tail, 0), [u64::MAX - 2, u64::MAX - 1]);
        tail.release(u64::MAX - 1);
        assert_eq!((tail.first(), tail.bytes()), (u64::MAX, 0));
        tail.release(u64::MAX);
        assert_eq!(tail.first(), u64::MAX);
    }
}
