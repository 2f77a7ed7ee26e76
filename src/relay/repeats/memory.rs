//! What was taken lately, as it is looked at: two generations of it, and what is under way.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::watch;

use super::mark::{Fingerprint, Mark, Name};
use super::record::Record;
use crate::id::EventId;

/// So far ahead of the clock may a record be: clocks are set, and a little backwards too.
const SKEW_MS: u64 = 60_000;

/// What was taken, and what is being taken.
///
/// Invariant of removal: a record goes only if it is older than every window, or if a whole
/// generation of younger ones is on disk.
#[derive(Debug)]
pub(super) struct Memory {
    current: Generation,
    previous: Generation,
    /// What requests are taking in at this moment. The other end is dropped when one has ended.
    under_way: HashMap<Name, watch::Receiver<()>>,
    /// Whether all of `current` is on disk.
    is_whole: bool,
}

/// Records that stand in one file.
#[derive(Debug, Default)]
struct Generation {
    known: HashMap<Name, Known>,
    /// The times of the oldest and of the youngest.
    times_ms: Option<(u64, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    fingerprint: Fingerprint,
    id: EventId,
    time_ms: u64,
}

/// What is known of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    New,
    /// The same was taken, and its event has this id.
    Known(EventId),
    /// Something else was taken under the name.
    Other,
}

impl Generation {
    fn of(records: &[Record]) -> Self {
        let mut generation = Self::default();
        generation.keep(records);
        generation
    }

    fn keep(&mut self, records: &[Record]) {
        for record in records {
            let time_ms = record.time_ms;
            let known = Known {
                fingerprint: record.mark.fingerprint,
                id: record.id,
                time_ms,
            };
            self.known.insert(record.mark.name, known);
            let (oldest, youngest) = self.times_ms.unwrap_or((time_ms, time_ms));
            self.times_ms = Some((oldest.min(time_ms), youngest.max(time_ms)));
        }
    }
}

impl Memory {
    pub(super) fn of(current: &[Record], previous: &[Record]) -> Self {
        Self {
            current: Generation::of(current),
            previous: Generation::of(previous),
            under_way: HashMap::new(),
            is_whole: true,
        }
    }

    /// Whether the mark is of something that was taken within the window. What seems to have been
    /// taken in the future is not: how long ago it was, the clock cannot say.
    pub(super) fn look(&self, mark: &Mark, now_ms: u64, window: Duration) -> Look {
        let is_within = |known: &&Known| {
            known.time_ms <= now_ms.saturating_add(SKEW_MS)
                && now_ms.saturating_sub(known.time_ms) < millis(window)
        };
        let of = |generation: &Generation| {
            let known = generation.known.get(&mark.name);
            known.filter(is_within).copied()
        };
        match of(&self.current).or_else(|| of(&self.previous)) {
            None => Look::New,
            Some(known) if known.fingerprint == mark.fingerprint => Look::Known(known.id),
            Some(_) => Look::Other,
        }
    }

    /// Keeps what was taken.
    pub(super) fn keep(&mut self, records: &[Record]) {
        self.current.keep(records);
    }

    /// How many names the current generation has.
    pub(super) fn len(&self) -> usize {
        self.current.known.len()
    }

    /// The records of the current generation, each name once, in no order.
    pub(super) fn current(&self) -> Vec<Record> {
        let record = |(name, known): (&Name, &Known)| Record {
            mark: Mark {
                name: *name,
                fingerprint: known.fingerprint,
            },
            id: known.id,
            time_ms: known.time_ms,
        };
        self.current.known.iter().map(record).collect()
    }

    /// Whether the previous generation is of no use any more and the current one begins to be so.
    pub(super) fn is_outlived(&self, now_ms: u64, window: Duration) -> bool {
        let is_older = |time_ms: u64| now_ms.saturating_sub(time_ms) >= millis(window);
        let oldest = self.current.times_ms.map(|(oldest, _)| oldest);
        let youngest = self.previous.times_ms.map(|(_, youngest)| youngest);
        oldest.is_some_and(is_older) && youngest.is_none_or(is_older)
    }

