//! Until when a request is worth waiting for: pure values, which are told the time.
//!
//! What counts is silence, and not the length of an upload that goes on. How far it has gone is seen
//! by what the system takes of it, which is ahead of what the other side has: while it takes, the
//! request goes on, and when it has taken the last of it, some is still under way. How much that
//! is, the system does not say. It is bounded by what was seen:
//!
//! - The buffer of a connection is filled at once, and then takes more as it empties. Linux wakes a
//!   writer when a third is free, and lets the buffer grow to twice what was on its way and
//!   acknowledged, so that when the last of a request was taken after a time T, what is
//!   left needs no more than five times T ([`UPLOAD_TIMES`]).
//! - What was taken whole at once shows nothing. The [`Pace`] of an earlier request says then how
//!   long such a request may need; without one only the time limit is left, and smaller requests.

use std::time::Duration;

use tokio::time::Instant;

use super::Limits;

/// How many times as long as an upload took may be needed for what is left of it in buffers.
const UPLOAD_TIMES: u32 = 5;

/// How many times as long as an earlier request took may be needed by one of the same size.
const PACE_TIMES: f64 = 2.0;

/// What is granted to buffers beside the time limit of the answer is bounded by this, so that a
/// receiver that never answers holds delivery up for no longer.
const BUFFERS_MAX: Duration = Duration::from_secs(600);

/// Requests of fewer bytes tell more of the round trip and of the receiver than of the link.
const MEASURED_FROM_BYTES: usize = 128 * 1024;

/// Longer than any process runs.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// How far one request has come, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    bytes: usize,
    /// When the system took or gave anything last, or the request began.
    last: Instant,
    /// When there was a connection that asked for the request.
    stood_at: Option<Instant>,
    /// When the system had taken the whole request.
    out_at: Option<Instant>,
}

impl Progress {
    /// A request with a body of so many bytes, for which a connection is sought from now on.
    pub(super) fn begin(bytes: usize, now: Instant) -> Self {
        Self {
            bytes,
            last: now,
            stood_at: None,
            out_at: None,
        }
    }

    /// The connection has asked for a part, or the system has taken one.
    pub(super) fn went_on(&mut self, now: Instant) {
        self.stood_at.get_or_insert(now);
        self.last = now;
    }

    /// The system has taken all of it.
    pub(super) fn went_out(&mut self, now: Instant) {
        self.went_on(now);
        self.out_at.get_or_insert(now);
    }

    /// Until when there is hope. It comes later as the request goes on.
    pub(super) fn due(&self, limits: Limits, pace: Option<Pace>) -> Instant {
        let (Some(stood), Some(out)) = (self.stood_at, self.out_at) else {
            return after(self.last, limits.request);
        };
        let by_upload = out.duration_since(stood).saturating_mul(UPLOAD_TIMES);
        let by_pace = pace.map_or(Duration::ZERO, |pace| pace.time_for(self.bytes));
        let in_buffers = by_upload.max(by_pace).min(BUFFERS_MAX);
        let answer = limits.read.min(limits.request);
        after(out, answer.saturating_add(in_buffers))
    }

    /// What is learnt of the link by an answer to the whole request now.
    pub(super) fn pace(&self, now: Instant) -> Option<Pace> {
        let stood = self.stood_at?;
        (self.bytes >= MEASURED_FROM_BYTES).then(|| Pace {
            bytes: self.bytes,
            time: now.duration_since(stood),
        })
    }
}

/// So many bytes were sent and answered in so long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    bytes: usize,
    time: Duration,
}

impl Pace {
    /// What so many bytes may need.
    fn time_for(self, bytes: usize) -> Duration {
        let share = bytes as f64 / self.bytes as f64;
        let seconds = self.time.as_secs_f64() * share * PACE_TIMES;
        Duration::try_from_secs_f64(seconds).unwrap_or(BUFFERS_MAX)
    }
}

