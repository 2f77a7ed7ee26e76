//! What a relay counts of its requests, beside the numbers of its queues.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper::StatusCode;

use crate::metrics::Kind;
use crate::metrics::page::{Labels, Page};
use crate::observe::Times;

/// The label with the name of the channel.
pub(super) const CHANNEL: &str = "channel";

/// Counter, requests: what came to the relay and was answered, since the process began, by channel
/// (empty where the request was refused before that was known) and status.
pub const REQUESTS: &str = "everpost_relay_requests_total";

/// Histogram, seconds: one request, from its head to the answer, by channel.
pub const REQUEST_TIME: &str = "everpost_relay_request_seconds";

/// The requests that were answered.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<BTreeMap<String, Counts>>);

/// Those of one channel.
#[derive(Debug, Default)]
struct Counts {
    /// Statuses are few: the relay gives no other than those it documents.
    by_status: BTreeMap<u16, u64>,
    times: Times,
}

impl Tally {
    /// Counts one. `channel` is one of the relay's, or empty.
    pub(super) fn add(&self, channel: &str, status: StatusCode, time: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(channel) {
            all.insert(channel.to_owned(), Counts::default());
        }
        if let Some(counts) = all.get_mut(channel) {
            *counts.by_status.entry(status.as_u16()).or_default() += 1;
            counts.times.add(time);
        }
    }
}

/// Adds the counts to a page.
pub(super) fn add(page: &mut Page, tally: &Tally) {
    let all = tally.0.lock().unwrap_or_else(PoisonError::into_inner);
    let labels = |channel: &str| Labels::default().with(CHANNEL, channel);
    page.head(REQUESTS, Kind::Counter, "requests that were answered");
    for (channel, counts) in all.iter() {
        for (status, count) in &counts.by_status {
            let labels = labels(channel).with("code", &status.to_string());
            // Exact up to 2^53.
            page.value(REQUESTS, &labels, *count as f64);
        }
    }
    page.head(
        REQUEST_TIME,
        Kind::Histogram,
        "time of one request to the relay",
    );
    for (channel, counts) in all.iter() {
        page.histogram(REQUEST_TIME, &labels(channel), &counts.times);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_channel_and_status_and_timed_by_channel() {
        let tally = Tally::default();
        for (channel, status) in [("a", 200), ("a", 200), ("a", 503), ("", 401)] {
            let status = StatusCode::from_u16(status).unwrap();
            tally.add(channel, status, Duration::from_millis(2));
        }
        let mut page = Page::default();
        add(&mut page, &tally);
        let page = page.into_text();
        for line in [
            "# TYPE everpost_relay_requests_total counter",
            "everpost_relay_requests_total{channel=\"a\",code=\"200\"} 2",
            "everpost_relay_requests_total{channel=\"a\",code=\"503\"} 1",
            "everpost_relay_requests_total{channel=\"\",code=\"401\"} 1",
            "everpost_relay_request_seconds_bucket{channel=\"a\",le=\"0.001\"} 0",
            "everpost_relay_request_seconds_bucket{channel=\"a\",le=\"0.0025\"} 3",
            "everpost_relay_request_seconds_count{channel=\"a\"} 3",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }
}
