//! How batches are sent.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::MIB;
use super::problems::Problems;
use crate::size;

/// How batches are sent, and what happens when they are not taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delivery {
    /// Events in one request. Default 500; the API documents no limit, and a request that is too
    /// large is divided and the smaller size remembered.
    pub batch_events: u32,
    /// Events in one request at the most, where the way to the receiver is so long that each request
    /// is waited for: full ones that take 50 ms or more grow, as long as that makes the drain
    /// quicker. `batch_bytes` is a bound as always. Default 10,000; where `batch_events` is set and
    /// this is not, no more than that.
    pub batch_events_max: u32,
    /// Bytes of event JSON in one request; a single larger event is sent alone. Default 1 MiB.
    #[serde(deserialize_with = "size::deserialize")]
    pub batch_bytes: u64,
    /// Events that go out in a second at the most, those that are sent again included. No request
    /// then has more than a second's worth. Default: none, as fast as the receiver answers. On a
    /// queue that runs, [`Queue::set_pace`](crate::Queue::set_pace) sets another until it ends.
    pub rate_events: Option<u32>,
    /// Bytes of event JSON that go out in a second at the most, in the same way; a larger event
    /// goes alone, and is paid for by a longer wait. Default: none.
    #[serde(deserialize_with = "size::deserialize_optional")]
    pub rate_bytes: Option<u64>,
    /// Longest random wait between the first delivery after an outage and the next request, so
    /// that many devices do not send all they have at the same moment. It is never longer than the
    /// outage was. Default 30 s; none if this is zero.
    #[serde(with = "humantime_serde")]
    pub return_delay_max: Duration,
    /// First wait after a failure. Default 500 ms.
    #[serde(with = "humantime_serde")]
    pub backoff_min: Duration,
    /// Longest wait after failures. Default 60 s.
    #[serde(with = "humantime_serde")]
    pub backoff_max: Duration,
    /// Growth of the wait from failure to failure. Default 2.
    pub backoff_multiplier: f64,
    /// Part of each wait that is random, 0 to 1, so that many devices do not return together.
    /// Default 0.5: from half to one and a half of the wait.
    pub backoff_jitter: f64,
    /// Longest `Retry-After` that is obeyed; more counts as this. Default 1 h.
    #[serde(with = "humantime_serde")]
    pub retry_after_max: Duration,
    /// Different events refused in a row, with no delivery between them, that pause delivery
    /// instead of emptying the queue into the dead letters. Default 16.
    pub breaker_refusals: u32,
    /// First wait before a paused queue probes whether the cause has gone. Default 30 s.
    #[serde(with = "humantime_serde")]
    pub probe_min: Duration,
    /// Longest wait between probes. Default 15 min.
    #[serde(with = "humantime_serde")]
    pub probe_max: Duration,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            batch_events: 500,
            batch_events_max: 10_000,
            batch_bytes: MIB,
            rate_events: None,
            rate_bytes: None,
            return_delay_max: Duration::from_secs(30),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(60),
            backoff_multiplier: 2.0,
            backoff_jitter: 0.5,
            retry_after_max: Duration::from_secs(3600),
            breaker_refusals: 16,
            probe_min: Duration::from_secs(30),
            probe_max: Duration::from_secs(15 * 60),
        }
    }
}

impl Delivery {
    /// As it is used: a `batch_events` that is set alone is the bound too.
    pub(crate) fn in_effect(&self) -> Self {
        let plain = Self::default();
        let mut used = self.clone();
        if used.batch_events != plain.batch_events
            && used.batch_events_max == plain.batch_events_max
        {
            used.batch_events_max = used.batch_events;
        }
        used
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        problems.number("batch_events", self.batch_events, 1, 100_000);
        let batch_events = self.batch_events;
        problems.number(
            "batch_events_max",
            self.batch_events_max,
            batch_events,
            100_000,
        );
        problems.size("batch_bytes", self.batch_bytes, 1, 1024 * MIB);
        problems.rate("rate_events", self.rate_events.map(u64::from));
        problems.rate("rate_bytes", self.rate_bytes);
        problems.number("backoff_multiplier", self.backoff_multiplier, 1.0, 100.0);
        problems.number("backoff_jitter", self.backoff_jitter, 0.0, 1.0);
        if self.breaker_refusals == 0 {
            problems.add("`breaker_refusals` is 0 and must be at least 1".into());
        }
        let mut span = |name: &str, value, least| {
            problems.time(name, value, least, Duration::from_secs(7 * 24 * 3600));
        };
        span("return_delay_max", self.return_delay_max, Duration::ZERO);
        span("backoff_min", self.backoff_min, Duration::from_millis(1));
        span("backoff_max", self.backoff_max, self.backoff_min);
        span(
            "retry_after_max",
            self.retry_after_max,
            Duration::from_secs(1),
        );
        span("probe_min", self.probe_min, Duration::from_millis(1));
        span("probe_max", self.probe_max, self.probe_min);
    }
}
