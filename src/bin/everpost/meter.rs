//! How an input goes, while it goes.

use std::time::Duration;

use tokio::time::Instant;

use crate::screen::{Bar, grouped};
use crate::text::count;

/// What takes less than this needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// Shows on a terminal how much of an input is taken in, once that takes a while.
#[derive(Debug)]
pub(crate) struct Meter {
    began: Instant,
    /// Nothing is shown.
    quiet: bool,
    bar: Option<Bar>,
}

impl Meter {
    pub(crate) fn new(quiet: bool) -> Self {
        Self {
            began: Instant::now(),
            quiet,
            bar: None,
        }
    }

    pub(crate) fn show(
        &mut self,
        appended: u64,
        refused: u64,
        read_bytes: u64,
        total_bytes: Option<u64>,
    ) {
        let took = self.began.elapsed();
        if self.quiet || took < PATIENCE {
            return;
        }
        if self.bar.is_none() {
            self.bar = Bar::new(total_bytes.is_some());
            // No terminal now is no terminal later.
            self.quiet = self.bar.is_none();
        }
        if let Some(bar) = &self.bar {
            bar.set(read_bytes, total_bytes, words(appended, refused, took));
        }
    }
}

fn words(appended: u64, refused: u64, took: Duration) -> String {
    let per_second = u128::from(appended) * 1_000 / took.as_millis().max(1);
    let per_second = u64::try_from(per_second).unwrap_or(u64::MAX);
    let mut words = format!(
        "{} events appended, {}/s",
        grouped(appended),
        grouped(per_second)
    );
    if refused > 0 {
        words.push_str(&format!(", {} refused", count(refused, "line")));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_whole_and_grouped() {
        let words = words(86_406, 1, Duration::from_millis(2_500));
        assert_eq!(words, "86,406 events appended, 34,562/s, 1 line refused");
    }
}
