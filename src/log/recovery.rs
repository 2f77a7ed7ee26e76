//! What the journal's frames and the segments' names say together: pure, no file is touched.
//!
//! After a crash these can disagree, and this is how each case is settled:
//!
//! - The journal holds events that a segment holds too: sealing was done, recycling was not. The
//!   segment serves them.
//! - The journal holds events the cursor has passed: they are ignored.
//! - A run of events begins at or before the last one known: an append failed after a part of it
//!   was written, and its numbers were given again. The later run counts.
//! - The books say that fewer events were appended than frames before them hold: likewise, the
//!   rest was never acknowledged.
//! - A number above the cursor is in no segment and in no frame: it was acknowledged once and is
//!   damaged. It is reported with its range and booked under `lost` when the cursor comes to it.
//!   Recovery does not guess, move the cursor or renumber anything.

use std::collections::BTreeMap;

use super::fates::{Chain, Fates};
use super::frame::{Entry, Frame, Gone, Kind, LetterNote};
use crate::event::Event;
use crate::id::Seq;
use crate::id::SeqRange;
use crate::ledger::{Ledger, Settled};

/// What is to be gone on with.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// The books; `appended` counts everything that was found.
    pub(crate) ledger: Ledger,
    /// The pending events that are in no segment, without gaps up to the last.
    pub(crate) tail: Vec<Event>,
    /// The number of the first of them, or of the next event.
    pub(crate) tail_first: Seq,
    /// What is above the cursor and nowhere to be found.
    pub(crate) missing: Vec<SeqRange>,
    /// How events left that were not delivered.
    pub(crate) fates: Fates,
    /// Events that wait beyond a gap in the journal: to be put into a segment, since the tail
    /// has no gaps. Runs in order.
    pub(crate) islands: Vec<(Seq, Vec<Event>)>,
    /// Dead letters that were retried or discarded: they are to be removed if they are there.
    pub(crate) gone: Vec<Seq>,
    /// The books of dead letters; `None` if the journal has none, as that of format 1.
    pub(crate) letters: Option<LetterNote>,
    /// Whether what stood before the first event was booked as lost, since no books are left.
    pub(crate) books_gone: Option<SeqRange>,
    /// What was odd, for people.
    pub(crate) notes: Vec<String>,
}

/// What is known beside frames and segments of how far the journal went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct End {
    /// The books at an orderly close, if nothing came after it.
    pub(crate) closed: Option<Ledger>,
    /// Numbers up to this one may have been given, and the file that would say which is gone.
    pub(crate) numbers: Option<Seq>,
}

/// What a segment serves or the cursor has passed. A journal may hold a great many runs of such
/// events, and to take them apart would be most of what opening costs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Passed {
    sealed: Option<SeqRange>,
    /// The cursor is not before this.
    cursor: Seq,
}

impl Passed {
    /// What the frames, in the order they were written, and the sealed range say of it.
    pub(crate) fn of(frames: &[Frame], sealed: Option<SeqRange>) -> Self {
        // Older books can only say more in a journal that is damaged.
        let books = frames.iter().rev().find_map(|frame| match frame.kind {
            Kind::Checkpoint | Kind::Ack => frame.entry(),
            Kind::Events | Kind::Packed | Kind::Retried | Kind::Letters | Kind::Fates => None,
        });
        let cursor = match books {
            Some(Entry::Checkpoint(ledger) | Entry::Ack(ledger)) => ledger.settled(),
            _ => 0,
        };
        Self { sealed, cursor }
    }

    /// Whether recovery has no use for any of these events.
    pub(crate) fn covers(&self, range: SeqRange) -> bool {
        let is_sealed = |sealed: SeqRange| sealed.first <= range.first && range.last <= sealed.last;
        range.last <= self.cursor || self.sealed.is_some_and(is_sealed)
    }
}

/// Puts the frames, in the order they were written, and the sealed range together. Runs that are
/// [`Passed`] are not looked into.
pub(crate) fn recover(frames: &[Frame], sealed: Option<SeqRange>, end: End) -> Recovered {
    let mut replay = Replay {
        sealed,
        passed: Passed::of(frames, sealed),
        ..Replay::default()
    };
    for frame in frames {
        replay.apply(frame);
    }
    if let Some(ledger) = end.closed {
        replay.book(ledger);
    }
    replay.last = replay.last.max(end.numbers.unwrap_or(0));
    replay.finish()
}

