//! What ends the machine's rest while nothing is under way.

use std::time::Duration;

/// A time, news in the log, and the deadline of a close.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    timer: Option<Duration>,
    is_dry: bool,
    closing: Option<Duration>,
}

impl Alarm {
    /// The rest is over: it waits for nothing but the deadline.
    pub(super) fn clear(&mut self) {
        self.timer = None;
        self.is_dry = false;
    }

    /// A close ends everything by then. The earliest one counts.
    pub(super) fn close(&mut self, by: Duration) {
        self.closing = Some(self.closing.map_or(by, |old| old.min(by)));
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Whether a close is over by this moment.
    pub(super) fn is_over_by(&self, moment: Duration) -> bool {
        self.closing.is_some_and(|by| by <= moment)
    }

    /// Rests until then.
    pub(super) fn set(&mut self, until: Duration) {
        self.timer = Some(until);
    }

    /// Rests no longer than until then.
    pub(super) fn no_later(&mut self, until: Option<Duration>) {
        self.timer = [self.timer, until].into_iter().flatten().min();
    }

    /// Rests until there is something new in the log.
    pub(super) fn dry(&mut self) {
        self.is_dry = true;
    }

    pub(super) fn is_dry(&self) -> bool {
        self.is_dry
    }

    /// When the rest ends, or the close.
    pub(super) fn at(&self) -> Option<Duration> {
        [self.timer, self.closing].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flusher::script::secs;

    #[test]
    fn the_earliest_of_what_ends_a_rest_counts_and_a_close_outlasts_it() {
        let mut alarm = Alarm::default();
        assert_eq!((alarm.at(), alarm.is_closing()), (None, false));
        alarm.set(secs(9));
        alarm.no_later(None);
        assert_eq!(alarm.at(), Some(secs(9)));
        alarm.no_later(Some(secs(7)));
        alarm.close(secs(8));
        alarm.close(secs(20));
        assert_eq!(alarm.at(), Some(secs(7)));
        assert!(alarm.is_over_by(secs(8)) && !alarm.is_over_by(secs(7)));
        alarm.dry();
        alarm.clear();
        assert_eq!((alarm.at(), alarm.is_dry()), (Some(secs(8)), false));
    }
}
