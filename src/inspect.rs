//! Looks at a spool without changing a byte of it.
//!
//! A look takes no lock and needs no right but to read: it works on a read-only file system, for
//! any user who may read the files, and beside an owner (invariant I10). It sees what an opening
//! would see, since both are made of the same picture (I11): [`look`] goes as far as an opening
//! does, and [`verify`] reads every pending event besides.
//!
//! Beside an owner that writes all the time nothing certain can be said: a look is begun anew a few
//! times, and then says so ([`Look::is_disturbed`]) instead of raising an alarm. The owner itself
//! knows best; ask it through its control socket where it serves one.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let spool = dir.path().join("spool");
//! use everpost::{Event, Queue, inspect};
//!
//! let queue = Queue::builder(&spool).open().await?;
//! queue.append(Event::json("1")?).await?;
//! queue.close(std::time::Duration::ZERO).await?;
//!
//! let report = inspect::verify(&spool)?;
//! assert!(report.is_sound());
//! assert_eq!((report.events, report.first, report.last), (1, 1, 1));
//! assert_eq!(inspect::look(&spool)?.peek(0, 10)?.len(), 1);
//! # Ok(()) }
//! ```

mod fate;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::dead::DeadLetter;
use crate::error::Error;
use crate::event::{Event, StoredEvent};
use crate::id::{Seq, SeqRange};
use crate::incident::{Finding, Incident, IncidentKind};
use crate::ledger::{Ledger, LetterLedger};
use crate::log::Read;
use crate::log::codec::Memo;
use crate::log::fates::Fates;
use crate::log::incidents::Record;
use crate::log::letters::Letters;
use crate::log::look::{Pending, Picture, undisturbed};
use crate::log::marker;
use crate::log::spool::budget::OWN_BYTES;
use crate::millis::unix_ms;
use crate::outcome::{Answer, PauseReason};
use crate::settings::Settings;
use crate::status::{FlusherState, PaceStatus, Status};

/// Bytes of JSON that one [`Look::peek`] gives at the most, beyond the first event.
const PEEK_BYTES: u64 = 8 << 20;

/// What is in a spool, and what is wrong with it.
///
/// As JSON: an object with these field names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Pending events that can be read.
    pub events: u64,
    /// The first of them; 0 if there is none.
    pub first: Seq,
    /// The last of them; 0 if there is none.
    pub last: Seq,
    /// Bytes of JSON in them.
    pub bytes: u64,
    /// Pending events that cannot be read: they are, or will be, booked as lost.
    pub missing: Vec<SeqRange>,
    /// What is damaged or missing and not on record yet: an owner puts it there when it opens the
    /// spool, or when it comes to read what an opening does not read.
    pub errors: Vec<Flaw>,
    /// What is damaged or missing and on record already.
    pub known: Vec<Flaw>,
    /// What is odd and cost nothing: the end of a write that was cut off, say.
    pub notes: Vec<Flaw>,
    /// What is on record and no person has acknowledged yet.
    pub incidents: Vec<Incident>,
    /// Dead letters that can be read.
    pub dead_letters: u64,
    /// The books.
    pub ledger: Ledger,
    /// The books of dead letters.
    pub letters: LetterLedger,
    /// When the first of the events happened, in milliseconds since 1970.
    pub oldest_ms: Option<u64>,
    /// Segments read.
    pub segments: u64,
    /// What was set aside in `quarantine/` by earlier openings.
    pub quarantine: Vec<String>,
    /// The pause that the next flusher will go on with.
    pub paused: Option<Paused>,
    /// An owner kept writing meanwhile, so that nothing is certain and nothing an error.
    pub disturbed: bool,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Flaw {
    /// What kind of thing it is, as it is, or will be, on record; none if it cost nothing.
    pub kind: Option<IncidentKind>,
    /// The file or directory, inside the spool.
    pub place: PathBuf,
    /// What is wrong with it. Never contains any of the content of an event.
    pub what: String,
}

