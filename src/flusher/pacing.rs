//! When the receiver is tried next.

use std::time::{Duration, SystemTime};

use super::backoff::Backoff;
use super::step::{Due, Now};
use crate::millis::unix_ms;
use crate::outcome::Verdict;
use crate::settings::Delivery;

/// A `Retry-After` longer than this outlives a restart. A shorter one is not worth a write.
const REMEMBERED_WAIT: Duration = Duration::from_secs(5);

/// So many requests in a row may stall before fewer events are sent at once.
const STALLS_BORNE: u32 = 1;

/// Waits between tries: after a failure, and between the probes of a pause.
#[derive(Debug)]
pub(super) struct Pacing {
    failures: Backoff,
    /// When the first of the failures in a row came.
    failing_since: Option<Due>,
    probes: Backoff,
    /// Requests that stalled since one was answered.
    stalls: u32,
    /// A person asked to try now while a request was under way; if it fails, one follows at once.
    nudged: bool,
    last_sent: Option<Duration>,
    /// Before which the receiver does not want to be asked, if that is worth remembering.
    not_before_ms: Option<u64>,
    backoff_min: Duration,
    retry_after_max: Duration,
}

impl Pacing {
    pub(super) fn new(delivery: &Delivery) -> Self {
        let (min, max) = (delivery.probe_min, delivery.probe_max);
        Self {
            failures: Backoff::of(delivery),
            failing_since: None,
            probes: Backoff::new(min, max, 2.0, delivery.backoff_jitter),
            stalls: 0,
            nudged: false,
            last_sent: None,
            not_before_ms: None,
            backoff_min: delivery.backoff_min,
            retry_after_max: delivery.retry_after_max,
        }
    }

    /// Takes note of the shortest wait that an answer asks for, and gives it.
    pub(super) fn floor(&mut self, verdict: Verdict, now: &Now) -> Option<Duration> {
        let floor = match verdict {
            Verdict::Retry { not_before } => not_before.map(|wait| wait.min(self.retry_after_max)),
            _ => None,
        };
        self.not_before_ms = floor
            .filter(|wait| *wait > REMEMBERED_WAIT)
            .map(|wait| unix_ms(now.after(wait).wall));
        floor
    }

    /// What the next process should know.
    pub(super) fn not_before_ms(&self) -> Option<u64> {
        self.not_before_ms
    }

    /// How long an earlier process was asked to wait from now. The wall clock may have jumped
    /// since: no wait is longer than it could have been.
    pub(super) fn remaining(&self, not_before_ms: Option<u64>, now: &Now) -> Duration {
        let ahead_ms = not_before_ms.map_or(0, |ms| ms.saturating_sub(unix_ms(now.wall)));
        Duration::from_millis(ahead_ms).min(self.retry_after_max)
    }

    /// Goes on with what an earlier process was asked for.
    pub(super) fn recall(&mut self, not_before_ms: Option<u64>) {
        self.not_before_ms = not_before_ms;
    }

    /// A request failed. Gives the wait, and when it ends: at once if a person asked for that.
    pub(super) fn failed(&mut self, floor: Option<Duration>, now: &Now) -> (Duration, Due) {
        let wait = self.failures.fail(floor);
        self.is_failing(now);
        (wait, now.after(self.unless_nudged(wait)))
    }

    /// From now on, unless it has been failing for longer.
    pub(super) fn is_failing(&mut self, now: &Now) {
        self.failing_since.get_or_insert(now.after(Duration::ZERO));
    }

    /// When the next probe of a pause is.
    pub(super) fn probe(&mut self, floor: Option<Duration>, now: &Now) -> Due {
        let wait = self.probes.fail(floor);
        now.after(self.unless_nudged(wait))
    }

    fn unless_nudged(&self, wait: Duration) -> Duration {
        if self.nudged { Duration::ZERO } else { wait }
    }

    /// A connection stood and the request did not get through. True if fewer events at once may
    /// help: once may be chance.
    pub(super) fn stalled(&mut self) -> bool {
        self.stalls = self.stalls.saturating_add(1);
        self.stalls > STALLS_BORNE
    }

    /// The receiver has looked at the events, whatever it made of them.
    pub(super) fn reached(&mut self) {
        self.stalls = 0;
        self.begin_anew();
    }

    /// Waits grow from the beginning.
    pub(super) fn begin_anew(&mut self) {
        self.failures.reset();
        self.failing_since = None;
        self.probes.reset();
    }