#[derive(Debug, Default)]
struct Replay {
    sealed: Option<SeqRange>,
    passed: Passed,
    ledger: Option<Ledger>,
    fates: Chain,
    events: BTreeMap<Seq, Event>,
    last: Seq,
    /// Notes on letters, each with the event that one became which was appended again, or 0.
    letters: Vec<(Seq, Option<LetterNote>, Option<Seq>)>,
    notes: Vec<String>,
}

impl Replay {
    fn apply(&mut self, frame: &Frame) {
        if let Some(range) = frame.range()
            && self.passed.covers(range)
        {
            self.truncate(range.first);
            self.last = range.last;
            return;
        }
        match frame.entry() {
            Some(Entry::Events(events)) => {
                let Some(first) = events.first().map(|stored| stored.seq) else {
                    return;
                };
                self.truncate(first);
                for stored in events {
                    self.last = stored.seq;
                    if !self.is_sealed(stored.seq) {
                        self.events.insert(stored.seq, stored.event);
                    }
                }
            }
            Some(Entry::Checkpoint(ledger) | Entry::Ack(ledger)) => self.book(ledger),
            Some(Entry::Fates(stated)) => self.fates.state(stated),
            Some(Entry::Retried(letter)) => self.letters.push((self.last, None, Some(letter))),
            Some(Entry::Letters(note)) => {
                let (event, gone) = match note.gone {
                    Some(Gone::Retried(letter)) => (self.last, Some(letter)),
                    Some(Gone::Discarded(letter)) => (0, Some(letter)),
                    None => (0, None),
                };
                self.take_back(&note);
                self.letters.push((event, Some(note), gone));
            }
            None => self.notes.push(format!(
                "a journal frame at offset {} checks but does not decode",
                frame.offset
            )),
        }
    }

    /// Forgets the letters that left only in a file that failed, which books written later do not
    /// count, or count for another letter.
    fn take_back(&mut self, later: &LetterNote) {
        let left = |note: &LetterNote| note.retried.saturating_add(note.discarded);
        let counts = |note: &LetterNote| match later.gone {
            Some(_) => left(note) < left(later),
            None => left(note) <= left(later),
        };
        let stands = |(_, note, gone): &(Seq, Option<LetterNote>, Option<Seq>)| {
            gone.is_none() || note.as_ref().is_none_or(counts)
        };
        self.letters.retain(stands);
    }

    fn book(&mut self, ledger: Ledger) {
        self.truncate(ledger.appended + 1);
        self.last = ledger.appended;
        self.fates.book(ledger);
        // The cursor only moves forward (I6); books from before damage are not older.
        let is_older = |old: Ledger| ledger.settled() < old.settled();
        if !self.ledger.is_some_and(is_older) {
            self.ledger = Some(ledger);
        }
    }

    fn truncate(&mut self, from: Seq) {
        drop(self.events.split_off(&from));
        // Without its event, the note would take the letter away for nothing.
        self.letters.retain(|(event, ..)| *event < from);
    }

    fn is_sealed(&self, seq: Seq) -> bool {
        self.sealed
            .is_some_and(|sealed| (sealed.first..=sealed.last).contains(&seq))
    }

    fn finish(mut self) -> Recovered {
        let sealed = self.sealed;
        let (mut ledger, books_gone) = self.ledger(sealed);
        ledger.appended = self
            .last
            .max(sealed.map_or(0, |s| s.last))
            .max(ledger.settled());
        let pending = self.events.split_off(&ledger.settled().saturating_add(1));
        let mut runs = runs(pending);
        let covered = runs.iter().map(range_of).chain(sealed);
        let missing = gaps(ledger, covered.collect());
        // The tail is the run that ends with the last event; earlier runs are islands.
        let is_tail = |run: &mut (Seq, Vec<Event>)| range_of(run).last == ledger.appended;
        let tail = runs.pop_if(is_tail);
        let (tail_first, tail) = tail.unwrap_or((ledger.appended + 1, Vec::new()));
        Recovered {
            ledger,
            tail,
            tail_first,
            missing,
            fates: self.fates.finish(ledger),
            islands: runs,
            gone: self.letters.iter().filter_map(|(.., gone)| *gone).collect(),
            letters: self.letters.iter().rev().find_map(|(_, note, _)| *note),
            books_gone,
            notes: self.notes,
        }
    }

