//! What must hold after a power cut: pure, from what was said before it and what was found after.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use everpost::{Ledger, Seq, SeqRange};
use serde::{Deserialize, Serialize};

use super::event::{Group, Name};
use super::mark::Mark;

/// What the marks before the cut promise.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    acked: BTreeMap<Seq, Name>,
    written: Vec<(Seq, Name, u64)>,
    delivered: BTreeMap<Seq, Name>,
    cursor: Seq,
    /// Letters that a process began to append again or to throw away.
    moved: BTreeMap<Seq, Name>,
    thrown: BTreeSet<Name>,
    /// Letters that are certainly gone.
    gone: BTreeSet<Seq>,
}

/// What was found after the cut.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) cursor: Seq,
    pub(crate) last_seq: Seq,
    pub(crate) ledger: Books,
    pub(crate) dead_letters: u64,
    pub(crate) missing: Vec<SeqRange>,
    pub(crate) notes: Vec<String>,
    /// What was put on record.
    pub(crate) incidents: Vec<String>,
    /// Pending events in the order they were read; without a name if altered.
    pub(crate) events: Vec<(Seq, Option<(Name, Group)>)>,
    pub(crate) letters: Vec<(Seq, Option<Name>)>,
}

/// The books, as plain numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Books {
    pub(crate) appended: u64,
    pub(crate) delivered: u64,
    pub(crate) dead: u64,
    pub(crate) expired: u64,
    pub(crate) evicted: u64,
    pub(crate) lost: u64,
    pub(crate) pending: u64,
}

impl From<Ledger> for Books {
    fn from(ledger: Ledger) -> Self {
        Self {
            appended: ledger.appended,
            delivered: ledger.delivered,
            dead: ledger.dead,
            expired: ledger.expired,
            evicted: ledger.evicted,
            lost: ledger.lost,
            pending: ledger.pending(),
        }
    }
}

/// What kind of fault a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// An acknowledged event is nowhere.
    Lost,
    /// An event differs from what was appended.
    Altered,
    /// Events stand in another order, or at other numbers, than they were appended at.
    Reordered,
    /// The cursor, the dead letters or the books say what is not so.
    Books,
    /// A gap that is not told, or one reported that power cuts must not make.
    Gap,
    /// Something was put on record: a power cut damages nothing.
    Alarm,
    /// A look changed a byte, raised an alarm, or saw something else than the opening.
    Look,
    /// The queue does not open, or not go on afterwards.
    Refused,
    /// Opening or reading took too long.
    Hang,
    /// The process died.
    Panic,
}

/// One thing that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

impl Fault {
    pub(crate) fn new(kind: Kind, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { kind, text }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}

impl Expected {
    /// Reads the marks in order.
    pub(crate) fn of(marks: &[Mark]) -> Self {
        let mut expected = Self::default();
        for mark in marks {
            expected.apply(mark);
        }
        expected
    }

    fn apply(&mut self, mark: &Mark) {
        match mark {
            // What was written and not made durable may be gone, its numbers given again.
            Mark::Open => self.written.clear(),
            Mark::Ack(first, name, count) => self.ack(*first, *name, *count),
            Mark::Wrote(first, name, count) => self.written.push((*first, *name, *count)),
            Mark::Safe => {
                for (first, name, count) in std::mem::take(&mut self.written) {
                    self.ack(first, name, count);
                }
            }
            Mark::Done(events) => self.delivered.extend(events.iter().copied()),
            Mark::Cursor(seq) => self.cursor = self.cursor.max(*seq),
            Mark::Retry(seq, name) => drop(self.moved.insert(*seq, *name)),
            Mark::Retried(old, new, name) => {
                self.gone.insert(*old);
                self.acked.insert(*new, *name);
            }
            Mark::Discard(seq, name) => {
                self.moved.insert(*seq, *name);
                self.thrown.insert(*name);
            }
            Mark::Discarded(seq) => drop(self.gone.insert(*seq)),
        }
    }

    fn ack(&mut self, first: Seq, name: Name, count: u64) {
        for i in 0..count {
            let number = name.number + i;
            self.acked.insert(first + i, Name { number, ..name });
        }
    }

