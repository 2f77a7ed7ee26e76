//! Opening a spool, in five steps: [`claim`](Claimed::claim) the directory, [`read`](Claimed::read) what
//! is in it, [`reconcile`](Claimed::reconcile) that with what is on record,
//! [`assemble`](Claimed::assemble) the log, and [`go_on`](SpoolLog::go_on).
//!
//! Everything on disk is read once, by the same code as for a look. Nothing is changed before what was
//! found is on record.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::SpoolLog;
use super::budget::Budget;
use super::findings::Findings;
use super::letter_box::LetterBox;
use super::news::News;
use super::progress::Progress;
use super::removals::Removals;
use super::room;
use super::sealer::Sealer;
use super::staged::Staged;
use crate::clock::Clock;
use crate::error::Error;
use crate::incident::Incident;
use crate::log::dir::SpoolDir;
use crate::log::disk::{Disk, create_private_dir};
use crate::log::fates::Fates;
use crate::log::guard::Guarded;
use crate::log::journal::{FILES, Journal, LETTERS_BYTES};
use crate::log::kept_settings;
use crate::log::look::Picture;
use crate::log::piece::Layout;
use crate::log::recovery::Recovered;
use crate::log::shelf::keeper::Keeper;
use crate::log::shelf::{Row, Shelf};
use crate::log::tail::Tail;
use crate::millis::unix_ms;
use crate::settings::Settings;
use crate::status::Recovery;

impl SpoolLog {
    /// Opens the spool in `path`, or makes one there.
    ///
    /// # Errors
    /// As [`SpoolDir::open`]; [`Error::Storage`] if the disk refuses.
    pub(crate) fn open(
        path: &Path,
        settings: Settings,
        clock: Arc<dyn Clock>,
        disk: Arc<dyn Disk>,
    ) -> Result<(Self, Recovery), Error> {
        settings.check()?;
        let settings = settings.in_effect();
        let (budget, began) = (Budget::of(&settings), clock.monotonic());
        // Known only for a spool that is made here.
        let mut free = None;
        let claimed = Claimed::claim(path, settings, clock, disk, &mut free);
        let opened = claimed.and_then(|claim| claim.open(began));
        opened.map_err(|error| match free {
            Some(free) if error.is_out_of_room() => room::too_small(&error, &budget, free),
            _ => error,
        })
    }
}

/// A spool directory that is ours, and how the log in it is to be.
struct Claimed {
    dir: SpoolDir,
    disk: Arc<dyn Disk>,
    settings: Settings,
    clock: Arc<dyn Clock>,
}

impl Claimed {
    /// Locks the directory; makes a spool if there is none, and notes how many bytes were `free` then.
    fn claim(
        path: &Path,
        settings: Settings,
        clock: Arc<dyn Clock>,
        disk: Arc<dyn Disk>,
        free: &mut Option<u64>,
    ) -> Result<Self, Error> {
        let ballast = Budget::of(&settings).ballast_bytes();
        let dir = SpoolDir::open(path, &*clock, ballast, |path, queue| {
            *free = Some(room::free_bytes(path));
            make(path, queue, &disk, &settings)
        })?;
        let disk = Guarded::new(disk, Arc::clone(dir.guard()));
        Ok(Self {
            dir,
            disk,
            settings,
            clock,
        })
    }

    fn open(self, began: Duration) -> Result<(SpoolLog, Recovery), Error> {
        let mut picture = self.read()?;
        let (findings, incidents) = self.reconcile(&picture)?;
        let kept = picture.settings.take();
        let notes = std::mem::take(&mut picture.notes);
        let replayed = picture.recovered.tail.len() as u64;
        let mut log = self.assemble(picture, findings)?;
        let missing = log.progress.missing().to_vec();
        log.go_on(kept.as_ref())?;
        let took = log.clock.monotonic().saturating_sub(began);
        let recovery = Recovery {
            replayed,
            missing,
            notes,
            incidents,
            took,
        };
        Ok((log, recovery))
    }

    /// Takes the picture of what is there, as every look does (I11).
    fn read(&self) -> Result<Picture, Error> {
        Picture::take(self.dir.path())?.ok_or_else(|| Error::Damaged {
            what: "it was made a moment ago and is gone".into(),
            path: self.dir.path().to_owned(),
        })
    }

    /// Puts on record what the picture shows and the record does not have, before anything is changed
    /// because of it (I13).
    fn reconcile(&self, picture: &Picture) -> Result<(Findings, Vec<Incident>), Error> {
        let mut findings = Findings::new(picture.record.clone());
        let now_ms = unix_ms(self.clock.wall());
        let added = findings.put(&picture.findings, &self.dir, now_ms)?;
        Ok((findings, added))
    }