    /// The last books found. If there are none although something is there, what came before it
    /// is booked as lost: it may have been delivered, but nothing says so.
    fn ledger(&self, sealed: Option<SeqRange>) -> (Ledger, Option<SeqRange>) {
        if let Some(ledger) = self.ledger {
            return (ledger, None);
        }
        let first_event = self.events.keys().next().copied();
        let first = first_event
            .into_iter()
            .chain(sealed.map(|s| s.first))
            .min()
            .unwrap_or(1);
        let mut ledger = Ledger::default();
        let before = SeqRange {
            first: 1,
            last: first - 1,
        };
        ledger.settle(Settled::Lost, before.last);
        (ledger, (before.last > 0).then_some(before))
    }
}

/// The runs of events that follow each other.
fn runs(events: BTreeMap<Seq, Event>) -> Vec<(Seq, Vec<Event>)> {
    let mut runs: Vec<(Seq, Vec<Event>)> = Vec::new();
    for (seq, event) in events {
        match runs.last_mut() {
            Some((first, run)) if *first + run.len() as u64 == seq => run.push(event),
            _ => runs.push((seq, vec![event])),
        }
    }
    runs
}

fn range_of((first, run): &(Seq, Vec<Event>)) -> SeqRange {
    SeqRange {
        first: *first,
        last: first + run.len() as u64 - 1,
    }
}

