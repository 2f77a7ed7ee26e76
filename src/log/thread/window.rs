//! The batching window of group commit: how long a commit waits for more appends.
//!
//! What a commit costs is shared by all appends in it. The first caller to be back after a commit
//! would otherwise have the next one to itself, and all others would wait for the one after that.

use std::time::Duration;

/// How long a commit that costs next to nothing waits at the most because more and more come.
const GROWTH_MAX: Duration = Duration::from_micros(20);

/// Looks at the inbox during one window, at the most: a clock may stand still.
const LOOKS_MAX: u32 = 10_000;

/// How long to wait for appends before a commit, learned from the commits before.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// How many appends a commit had of late: as many as the largest, an eighth less after each.
    expected: usize,
    /// How long a commit that has fewer waits for them: a quarter of what the last one took.
    patience: Duration,
}

impl Window {
    /// Whether a commit that has so many appends waits for more: there are several callers.
    pub(super) fn opens(&self, appends: usize) -> bool {
        appends > 0 && self.expected.max(appends) > 1
    }

    /// Whether to look once more after `looks` looks and the time `spent`, of which the last one
    /// found `now` appends where there were `before`: as long as more and more come, and a moment
    /// longer for as many as are expected.
    pub(super) fn stays_open(
        &self,
        looks: u32,
        before: usize,
        now: usize,
        spent: Duration,
    ) -> bool {
        let grows = now > before && spent < self.patience.max(GROWTH_MAX);
        let lacks = now < self.expected && spent < self.patience;
        looks < LOOKS_MAX && (grows || lacks)
    }

    /// A commit has so many appends. True if it is worth a look at the clock how long it takes, to
    /// be told to [`took`](Self::took): a lone caller is not waited for.
    pub(super) fn commits(&mut self, appends: usize) -> bool {
        self.expected = appends.max(self.expected - self.expected.div_ceil(8));
        self.expected > 1
    }

    /// The commit took so long.
    pub(super) fn took(&mut self, took: Duration) {
        self.patience = took / 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// After commits of so many appends, each of which took 4 ms.
    fn after(commits: &[usize]) -> Window {
        let mut window = Window::default();
        for &appends in commits {
            if window.commits(appends) {
                window.took(4 * MS);
            }
        }
        window
    }

    #[test]
    fn a_lone_caller_is_committed_at_once_and_costs_no_look_at_the_clock() {
        let mut window = after(&[1, 1, 1]);
        assert!(!window.opens(1));
        assert!(!window.commits(1));
    }

    #[test]
    fn nothing_is_waited_for_without_an_append() {
        assert!(!after(&[64]).opens(0));
    }

    #[test]
    fn as_many_as_a_commit_had_of_late_are_waited_for_a_quarter_of_its_time() {
        let window = after(&[64]);
        assert!(window.opens(1));
        assert!(window.stays_open(1, 1, 1, MS / 2));
        assert!(!window.stays_open(1, 1, 1, MS), "its time is over");
        assert!(!window.stays_open(1, 64, 64, MS / 2), "all are there");
    }

    #[test]
    fn what_grows_is_waited_for_beyond_what_was_expected_and_not_without_end() {
        let window = after(&[2]);
        assert!(window.stays_open(1, 2, 3, MS / 2));
        assert!(!window.stays_open(1, 3, 3, MS / 2));
        assert!(!window.stays_open(1, 3, 4, MS));
    }

    #[test]
    fn where_a_commit_costs_nothing_growth_is_waited_for_some_microseconds() {
        let window = Window::default();
        assert!(window.opens(2));
        assert!(window.stays_open(1, 2, 3, GROWTH_MAX / 2));
        assert!(!window.stays_open(1, 2, 3, GROWTH_MAX));
    }

    #[test]
    fn callers_that_went_away_are_forgotten_after_some_commits() {
        let mut window = after(&[8]);
        let mut commits = 0;
        while window.commits(1) {
            commits += 1;
        }
        assert_eq!(commits, 6);
        assert!(!window.opens(1));
    }

    #[test]
    fn a_clock_that_stands_still_holds_nothing_up_for_ever() {
        let window = after(&[64]);
        assert!(window.stays_open(LOOKS_MAX - 1, 1, 1, Duration::ZERO));
        assert!(!window.stays_open(LOOKS_MAX, 1, 1, Duration::ZERO));
    }
}
