//! The numbers as a page in the text format of Prometheus, version 0.0.4.

use std::fmt::Write as _;

use super::{
    BATCHES_RETRIED, COMMIT_TIME, EVENTS_REFUSED, FLUSHER_STATE, Kind, METRICS, REQUEST_TIME,
    SECONDS_BUCKETS, SPOOL, STATE, STATES, accounts, levels, real, states,
};
use crate::observe::{Meter, Place, Times};
use crate::status::Status;

/// What the page is, for the header `content-type`.
pub(crate) const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The page of one queue: each of [`METRICS`] with what it means and its value.
pub(crate) fn page(place: &Place, status: &Status) -> String {
    let meter = place.meter();
    let mut page = Page {
        text: String::new(),
        spool: escaped(&place.name()),
    };
    for metric in METRICS {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let (name, meaning) = (metric.name, metric.meaning);
        page.line(format_args!("# HELP {name} {meaning}"));
        page.line(format_args!("# TYPE {name} {kind}"));
        page.values(name, status, meter);
    }
    page.text
}

/// A page in the making.
struct Page {
    text: String,
    /// The value of the label, escaped.
    spool: String,
}

impl Page {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a text cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    /// One value: a number of Rust is one of the format too.
    fn value(&mut self, name: &str, labels: &str, value: f64) {
        let spool = std::mem::take(&mut self.spool);
        self.line(format_args!(
            "{name}{{{SPOOL}=\"{spool}\"{labels}}} {value}"
        ));
        self.spool = spool;
    }

    /// Everything that stands under one name.
    fn values(&mut self, name: &str, status: &Status, meter: &Meter) {
        match name {
            COMMIT_TIME => return self.histogram(name, &meter.commits),
            REQUEST_TIME => return self.histogram(name, &meter.requests),
            EVENTS_REFUSED => return self.value(name, "", real(meter.refused.get())),
            BATCHES_RETRIED => return self.value(name, "", real(meter.retried.get())),
            FLUSHER_STATE => {
                for (state, value) in STATES.iter().zip(states(&status.flusher)) {
                    self.value(name, &format!(",{STATE}=\"{state}\""), value);
                }
                return;
            }
            _ => {}
        }
        let books = accounts(&status.ledger).map(|(name, value)| (name, real(value)));
        let mut known = books.into_iter().chain(levels(status));
        if let Some((_, value)) = known.find(|(known, _)| *known == name) {
            self.value(name, "", value);
        }
    }

    fn histogram(&mut self, name: &str, times: &Times) {
        let counts = times.cumulative();
        let bucket = format!("{name}_bucket");
        for (bound, count) in SECONDS_BUCKETS.iter().zip(counts) {
            self.value(&bucket, &format!(",le=\"{bound}\""), real(count));
        }
        let [.., all] = counts;
        self.value(&bucket, ",le=\"+Inf\"", real(all));
        self.value(&format!("{name}_sum"), "", times.sum().as_secs_f64());
        self.value(&format!("{name}_count"), "", real(all));
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