    /// Takes the files over, mends what is to be mended, and puts the log together. What was read is
    /// durable afterwards.
    fn assemble(self, picture: Picture, findings: Findings) -> Result<SpoolLog, Error> {
        let Picture {
            identity,
            journal,
            row,
            mut letters,
            memo,
            recovered,
            letter_books,
            leaving,
            ..
        } = picture;
        let (dir, settings) = (self.dir, self.settings);
        let mut journal = Journal::own(
            self.disk,
            dir.path(),
            settings.journal_bytes,
            dir.queue(),
            &journal,
            letter_books,
        )?;
        let ranges_max = Fates::ranges_max(settings.journal_bytes);
        let progress = Progress::new(
            recovered.ledger,
            recovered.missing.clone(),
            recovered.fates.clone(),
            ranges_max,
        );
        journal.note_fates(progress.fates());
        dir.mend_markers(&identity)?;
        letters.own(Layout::of_segments(settings.segment_bytes))?;
        let shelf = shelf(row, &recovered, findings.all(), &settings)?;
        let mut tail = Tail::new(recovered.tail_first, settings.chunk_bytes);
        tail.extend(recovered.tail);
        Ok(SpoolLog {
            budget: Budget::of(&settings),
            journal,
            progress,
            staged: Staged::default(),
            tail,
            shelf: Keeper::new(shelf),
            sealer: Sealer::new(&settings),
            removals: Removals::default(),
            letters: LetterBox::new(letters, letter_books, leaving)?,
            memo,
            findings,
            news: News::new(),
            oldest: Cell::new(None),
            settings,
            clock: self.clock,
            dir,
        })
    }
}

/// The segments as they are gone on with: each under its name, and with what recovery found in the
/// journal in front of a gap, since the tail has none.
fn shelf(
    mut row: Row,
    recovered: &Recovered,
    incidents: &[Incident],
    settings: &Settings,
) -> Result<Shelf, Error> {
    row.put_in_order()?;
    let mut shelf = row.into_shelf(settings.segment_bytes);
    shelf.keep_named(incidents.iter().map(|incident| incident.place.as_str()));
    if !recovered.missing.is_empty() {
        // What is gone may be behind the last readable chunk: its file is kept for people.
        shelf.keep_last();
    }
    for (first, events) in &recovered.islands {
        let mut island = Tail::new(*first, settings.chunk_bytes);
        island.extend(events.iter().cloned());
        shelf.adopt(&island.into_runs())?;
    }
    Ok(shelf)
}

impl SpoolLog {
    /// Begins to write: the journal goes on under a new generation, and what was made stays.
    fn go_on(&mut self, kept: Option<&Settings>) -> Result<(), Error> {
        self.resume()?;
        self.keep_settings(kept)?;
        self.dir.keep();
        Ok(())
    }

    /// Writes down the settings if they are not those that are `kept`: for looks.
    fn keep_settings(&self, kept: Option<&Settings>) -> Result<(), Error> {
        if kept == Some(&self.settings) {
            return Ok(());
        }
        match kept_settings::write(self.dir.path(), &self.settings) {
            // A full disk must not keep the spool shut for what no owner needs.
            Err(error) if error.is_out_of_room() => Ok(()),
            other => other,
        }
    }

    /// Begins a new generation in the journal, sealing first if there is no room to begin in.
    pub(super) fn resume(&mut self) -> Result<(), Error> {
        if !self.journal.fits(LETTERS_BYTES) {
            match self.free_next_file() {
                // A full disk must not keep the spool shut: delivery makes room.
                Err(error) if error.is_out_of_room() => {}
                other => other?,
            }
        }
        let ledger = self.progress.ledger();
        self.journal.resume(ledger, self.recyclable())?;
        self.progress.note_synced(self.progress.mark());
        match self.shorten_journal() {
            // As above. What is too long is replaced in time, when its turn comes.
            Err(error) if error.is_out_of_room() => Ok(()),
            other => other,
        }
    }

    /// Replaces journal files that were made for a larger spool: appends may be refused until they
    /// are gone, so that their turn would not come.
    fn shorten_journal(&mut self) -> Result<(), Error> {
        for _ in 0..FILES {
            if !self.journal.is_too_long() {
                break;
            }
            self.free_next_file()?;
            let ledger = self.progress.ledger();
            self.journal.rotate(ledger, self.recyclable(), true)?;
            self.progress.note_synced(self.progress.mark());
        }
        Ok(())
    }
}

fn make(path: &Path, queue: Uuid, disk: &Arc<dyn Disk>, settings: &Settings) -> Result<(), Error> {
    for name in ["journal", "segments"] {
        let dir = path.join(name);
        create_private_dir(&dir).map_err(Error::storage("make a directory of the spool", &dir))?;
    }
    Journal::create(disk, path, settings.journal_bytes, queue)
}
