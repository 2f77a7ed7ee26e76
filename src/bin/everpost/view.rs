//! The state of a queue, for people and for programs.

use std::time::{Duration, SystemTime};

use everpost::clock::{Clock as _, SystemClock};
use everpost::inspect::Paused;
use everpost::{Answer, FlusherState, LetterLedger, PaceStatus, PauseReason, SeqRange, Status};
use serde_json::{Value, json};

use crate::incidents;
use crate::text::{bytes, count, cut, duration, time};

/// Characters shown of what the API said.
const SAID: usize = 200;

/// A status with what can only be seen from outside.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) status: Status,
    /// Whether another process owns the spool.
    pub(crate) live: bool,
    pub(crate) now: SystemTime,
    pub(crate) sample: Sample,
    /// Events that leave the queue in a second, if that was measured.
    pub(crate) rate: Option<f64>,
    /// The pause that the next owner will go on with, if the spool has no owner.
    pub(crate) paused: Option<Paused>,
}

/// The size of the oldest pending events.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) oldest_ms: Option<u64>,
}

impl View {
    /// Of a queue that was just looked at.
    pub(crate) fn new(status: Status, live: bool, sample: Sample) -> Self {
        Self {
            status,
            live,
            now: SystemClock.wall(),
            sample,
            rate: None,
            paused: None,
        }
    }

    /// Bytes of JSON that wait; an estimate if more waits than the sample holds.
    fn pending_bytes(&self) -> Option<u64> {
        match (self.status.pending, self.sample.events) {
            (0, _) => Some(0),
            (_, 0) => None,
            (pending, events) => {
                let bytes =
                    u128::from(self.sample.bytes) * u128::from(pending) / u128::from(events);
                u64::try_from(bytes).ok()
            }
        }
    }

    fn is_exact(&self) -> bool {
        self.status.pending <= self.sample.events
    }

    fn oldest(&self) -> Option<SystemTime> {
        let sampled = || {
            let ms = self.sample.oldest_ms.filter(|_| self.status.pending > 0)?;
            Some(SystemTime::UNIX_EPOCH + Duration::from_millis(ms))
        };
        self.status.oldest_pending.or_else(sampled)
    }

    fn age(&self) -> Option<Duration> {
        self.oldest()
            .map(|oldest| self.now.duration_since(oldest).unwrap_or_default())
    }

    /// How long it takes at this rate until nothing is pending.
    fn time_to_drain(&self) -> Option<Duration> {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let pending = self.status.pending as f64;
        let rate = self.rate.filter(|rate| *rate > 0.0 && pending > 0.0)?;
        Duration::try_from_secs_f64(pending / rate).ok()
    }

    /// The fields of [`Status`], and `live`, `oldest_age_ms`, `pending_bytes`,
    /// `pending_bytes_exact`, `rate_per_second`, `drain_ms`, `paused`.
    pub(crate) fn for_programs(&self) -> Value {
        let mut object = json!(self.status);
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        if let Some(fields) = object.as_object_mut() {
            let mut add = |name: &str, value: Value| fields.insert(name.to_owned(), value);
            add("live", json!(self.live));
            add("oldest_pending_ms", json!(self.oldest().map(millis)));
            add("oldest_age_ms", json!(self.age().map(ms)));
            add("pending_bytes", json!(self.pending_bytes()));
            add("pending_bytes_exact", json!(self.is_exact()));
            add("rate_per_second", json!(self.rate));
            add("drain_ms", json!(self.time_to_drain().map(ms)));
            add("paused", json!(self.paused));
        }
        object
    }

    pub(crate) fn for_people(&self) -> String {
        let status = &self.status;
        let mut rows = vec![("state", self.state())];
        rows.push(("pending", self.pending()));
        if let Some(rate) = self.rate {
            let left = self
                .time_to_drain()
                .map(|left| format!("; done in about {}", duration(left)));
            rows.push((
                "rate",
                format!("{rate:.0} events/s{}", left.unwrap_or_default()),
            ));
        }
        rows.extend(pace(&status.pace, self.now).map(|pace| ("pace", pace)));
        rows.push(("dead letters", dead_letters(status)));
        rows.extend(letters(&status.letters).map(|books| ("letters", books)));
        let disk = format!(
            "{} of {}",
            bytes(status.disk_bytes),
            bytes(status.max_bytes)
        );
        rows.push(("disk", disk));
        rows.push(("ledger", ledger(status)));
        for range in &status.missing {
            rows.push(("missing", format!("{} (damaged)", self::range(*range))));
        }
        if let Some(fault) = &status.storage_fault {
            rows.push(("disk fault", cut(fault, SAID)));
        }
        if let Some(answer) = &status.last_answer {
            rows.push(("last answer", said(answer)));
        }
        for incident in &status.incidents {
            let line = incidents::line(incident);
            rows.push(("incident", format!("{line}; see `everpost incidents`")));
        }
        rows.iter()
            .map(|(name, text)| format!("{name:<13}{text}\n"))
            .collect()
    }

