//! Looks at a spool after a power cut, opens it and tells what is there, in a process of its own,
//! so that a panic or a hang is the death of that process alone.

pub(crate) mod look;

use std::path::Path;
use std::time::Duration;

use everpost::{Error, Queue, blocking};
use serde::{Deserialize, Serialize};

use super::event::{Name, event, recognise};
use super::oracle::{Fault, Found, Kind};
use super::workload::{Workload, settings};

/// The event that is appended to see whether the queue goes on: no workload has this name.
const PROBE: Name = Name {
    producer: 0xfff,
    number: 1,
};

/// What an inspection tells.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    /// What was found, and again after one more append, a close and an opening; and what is wrong
    /// with the looks in between.
    Found(Box<Found>, Box<Found>, Vec<String>),
    /// What failed.
    Refused(String),
}

/// Inspects a spool: a look, an opening, a look beside the owner that does nothing, an append, a
/// close, and the same once more.
pub(crate) fn inspect(spool: &Path, workload: Workload, seed: u64) -> Told {
    let mut alarms = Vec::new();
    let mut whole = || -> Result<(Found, Found), Error> {
        let seen = look::alone("before all", spool, seed, &mut alarms)?;
        let first = open(spool, workload, seed)?;
        let found = found(&first, seed)?;
        look::compare("the first opening", &seen, &found, &first, &mut alarms);
        let seen = look::beside(spool, seed, &mut alarms);
        look::compare("an idle owner", &seen, &found, &first, &mut alarms);
        first.blocking().append(event(seed, PROBE, (0, 1))?)?;
        close(&first)?;
        drop(first);
        let seen = look::alone("after a close", spool, seed, &mut alarms)?;
        let second = open(spool, workload, seed)?;
        let again = self::found(&second, seed)?;
        look::compare("the second opening", &seen, &again, &second, &mut alarms);
        close(&second)?;
        look::alone("at last", spool, seed, &mut alarms)?;
        Ok((found, again))
    };
    match whole() {
        Ok((first, second)) => Told::Found(Box::new(first), Box::new(second), alarms),
        Err(error) => Told::Refused(format!("{error}: {error:?}; {alarms:?}")),
    }
}

fn open(spool: &Path, workload: Workload, seed: u64) -> Result<Queue, Error> {
    let settings = settings(workload, seed);
    let queue = blocking::Queue::builder(spool).settings(settings).open()?;
    Ok(queue.as_async().clone())
}

fn close(queue: &Queue) -> Result<(), Error> {
    queue.blocking().close(Duration::ZERO).map(drop)
}

fn found(queue: &Queue, seed: u64) -> Result<Found, Error> {
    let mut found = Found::default();
    let queue = queue.blocking();
    for stored in queue.events(..) {
        let stored = stored?;
        found
            .events
            .push((stored.seq, recognise(seed, &stored.event)));
    }
    for letter in queue.dead_letters().list(..) {
        let letter = letter?;
        let name = recognise(seed, &letter.event).map(|(name, _)| name);
        found.letters.push((letter.seq, name));
    }
    let status = queue.status();
    let recovery = queue.recovery();
    found.cursor = status.cursor;
    found.last_seq = status.last_seq;
    found.ledger = status.ledger.into();
    found.dead_letters = status.dead_letters;
    found.missing = [status.missing, recovery.missing.clone()].concat();
    found.notes = recovery.notes.clone();
    let incidents = recovery.incidents.iter().chain(&status.incidents);
    found.incidents = incidents
        .map(|i| format!("{}: {}", i.place, i.what))
        .collect();
    Ok(found)
}

/// Whether the queue went on as it should after it was found like this.
pub(crate) fn check_second(first: &Found, second: &Found) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fault = |text: String| faults.push(Fault::new(Kind::Refused, text));
    let mut events = second.events.clone();
    let probe = events.pop();
    if probe != Some((first.last_seq + 1, Some((PROBE, (0, 1))))) {
        fault(format!("the next append is {probe:?}"));
    }
    // At the bound the append may have taken the place of the oldest.
    let evicted = second.ledger.evicted - first.ledger.evicted;
    let skip = usize::try_from(evicted).unwrap_or(usize::MAX);
    if first.events.get(skip..) != Some(&events) {
        fault("the second opening finds other events than the first".to_owned());
    }
    if second.letters != first.letters {
        fault("the second opening finds other dead letters than the first".to_owned());
    }
    if second.cursor != first.cursor + evicted {
        let (one, two) = (first.cursor, second.cursor);
        fault(format!("the cursor was {one} and is {two}"));
    }
    // A segment whose end was torn is named until a new one is begun: nothing else may be odd.
    let is_new = |note: &&String| !first.notes.contains(note);
    let new: Vec<_> = second.notes.iter().filter(is_new).collect();
    if !second.missing.is_empty() || !new.is_empty() {
        let missing = &second.missing;
        fault(format!(
            "after an orderly close the opening says {missing:?} {new:?}"
        ));
    }
    faults
}