    /// How old the youngest record is that [`turn`](Self::turn) would forget.
    pub(super) fn is_forgotten_at(&self, now_ms: u64) -> Option<Duration> {
        let (_, youngest) = self.previous.times_ms?;
        Some(Duration::from_millis(now_ms.saturating_sub(youngest)))
    }

    /// Forgets the previous generation, and begins another.
    pub(super) fn turn(&mut self) {
        self.previous = std::mem::take(&mut self.current);
    }

    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub(super) fn set_whole(&mut self, is_whole: bool) {
        self.is_whole = is_whole;
    }

    /// The end of the request that is taking this in.
    pub(super) fn under_way(&self, mark: &Mark) -> Option<watch::Receiver<()>> {
        self.under_way.get(&mark.name).cloned()
    }

    pub(super) fn begin(&mut self, name: Name, end: watch::Receiver<()>) {
        self.under_way.insert(name, end);
    }

    pub(super) fn end(&mut self, name: &Name) {
        self.under_way.remove(name);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::mark::Key;
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: u64 = 1_764_000_000_000;

    fn record(key: &str, body: &str, time_ms: u64) -> Record {
        let request = Key::parse(key, None)
            .unwrap()
            .of_request("c", body.as_bytes());
        Record {
            mark: request.mark(),
            id: request.event_id(0),
            time_ms,
        }
    }

    #[test]
    fn what_was_taken_is_known_for_the_window_and_not_a_moment_longer() {
        let one = record("k", "{}", NOW);
        for memory in [Memory::of(&[one], &[]), Memory::of(&[], &[one])] {
            let look = |now_ms| memory.look(&one.mark, now_ms, HOUR);
            assert_eq!(look(NOW), Look::Known(one.id));
            assert_eq!(look(NOW + millis(HOUR) - 1), Look::Known(one.id));
            assert_eq!(look(NOW + millis(HOUR)), Look::New);
            let other = record("k", "[]", NOW).mark;
            assert_eq!(memory.look(&other, NOW, HOUR), Look::Other);
            assert_eq!(memory.look(&other, NOW + millis(HOUR), HOUR), Look::New);
        }
    }

    #[test]
    fn what_is_from_the_future_by_more_than_a_minute_is_not_known() {
        let one = record("k", "{}", NOW);
        let mut memory = Memory::of(&[one], &[]);
        assert_eq!(
            memory.look(&one.mark, NOW - SKEW_MS, HOUR),
            Look::Known(one.id)
        );
        assert_eq!(memory.look(&one.mark, NOW - SKEW_MS - 1, HOUR), Look::New);
        // Taken again, it is known by the clock that there is now.
        let earlier = NOW - 10 * millis(HOUR);
        memory.keep(&[record("k", "{}", earlier)]);
        assert_eq!(memory.look(&one.mark, earlier, HOUR), Look::Known(one.id));
    }

    #[test]
    fn a_generation_goes_only_when_all_of_it_is_older_than_the_window() {
        let [old, young] = [record("a", "{}", NOW), record("b", "{}", NOW + 10)];
        let at = |ms| NOW + millis(HOUR) + ms;
        assert!(!Memory::of(&[], &[]).is_outlived(at(99), HOUR));
        assert!(!Memory::of(&[old], &[]).is_outlived(at(0) - 1, HOUR));
        assert!(Memory::of(&[old], &[]).is_outlived(at(0), HOUR));
        // Its records can be younger than the next one's, if the clock went back between them.
        assert!(!Memory::of(&[old], &[young]).is_outlived(at(9), HOUR));
        let mut memory = Memory::of(&[old], &[young]);
        assert!(memory.is_outlived(at(10), HOUR));
        memory.turn();
        assert_eq!(memory.look(&young.mark, NOW, HOUR), Look::New);
        assert_eq!(memory.look(&old.mark, NOW, HOUR), Look::Known(old.id));
    }
}
