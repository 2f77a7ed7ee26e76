//! What the disk refuses, and when it is asked next.

use std::time::{Duration, SystemTime};

use super::backoff::Backoff;
use super::step::{Due, Now};
use crate::error::Error;
use crate::outcome::Answer;
use crate::settings::Delivery;

/// Waits between what is asked of a disk that refuses.
#[derive(Debug)]
pub(super) struct DiskTrouble {
    waits: Backoff,
    refusal: Option<DiskRefusal>,
}

#[derive(Debug)]
struct DiskRefusal {
    since: SystemTime,
    until: Due,
    last_error: Answer,
}

/// What there is to show of it.
pub(super) struct ShownTrouble<'a> {
    pub(super) since: SystemTime,
    pub(super) until: SystemTime,
    pub(super) attempts: u32,
    pub(super) last_error: &'a Answer,
}

impl DiskTrouble {
    pub(super) fn new(delivery: &Delivery) -> Self {
        Self {
            waits: Backoff::of(delivery),
            refusal: None,
        }
    }

    pub(super) fn is_there(&self) -> bool {
        self.refusal.is_some()
    }

    /// The disk refused. Gives the wait if that is new.
    pub(super) fn refused(&mut self, error: &Error, now: &Now) -> Option<Duration> {
        let wait = self.waits.fail(None);
        let known = self.refusal.as_ref().map(|refusal| refusal.since);
        self.refusal = Some(DiskRefusal {
            since: known.unwrap_or(now.wall),
            until: now.after(wait),
            last_error: Answer::from_detail(error.to_string()),
        });
        known.is_none().then_some(wait)
    }

    /// The disk did what it was asked. True if it had refused before.
    pub(super) fn over(&mut self) -> bool {
        self.waits.reset();
        self.refusal.take().is_some()
    }

    /// Until when nothing is asked of it.
    pub(super) fn wait(&self, now: &Now) -> Option<Duration> {
        let until = self.refusal.as_ref()?.until.at;
        (until > now.mono).then_some(until)
    }

    /// Ends the present wait.
    pub(super) fn try_now(&mut self, now: &Now) {
        if let Some(refusal) = &mut self.refusal {
            refusal.until = now.after(Duration::ZERO);
        }
    }

    pub(super) fn shown(&self) -> Option<ShownTrouble<'_>> {
        let refusal = self.refusal.as_ref()?;
        Some(ShownTrouble {
            since: refusal.since,
            until: refusal.until.wall,
            attempts: self.waits.attempts(),
            last_error: &refusal.last_error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flusher::script::{at, secs, steady};

    #[test]
    fn a_disk_that_refuses_is_asked_after_growing_waits_and_named_once() {
        let mut trouble = DiskTrouble::new(&steady());
        assert!(!trouble.over() && trouble.wait(&at(0)).is_none());
        let first = trouble.refused(&Error::Closed, &at(10)).unwrap();
        assert_eq!(trouble.wait(&at(10)), Some(secs(10) + first));
        assert_eq!(trouble.refused(&Error::Closed, &at(20)), None, "not new");
        assert_eq!(trouble.wait(&at(20)), Some(secs(20) + 2 * first));
        let shown = trouble.shown().unwrap();
        assert_eq!((shown.since, shown.attempts), (at(10).wall, 2));
        trouble.try_now(&at(20));
        assert!(trouble.is_there() && trouble.wait(&at(20)).is_none());
        assert!(trouble.over() && !trouble.over());
        assert_eq!(trouble.refused(&Error::Closed, &at(30)), Some(first));
    }
}
