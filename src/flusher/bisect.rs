//! The plan for a batch: which part of it is sent next, and what an answer makes of the rest.
//!
//! A plan begins as one part that is the whole batch. A part that is refused is split in halves,
//! the first half in front, so events go out in order throughout. If the first half is then
//! delivered, the refused event is known to be in the second, which is split again without being
//! sent. An event alone is always sent before anything is said against it, however sure the rest
//! of the plan makes it look.
//!
//! One bad event among `n` thus costs at most `2 * ceil(log2(n))` more requests than none: at each
//! level one for a first half, and one for the second half left behind.

use std::collections::VecDeque;
use std::time::SystemTime;

use crate::dead::{Cause, DeadLetter};
use crate::event::StoredEvent;
use crate::id::Seq;
use crate::outcome::Answer;
use crate::sink::{Batch, Request};

/// An event with what befell it in this plan.
#[derive(Clone, Debug)]
pub(crate) struct PlannedEvent {
    pub(crate) stored: StoredEvent,
    /// Requests that carried it.
    pub(crate) attempts: u32,
    /// When the first and the last of them went out.
    pub(crate) sent: Option<(SystemTime, SystemTime)>,
}

impl PlannedEvent {
    /// The letter that says why the event is set aside. One that expired does so `now`; any other
    /// was last tried when it was last sent.
    pub(super) fn letter(self, cause: Cause, answer: Answer, now: SystemTime) -> DeadLetter {
        let (first_attempt, last_sent) = self.sent.unwrap_or((now, now));
        DeadLetter {
            seq: self.stored.seq,
            event: self.stored.event,
            last_attempt: if cause == Cause::Expired {
                now
            } else {
                last_sent
            },
            cause,
            answer,
            attempts: self.attempts,
            first_attempt,
        }
    }
}

/// Events that follow each other and have been sent together so far. Parts are split and never
/// put together, so what is said of a part holds for each event of it.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Never zero.
    len: usize,
    /// As in [`PlannedEvent`].
    attempts: u32,
    /// As in [`PlannedEvent`].
    sent: Option<(SystemTime, SystemTime)>,
    /// It is known to hold a refused event, so sending it whole is of no use.
    bad: bool,
    /// It becomes `bad` if the part in front of it is delivered.
    twin: bool,
}

impl Part {
    fn new(len: usize) -> Self {
        Self {
            len,
            attempts: 0,
            sent: None,
            bad: false,
            twin: false,
        }
    }
}

/// What is left of one batch.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// What was read, and what the sink has prepared for all of it, until that is sent.
    whole: Option<Request>,
    /// How many events at its front are done with.
    done: usize,
    /// They cover the others in order.
    parts: VecDeque<Part>,
}

impl Plan {
    pub(crate) fn new(events: Vec<StoredEvent>) -> Self {
        let whole = Batch::new(events).map(Request::new);
        whole.map(Self::of).unwrap_or_default()
    }

    /// A plan for this request, which is sent as it is unless something speaks against it.
    pub(crate) fn of(whole: Request) -> Self {
        Self {
            parts: VecDeque::from([Part::new(whole.events().len())]),
            whole: Some(whole),
            done: 0,
        }
    }

