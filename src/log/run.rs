//! A run: consecutive events as they are stored, in memory that can be shared.

use bytes::Bytes;

use super::codec;
#[cfg(any(test, feature = "internals"))]
use crate::event::StoredEvent;
use crate::id::Seq;

/// Consecutive events, one behind the other.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) first: Seq,
    pub(crate) count: usize,
    /// The events, without the head of a run.
    pub(crate) events: Bytes,
}

impl Run {
    /// The last sequence number; the one before the first if there are no events.
    pub(crate) fn last(&self) -> Seq {
        (self.first.saturating_add(self.count as u64)).saturating_sub(1)
    }

    /// Events in one run; [`None`] if there are none, or if they do not follow each other.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn of(events: &[StoredEvent]) -> Option<Self> {
        let first = events.first()?.seq;
        let numbers = first..first.checked_add(events.len() as u64)?;
        if !events.iter().map(|stored| stored.seq).eq(numbers) {
            return None;
        }
        let mut bytes = Vec::new();
        for stored in events {
            codec::push_event(&mut bytes, &stored.event);
        }
        Some(Self {
            first,
            count: events.len(),
            events: bytes.into(),
        })
    }

    /// The run as `codec::encode_run` writes it. [`None`] if there are no events, or if the bytes
    /// are not as many events as they are said to be: the sealer forgets what it has had written.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        if self.first == 0 || self.count == 0 || !codec::are_events(&self.events, self.count) {
            return None;
        }
        let head = codec::run_head(self.first, self.count);
        Some([&head[..], &self.events[..]].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;

    #[test]
    fn only_what_is_as_many_events_as_it_says_is_encoded() {
        let events = [Event::json("1").unwrap(), Event::json("[2]").unwrap()];
        let mut encoded = Vec::new();
        codec::encode_run(7, events.iter(), &mut encoded);
        let run = |first, count, cut| Run {
            first,
            count,
            events: Bytes::copy_from_slice(&encoded[12..encoded.len() - cut]),
        };
        assert_eq!(run(7, 2, 0).encode(), Some(encoded.clone()));
        assert_eq!((run(7, 2, 0).last(), run(7, 0, 0).last()), (8, 6));
        for (first, count, cut) in [(0, 2, 0), (7, 0, 0), (7, 1, 0), (7, 3, 0), (7, 2, 1)] {
            assert_eq!(
                run(first, count, cut).encode(),
                None,
                "{first} {count} {cut}"
            );
        }
        let empty = Run {
            first: 7,
            count: 0,
            events: Bytes::new(),
        };
        assert_eq!(empty.encode(), None);
    }
}
