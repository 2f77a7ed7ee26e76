//! The numbers as a page in the text format of Prometheus, version 0.0.4.

use std::fmt::Write as _;

use crate::observe::numbers::{
    BATCHES_RETRIED, COMMIT_TIME, EVENTS_REFUSED, FLUSHER_STATE, Kind, METRICS, REQUEST_TIME,
    SECONDS_BUCKETS, SPOOL, STATE, STATES, accounts, levels, real, states,
};
use crate::observe::{Meter, Place, Times};
use crate::status::Status;

/// What the page is, for the header `content-type`.
pub(crate) const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A queue whose numbers are on a page.
pub(crate) struct Source<'a> {
    labels: Labels,
    meter: &'a Meter,
    status: Status,
}

impl<'a> Source<'a> {
    pub(crate) fn new(place: &'a Place, status: Status) -> Self {
        Self {
            labels: Labels::default().with(SPOOL, &place.name()),
            meter: place.meter(),
            status,
        }
    }

    /// With this label too.
    #[cfg(feature = "relay")]
    pub(crate) fn label(mut self, name: &str, value: &str) -> Self {
        self.labels = self.labels.with(name, value);
        self
    }
}

/// Adds queues to a page: each of [`METRICS`] with what it means and its value for each of them.
pub(crate) fn add_queues(page: &mut Page, sources: &[Source<'_>]) {
    for metric in METRICS {
        page.head(metric.name, metric.kind, metric.meaning);
        for source in sources {
            page.of_queue(metric.name, source);
        }
    }
}

/// Labels with their values, escaped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Labels(String);

impl Labels {
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let comma = if self.0.is_empty() { "" } else { "," };
        Self(format!("{}{comma}{name}=\"{}\"", self.0, escaped(value)))
    }
}

/// A page in the making.
#[derive(Debug, Default)]
pub(crate) struct Page(String);

impl Page {
    pub(crate) fn into_text(self) -> String {
        self.0
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a text cannot fail.
        let _ = writeln!(self.0, "{line}");
    }

    /// What stands above the values of a name.
    pub(crate) fn head(&mut self, name: &str, kind: Kind, meaning: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.line(format_args!("# HELP {name} {meaning}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// One value: a number of Rust is one of the format too.
    pub(crate) fn value(&mut self, name: &str, labels: &Labels, value: f64) {
        self.line(format_args!("{name}{{{}}} {value}", labels.0));
    }

    pub(crate) fn histogram(&mut self, name: &str, labels: &Labels, times: &Times) {
        let counts = times.cumulative();
        let bucket = format!("{name}_bucket");
        for (bound, count) in SECONDS_BUCKETS.iter().zip(counts) {
            self.value(&bucket, &labels.with("le", &bound.to_string()), real(count));
        }
        let [.., all] = counts;
        self.value(&bucket, &labels.with("le", "+Inf"), real(all));
        self.value(&format!("{name}_sum"), labels, times.sum().as_secs_f64());
        self.value(&format!("{name}_count"), labels, real(all));
    }

    /// Everything that stands under one name for a queue.
    fn of_queue(&mut self, name: &str, source: &Source<'_>) {
        let Source {
            labels,
            meter,
            status,
        } = source;
        match name {
            COMMIT_TIME => return self.histogram(name, labels, &meter.commits),
            REQUEST_TIME => return self.histogram(name, labels, &meter.requests),
            EVENTS_REFUSED => return self.value(name, labels, real(meter.refused.get())),
            BATCHES_RETRIED => return self.value(name, labels, real(meter.retried.get())),
            FLUSHER_STATE => {
                for (state, value) in STATES.iter().zip(states(&status.flusher)) {
                    self.value(name, &labels.with(STATE, state), value);
                }
                return;
            }
            _ => {}
        }
        let books = accounts(&status.ledger).map(|(name, value)| (name, real(value)));
        let mut known = books.into_iter().chain(levels(status));
        if let Some((_, value)) = known.find(|(known, _)| *known == name) {
            self.value(name, labels, value);
        }
    }
}

/// The text as the value of a label: `\`, `"` and line feeds stand for something there. Other
/// controls, which a terminal would obey, and which no scraper has any use for, are left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            c if c.is_control() => escaped.push('\u{FFFD}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_something_else_in_a_label_is_escaped() {
        assert_eq!(escaped("a\\b\"c\nd\u{9b}"), "a\\\\b\\\"c\\nd\u{FFFD}");
    }
}
