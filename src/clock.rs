//! The one door through which time and randomness enter.

use std::time::{Duration, Instant, SystemTime};

use uuid::Uuid;

use crate::id::EventId;
use crate::millis::unix_ms;

/// Where the time of an event, its id and the age of things come from.
///
/// Waiting is not here: the flusher waits on tokio's clock, which tests pause.
pub trait Clock: Send + Sync + std::fmt::Debug + 'static {
    /// The time of day. It may jump, back as well as forward.
    fn wall(&self) -> SystemTime;

    /// A time that only moves forward, counted from some fixed moment of this process.
    fn monotonic(&self) -> Duration;

    /// A new id for an event of this time, in milliseconds since 1970: version 7, so the time and
    /// 74 random bits.
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    fn event_id(&self, time_ms: u64) -> EventId {
        // The generator of the thread: asking the system for each event takes a third as long as
        // writing it.
        let random: [u8; 10] = rand::random();
        let id = uuid::Builder::from_unix_timestamp_millis(time_ms, &random);
        EventId::from_uuid(id.into_uuid())
    }
}

/// A new id for a queue.
pub(crate) fn queue_id(clock: &dyn Clock) -> Uuid {
    *clock.event_id(unix_ms(clock.wall())).as_uuid()
}

/// The clock of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    fn monotonic(&self) -> Duration {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}

/// A moment until which a thread waits for another one of this process, on the system's clock:
/// what the disk and sled take is real time, whatever clock a queue has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Duration);

impl Deadline {
    /// So long from now.
    pub(crate) fn after(patience: Duration) -> Self {
        Self(SystemClock.monotonic().saturating_add(patience))
    }

    /// The time that is left; `None` once there is none.
    pub(crate) fn left(self) -> Option<Duration> {
        let left = self.0.saturating_sub(SystemClock.monotonic());
        (!left.is_zero()).then_some(left)
    }

    /// Lets the thread sleep until it is woken or the time is up; says `false`, at once, where it
    /// was up already. It may wake up for no reason.
    pub(crate) fn park(self) -> bool {
        let left = self.left();
        if let Some(left) = left {
            std::thread::park_timeout(left);
        }
        left.is_some()
    }
}