impl Flaw {
    fn of(finding: &Finding) -> Self {
        Self {
            kind: Some(finding.kind),
            place: PathBuf::from(&finding.place),
            what: finding.what.clone(),
        }
    }
}

/// A pause that outlives a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Paused {
    /// Why.
    pub reason: PauseReason,
    /// What the receiver said when it began.
    pub last_error: Answer,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
}

impl Paused {
    /// Since when.
    #[must_use]
    pub fn since(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.since_ms)
    }
}

impl Report {
    /// Whether nothing is damaged or missing but what is on record already: false exactly when an
    /// owner would put something on record.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.errors.is_empty()
    }

    /// Counts an event that can be read. They come in any order.
    fn count(&mut self, seq: Seq, event: &Event) {
        self.events += 1;
        self.bytes += event.json_bytes().len() as u64;
        if self.first == 0 || seq < self.first {
            self.first = seq;
            self.oldest_ms = Some(event.time_ms());
        }
        self.last = self.last.max(seq);
    }
}

/// A spool as it was at one moment. Made by [`look`].
///
/// It keeps the files open that it reads from, and nothing from being changed: events that an owner
/// delivers meanwhile may be gone when they are asked for.
#[derive(Debug)]
pub struct Look {
    spool: PathBuf,
    pending: Pending,
    letters: Letters,
    leaving: Vec<Seq>,
    letter_books: LetterLedger,
    ledger: Ledger,
    fates: Fates,
    missing: Vec<SeqRange>,
    memo: Memo,
    settings: Settings,
    record: Record,
    findings: Vec<Finding>,
    notes: Vec<String>,
    journal_bytes: u64,
    is_disturbed: bool,
}

/// Looks at a spool: reads what an opening reads, and changes nothing.
///
/// # Errors
/// [`Error::NoSpool`]; [`Error::NotASpool`]; [`Error::FutureFormat`]; [`Error::Damaged`] if neither
/// of the two files is readable that say what the directory is, since nothing can be checked
/// then; [`Error::Changing`]; [`Error::Storage`] if the disk refuses to be read. Other damage is in
/// the look.
pub fn look(spool: &Path) -> Result<Look, Error> {
    let (picture, is_disturbed) = undisturbed(spool, || Picture::take(spool))?;
    let picture = picture.ok_or_else(|| Error::NoSpool {
        path: spool.to_owned(),
    })?;
    Ok(Look::new(picture, is_disturbed))
}

/// Whether there is a spool in this directory: not if the directory is missing, empty, or left over
/// from the making of a spool that was interrupted. Reads the two small files that say so.
///
/// # Errors
/// [`Error::NotASpool`], [`Error::FutureFormat`], [`Error::Damaged`], [`Error::Storage`].
pub fn exists(spool: &Path) -> Result<bool, Error> {
    Ok(marker::identify(spool)?.is_some())
}

impl Look {
    fn new(picture: Picture, is_disturbed: bool) -> Self {
        let held = picture.letters.count() - picture.leaving.len() as u64;
        Self {
            ledger: picture.recovered.ledger,
            fates: picture.recovered.fates.clone(),
            missing: if is_disturbed {
                Vec::new()
            } else {
                picture.recovered.missing.clone()
            },
            journal_bytes: picture.journal.bytes(),
            letter_books: picture.letter_books.ledger(held),
            pending: Pending::new(picture.recovered, picture.row),
            spool: picture.spool,
            letters: picture.letters,
            leaving: picture.leaving,
            memo: picture.memo,
            settings: picture.settings.unwrap_or_default(),
            record: picture.record,
            findings: if is_disturbed {
                Vec::new()
            } else {
                picture.findings
            },
            notes: picture.notes,
            is_disturbed,
        }
    }

    /// Whether an owner kept writing while this look was taken. What it shows is then put together
    /// from different moments, and nothing is reported as damaged.
    #[must_use]
    pub fn is_disturbed(&self) -> bool {
        self.is_disturbed
    }