/// The moment so long after another.
fn after(moment: Instant, time: Duration) -> Instant {
    moment
        .checked_add(time)
        .unwrap_or_else(|| moment + FOR_EVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const LIMITS: Limits = Limits {
        request: Duration::from_secs(30),
        connect: Duration::from_secs(10),
        read: Duration::from_secs(20),
        total: None,
    };

    /// Seconds from the beginning to the moment when hope ends, for a request that was asked for,
    /// went on and was out after so many.
    fn due(bytes: usize, moments: &[u64], out: Option<u64>, pace: Option<Pace>) -> u64 {
        let begin = Instant::now();
        let mut progress = Progress::begin(bytes, begin);
        for &moment in moments {
            progress.went_on(begin + seconds(moment));
        }
        if let Some(out) = out {
            progress.went_out(begin + seconds(out));
        }
        let due = progress.due(LIMITS, pace);
        assert!(
            progress.due(LIMITS, None) <= due,
            "a pace takes no patience"
        );
        due.duration_since(begin).as_secs()
    }

    #[test]
    fn silence_counts_and_the_length_of_an_upload_does_not() {
        let pace = |kib: usize, time| {
            let pace = Pace {
                bytes: kib << 10,
                time: seconds(time),
            };
            Some(pace)
        };
        for (bytes, moments, out, pace, expected, why) in [
            (MIB, &[][..], None, None, 30, "no connection"),
            (MIB, &[2], None, None, 32, "a connection, and nothing more"),
            (MIB, &[2, 20, 49], None, None, 79, "it goes on"),
            (MIB, &[2, 3_600], None, None, 3_630, "for an hour"),
            (MIB, &[2], Some(2), None, 22, "taken at once: the answer"),
            (MIB, &[2, 10], Some(12), None, 82, "5 x 10 s in buffers"),
            (MIB, &[0], Some(3_600), None, 4_220, "ten minutes at most"),
            (MIB, &[0], Some(0), pace(512, 25), 120, "by a known pace"),
            (MIB, &[0], Some(90), pace(512, 25), 560, "the longer one"),
            (
                MIB,
                &[0],
                Some(0),
                pace(128, 600),
                620,
                "ten minutes at most",
            ),
            (
                1_000,
                &[0],
                Some(0),
                pace(512, 25),
                20,
                "little needs little",
            ),
        ] {
            assert_eq!(due(bytes, moments, out, pace), expected, "{why}");
        }
    }

    #[test]
    fn the_answer_has_the_shorter_of_two_limits() {
        let begin = Instant::now();
        let mut progress = Progress::begin(MIB, begin);
        progress.went_out(begin);
        for (request, read) in [(30, 5), (5, 30)] {
            let limits = Limits {
                request: seconds(request),
                read: seconds(read),
                ..LIMITS
            };
            assert_eq!(progress.due(limits, None), begin + seconds(5));
        }
    }

    #[test]
    fn what_is_out_stays_out() {
        let begin = Instant::now();
        let mut progress = Progress::begin(MIB, begin);
        progress.went_out(begin + seconds(1));
        progress.went_out(begin + seconds(9));
        assert_eq!(progress.due(LIMITS, None), begin + seconds(21));
    }

    #[test]
    fn limits_without_an_end_end_nothing() {
        let begin = Instant::now();
        let limits = Limits {
            request: Duration::MAX,
            read: Duration::MAX,
            ..LIMITS
        };
        let mut progress = Progress::begin(MIB, begin);
        assert!(progress.due(limits, None) > begin + seconds(1 << 29));
        progress.went_out(begin);
        assert!(progress.due(limits, None) > begin + seconds(1 << 29));
    }

    #[test]
    fn only_a_large_request_tells_the_pace() {
        let begin = Instant::now();
        let mut progress = Progress::begin(MIB, begin);
        assert_eq!(progress.pace(begin), None, "there was no connection");
        progress.went_on(begin + seconds(2));
        let pace = progress.pace(begin + seconds(12)).unwrap();
        assert_eq!((pace.bytes, pace.time), (MIB, seconds(10)));
        let mut small = Progress::begin(MEASURED_FROM_BYTES - 1, begin);
        small.went_out(begin);
        assert_eq!(small.pace(begin + seconds(50)), None);
    }

    /// The rule above, held against a model of a system: the buffer holds `held` bytes at first, and
    /// twice what was acknowledged beside, the writer is woken when a third of it is free, and the
    /// link brings `rate` bytes a second. The answer comes when everything is through.
    #[test]
    fn what_buffers_hold_gets_through_before_hope_ends() {
        for rate in [1_000_u64, 5_000, 20_000, 200_000] {
            for held in [16_384_u64, 87_040, 400_000] {
                for grows in [false, true] {
                    for bytes in [200_000_u64, MIB as u64, 8 << 20] {
                        model(rate, held, grows, bytes);
                    }
                }
            }
        }
    }

    fn model(rate: u64, held: u64, grows: bool, bytes: u64) {
        let case = format!("{rate} B/s, {held} held, grows: {grows}, {bytes} bytes");
        let begin = Instant::now();
        let at = |through: u64| begin + Duration::from_secs_f64(through as f64 / rate as f64);
        let mut progress = Progress::begin(bytes as usize, begin);
        let mut through = 0;
        loop {
            let room = held + if grows { 2 * through } else { 0 };
            let taken = (through + room).min(bytes);
            let now = at(through);
            if taken == bytes {
                progress.went_out(now);
                break;
            }
            progress.went_on(now);
            // Woken when a third is free again.
            through += room.div_ceil(3);
            let silence = at(through).duration_since(now);
            if silence > LIMITS.request {
                return;
            }
        }
        if through == 0 {
            return;
        }
        assert!(at(bytes) <= progress.due(LIMITS, None), "{case}");
    }
}
