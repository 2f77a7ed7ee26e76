//! How old an event is, by clocks that may be wrong.
//!
//! The time of an event is what the clock of the device said when it was appended, and that may
//! have been nonsense: a device without a battery begins in 1970 and learns the time from the
//! network later, or is told a wrong one and then the right one. An event must not expire for
//! that, so:
//!
//! - a time before 2025 was never looked up anywhere, and has no age;
//! - where the wall clock was set forward while this process ran, which the monotonic clock gives
//!   away, events from before are that much younger; setting it back takes that back;
//! - an event that a person sent again has no age either: that word counts more than a limit.
//!
//! Each errs on the side of sending.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::step::Now;
use crate::event::Event;

/// The beginning of 2025, before this library was.
const FLOOR: Duration = Duration::from_secs(1_735_689_600);

/// What the two clocks may part by without either having been set: one runs fast, and the other
/// may stand still while the machine sleeps.
const SET_MIN: Duration = Duration::from_secs(3600);

/// Steps of the clock that are kept apart; more become one.
const STEPS_MAX: usize = 16;

/// Which events are too old to be sent.
#[derive(Debug)]
pub(super) struct Ages {
    max: Option<Duration>,
    /// The wall clock and the monotonic one when they were last looked at.
    seen: Option<(SystemTime, Duration)>,
    /// Oldest first.
    steps: Vec<ClockStep>,
}

/// The wall clock was set forward by so much, and events up to then are from before.
#[derive(Debug)]
struct ClockStep {
    until: SystemTime,
    by: Duration,
}

impl Ages {
    pub(super) fn new(max: Option<Duration>) -> Self {
        Self {
            max,
            seen: None,
            steps: Vec::new(),
        }
    }

    /// Looks at the clocks.
    pub(super) fn look(&mut self, now: &Now) {
        let Some((wall, run)) = self.seen.replace((now.wall, now.run)) else {
            return;
        };
        let passed = now.run.saturating_sub(run);
        let expected = wall.checked_add(passed).unwrap_or(wall);
        match now.wall.duration_since(expected) {
            Ok(by) if by >= SET_MIN => self.set_forward(expected, by),
            Ok(_) => {}
            Err(back) if back.duration() >= SET_MIN => self.set_back(back.duration()),
            Err(_) => {}
        }
    }

    fn set_forward(&mut self, until: SystemTime, by: Duration) {
        let is_full = self.steps.len() >= STEPS_MAX;
        match self.steps.last_mut().filter(|_| is_full) {
            Some(last) => {
                last.until = last.until.max(until);
                last.by = last.by.saturating_add(by);
            }
            None => self.steps.push(ClockStep { until, by }),
        }
    }

    fn set_back(&mut self, mut back: Duration) {
        while let Some(last) = self.steps.last_mut() {
            if last.by > back {
                last.by -= back;
                return;
            }
            back -= last.by;
            self.steps.pop();
        }
    }