    /// Everything about `found` that does not hold.
    pub(crate) fn check(&self, found: &Found) -> Vec<Fault> {
        let mut faults = Vec::new();
        check_gaps(found, &mut faults);
        for incident in &found.incidents {
            faults.push(Fault::new(Kind::Alarm, incident.clone()));
        }
        check_books(found, &mut faults);
        self.check_order(found, &mut faults);
        self.check_pending(found, &mut faults);
        let evicted = self.check_settled(found, &mut faults);
        self.check_letters(found, &mut faults);
        self.check_names(found, &evicted, &mut faults);
        faults
    }

    /// Each acknowledged event above the cursor stands at its number.
    fn check_pending(&self, found: &Found, faults: &mut Vec<Fault>) {
        let events: BTreeMap<_, _> = found.events.iter().copied().collect();
        for (seq, name) in self.acked.range(found.cursor + 1..) {
            match events.get(seq) {
                None => {
                    let text = format!("{seq} ({name:?}) was acknowledged and is not there");
                    faults.push(Fault::new(Kind::Lost, text));
                }
                Some(None) => {}
                Some(Some((other, _))) if other == name => {}
                Some(Some((other, _))) => {
                    let text = format!("{seq} is {other:?} and was acknowledged as {name:?}");
                    faults.push(Fault::new(Kind::Reordered, text));
                }
            }
        }
    }

    /// What the cursor has passed was delivered, or set aside, or evicted and booked so. Gives
    /// what must have been evicted.
    fn check_settled(&self, found: &Found, faults: &mut Vec<Fault>) -> BTreeSet<Seq> {
        let letters: BTreeSet<Seq> = found.letters.iter().map(|(seq, _)| *seq).collect();
        let settled = |seq: &Seq| {
            self.delivered.contains_key(seq)
                || letters.contains(seq)
                || self.moved.contains_key(seq)
        };
        let open: BTreeSet<Seq> = (1..=found.cursor).filter(|seq| !settled(seq)).collect();
        if open.len() as u64 > found.ledger.evicted {
            let text = format!(
                "the cursor {} has passed {open:?}, and only {} are booked as evicted",
                found.cursor, found.ledger.evicted
            );
            faults.push(Fault::new(Kind::Lost, text));
        }
        if found.cursor < self.cursor {
            let text = format!(
                "the cursor is {} and was durable at {}",
                found.cursor, self.cursor
            );
            faults.push(Fault::new(Kind::Books, text));
        }
        open
    }

    fn check_letters(&self, found: &Found, faults: &mut Vec<Fault>) {
        for (seq, name) in &found.letters {
            if name.is_none() {
                faults.push(Fault::new(Kind::Altered, format!("dead letter {seq}")));
            }
            if *seq > found.cursor {
                let text = format!("dead letter {seq} is above the cursor {}", found.cursor);
                faults.push(Fault::new(Kind::Books, text));
            }
            if self.gone.contains(seq) {
                faults.push(Fault::new(
                    Kind::Books,
                    format!("dead letter {seq} is back"),
                ));
            }
            if let (Some(name), Some(acked)) = (name, self.acked.get(seq))
                && name != acked
            {
                let text = format!("dead letter {seq} is {name:?} and was {acked:?}");
                faults.push(Fault::new(Kind::Reordered, text));
            }
        }
    }

    /// Each acknowledged event is somewhere, whatever its number.
    fn check_names(&self, found: &Found, evicted: &BTreeSet<Seq>, faults: &mut Vec<Fault>) {
        let pending = found
            .events
            .iter()
            .filter_map(|(_, e)| e.map(|(name, _)| name));
        let letters = found.letters.iter().filter_map(|(_, name)| *name);
        let mut known: BTreeSet<Name> = pending.chain(letters).collect();
        known.extend(self.delivered.values());
        known.extend(&self.thrown);
        for (seq, name) in &self.acked {
            let may_be_gone = found.ledger.evicted > 0 && evicted.contains(seq);
            if !known.contains(name) && !may_be_gone {
                let text = format!("{name:?}, acknowledged at {seq}, is nowhere");
                faults.push(Fault::new(Kind::Lost, text));
            }
        }
    }