/// What lies above the cursor and in none of these ranges.
fn gaps(ledger: Ledger, mut covered: Vec<SeqRange>) -> Vec<SeqRange> {
    covered.sort();
    let mut gaps = Vec::new();
    let mut next = ledger.settled() + 1;
    for range in covered {
        if range.first > next {
            let last = range.first - 1;
            gaps.push(SeqRange { first: next, last });
        }
        next = next.max(range.last + 1);
    }
    if next <= ledger.appended {
        let last = ledger.appended;
        gaps.push(SeqRange { first: next, last });
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::frame::{FrameWriter, Kind, Place, scan};
    use bytes::Bytes;
    use uuid::Uuid;

    const QUEUE: Uuid = Uuid::from_u128(1);

    #[derive(Clone, Copy)]
    enum Step {
        Events(Seq, u64),
        Books(u64, u64),
        Retried(Seq),
        /// So many letters were discarded, this one with it.
        Discarded(u64, Option<Seq>),
    }
    use Step::{Books, Discarded, Events, Retried};

    fn run(steps: &[Step], sealed: Option<(Seq, Seq)>) -> Recovered {
        let mut writer = FrameWriter::new(QUEUE);
        let place = Place {
            generation: 1,
            buffer_offset: 0,
            synced: 0,
        };
        for step in steps {
            match *step {
                Events(first, count) => {
                    let events: Vec<Event> = (0..count)
                        .map(|i| Event::json((first + i).to_string()).unwrap())
                        .collect();
                    writer.events(place, first, &events);
                }
                Books(appended, delivered) => {
                    let ledger = Ledger {
                        appended,
                        delivered,
                        ..Ledger::default()
                    };
                    writer.books(place, Kind::Ack, ledger);
                }
                Retried(seq) => writer.retried(place, seq),
                Discarded(discarded, letter) => {
                    let note = LetterNote {
                        discarded,
                        gone: letter.map(Gone::Discarded),
                        ..LetterNote::default()
                    };
                    writer.letters(place, &note);
                }
            }
        }
        let frames = scan(&Bytes::copy_from_slice(writer.bytes()), QUEUE).frames;
        assert_eq!(frames.len(), steps.len());
        recover(
            &frames,
            sealed.map(|(first, last)| SeqRange { first, last }),
            End::default(),
        )
    }

    fn range(first: Seq, last: Seq) -> SeqRange {
        SeqRange { first, last }
    }

    #[test]
    fn nothing_at_all_is_an_empty_log() {
        let found = run(&[], None);
        assert_eq!((found.ledger, found.tail_first), (Ledger::default(), 1));
        assert!(found.tail.is_empty() && found.missing.is_empty() && found.notes.is_empty());
    }

    #[test]
    fn events_above_the_cursor_and_above_what_is_sealed_are_the_tail() {
        let found = run(&[Books(0, 0), Events(1, 10), Books(10, 2)], Some((1, 6)));
        assert_eq!((found.tail_first, found.tail.len()), (7, 4));
        assert_eq!(found.ledger.pending(), 8);
        assert!(found.missing.is_empty());
    }

    #[test]
    fn runs_that_are_sealed_wholly_or_in_part_count_like_all_others() {
        // The numbers from 4 on were given again.
        let found = run(&[Events(1, 6), Events(4, 2), Events(6, 4)], Some((1, 7)));
        assert_eq!((found.tail_first, found.tail.len()), (8, 2));
        assert_eq!(found.ledger.appended, 9);
        let found = run(&[Events(1, 9), Events(3, 2)], Some((1, 4)));
        assert_eq!((found.tail_first, found.tail.len()), (5, 0));
        assert_eq!(found.ledger.appended, 4);
        // Settled ones likewise; of the last run, a part is.
        let runs = [Events(1, 6), Events(4, 2), Events(6, 3)];
        let found = run(&[&runs[..], &[Books(8, 7)]].concat(), None);
        assert_eq!((found.tail_first, found.tail.len()), (8, 1));
        let found = run(&[&runs[..], &[Books(8, 8)]].concat(), None);
        assert_eq!((found.tail_first, found.tail.len()), (9, 0));
        assert_eq!((found.ledger.appended, found.missing), (8, vec![]));
        // A letter whose event went with the numbers that were given again stays.
        let found = run(&[Events(1, 6), Retried(2), Events(5, 1)], Some((1, 6)));
        assert!(found.gone.is_empty());
    }

    #[test]
    fn i2_a_gap_is_reported_with_its_exact_bounds() {
        let found = run(&[Events(1, 3), Events(6, 2)], None);
        assert_eq!(found.missing, [range(4, 5)]);
        assert_eq!((found.tail_first, found.tail.len()), (6, 2));
        assert_eq!(found.islands.len(), 1);
        let found = run(&[Books(9, 1), Events(10, 1)], Some((4, 6)));
        assert_eq!(found.missing, [range(2, 3), range(7, 9)]);
    }

    #[test]
    fn a_gap_at_the_very_end_is_reported_too() {
        let found = run(&[Events(1, 3), Books(5, 1)], None);
        assert_eq!(found.missing, [range(4, 5)]);
        assert_eq!(found.ledger.appended, 5);
        assert_eq!(found.tail_first, 6);
        assert_eq!(found.islands.len(), 1);
    }

    #[test]
    fn numbers_that_were_given_again_belong_to_the_later_run() {
        let found = run(&[Events(1, 5), Events(3, 1)], None);
        assert_eq!(found.ledger.appended, 3);
        assert_eq!(found.tail.len(), 3);
        let found = run(&[Events(1, 5), Books(2, 0)], None);
        assert_eq!((found.ledger.appended, found.tail.len()), (2, 2));
    }

    #[test]
    fn i6_older_books_never_move_the_cursor_back() {
        let found = run(&[Events(1, 5), Books(5, 4), Books(5, 2)], None);
        assert_eq!(found.ledger.settled(), 4);
    }

    #[test]
    fn without_books_what_came_before_is_booked_as_lost() {
        let found = run(&[], Some((11, 20)));
        assert_eq!((found.ledger.lost, found.ledger.pending()), (10, 10));
        assert_eq!(found.books_gone, Some(range(1, 10)));
    }

    /// A retry whose commit failed was taken back by the books after it, but its note was
    /// believed: the letter was removed, and its event was not in the queue.
    #[test]
    fn a_retry_that_was_taken_back_keeps_its_letter() {
        let found = run(&[Events(1, 3), Retried(1), Books(2, 1)], None);
        assert_eq!(found.ledger.appended, 2);
        assert!(found.gone.is_empty(), "{:?}", found.gone);
    }

    /// A discard whose sync failed was answered with an error, and the file replaced by one with the
    /// books as they were. The next opening believed the note in the failed file: it removed the
    /// letter, and then missed it.
    #[test]
    fn a_discard_that_was_taken_back_keeps_its_letter() {
        let taken_back = run(&[Discarded(1, Some(7)), Discarded(0, None)], None);
        assert!(taken_back.gone.is_empty(), "{:?}", taken_back.gone);
        let by_another = run(&[Discarded(1, Some(7)), Discarded(1, Some(8))], None);
        assert_eq!(by_another.gone, [8]);
        let stands = run(&[Discarded(1, Some(7)), Discarded(1, None)], None);
        assert_eq!(stands.gone, [7]);
        let both = run(&[Discarded(1, Some(7)), Discarded(2, Some(8))], None);
        assert_eq!(both.gone, [7, 8]);
    }

    #[test]
    fn retried_letters_are_remembered() {
        assert_eq!(run(&[Events(1, 1), Retried(7)], None).gone, [7]);
    }
}
