//! The picture of a spool: everything in it read and put together, and not a byte changed (I10).
//!
//! An owner that opens a spool and a reader that only looks at it use the same picture, made by the
//! same code from the same bytes: no loss that only one of them sees, no alarm that only one of
//! them raises (I11). Opening puts on record what the picture finds and goes on from it; a look
//! shows it.
//!
//! It reads the journal, the last segment, the dead letters and the names of the other segments; what
//! is in those is read when its turn comes.

mod pending;
mod race;

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use super::codec::Memo;
use super::fates::Fates;
use super::frame::LetterNote;
use super::incidents::Record;
use super::journal::{self, Seen};
use super::kept_settings;
use super::letters::Letters;
use super::marker::{self, Identity};
use super::memo;
use super::recovery::{Passed, Recovered, recover};
use super::shelf::{Row, segment_place};
use crate::error::Error;
use crate::event::Event;
use crate::id::SeqRange;
use crate::id::{EventId, Seq};
use crate::incident::{Finding, IncidentKind};
use crate::settings::Settings;

pub(crate) use pending::Pending;
pub(crate) use race::undisturbed;

/// What is in a spool.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) spool: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) journal: Seen,
    pub(crate) row: Row,
    pub(crate) letters: Letters,
    pub(crate) memo: Memo,
    /// Those of the last owner, if they can be read.
    pub(crate) settings: Option<Settings>,
    pub(crate) recovered: Recovered,
    /// The books of dead letters, as they balance with what was found.
    pub(crate) letter_books: LetterNote,
    /// Letters that are there and are to go: they left, or their event is still pending.
    pub(crate) leaving: Vec<Seq>,
    pub(crate) record: Record,
    /// What was damaged, whether it is on record or not.
    pub(crate) findings: Vec<Finding>,
    /// What was odd and cost nothing, for people.
    pub(crate) notes: Vec<String>,
}

impl Picture {
    /// Takes the picture of a spool that no owner writes to meanwhile; `None` if it is no spool yet.
    ///
    /// # Errors
    /// As [`marker::identify`]; [`Error::Storage`] if the disk refuses to be read.
    pub(crate) fn take(spool: &Path) -> Result<Option<Self>, Error> {
        let Some(identity) = marker::identify(spool)? else {
            return Ok(None);
        };
        let queue = identity.queue;
        let (record, damaged_record) = Record::read(spool)?;
        let read_journal = || journal::look(spool, queue, identity.format < marker::FORMAT);
        let (journal, stores) = side_by_side(&read_journal, || {
            Ok::<_, Error>((Row::look(spool, queue)?, Letters::look(spool, queue)?))
        });
        let (mut journal, (mut row, letters)) = (journal?, stores?);
        let (memo, damaged_memo) = memo::read(spool, letters.old_memo.as_deref())?;
        let (settings, damaged_settings) = kept_settings::read(spool)?;
        let mut recovered = put_together(&mut journal, &mut row, &identity)?;
        // As few as the last owner remembered.
        let journal_bytes = settings
            .as_ref()
            .map_or(u64::MAX, |kept| kept.journal_bytes);
        recovered.fates.cut(Fates::ranges_max(journal_bytes));
        // Its making was cut off between the two markers: nothing was ever in it, and nothing is
        // wrong with it.
        let is_new = journal.is_unused() && row.last().is_none() && letters.count() == 0;
        let marker = identity.finding.clone().filter(|_| !is_new);
        let mut findings: Vec<Finding> = marker.into_iter().collect();
        findings.extend(damaged_record);
        findings.extend(journal.findings.iter().cloned());
        findings.extend(row.findings.iter().cloned());
        findings.extend(letters.findings.iter().cloned());
        findings.extend(damaged_memo);
        findings.extend(damaged_settings);
        findings.extend(missing_events(
            &recovered,
            &row,
            journal.end.numbers.is_some(),
        ));
        let mut notes = std::mem::take(&mut journal.notes);
        notes.extend(row.notes.iter().cloned());
        notes.extend(recovered.notes.iter().cloned());
        let mut picture = Self {
            spool: spool.to_owned(),
            identity,
            journal,
            row,
            letters,
            memo,
            settings,
            recovered,
            letter_books: LetterNote::default(),
            leaving: Vec::new(),
            record,
            findings,
            notes,
        };
        picture.balance_letters()?;
        Ok(Some(picture))
    }

    /// The last settled event.
    pub(crate) fn cursor(&self) -> Seq {
        self.recovered.ledger.settled()
    }