    /// The state of the queue as its next owner will find it. `max_bytes` is the bound of its last
    /// owner, or the default if that is not known. Among the incidents are those that are not on
    /// record yet, with the number 0.
    #[must_use]
    pub fn status(&mut self) -> Status {
        let ballast = std::fs::symlink_metadata(self.spool.join("ballast"));
        let ballast = ballast.map_or(0, |meta| meta.len());
        let oldest = self
            .peek(0, 1)
            .ok()
            .and_then(|events| events.first().map(|e| e.event.time()));
        Status {
            flusher: FlusherState::Absent,
            ledger: self.ledger,
            pending: self.ledger.pending(),
            cursor: self.ledger.settled(),
            last_seq: self.ledger.appended,
            oldest_pending: oldest,
            dead_letters: self.letter_books.held,
            letters: self.letter_books,
            disk_bytes: self.journal_bytes
                + self.pending.shelf_bytes()
                + self.letters.bytes()
                + ballast
                + OWN_BYTES,
            max_bytes: self.settings.max_bytes,
            missing: self.missing.clone(),
            incidents: self.incidents(),
            storage_fault: None,
            last_answer: None,
            requests: 0,
            pace: PaceStatus::default(),
        }
    }

    /// What no person has acknowledged yet, and what is not on record yet, with the number 0.
    fn incidents(&self) -> Vec<Incident> {
        let mut incidents = self.record.unseen();
        let news = self.record.news(&self.findings);
        incidents.extend(news.into_iter().map(|finding| Incident {
            number: 0,
            time_ms: unix_ms(UNIX_EPOCH),
            kind: finding.kind,
            place: finding.place,
            what: finding.what,
            missing: finding.missing,
            acknowledged_ms: None,
        }));
        incidents
    }

    /// All incidents on record, in order of their numbers.
    #[must_use]
    pub fn record(&self) -> &[Incident] {
        self.record.all()
    }

    /// The pending events after `after` by sequence number, at most `max` of them. Ranges that are
    /// damaged are passed over. 0 begins with the oldest; the last one's `seq` goes on from there.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::FutureFormat`].
    pub fn peek(&mut self, after: Seq, max: usize) -> Result<Vec<StoredEvent>, Error> {
        let mut from = after.saturating_add(1);
        let mut found: Vec<StoredEvent> = Vec::new();
        let mut bytes = 0;
        while found.len() < max && bytes < PEEK_BYTES {
            match self.pending.read(from, max - found.len())? {
                Read::Events(events) => {
                    let size = |stored: &StoredEvent| stored.event.json_bytes().len() as u64;
                    bytes += events.iter().map(size).sum::<u64>();
                    from = events
                        .last()
                        .map_or(from, |stored| stored.seq)
                        .saturating_add(1);
                    found.extend(events);
                }
                Read::Missing(range) => from = range.last.saturating_add(1),
                Read::End => break,
            }
        }
        Ok(found)
    }

    /// At most `max` dead letters that stood after `after`, in order: 0 begins with the first, the
    /// last one's `seq` goes on from there.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Damaged`], [`Error::FutureFormat`].
    pub fn letters(&mut self, after: Seq, max: usize) -> Result<Vec<DeadLetter>, Error> {
        let mut letters = Vec::new();
        for seq in self.letters.seqs(after, usize::MAX) {
            if letters.len() == max {
                break;
            }
            if !self.leaving.contains(&seq) {
                letters.extend(self.letters.letter(seq)?);
            }
        }
        Ok(letters)
    }

    /// The dead letter that stood at `seq`.
    ///
    /// # Errors
    /// [`Error::NoSuchLetter`], and as [`letters`](Self::letters).
    pub fn letter(&mut self, seq: Seq) -> Result<DeadLetter, Error> {
        let found = if self.leaving.contains(&seq) {
            None
        } else {
            self.letters.letter(seq)?
        };
        found.ok_or(Error::NoSuchLetter { seq })
    }