    /// What kept the sink from delivering is over.
    pub(super) fn probes_end(&mut self) {
        self.probes.reset();
    }

    /// A request goes out, or the sink is asked whether one could.
    pub(super) fn sent(&mut self, now: &Now) {
        self.nudged = false;
        self.last_sent = Some(now.mono);
    }

    /// A person wants a try now; `is_trying` says whether one is under way.
    pub(super) fn nudge(&mut self, is_trying: bool) {
        self.nudged = is_trying;
    }

    /// The earliest time for a probe that a change of the sink calls for: a sink that announces
    /// changes without end does not turn a pause into a storm.
    pub(super) fn earliest_probe(&self) -> Duration {
        self.last_sent
            .map_or(Duration::ZERO, |sent| sent.saturating_add(self.backoff_min))
    }

    /// Failures in a row.
    pub(super) fn attempts(&self) -> u32 {
        self.failures.attempts()
    }

    pub(super) fn failing_since(&self) -> Option<SystemTime> {
        self.failing_since.map(|due| due.wall)
    }

    /// How long it has been failing.
    pub(super) fn failing_for(&self, now: &Now) -> Option<Duration> {
        self.failing_since
            .map(|due| now.mono.saturating_sub(due.at))
    }

    /// Whether a person asked to try now while the request was under way.
    pub(super) fn is_nudged(&self) -> bool {
        self.nudged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flusher::script::{DELIVERED, at, retry_after, secs, steady};

    #[test]
    fn waits_grow_respect_the_receiver_and_begin_anew() {
        let mut pacing = Pacing::new(&steady());
        let (first, until) = pacing.failed(None, &at(1));
        assert_eq!(until.at, secs(1) + first);
        assert_eq!(pacing.failed(None, &at(5)).0, 2 * first);
        assert_eq!(pacing.failed(Some(secs(99)), &at(9)).0, secs(99));
        assert_eq!(pacing.failing_since(), Some(at(1).wall));
        assert_eq!(pacing.attempts(), 3);
        pacing.reached();
        assert_eq!((pacing.attempts(), pacing.failing_since()), (0, None));
        assert_eq!(pacing.failed(None, &at(9)).0, first);
    }

    #[test]
    fn only_a_long_floor_is_worth_remembering_and_none_is_longer_than_allowed() {
        let delivery = steady();
        let mut pacing = Pacing::new(&delivery);
        assert_eq!(pacing.floor(retry_after(5), &at(0)), Some(secs(5)));
        assert_eq!(pacing.not_before_ms(), None);
        pacing.floor(retry_after(6), &at(0));
        let until = pacing.not_before_ms();
        assert_eq!(until, Some(unix_ms(at(6).wall)));
        assert_eq!(pacing.remaining(until, &at(2)), secs(4));
        assert_eq!(pacing.remaining(until, &at(7)), Duration::ZERO);
        assert_eq!(pacing.floor(DELIVERED, &at(0)), None);
        assert_eq!(pacing.not_before_ms(), None);
        let longest = delivery.retry_after_max;
        let asked = pacing.floor(retry_after(longest.as_secs() + 1), &at(0));
        assert_eq!(asked, Some(longest));
        assert_eq!(pacing.remaining(Some(u64::MAX), &at(0)), longest);
    }

    #[test]
    fn a_person_who_cannot_wait_is_followed_once_and_a_change_of_the_sink_not_at_once() {
        let mut pacing = Pacing::new(&steady());
        assert_eq!(pacing.earliest_probe(), Duration::ZERO);
        pacing.sent(&at(3));
        assert_eq!(pacing.earliest_probe(), secs(3) + steady().backoff_min);
        pacing.nudge(true);
        assert_eq!(pacing.failed(None, &at(3)).1.at, secs(3));
        assert_eq!(pacing.probe(None, &at(3)).at, secs(3));
        pacing.sent(&at(4));
        assert!(pacing.failed(None, &at(4)).1.at > secs(4));
    }

    #[test]
    fn one_stall_may_be_chance_and_an_answer_ends_the_row() {
        let mut pacing = Pacing::new(&steady());
        assert!(!pacing.stalled());
        assert!(pacing.stalled() && pacing.stalled());
        pacing.begin_anew();
        assert!(pacing.stalled(), "nothing was answered");
        pacing.reached();
        assert!(!pacing.stalled());
    }
}
