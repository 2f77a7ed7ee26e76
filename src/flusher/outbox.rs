//! Which events go into the next request, and when it may go where nothing has failed.

use std::time::Duration;

use super::age::Ages;
use super::bisect::{Plan, PlannedEvent};
use super::fact::Fact;
use super::limit::BatchSize;
use super::shape::{Change, Shape};
use super::step::{Now, Reading};
use crate::dead::Cause;
use crate::id::{Seq, SeqRange};
use crate::outcome::{Answer, Verdict};
use crate::settings::Delivery;
use crate::sink::Request;
use crate::status::{Pace, PaceStatus};

/// What is left of the batch that was read last, and what cuts requests out of it.
#[derive(Debug)]
pub(super) struct Outbox {
    plan: Plan,
    limit: BatchSize,
    shape: Shape,
    ages: Ages,
}

/// What the outbox has to offer.
#[derive(Debug)]
pub(super) enum Offer {
    /// Nothing: it wants another batch.
    Empty,
    /// An event that has outlived what is allowed; it is taken out.
    Expired(PlannedEvent),
    /// A request, at this moment on the monotonic clock.
    Later(Duration),
    /// A request, counted as sent.
    Request(Request),
}

impl Outbox {
    pub(super) fn new(delivery: &Delivery, max_age: Option<Duration>) -> Self {
        Self {
            plan: Plan::default(),
            limit: BatchSize::new(delivery),
            shape: Shape::new(delivery),
            ages: Ages::new(max_age),
        }
    }

    /// Looks at the clocks, which are held against the times of events.
    pub(super) fn look(&mut self, now: &Now) {
        self.ages.look(now);
    }

    /// Takes up the size of batches that an earlier process found.
    pub(super) fn recall(&mut self, batch_events: Option<u32>) {
        self.limit.recall(batch_events);
    }

    /// The size of batches that the next process should know.
    pub(super) fn memo(&self) -> Option<u32> {
        self.limit.memo()
    }

    /// Other rates are wanted.
    pub(super) fn set_pace(&mut self, pace: Pace) {
        self.shape.set(pace);
    }

    /// A person wants the next request now.
    pub(super) fn hurry(&mut self) {
        self.shape.hurry();
    }

    /// How fast requests follow each other, and when the next one goes.
    pub(super) fn pace(&self) -> PaceStatus {
        self.shape.status()
    }

    /// The next batch, where it begins at `from`.
    pub(super) fn reading(&self, from: Seq) -> Reading {
        self.shape.bound(self.limit.reading(from))
    }

    /// Takes the batch that was read.
    pub(super) fn fill(&mut self, plan: Plan) {
        self.plan = plan;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.plan.is_empty()
    }

    /// The last event, if what goes out next is all there is.
    pub(super) fn last_of_only_part(&self) -> Option<Seq> {
        self.plan.last_of_only_part()
    }

    /// The first event, with its time in Unix milliseconds.
    pub(super) fn begins(&self) -> Option<(Seq, u64)> {
        let stored = self.plan.front().first()?;
        Some((stored.seq, stored.event.time_ms()))
    }

    /// Whether the part that goes out next, or went out last, is one event.
    pub(super) fn is_alone(&self) -> bool {
        self.plan.front_len() <= 1
    }

    /// What is behind the cursor, of which one event only is sent if it goes out `alone`.
    pub(super) fn next(&mut self, cursor: Seq, alone: bool, now: &Now) -> Offer {
        self.plan.skip_through(cursor);
        if self.plan.is_empty() {
            return Offer::Empty;
        }
        self.plan.open();
        let most = if alone { 1 } else { self.limit.events() };
        let count = self.shape.count(self.plan.front(), most);
        self.plan.narrow(count);
        let mut events = self.plan.front().iter();
        let expired = events.position(|stored| self.ages.is_over(&stored.event, now));
        match expired {
            Some(0) => return self.plan.take_first().map_or(Offer::Empty, Offer::Expired),
            Some(at) => self.plan.narrow(at),
            None => {}
        }
        if let Some(until) = self.shape.wait(now) {
            return Offer::Later(until);
        }
        self.shape.sent(self.plan.front(), now);
        self.plan
            .send(now.wall)
            .map_or(Offer::Empty, Offer::Request)
    }

    /// The request was answered. Gives what that changed for those that follow.
    pub(super) fn answered(
        &mut self,
        verdict: Verdict,
        answer: &Answer,
        now: &Now,
    ) -> Option<Fact> {
        Some(match self.shape.answered(verdict, answer, now)? {
            Change::Eased(gap) => Fact::Eased(gap),
            Change::Over => Fact::EasedNoMore,
        })
    }

    /// The request was delivered; gives what it carried, and how many events that is.
    pub(super) fn delivered(&mut self, now: &Now) -> (usize, Option<SeqRange>) {
        let events = self.plan.front_len();
        let first = self.plan.front().first().map(|stored| stored.seq);
        let last = self.plan.delivered();
        self.limit.delivered(events, self.shape.took(now));
        let range = first
            .zip(last)
            .map(|(first, last)| SeqRange { first, last });
        (events, range)
    }

    /// The receiver is reached again after it was not for so long.
    pub(super) fn returned(&mut self, outage: Duration, now: &Now) {
        self.shape.returned(outage, now);
    }

    /// The request holds an event that is refused.
    pub(super) fn refused(&mut self) {
        self.plan.refused();
    }

    /// The request was too large; gives the smaller size.
    pub(super) fn divide(&mut self) -> usize {
        let last = self.plan.front().last().map_or(0, |stored| stored.seq);
        let half = self.plan.divided();
        self.limit.shrink(half, last);
        half
    }

    /// Requests of this size do not get through in time; gives the smaller size.
    pub(super) fn slow(&mut self) -> usize {
        let half = self.plan.divided();
        self.limit.slow(half);
        half
    }

    /// Takes out the event that was refused alone, for this cause.
    pub(super) fn condemn(&mut self, cause: Cause) -> Option<PlannedEvent> {
        let item = self.plan.take_first()?;
        if cause == Cause::TooLarge {
            self.limit.blame(item.stored.seq);
        }
        Some(item)
    }
}
