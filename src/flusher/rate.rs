//! How much goes out in a second.

use std::time::Duration;

use super::step::Reading;
use crate::event::StoredEvent;
use crate::status::Pace;

/// What a request that went out too late may make up for: timers are late by some milliseconds,
/// and without this a high rate would never be reached.
const LATE: Duration = Duration::from_millis(100);

/// Holds requests to so many events, and so many bytes, a second.
///
/// A request is paid for after it was sent: the next one waits as long as what it carried takes at
/// the set rate. So a request larger than a second's worth goes too, and is followed by a longer
/// wait. Time in which nothing was sent is not saved up. In any span of time no more goes out than
/// the rate allows for it, and one request.
#[derive(Debug)]
pub(super) struct Rate {
    pace: Pace,
    /// When all that was sent is paid for.
    due: Duration,
}

impl Rate {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            due: Duration::ZERO,
        }
    }

    pub(super) fn pace(&self) -> Pace {
        self.pace
    }

    /// Begins anew with these rates: what is owed by the old ones may be days.
    pub(super) fn set(&mut self, pace: Pace) {
        *self = Self::new(pace);
    }

    /// When the next request may go.
    pub(super) fn due(&self) -> Duration {
        self.due
    }

    /// A request with these events goes out.
    pub(super) fn sent(&mut self, events: &[StoredEvent], mono: Duration) {
        if self.pace == Pace::default() {
            return;
        }
        let cost = |amount: u64, rate: Option<u64>| {
            rate.map_or(0, |rate| {
                u128::from(amount) * 1_000_000_000 / u128::from(rate.max(1))
            })
        };
        let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
        let by_events = cost(count, self.pace.rate_events.map(u64::from));
        let by_bytes = cost(bytes(events), self.pace.rate_bytes);
        let nanos = u64::try_from(by_events.max(by_bytes)).unwrap_or(u64::MAX);
        let from = self.due.max(mono.saturating_sub(LATE));
        self.due = from.saturating_add(Duration::from_nanos(nanos));
    }

    /// What is read for a request: no more than a second's worth.
    pub(super) fn bound(&self, reading: Reading) -> Reading {
        let events = self.pace.rate_events.map_or(usize::MAX, |rate| {
            usize::try_from(rate).unwrap_or(usize::MAX).max(1)
        });
        Reading {
            events_max: reading.events_max.min(events),
            bytes_max: reading
                .bytes_max
                .min(self.pace.rate_bytes.unwrap_or(u64::MAX)),
            ..reading
        }
    }

    /// How many of these events make a request: what was read may be from before a change.
    pub(super) fn count(&self, events: &[StoredEvent], most: usize) -> usize {
        if self.pace == Pace::default() {
            return most;
        }
        let bound = self.bound(Reading {
            from: 0,
            events_max: most,
            bytes_max: u64::MAX,
        });
        let mut bytes = 0_u64;
        let fits = |stored: &&StoredEvent| {
            bytes = bytes.saturating_add(size(stored));
            bytes <= bound.bytes_max
        };
        let fitting = events.iter().take(bound.events_max).take_while(fits);
        fitting.count().max(1)
    }
}

fn size(stored: &StoredEvent) -> u64 {
    u64::try_from(stored.event.json_bytes().len()).unwrap_or(u64::MAX)
}

fn bytes(events: &[StoredEvent]) -> u64 {
    events.iter().map(size).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::flusher::script::secs;

    /// So many events of so many bytes.
    fn events(count: u64, bytes: usize) -> Vec<StoredEvent> {
        let json = format!("\"{}\"", "x".repeat(bytes - 2));
        let stored = |seq| StoredEvent {
            seq,
            event: Event::json(json.clone()).unwrap(),
        };
        (1..=count).map(stored).collect()
    }

    fn rate(events: Option<u32>, bytes: Option<u64>) -> Rate {
        Rate::new(Pace {
            rate_events: events,
            rate_bytes: bytes,
        })
    }

    #[test]
    fn without_a_rate_nothing_waits_and_nothing_is_smaller() {
        let mut rate = rate(None, None);
        rate.sent(&events(9, 100), secs(5));
        assert_eq!(rate.due(), Duration::ZERO);
        assert_eq!(rate.count(&events(9, 100), 9), 9);
    }

    #[test]
    fn a_request_is_paid_for_by_what_it_carried_and_the_slower_rate_counts() {
        let mut rate = rate(Some(10), Some(1_000));
        rate.sent(&events(5, 10), secs(9));
        assert_eq!(rate.due(), secs(9) - LATE + Duration::from_millis(500));
        rate.sent(&events(5, 400), secs(20));
        assert_eq!(rate.due(), secs(20) - LATE + secs(2));
    }

    /// Requests that go out as soon as they may: a late timer costs nothing of the rate, and an hour
    /// without events saves nothing up.
    #[test]
    fn in_no_span_goes_more_than_the_rate_and_one_request() {
        let mut rate = rate(Some(100), None);
        let mut now = secs(3_600);
        let mut sent = Vec::new();
        for turn in 0..1_000_u64 {
            now = now.max(rate.due()) + Duration::from_millis(turn % 7);
            let count = 1 + turn * 13 % 100;
            rate.sent(&events(count, 10), now);
            sent.push((now, count));
        }
        for (at, (from, _)) in sent.iter().enumerate() {
            let mut total = 0;
            for (to, count) in &sent[at..] {
                total += count;
                let span = (*to - *from + LATE).as_secs_f64();
                assert!(total as f64 <= span * 100.0 + 101.0, "{total} in {span}");
            }
        }
        let all: u64 = sent.iter().map(|(_, count)| count).sum();
        let span = (now - secs(3_600)).as_secs_f64();
        assert!(all as f64 > span * 99.0, "{all} in {span}");
    }

    #[test]
    fn no_request_has_more_than_a_seconds_worth_and_a_larger_event_goes_alone() {
        let plain = Reading {
            from: 7,
            events_max: 500,
            bytes_max: 1 << 20,
        };
        let rate = rate(Some(20), Some(1_000));
        let bound = rate.bound(plain);
        assert_eq!(
            (bound.from, bound.events_max, bound.bytes_max),
            (7, 20, 1_000)
        );
        assert_eq!(rate.count(&events(50, 10), 500), 20);
        assert_eq!(rate.count(&events(50, 10), 3), 3);
        assert_eq!(rate.count(&events(50, 300), 500), 3);
        assert_eq!(rate.count(&events(50, 5_000), 500), 1);
    }

    #[test]
    fn a_new_pace_begins_anew() {
        let mut rate = rate(None, Some(1));
        rate.sent(&events(1, 100_000), secs(1));
        assert!(rate.due() > secs(99_999));
        rate.set(Pace::default());
        assert_eq!((rate.due(), rate.pace()), (Duration::ZERO, Pace::default()));
    }
}
