//! A clock whose time of day moves only when told, so that waits can be compared exactly.

use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everpost::clock::{Clock, SystemClock};

#[derive(Debug)]
pub(crate) struct StillClock(Mutex<SystemTime>);

impl StillClock {
    pub(crate) fn new() -> Self {
        let then = UNIX_EPOCH + Duration::from_secs(1_764_000_000);
        Self::at(then)
    }

    pub(crate) fn at(time: SystemTime) -> Self {
        Self(Mutex::new(time))
    }

    pub(crate) fn set(&self, time: SystemTime) {
        *self.0.lock().unwrap() = time;
    }

    pub(crate) fn advance(&self, time: Duration) {
        *self.0.lock().unwrap() += time;
    }
}

impl Clock for StillClock {
    fn wall(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
}
