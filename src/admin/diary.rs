//! Who did what: in the log of the process, and the newest of it on the page.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde::Serialize;

use super::LOG_MAX;
use super::access::Caller;
use crate::millis::unix_ms;
use crate::observe;

/// One thing that was done, or was to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Entry {
    /// Its number since the start, from 1.
    number: u64,
    at_ms: u64,
    channel: String,
    /// What was done.
    what: &'static str,
    /// To which dead letter or incident, where it is one.
    number_of: Option<u64>,
    /// To how many, where that is a number.
    count: Option<u64>,
    /// From where: an address, or `socket`.
    from: String,
    /// By what right.
    by: &'static str,
    /// What came of it.
    outcome: String,
}

/// What was done, before it has a number.
#[derive(Clone, Debug)]
pub(super) struct Deed<'a> {
    pub(super) channel: &'a str,
    pub(super) what: &'static str,
    pub(super) number_of: Option<u64>,
    pub(super) count: Option<u64>,
    pub(super) outcome: &'a dyn Outcome,
}

/// A text without content of events.
pub(super) trait Outcome: fmt::Display + fmt::Debug + Sync {}

impl<T: fmt::Display + fmt::Debug + Sync> Outcome for T {}

/// The newest entries.
#[derive(Debug, Default)]
pub(super) struct Diary(Mutex<(u64, VecDeque<Entry>)>);

impl Diary {
    pub(super) fn note(&self, at: SystemTime, caller: &Caller, deed: &Deed<'_>) {
        let (from, by) = (caller.from(), caller.by());
        let Deed {
            channel,
            what,
            number_of,
            count,
            outcome,
        } = deed;
        let done = observe::Done {
            channel,
            what,
            number: *number_of,
            count: *count,
            outcome,
            from: &from,
            by,
        };
        observe::done_on_page(&done);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.0 += 1;
        let entry = Entry {
            number: kept.0,
            at_ms: unix_ms(at),
            channel: (*channel).to_owned(),
            what,
            number_of: *number_of,
            count: *count,
            from,
            by,
            outcome: outcome.to_string(),
        };
        if kept.1.len() == LOG_MAX {
            kept.1.pop_front();
        }
        kept.1.push_back(entry);
    }

    /// The number of the newest.
    pub(super) fn newest(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// The newest first.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.1.iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entries_go() {
        let diary = Diary::default();
        let caller = Caller::on_the_socket();
        for _ in 0..LOG_MAX + 5 {
            let deed = Deed {
                channel: "universal",
                what: "paused",
                number_of: None,
                count: None,
                outcome: &"done",
            };
            diary.note(SystemTime::UNIX_EPOCH, &caller, &deed);
        }
        let entries = diary.entries();
        assert_eq!(entries.len(), LOG_MAX);
        assert_eq!(entries[0].number, LOG_MAX as u64 + 5);
        assert_eq!(diary.newest(), entries[0].number);
    }
}