    /// The events of a producer stand in the order it appended them, and an append of several is
    /// there as a whole.
    fn check_order(&self, found: &Found, faults: &mut Vec<Fault>) {
        let again: BTreeSet<Name> = self.moved.values().copied().collect();
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        let mut open: Option<(Name, Group)> = None;
        for (seq, event) in &found.events {
            let Some((name, (index, count))) = event else {
                faults.push(Fault::new(Kind::Altered, format!("event {seq}")));
                continue;
            };
            if again.contains(name) {
                continue;
            }
            let before = last.insert(name.producer, name.number);
            if before.is_some_and(|before| before >= name.number) {
                let text = format!("{name:?} at {seq} comes after number {before:?}");
                faults.push(Fault::new(Kind::Reordered, text));
            }
            if let Some((begun, group)) = open
                && (begun.producer != name.producer || group.0 + 1 != *index)
            {
                let text = format!("the append of {begun:?} {group:?} is torn before {seq}");
                faults.push(Fault::new(Kind::Reordered, text));
            }
            open = (index + 1 < *count).then_some((*name, (*index, *count)));
        }
        if let Some((begun, group)) = open {
            let text = format!("the append of {begun:?} {group:?} is torn at the end");
            faults.push(Fault::new(Kind::Reordered, text));
        }
    }
}

fn check_gaps(found: &Found, faults: &mut Vec<Fault>) {
    if !found.missing.is_empty() || found.ledger.lost > 0 {
        let text = format!(
            "reported as damaged: {:?}, booked as lost: {}",
            found.missing, found.ledger.lost
        );
        faults.push(Fault::new(Kind::Gap, text));
    }
    let mut next = found.cursor + 1;
    for (seq, _) in &found.events {
        if *seq != next {
            faults.push(Fault::new(Kind::Gap, format!("{seq} was read for {next}")));
        }
        next = seq + 1;
    }
    if next != found.last_seq + 1 {
        let text = format!("reading ended before {next} of {}", found.last_seq);
        faults.push(Fault::new(Kind::Gap, text));
    }
}

fn check_books(found: &Found, faults: &mut Vec<Fault>) {
    let books = found.ledger;
    let settled = books.delivered + books.dead + books.expired + books.evicted + books.lost;
    let balanced = books.appended == found.last_seq
        && settled == found.cursor
        && books.appended == settled + books.pending
        && books.pending == found.events.len() as u64
        && found.dead_letters == found.letters.len() as u64
        && found.dead_letters <= books.dead;
    if !balanced {
        let text = format!(
            "cursor {}, last {}, read {}, letters {}: {books:?}",
            found.cursor,
            found.last_seq,
            found.events.len(),
            found.letters.len()
        );
        faults.push(Fault::new(Kind::Books, text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64) -> Name {
        Name {
            producer: 0,
            number,
        }
    }

    /// Six events, of which two were delivered and the third is a dead letter.
    fn marks() -> Vec<Mark> {
        vec![
            Mark::Open,
            Mark::Ack(1, name(1), 4),
            Mark::Done(vec![(1, name(1)), (2, name(2))]),
            Mark::Ack(5, name(5), 2),
            Mark::Cursor(2),
        ]
    }

    fn found() -> Found {
        Found {
            cursor: 3,
            last_seq: 6,
            ledger: Books {
                appended: 6,
                delivered: 2,
                dead: 1,
                pending: 3,
                ..Books::default()
            },
            dead_letters: 1,
            events: (4..=6)
                .map(|seq| (seq, Some((name(seq), (0, 1)))))
                .collect(),
            letters: vec![(3, Some(name(3)))],
            ..Found::default()
        }
    }

    fn kinds(marks: &[Mark], found: &Found) -> Vec<Kind> {
        let faults = Expected::of(marks).check(found);
        let kinds: BTreeSet<Kind> = faults.iter().map(|fault| fault.kind).collect();
        kinds.into_iter().collect()
    }

    #[test]
    fn what_is_in_order_has_no_fault() {
        assert_eq!(kinds(&marks(), &found()), []);
    }

    #[test]
    fn a_lost_event_is_seen() {
        let mut end = found();
        end.events.pop();
        end.last_seq = 5;
        end.ledger.appended = 5;
        end.ledger.pending = 2;
        assert_eq!(kinds(&marks(), &end), [Kind::Lost]);
    }

    #[test]
    fn a_cursor_past_what_was_never_delivered_is_a_loss() {
        let mut past = found();
        past.events.remove(0);
        past.cursor = 4;
        past.ledger.delivered = 3;
        past.ledger.pending = 2;
        assert_eq!(kinds(&marks(), &past), [Kind::Lost]);
    }

    #[test]
    fn a_lost_dead_letter_is_seen() {
        let mut found = found();
        found.letters.clear();
        found.dead_letters = 0;
        assert_eq!(kinds(&marks(), &found), [Kind::Lost]);
        let mut marks = marks();
        marks.push(Mark::Discard(3, name(3)));
        assert_eq!(kinds(&marks, &found), []);
    }

    #[test]
    fn a_letter_appended_again_is_in_exactly_one_place() {
        let mut marks = marks();
        marks.push(Mark::Retry(3, name(3)));
        assert_eq!(kinds(&marks, &found()), []);
        marks.push(Mark::Retried(3, 7, name(3)));
        assert_eq!(kinds(&marks, &found()), [Kind::Lost, Kind::Books]);
        let mut again = found();
        again.letters.clear();
        again.dead_letters = 0;
        again.events.push((7, Some((name(3), (0, 1)))));
        again.last_seq = 7;
        again.ledger.appended = 7;
        again.ledger.pending = 4;
        assert_eq!(kinds(&marks, &again), []);
    }

    #[test]
    fn altered_swapped_and_torn_events_are_seen() {
        let mut altered = found();
        altered.events[1].1 = None;
        assert_eq!(kinds(&marks(), &altered), [Kind::Lost, Kind::Altered]);
        let mut swapped = found();
        swapped.events[1].1 = Some((name(6), (0, 1)));
        swapped.events[2].1 = Some((name(5), (0, 1)));
        assert_eq!(kinds(&marks(), &swapped), [Kind::Reordered]);
        let mut torn = found();
        torn.events[2].1 = Some((name(6), (0, 2)));
        assert_eq!(kinds(&marks(), &torn), [Kind::Reordered]);
    }

    #[test]
    fn what_was_put_on_record_is_a_false_alarm() {
        let mut found = found();
        found.incidents.push("journal: it was cut".to_owned());
        assert_eq!(kinds(&marks(), &found), [Kind::Alarm]);
    }

    #[test]
    fn gaps_and_wrong_books_are_seen() {
        let mut gap = found();
        gap.events.remove(1);
        assert_eq!(kinds(&marks(), &gap), [Kind::Lost, Kind::Books, Kind::Gap]);
        let mut back = found();
        back.cursor = 1;
        assert!(kinds(&marks(), &back).contains(&Kind::Books));
    }

    #[test]
    fn written_events_are_owed_only_once_they_are_safe() {
        let mut marks = marks();
        marks.push(Mark::Wrote(7, name(7), 1));
        assert_eq!(kinds(&marks, &found()), []);
        marks.push(Mark::Safe);
        assert_eq!(kinds(&marks, &found()), [Kind::Lost]);
    }

    #[test]
    fn evicted_events_are_only_those_that_are_booked() {
        let marks = [Mark::Open, Mark::Ack(1, name(1), 3)];
        let mut found = Found {
            cursor: 2,
            last_seq: 3,
            ledger: Books {
                appended: 3,
                evicted: 2,
                pending: 1,
                ..Books::default()
            },
            events: vec![(3, Some((name(3), (0, 1))))],
            ..Found::default()
        };
        assert_eq!(kinds(&marks, &found), []);
        found.ledger.evicted = 1;
        found.ledger.delivered = 1;
        assert_eq!(kinds(&marks, &found), [Kind::Lost]);
    }
}