    /// The pause that the next flusher of this spool will go on with.
    #[must_use]
    pub fn paused(&self) -> Option<Paused> {
        let paused = self.memo.paused.clone()?;
        Some(Paused {
            reason: paused.reason,
            last_error: paused.answer,
            since_ms: paused.since_ms,
        })
    }

    /// Reads every pending event and dead letter, and puts the whole into a report.
    fn report(mut self) -> Result<Report, Error> {
        let mut report = Report {
            ledger: self.ledger,
            letters: self.letter_books,
            paused: self.paused(),
            incidents: self.record.unseen(),
            disturbed: self.is_disturbed,
            quarantine: names(&self.spool.join("quarantine"))?,
            ..Report::default()
        };
        self.read_events(&mut report)?;
        for letter in self.letters.seqs(0, usize::MAX) {
            let is_readable = !self.leaving.contains(&letter) && self.letter(letter).is_ok();
            report.dead_letters += u64::from(is_readable);
        }
        let segments = names(&self.spool.join("segments"))?;
        report.segments = segments.len() as u64;
        let notes = self.notes.iter().map(|what| Flaw {
            kind: None,
            place: PathBuf::new(),
            what: what.clone(),
        });
        report.notes.extend(notes);
        if !self.is_disturbed {
            let news = self.record.news(&self.findings);
            let known = self
                .findings
                .iter()
                .filter(|finding| !news.contains(finding));
            report.known = known.map(Flaw::of).collect();
            report.errors = news.iter().map(Flaw::of).collect();
        }
        Ok(report)
    }

    /// Counts what can be read and what cannot. What reading finds is added to what looking found.
    fn read_events(&mut self, report: &mut Report) -> Result<(), Error> {
        let mut next = 1;
        loop {
            match self.pending.read(next, usize::MAX)? {
                Read::End => break,
                Read::Events(events) => {
                    for stored in &events {
                        report.count(stored.seq, &stored.event);
                        next = stored.seq.saturating_add(1);
                    }
                }
                Read::Missing(range) => {
                    next = range.last.saturating_add(1);
                    report.missing.push(range);
                }
            }
        }
        if self.is_disturbed {
            report.missing.clear();
            return Ok(());
        }
        self.findings.extend(self.pending.take_findings());
        let found = |range: &SeqRange| {
            let is_in = |known: SeqRange| known.first <= range.first && range.last <= known.last;
            self.findings
                .iter()
                .filter_map(|finding| finding.missing)
                .any(is_in)
        };
        let unfound: Vec<SeqRange> = report
            .missing
            .iter()
            .filter(|range| !found(range))
            .copied()
            .collect();
        for range in unfound {
            self.findings.push(Finding::events("segments", range, ""));
        }
        Ok(())
    }
}

/// Reads the whole spool and checks every checksum and range. It takes as long as reading all of
/// it does, in memory that does not grow with the backlog, and changes nothing.
///
/// # Errors
/// As [`look`].
pub fn verify(spool: &Path) -> Result<Report, Error> {
    let look_and_read = || match Picture::take(spool)? {
        Some(picture) => Look::new(picture, false).report(),
        None => Err(Error::NoSpool {
            path: spool.to_owned(),
        }),
    };
    let (mut report, is_disturbed) = undisturbed(spool, look_and_read)?;
    if is_disturbed {
        report.disturbed = true;
        report.errors.clear();
        report.missing.clear();
    }
    Ok(report)
}

/// The pause that the next flusher of this spool will go on with, read without changing anything.
///
/// # Errors
/// As [`look`].
pub fn remembered_pause(spool: &Path) -> Result<Option<Paused>, Error> {
    Ok(look(spool)?.paused())
}

/// The names in a directory, sorted; none if it does not exist.
fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let failed = || Error::storage("list a directory of the spool", dir);
    let mut names = Vec::new();
    match std::fs::read_dir(dir) {
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(failed()(source)),
        Ok(entries) => {
            for entry in entries {
                let name = entry.map_err(failed())?.file_name();
                names.push(name.to_string_lossy().into_owned());
            }
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests;