    /// Whether an event has outlived what is allowed.
    pub(super) fn is_over(&self, event: &Event, now: &Now) -> bool {
        let Some(max) = self.max else {
            return false;
        };
        let time = event.time();
        if event.is_sent_again() || time < UNIX_EPOCH + FLOOR {
            return false;
        }
        let age = now.wall.duration_since(time).unwrap_or_default();
        let steps = self.steps.iter().filter(|step| time <= step.until);
        steps.fold(age, |age, step| age.saturating_sub(step.by)) > max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    const NOON: Duration = Duration::from_secs(1_800_000_000);

    /// Two clocks and what is made of them.
    struct Bench {
        ages: Ages,
        now: Now,
    }

    impl Bench {
        fn new(since_1970: Duration) -> Self {
            let now = Now {
                mono: Duration::ZERO,
                run: Duration::ZERO,
                wall: UNIX_EPOCH + since_1970,
                cursor: 0,
                last_seq: 0,
            };
            let mut ages = Ages::new(Some(DAY));
            ages.look(&now);
            Self { ages, now }
        }

        fn pass(&mut self, time: Duration) {
            self.now.run += time;
            self.set(self.now.wall + time);
        }

        fn set(&mut self, wall: SystemTime) {
            self.now.wall = wall;
            self.ages.look(&self.now);
        }

        fn event(&self) -> Event {
            Event::json("1").unwrap().with_time(self.now.wall)
        }

        fn is_over(&self, event: &Event) -> bool {
            self.ages.is_over(event, &self.now)
        }
    }

    #[test]
    fn an_event_is_over_when_its_time_is_more_than_allowed_ago() {
        let mut bench = Bench::new(NOON);
        let event = bench.event();
        bench.pass(DAY);
        assert!(!bench.is_over(&event));
        bench.pass(Duration::from_millis(1));
        assert!(bench.is_over(&event));
        let ages = Ages::new(None);
        assert!(!ages.is_over(&event, &bench.now), "no limit");
    }

    #[test]
    fn a_time_from_before_the_clock_was_set_is_no_age() {
        for since_1970 in [
            Duration::ZERO,
            Duration::from_secs(946_684_800),
            FLOOR - DAY,
        ] {
            let bench = Bench::new(since_1970);
            let event = bench.event();
            let later = Bench::new(NOON);
            assert!(!later.is_over(&event), "also in the next process");
        }
        let bench = Bench::new(FLOOR);
        let event = bench.event();
        assert!(Bench::new(NOON).is_over(&event));
    }

    /// A device began with the time of its system's image, a year ago, and learnt the right one.
    #[test]
    fn events_from_before_a_step_of_the_clock_age_from_then_on_as_others_do() {
        let mut bench = Bench::new(NOON);
        let before = bench.event();
        bench.pass(Duration::from_secs(60));
        bench.set(bench.now.wall + YEAR);
        let after = bench.event();
        assert!(!bench.is_over(&before));
        bench.pass(DAY - Duration::from_secs(60));
        assert!(!bench.is_over(&before) && !bench.is_over(&after));
        bench.pass(Duration::from_secs(1));
        assert!(bench.is_over(&before) && !bench.is_over(&after));
        bench.pass(Duration::from_secs(60));
        assert!(bench.is_over(&after));
    }

    #[test]
    fn a_clock_that_goes_wrong_and_right_again_makes_nothing_old_or_young() {
        let mut bench = Bench::new(NOON);
        let before = bench.event();
        bench.set(bench.now.wall + YEAR * 70);
        let within = bench.event();
        assert!(!bench.is_over(&before));
        bench.set(bench.now.wall - YEAR * 70);
        let after = bench.event();
        bench.pass(DAY + Duration::from_secs(1));
        assert!(bench.is_over(&before) && bench.is_over(&after));
        assert!(!bench.is_over(&within), "of a time to come");
    }

    #[test]
    fn steps_in_great_number_are_kept_in_bounds() {
        let mut bench = Bench::new(NOON);
        let event = bench.event();
        for _ in 0..STEPS_MAX * 3 {
            bench.set(bench.now.wall + DAY);
        }
        assert!(!bench.is_over(&event));
        assert_eq!(bench.ages.steps.len(), STEPS_MAX);
        bench.set(bench.now.wall - DAY * 2);
        bench.pass(DAY + Duration::from_secs(1));
        assert!(bench.is_over(&event));
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let mut bench = Bench::new(NOON);
        bench.now.run = Duration::MAX;
        bench.ages.look(&bench.now);
        bench.set(UNIX_EPOCH);
        bench.set(UNIX_EPOCH + Duration::from_millis(u64::MAX >> 1));
        assert!(!bench.is_over(&bench.event()));
        assert!(!bench.is_over(&Event::json("1").unwrap().with_time(UNIX_EPOCH)));
    }
}