    fn state(&self) -> String {
        match (&self.status.flusher, &self.paused) {
            (FlusherState::Absent, Some(paused)) if !self.live => format!(
                "no owner answers; paused since {}: {}",
                time(paused.since()),
                why(paused.reason, &paused.last_error)
            ),
            (FlusherState::Absent, _) if !self.live => {
                "no owner answers; `everpost drain` or `everpost run` delivers".to_owned()
            }
            (state, _) => self::state(state, self.now),
        }
    }

    fn pending(&self) -> String {
        let mut text = count(self.status.pending, "event");
        if self.status.pending > 0 {
            if let Some(size) = self.pending_bytes() {
                let about = if self.is_exact() { "" } else { "about " };
                text.push_str(&format!(", {about}{}", bytes(size)));
            }
            if let Some(age) = self.age() {
                text.push_str(&format!("; the oldest is {} old", duration(age)));
            }
        }
        text
    }
}

fn millis(time: SystemTime) -> u64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn ledger(status: &Status) -> String {
    let books = &status.ledger;
    format!(
        "appended {} = delivered {} + dead {} + expired {} + evicted {} + lost {} + pending {}",
        books.appended,
        books.delivered,
        books.dead,
        books.expired,
        books.evicted,
        books.lost,
        books.pending()
    )
}