    /// The events that are not done with.
    fn left(&self) -> &[StoredEvent] {
        let events = self.whole.as_ref().map_or(&[][..], Request::events);
        events.get(self.done..).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The part that is sent next.
    pub(crate) fn front(&self) -> &[StoredEvent] {
        self.left().get(..self.front_len()).unwrap_or_default()
    }

    /// How many events the next part has.
    pub(crate) fn front_len(&self) -> usize {
        self.parts.front().map_or(0, |part| part.len)
    }

    /// The last event, if the next part is all there is.
    pub(crate) fn last_of_only_part(&self) -> Option<Seq> {
        let last = self.left().last().filter(|_| self.parts.len() == 1);
        last.map(|stored| stored.seq)
    }

    /// Splits the next part as long as it is known to be refused whole.
    pub(crate) fn open(&mut self) {
        while self.parts.front().is_some_and(|p| p.bad && p.len > 1) {
            self.refused();
        }
    }

    /// Makes the next part at most `max` events long.
    pub(crate) fn narrow(&mut self, max: usize) {
        let max = max.max(1);
        if self.front_len() > max {
            self.split(max, false);
        }
    }

    /// The next part as a request, counted as sent.
    pub(crate) fn send(&mut self, wall: SystemTime) -> Option<Request> {
        let part = self.parts.front_mut()?;
        part.attempts = part.attempts.saturating_add(1);
        part.sent = Some((part.sent.map_or(wall, |(first, _)| first), wall));
        let prepared = self.whole.as_mut().and_then(Request::take_prepared);
        match &self.whole {
            Some(whole) if whole.events().len() == part.len => {
                Some(whole.clone().with_prepared(prepared))
            }
            _ => Batch::new(self.front().to_vec()).map(Request::new),
        }
    }

    /// The next part was delivered; gives its last sequence number.
    pub(crate) fn delivered(&mut self) -> Option<Seq> {
        let last = self.front().last().map(|stored| stored.seq);
        let part = self.parts.pop_front()?;
        if let Some(next) = self.parts.front_mut() {
            next.bad |= next.twin;
            next.twin = false;
        }
        self.leave(part.len);
        last
    }

    /// The next part, of more than one event, holds one that is refused.
    pub(crate) fn refused(&mut self) {
        self.split(self.front_len().div_ceil(2), true);
    }

    /// The next part, of more than one event, is too large; gives the smaller size.
    pub(crate) fn divided(&mut self) -> usize {
        let half = self.front_len().div_ceil(2);
        self.split(half, false);
        half
    }

    /// Takes the first event out.
    pub(crate) fn take_first(&mut self) -> Option<PlannedEvent> {
        let part = *self.parts.front()?;
        let first = self.left().first().map(|stored| PlannedEvent {
            stored: stored.clone(),
            attempts: part.attempts,
            sent: part.sent,
        });
        self.shorten(1);
        first
    }

    /// Drops what the cursor has passed meanwhile.
    pub(crate) fn skip_through(&mut self, cursor: Seq) {
        while self.front().first().is_some_and(|e| e.seq <= cursor) {
            self.shorten(1);
        }
    }

    fn split(&mut self, at: usize, refused: bool) {
        let Some(part) = self.parts.pop_front() else {
            return;
        };
        let at = at.min(part.len);
        // The part as it was sent is no more, so its delivery cannot tell of the one behind it.
        if let Some(next) = self.parts.front_mut() {
            next.twin = false;
        }
        if part.len > at {
            self.parts.push_front(Part {
                len: part.len - at,
                bad: false,
                twin: refused,
                ..part
            });
        }
        if at > 0 {
            self.parts.push_front(Part {
                len: at,
                bad: false,
                twin: false,
                ..part
            });
        }
    }

    /// The next part lost `count` events at its front; what was known of it is void.
    fn shorten(&mut self, count: usize) {
        self.split(count, false);
        self.parts.pop_front();
        self.leave(count);
    }

    /// So many events at the front are done with.
    fn leave(&mut self, count: usize) {
        self.done = self.done.saturating_add(count);
        if self.parts.is_empty() {
            self.whole = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;

    fn events(n: u64) -> Vec<StoredEvent> {
        (1..=n)
            .map(|seq| StoredEvent {
                seq,
                event: Event::json(seq.to_string()).unwrap(),
            })
            .collect()
    }

    /// Requests, delivered and refused events of a receiver that refuses `bad` for ever.
    fn run(n: u64, bad: &[Seq]) -> (u32, Vec<Seq>, Vec<PlannedEvent>) {
        let mut plan = Plan::new(events(n));
        let (mut requests, mut delivered, mut buried) = (0, Vec::new(), Vec::new());
        loop {
            plan.open();
            let Some(batch) = plan.send(SystemTime::UNIX_EPOCH) else {
                break;
            };
            requests += 1;
            let sent: Vec<Seq> = batch.events().iter().map(|e| e.seq).collect();
            if !sent.iter().any(|seq| bad.contains(seq)) {
                assert_eq!(plan.delivered(), sent.last().copied());
                delivered.extend(sent);
            } else if sent.len() > 1 {
                plan.refused();
            } else {
                buried.push(plan.take_first().unwrap());
            }
        }
        (requests, delivered, buried)
    }

    #[test]
    fn one_bad_event_costs_at_most_two_requests_a_level_and_two() {
        for n in (1..=70).chain([499, 500, 511, 512, 513]) {
            for bad in 1..=n {
                let (requests, delivered, buried) = run(n, &[bad]);
                let bound = 2.0 * (n as f64).log2() + 2.0;
                let extra = requests - 1;
                assert!(f64::from(extra) <= bound, "n={n}, bad={bad}, extra={extra}");
                assert_eq!(buried.len(), 1);
                assert_eq!(buried[0].stored.seq, bad);
                assert!((1..=n).filter(|s| *s != bad).eq(delivered));
            }
        }
    }

    #[test]
    fn every_set_of_bad_events_is_found_and_the_others_keep_their_order() {
        for n in 1..=9_u64 {
            for mask in 0..1_u32 << n {
                let bad: Vec<Seq> = (1..=n).filter(|s| mask >> (s - 1) & 1 == 1).collect();
                let (_, delivered, buried) = run(n, &bad);
                assert!(buried.iter().map(|i| i.stored.seq).eq(bad.iter().copied()));
                assert!((1..=n).filter(|s| !bad.contains(s)).eq(delivered));
            }
        }
    }

    #[test]
    fn the_second_half_is_not_sent_whole_once_the_first_is_delivered() {
        let mut plan = Plan::new(events(8));
        plan.send(SystemTime::UNIX_EPOCH).unwrap();
        plan.refused();
        assert_eq!(plan.delivered(), Some(4));
        plan.open();
        assert_eq!(plan.front_len(), 2);
        assert_eq!(plan.front()[0].seq, 5);
    }

    #[test]
    fn nothing_is_inferred_from_a_part_that_has_shrunk() {
        let mut plan = Plan::new(events(8));
        plan.refused();
        plan.skip_through(1);
        assert_eq!(plan.front_len(), 3);
        plan.delivered();
        plan.open();
        assert_eq!(plan.front_len(), 4, "the second half may be sound");
        plan.skip_through(6);
        assert_eq!(plan.front()[0].seq, 7);
        plan.skip_through(8);
        assert!(plan.is_empty());
    }

    #[test]
    fn attempts_are_counted_for_each_event() {
        let (_, _, buried) = run(4, &[1]);
        assert_eq!(buried[0].attempts, 3, "in 4, in 2 and alone");
        let (_, _, buried) = run(4, &[4]);
        assert_eq!(buried[0].attempts, 2, "in 4 and alone");
    }

    #[test]
    fn dividing_halves_and_narrowing_cuts() {
        let mut plan = Plan::new(events(7));
        assert_eq!(plan.divided(), 4);
        assert_eq!(plan.front_len(), 4);
        plan.narrow(3);
        assert_eq!(plan.delivered(), Some(3));
        assert_eq!(plan.delivered(), Some(4));
        assert_eq!(plan.front_len(), 3);
        plan.narrow(0);
        assert_eq!(plan.front_len(), 1);
    }
}