    /// Finds the letters that are to go, and holds the others against the books.
    fn balance_letters(&mut self) -> Result<(), Error> {
        let cursor = self.cursor();
        // Letters whose events wait all the same: burying was cut off. If the event cannot be read
        // any more, the letter is all that is left of it and stays (promise 4).
        let mut stay = 0;
        let mut above = Vec::new();
        for seq in self.letters.seqs(cursor, usize::MAX) {
            let letter = match self.letters.letter(seq) {
                Err(Error::Damaged { .. }) => None,
                letter => letter?,
            };
            let id = letter.map(|letter| letter.event.id());
            if id.is_some() && self.id_of(seq)? == id {
                above.push(seq);
            } else {
                stay += 1;
            }
        }
        let held: Vec<Seq> = self.letters.seqs(0, usize::MAX);
        let gone = &self.recovered.gone;
        let has_left = |seq: &Seq| gone.contains(seq) && *seq <= cursor;
        self.leaving = held.into_iter().filter(has_left).chain(above).collect();
        let held = self.letters.count() - self.leaving.len() as u64;
        let ledger = self.recovered.ledger;
        let buried = ledger.dead.saturating_add(ledger.expired);
        let found = Balance {
            buried,
            held: held.saturating_sub(stay),
            marked: self.letters.marked(),
            is_old: self.identity.format < marker::FORMAT,
        };
        let (books, finding) = found.with(self.recovered.letters);
        self.letter_books = LetterNote {
            returned: books.returned + stay,
            ..books
        };
        self.findings.extend(finding);
        Ok(())
    }

    /// The id of a pending event, if it can be read.
    fn id_of(&self, seq: Seq) -> Result<Option<EventId>, Error> {
        let recovered = &self.recovered;
        let islands = recovered.islands.iter().map(|(first, run)| (*first, run));
        let mut runs = islands.chain([(recovered.tail_first, &recovered.tail)]);
        let at = |(first, run): (Seq, &Vec<Event>)| {
            let index = usize::try_from(seq.checked_sub(first)?).ok()?;
            run.get(index).map(Event::id)
        };
        match runs.find_map(at) {
            Some(id) => Ok(Some(id)),
            None => self.row.id_of(seq),
        }
    }
}

/// What is there of dead letters.
#[derive(Clone, Copy, Debug)]
struct Balance {
    buried: u64,
    held: u64,
    /// Numbers whose letters are marked as having left.
    marked: u64,
    /// Whether it is a spool that kept no such books.
    is_old: bool,
}

impl Balance {
    /// The books, so that they balance, and what they say is wrong.
    fn with(self, books: Option<LetterNote>) -> (LetterNote, Option<Finding>) {
        let (buried, held) = (self.buried, self.held);
        let Some(mut books) = books.map(|books| LetterNote {
            gone: None,
            ..books
        }) else {
            return self.first_books();
        };
        let left = [books.retried, books.discarded, books.lost, books.earlier];
        let left = left.into_iter().fold(0, u64::saturating_add);
        let wanted = buried.saturating_add(books.returned).saturating_sub(left);
        if held < wanted {
            books.lost += wanted - held;
            return (books, Some(missing_letters(wanted - held, books.lost)));
        }
        books.returned += held - wanted;
        let finding = (held > wanted).then(|| {
            let what = format!(
                "{} dead letters are there again that had left, {} in all",
                held - wanted,
                books.returned
            );
            Finding::new(IncidentKind::LettersMissing, "letters", what)
        });
        (books, finding)
    }

    /// A spool that kept none has them from here on.
    fn first_books(self) -> (LetterNote, Option<Finding>) {
        let gone = self.buried.saturating_sub(self.held);
        // The marks of format 1 tell how many had left, unless its file was copied since.
        let lost = if self.is_old {
            gone.saturating_sub(self.marked)
        } else {
            0
        };
        let books = LetterNote {
            lost,
            earlier: gone - lost,
            returned: self.held.saturating_sub(self.buried),
            ..LetterNote::default()
        };
        let finding = if lost > 0 {
            Some(missing_letters(lost, lost))
        } else if !self.is_old && self.buried + self.held > 0 {
            let what = "the books of dead letters are gone; what is there is counted anew";
            Some(Finding::new(IncidentKind::Damaged, "journal", what))
        } else {
            None
        };
        (books, finding)
    }
}

fn missing_letters(count: u64, in_all: u64) -> Finding {
    let what = format!(
        "{count} dead letters are missing that were neither retried nor discarded, {in_all} in all"
    );
    Finding::new(IncidentKind::LettersMissing, "letters", what)
}