/// What holds delivery back, if anything does.
pub(crate) fn pace(pace: &PaceStatus, now: SystemTime) -> Option<String> {
    let mut parts = Vec::new();
    let by_events = pace.rate_events.map(|rate| format!("{rate} events/s"));
    let by_bytes = pace.rate_bytes.map(|rate| format!("{}/s", bytes(rate)));
    let rates: Vec<String> = by_events.into_iter().chain(by_bytes).collect();
    if !rates.is_empty() {
        parts.push(format!("at most {}", rates.join(" and ")));
    }
    if let Some(gap) = pace.request_gap {
        let gap = duration(gap);
        parts.push(format!(
            "{gap} between requests, as the receiver asked for less"
        ));
    }
    if let Some(next) = pace.next {
        let left = next.duration_since(now).unwrap_or_default();
        parts.push(format!("the next request in {}", duration(left)));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// How many are held; and of how many, if some that were set aside are there no more.
fn dead_letters(status: &Status) -> String {
    let (held, books) = (status.dead_letters, &status.letters);
    let buried = status.ledger.dead.saturating_add(status.ledger.expired);
    let mut text = held.to_string();
    if buried != held {
        text.push_str(&format!(" of {buried} that were set aside"));
        for (number, what) in [(books.retried, "retried"), (books.discarded, "discarded")] {
            if number > 0 {
                text.push_str(&format!(", {number} {what}"));
            }
        }
    }
    if held > 0 {
        text.push_str("; see `everpost dead list`");
    }
    text
}

/// The books of dead letters, if they say that damage took some or brought some back.
fn letters(books: &LetterLedger) -> Option<String> {
    (books.lost > 0 || books.returned > 0).then(|| {
        format!(
            "held {}, retried {}, discarded {}, lost {}, returned {}",
            books.held, books.retried, books.discarded, books.lost, books.returned
        )
    })
}

/// `events 3 to 7`.
pub(crate) fn range(range: SeqRange) -> String {
    if range.first == range.last {
        format!("event {}", range.first)
    } else {
        format!("events {} to {}", range.first, range.last)
    }
}

/// What the flusher is doing, and why.
pub(crate) fn state(state: &FlusherState, now: SystemTime) -> String {
    let left = |time: SystemTime| duration(time.duration_since(now).unwrap_or_default());
    match state {
        FlusherState::Absent => "the owner of the spool does not deliver".to_owned(),
        FlusherState::Idle => "idle".to_owned(),
        FlusherState::Sending => "sending".to_owned(),
        FlusherState::BackingOff {
            until,
            attempt,
            last_error,
            ..
        } => format!(
            "backing off: attempt {attempt} failed ({}); the next is in {}",
            said(last_error),
            left(*until)
        ),
        FlusherState::Paused {
            reason,
            last_error,
            since,
            next_probe,
        } => {
            let probe = next_probe.map(|at| format!("; probes in {}", left(at)));
            format!(
                "paused since {}: {}{}",
                time(*since),
                why(*reason, last_error),
                probe.unwrap_or_default()
            )
        }
        FlusherState::Failed { message } => {
            format!(
                "failed by a panic, restart the owner: {}",
                cut(message, SAID)
            )
        }
        FlusherState::Closed => "closed".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Why delivery is paused.
pub(crate) fn why(reason: PauseReason, answer: &Answer) -> String {
    let why = match reason {
        PauseReason::Requested => return "on request".to_owned(),
        PauseReason::Credentials if answer.status.is_none() => "there is no key to deliver with",
        PauseReason::Credentials => "the key is not accepted",
        PauseReason::Address => "the address is wrong",
        PauseReason::SystemicRejection => "one event after the other is refused",
        _ => "for a reason this version does not know",
    };
    format!("{why} ({})", said(answer))
}

/// What a person can do about a pause.
pub(crate) fn cure(reason: PauseReason) -> &'static str {
    match reason {
        PauseReason::Requested => "`everpost resume` ends the pause",
        PauseReason::Credentials => "put a valid key into BA_API_KEY or BA_API_KEY_FILE",
        PauseReason::Address => "see that BA_BASE_URL is right",
        PauseReason::SystemicRejection => {
            "see what the API says; `everpost resume` if the fault is mended, or if the events \
             are to be set aside"
        }
        _ => "see `everpost status`",
    }
}

/// What the API said, in one line.
pub(crate) fn said(answer: &Answer) -> String {
    let mut parts = Vec::new();
    parts.extend(answer.status.map(|status| format!("HTTP {status}")));
    parts.extend(answer.detail.clone());
    parts.extend(answer.errors.iter().cloned());
    parts.extend(
        answer
            .warnings
            .iter()
            .map(|text| format!("warning: {text}")),
    );
    parts.extend(answer.request_id.as_ref().map(|id| format!("request {id}")));
    if parts.is_empty() {
        return "no answer".to_owned();
    }
    cut(&parts.join(", "), SAID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_says_what_holds_delivery_back_and_until_when() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_000_000);
        let mut held = PaceStatus::default();
        assert_eq!(pace(&held, now), None);
        held.rate_events = Some(100);
        held.rate_bytes = Some(64 << 10);
        let rates = "at most 100 events/s and 64.0 KiB/s";
        assert_eq!(pace(&held, now).as_deref(), Some(rates));
        held.rate_bytes = None;
        held.request_gap = Some(Duration::from_micros(1_500_400));
        held.next = Some(now + Duration::from_secs(3));
        let all = "at most 100 events/s; 1s 500ms between requests, as the receiver asked for \
                   less; the next request in 3s";
        assert_eq!(pace(&held, now).as_deref(), Some(all));
    }

    #[test]
    fn every_state_says_why_and_until_when() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_000_000);
        let backing_off = FlusherState::BackingOff {
            since: now - Duration::from_secs(30),
            until: now + Duration::from_secs(12),
            attempt: 3,
            last_error: Answer::from_status(503),
        };
        assert_eq!(
            state(&backing_off, now),
            "backing off: attempt 3 failed (HTTP 503); the next is in 12s"
        );
        let paused = FlusherState::Paused {
            reason: PauseReason::Credentials,
            last_error: Answer::from_detail("key has expired"),
            since: now,
            next_probe: Some(now + Duration::from_secs(60)),
        };
        assert_eq!(
            state(&paused, now),
            "paused since 2025-11-24T16:00:00.000Z: there is no key to deliver with \
             (key has expired); probes in 1m"
        );
        let requested = FlusherState::Paused {
            reason: PauseReason::Requested,
            last_error: Answer::default(),
            since: now,
            next_probe: None,
        };
        assert_eq!(
            state(&requested, now),
            "paused since 2025-11-24T16:00:00.000Z: on request"
        );
    }
}
