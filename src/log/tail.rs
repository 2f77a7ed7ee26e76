//! The tail: the newest events, in memory, all of them also in the journal.

use std::collections::VecDeque;

use super::codec;
use crate::event::{Event, Seq, StoredEvent};

/// A run of events without gaps that grows at the end and shrinks at the front.
#[derive(Debug)]
pub(crate) struct Tail {
    first: Seq,
    events: VecDeque<Event>,
    bytes: u64,
}

impl Tail {
    /// An empty tail whose first event will be `first`.
    pub(crate) fn new(first: Seq) -> Self {
        Self {
            first,
            events: VecDeque::new(),
            bytes: 0,
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
            self.bytes += codec::event_bytes(&event);
            self.events.push_back(event);
        }
    }

    /// Drops everything up to `through`: it is settled, or sealed and synced (I2).
    pub(crate) fn release(&mut self, through: Seq) {
        while self.first <= through {
            match self.events.pop_front() {
                Some(event) => self.bytes -= codec::event_bytes(&event),
                None => {
                    self.first = through + 1;
                    self.events.shrink_to(1024);
                    return;
                }
            }
            self.first += 1;
        }
    }

    /// The events from `from` on, as long as they are here.
    pub(crate) fn from(&self, from: Seq) -> impl Iterator<Item = StoredEvent> + '_ {
        let skip = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let events = self.events.iter().enumerate().skip(skip);
        events.map(|(at, event)| StoredEvent {
            seq: self.first + at as u64,
            event: event.clone(),
        })
    }

    /// The oldest events that fit into `bytes`, at least one if there is any.
    pub(crate) fn oldest(&self, bytes: u64) -> Vec<StoredEvent> {
        self.run(self.first, bytes)
    }

    /// The events from `from` on that fit into `bytes`, at least one if there is any.
    pub(crate) fn run(&self, from: Seq, bytes: u64) -> Vec<StoredEvent> {
        let mut sum = 0;
        self.from(from)
            .take_while(|stored| {
                let fits = sum == 0 || sum + codec::event_bytes(&stored.event) <= bytes;
                sum += codec::event_bytes(&stored.event);
                fits
            })
            .collect()
    }

    /// When the event `seq` happened, if it is here.
    pub(crate) fn time_ms(&self, seq: Seq) -> Option<u64> {
        let at = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        self.events.get(at).map(Event::time_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(first: Seq, count: usize) -> Tail {
        let mut tail = Tail::new(first);
        tail.extend((0..count).map(|_| Event::json("12345").unwrap()));
        tail
    }

    #[test]
    fn what_is_released_is_gone_and_the_rest_keeps_its_numbers() {
        let mut tail = tail(5, 4);
        tail.release(6);
        assert_eq!(tail.from(1).map(|e| e.seq).collect::<Vec<_>>(), [7, 8]);
        assert_eq!(tail.bytes(), 2 * (28 + 5));
        tail.release(3);
        assert_eq!(tail.first(), 7);
        tail.release(20);
        assert_eq!((tail.first(), tail.bytes()), (21, 0));
    }

    #[test]
    fn the_oldest_fit_the_bytes_but_are_never_none() {
        let tail = tail(1, 3);
        assert_eq!(tail.oldest(1).len(), 1);
        assert_eq!(tail.oldest(2 * 33).len(), 2);
        assert_eq!(tail.oldest(1000).len(), 3);
    }
}