/// Puts the frames and the segments together.
///
/// A power cut may keep a chunk and lose the one before it, which was not durable either. The
/// journal has the events of both then, and the last segment ends before the hole.
fn put_together(
    journal: &mut Seen,
    row: &mut Row,
    identity: &Identity,
) -> Result<Recovered, Error> {
    let sealed = row.range();
    let hole = row.last().and_then(|last| last.hole());
    let before = |hole: SeqRange| {
        let last = hole.first - 1;
        sealed
            .map(|sealed| SeqRange { last, ..sealed })
            .filter(|range| range.first <= range.last)
    };
    let short = hole.map_or(sealed, before);
    let passed = Passed::of(&journal.frames, short);
    journal.read_runs(identity.queue, |run| !passed.covers(run))?;
    if let Some(hole) = hole {
        let found = recover(&journal.frames, short, journal.end);
        if found
            .missing
            .iter()
            .all(|missing| missing.last < hole.first)
        {
            row.end_before(hole.first);
            return Ok(found);
        }
    }
    Ok(recover(&journal.frames, sealed, journal.end))
}

/// The acknowledged events that cannot be read, as far as the picture goes.
fn missing_events(recovered: &Recovered, row: &Row, at_most: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(range) = recovered.books_gone {
        let more =
            ": the books are gone; they count as lost, although they may have been delivered";
        findings.push(Finding::events("journal", range, more));
    }
    let cursor = recovered.ledger.settled();
    let appended = recovered.ledger.appended;
    for range in &recovered.missing {
        let is_end = at_most && range.last == appended;
        let more = if is_end {
            ", if there were so many"
        } else {
            ""
        };
        findings.push(Finding::events("journal", *range, more));
    }
    if let Some(last) = row.last() {
        let place = segment_place(last.first_seq());
        for hole in last.holes().into_iter().filter(|hole| hole.last > cursor) {
            let first = hole.first.max(cursor + 1);
            findings.push(Finding::events(&place, SeqRange { first, ..hole }, ""));
        }
    }
    findings
}

/// Does both at once, the first on a thread that ends with it: one mostly computes and the other
/// mostly waits. One after the other if the system has no thread to give.
fn side_by_side<A: Send, B>(first: &(impl Fn() -> A + Sync), second: impl FnOnce() -> B) -> (A, B) {
    thread::scope(|scope| {
        let named = thread::Builder::new().name("everpost-open".into());
        match named.spawn_scoped(scope, first) {
            Ok(begun) => {
                let second = second();
                let first = begun.join().unwrap_or_else(|panic| resume_unwind(panic));
                (first, second)
            }
            Err(_) => (first(), second()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    #[test]
    fn one_side_can_wait_for_the_other() {
        let (told, hears) = channel();
        let hears = Mutex::new(hears);
        let first = || hears.lock().unwrap().recv().unwrap();
        let both = side_by_side(&first, || told.send(1).is_ok());
        assert_eq!(both, (1, true));
    }

    #[test]
    fn a_panic_of_either_side_is_a_panic_of_both() {
        let text = |panic: Box<dyn std::any::Any + Send>| *panic.downcast::<&str>().unwrap();
        let first = std::panic::catch_unwind(|| side_by_side(&|| panic!("first"), || ()));
        assert_eq!(text(first.unwrap_err()), "first");
        let second = std::panic::catch_unwind(|| side_by_side(&|| (), || panic!("second")));
        assert_eq!(text(second.unwrap_err()), "second");
    }

    #[test]
    fn the_books_of_letters_balance_with_what_is_there_whatever_that_is() {
        let found = |buried, held, marked, is_old| Balance {
            buried,
            held,
            marked,
            is_old,
        };
        let books = LetterNote {
            retried: 2,
            discarded: 1,
            ..LetterNote::default()
        };
        let (same, finding) = found(10, 7, 0, false).with(Some(books));
        assert_eq!((same, finding), (books, None));
        let (less, finding) = found(10, 5, 0, false).with(Some(books));
        assert_eq!((less.lost, finding.is_some()), (2, true));
        assert_eq!(found(10, 5, 0, false).with(Some(less)), (less, None));
        let (more, finding) = found(10, 8, 0, false).with(Some(books));
        assert_eq!((more.returned, finding.is_some()), (1, true));
        assert_eq!(found(10, 8, 0, false).with(Some(more)), (more, None));
        // Format 1 kept none.
        let (first, finding) = found(10, 7, 3, true).with(None);
        assert_eq!((first.earlier, first.lost, finding), (3, 0, None));
        let (first, finding) = found(10, 7, 1, true).with(None);
        assert_eq!((first.earlier, first.lost, finding.is_some()), (1, 2, true));
        assert_eq!(found(10, 7, 1, false).with(Some(first)), (first, None));
    }
}
