//! What is wrong with settings.

use std::time::Duration;

use crate::error::Error;
use crate::size;

/// What is wrong with settings: a sentence for each that is out of its range, which begins with its
/// name.
#[derive(Default)]
pub(super) struct Problems(Vec<String>);

impl Problems {
    pub(super) fn add(&mut self, sentence: String) {
        self.0.push(sentence);
    }

    /// `most` is `u64::MAX` if there is no upper bound.
    pub(super) fn size(&mut self, name: &str, value: u64, least: u64, most: u64) {
        self.check(name, value, (least, most), most == u64::MAX, |bytes| {
            size::exact(*bytes)
        });
    }

    /// `most` is `Duration::MAX` if there is no upper bound.
    pub(super) fn time(&mut self, name: &str, value: Duration, least: Duration, most: Duration) {
        self.check(name, value, (least, most), most == Duration::MAX, |time| {
            humantime_serde::re::humantime::format_duration(*time).to_string()
        });
    }

    /// So much a second. There is no rate of none: that is what a pause is for.
    pub(super) fn rate(&mut self, name: &str, rate: Option<u64>) {
        if rate == Some(0) {
            self.add(format!("`{name}` is 0 and must be at least 1"));
        }
    }

    pub(super) fn number<N: PartialOrd + ToString>(
        &mut self,
        name: &str,
        value: N,
        least: N,
        most: N,
    ) {
        self.check(name, value, (least, most), false, N::to_string);
    }

    fn check<T: PartialOrd>(
        &mut self,
        name: &str,
        value: T,
        (least, most): (T, T),
        is_open: bool,
        shown: impl Fn(&T) -> String,
    ) {
        // A number that is none is in no range.
        if (&least..=&most).contains(&&value) {
            return;
        }
        let range = if is_open {
            format!("at least {}", shown(&least))
        } else {
            format!("from {} to {}", shown(&least), shown(&most))
        };
        self.add(format!("`{name}` is {} and must be {range}", shown(&value)));
    }

    pub(super) fn verdict(self) -> Result<(), Error> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Error::Settings { problems: self.0 })
        }
    }
}
