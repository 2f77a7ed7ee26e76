//! When the next request may go, where nothing has failed.

use std::time::Duration;

use super::backoff::random_up_to;
use super::ease::Ease;
use super::rate::Rate;
use super::step::{Due, Now, Reading};
use crate::event::StoredEvent;
use crate::outcome::{Answer, Verdict};
use crate::settings::Delivery;
use crate::status::{Pace, PaceStatus};

/// The statuses by which a receiver says that it is asked too much.
const TOO_MUCH: [u16; 2] = [429, 503];

/// What spaces requests out that could follow each other at once: the rate that is set, what the
/// receiver is spared after it asked for that, and the return after an outage.
#[derive(Debug)]
pub(super) struct Shape {
    rate: Rate,
    ease: Ease,
    /// Until when the next request waits for what is no rate.
    held: Duration,
    return_delay_max: Duration,
    /// When the last request went out.
    last_sent: Duration,
    /// When the next one goes, if it waits for that.
    next: Option<Due>,
}

/// What an answer changed, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Requests are spaced out from now on, by so much.
    Eased(Duration),
    /// They are no more.
    Over,
}

impl Shape {
    pub(super) fn new(delivery: &Delivery) -> Self {
        Self {
            rate: Rate::new(Pace {
                rate_events: delivery.rate_events,
                rate_bytes: delivery.rate_bytes,
            }),
            ease: Ease::new(delivery),
            held: Duration::ZERO,
            return_delay_max: delivery.return_delay_max,
            last_sent: Duration::ZERO,
            next: None,
        }
    }

    /// What there is to see of it.
    pub(super) fn status(&self) -> PaceStatus {
        let Pace {
            rate_events,
            rate_bytes,
        } = self.rate.pace();
        PaceStatus {
            rate_events,
            rate_bytes,
            request_gap: self.ease.gap(),
            next: self.next.map(|due| due.wall),
        }
    }

    /// Other rates are wanted.
    pub(super) fn set(&mut self, pace: Pace) {
        self.rate.set(pace);
    }

    /// Until when the next request has to wait, if it has to.
    pub(super) fn wait(&mut self, now: &Now) -> Option<Duration> {
        let at = self.rate.due().max(self.held);
        if at <= now.mono {
            self.next = None;
            return None;
        }
        if self.next.is_none_or(|due| due.at != at) {
            self.next = Some(now.after(at.saturating_sub(now.mono)));
        }
        Some(at)
    }

    /// A request with these events goes out.
    pub(super) fn sent(&mut self, events: &[StoredEvent], now: &Now) {
        self.rate.sent(events, now.mono);
        self.last_sent = now.mono;
        self.next = None;
    }

    /// The request that was sent last was answered.
    pub(super) fn answered(
        &mut self,
        verdict: Verdict,
        answer: &Answer,
        now: &Now,
    ) -> Option<Change> {
        let took = self.took(now);
        let is_too_much = answer.status.is_some_and(|s| TOO_MUCH.contains(&s));
        match verdict {
            Verdict::Delivered => {
                let is_over = self.ease.delivered(took, now.mono);
                // Backoff spaces out what fails.
                if let Some(gap) = self.ease.gap() {
                    self.held = self.last_sent.saturating_add(gap);
                }
                is_over.then_some(Change::Over)
            }
            Verdict::Retry { .. } if is_too_much => {
                let is_new = self.ease.refused(took, now.mono);
                self.ease.gap().filter(|_| is_new).map(Change::Eased)
            }
            _ => None,
        }
    }

    /// How long the request that was sent last has been under way.
    pub(super) fn took(&self, now: &Now) -> Duration {
        now.mono.saturating_sub(self.last_sent)
    }

    /// The receiver is reached again after it was not for so long.
    pub(super) fn returned(&mut self, outage: Duration, now: &Now) {
        let wait = random_up_to(outage.min(self.return_delay_max));
        self.held = self.held.max(now.mono.saturating_add(wait));
    }

    /// A person wants the next request now. A rate was wanted by a person too, and stands.
    pub(super) fn hurry(&mut self) {
        self.held = Duration::ZERO;
    }

    /// What is read for a request.
    pub(super) fn bound(&self, reading: Reading) -> Reading {
        self.rate.bound(reading)
    }

    /// How many of these events, and at most so many, make a request.
    pub(super) fn count(&self, events: &[StoredEvent], most: usize) -> usize {
        self.rate.count(events, most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flusher::script::{DELIVERED, RETRY, at, secs, steady};

    #[test]
    fn only_429_and_503_ask_for_less() {
        let mut shape = Shape::new(&steady());
        shape.sent(&[], &at(1));
        for status in [408, 425, 500, 502, 504] {
            let change = shape.answered(RETRY, &Answer::from_status(status), &at(1));
            assert_eq!(change, None, "{status}");
        }
        let refused = Answer::from_status(429);
        let change = shape.answered(RETRY, &refused, &at(3));
        assert_eq!(change, Some(Change::Eased(secs(4))));
        assert_eq!(shape.answered(RETRY, &refused, &at(4)), None);
        assert_eq!(shape.status().request_gap, Some(secs(4)));
        assert_eq!(shape.wait(&at(4)), None, "backoff spaces out what fails");
        shape.sent(&[], &at(8));
        let delivered = Answer::from_status(200);
        assert_eq!(shape.answered(DELIVERED, &delivered, &at(8)), None);
        let until = secs(8) + secs(4) * 16 / 17;
        assert_eq!(shape.wait(&at(10)), Some(until));
        assert!(shape.status().next > Some(at(11).wall));
        assert_eq!(shape.wait(&at(12)), None);
        assert_eq!(shape.status().next, None);
        shape.sent(&[], &at(12));
        assert_eq!(
            shape.answered(DELIVERED, &delivered, &at(16)),
            Some(Change::Over),
            "it took longer than the gap"
        );
    }

    #[test]
    fn the_return_is_random_within_the_outage_and_the_bound_and_a_person_ends_it() {
        let mut waits = Vec::new();
        for _ in 0..200 {
            let mut shape = Shape::new(&steady());
            shape.return_delay_max = secs(30);
            shape.returned(secs(8), &at(100));
            waits.extend(shape.wait(&at(100)));
        }
        assert!(waits.iter().all(|at| (100..=108).contains(&at.as_secs())));
        let late = waits.iter().filter(|at| **at > secs(104)).count();
        assert!((50..150).contains(&late), "{late}");
        let mut shape = Shape::new(&steady());
        shape.return_delay_max = secs(30);
        shape.returned(secs(3_600), &at(0));
        assert!(shape.wait(&at(31)).is_none());
        shape.returned(secs(3_600), &at(40));
        shape.hurry();
        assert_eq!(shape.wait(&at(40)), None);
        shape.return_delay_max = Duration::ZERO;
        shape.returned(secs(3_600), &at(50));
        assert_eq!(shape.wait(&at(50)), None);
    }

    #[test]
    fn a_person_who_cannot_wait_gets_no_more_than_the_rate() {
        let mut shape = Shape::new(&Delivery {
            rate_events: Some(1),
            ..steady()
        });
        let events: Vec<StoredEvent> = crate::flusher::script::events(5)
            .into_iter()
            .zip(1..)
            .map(|(event, seq)| StoredEvent { seq, event })
            .collect();
        shape.sent(&events, &at(10));
        shape.hurry();
        assert!(shape.wait(&at(14)).is_some());
        shape.set(Pace::default());
        assert_eq!(shape.wait(&at(14)), None);
    }
}
