//! Opening a spool: everything on disk is read once, put together, and gone on with.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::SpoolLog;
use super::read::ReadTimes;
use super::room;
use super::space::ballast_bytes;
use super::staged::Staged;
use crate::clock::Clock;
use crate::error::Error;
use crate::event::StoredEvent;
use crate::incident::{Finding, Incident};
use crate::log::dir::SpoolDir;
use crate::log::disk::{Disk, create_private_dir};
use crate::log::guard::Guarded;
use crate::log::incidents::Record;
use crate::log::journal::{FILES, Journal, LETTERS_BYTES};
use crate::log::kept_settings;
use crate::log::look::Picture;
use crate::log::piece::Layout;
use crate::log::recovery::Recovered;
use crate::log::shelf::keeper::Keeper;
use crate::log::tail::Tail;
use crate::millis::unix_ms;
use crate::observe;
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
        let began = clock.monotonic();
        let ballast = ballast_bytes(&settings);
        // Known only for a spool that is made here.
        let mut free = None;
        let opened = SpoolDir::open(path, &*clock, ballast, |path, queue| {
            free = Some(room::free_bytes(path));
            make(path, queue, &disk, &settings)
        });
        let opened = opened
            .and_then(|dir| Self::open_in(dir, settings.clone(), clock, Arc::clone(&disk), began));
        opened.map_err(|error| match free {
            Some(free) if error.is_out_of_room() => room::too_small(&error, &settings, free),
            _ => error,
        })
    }

    /// Takes the picture of what is in the directory, puts on record what it finds, and goes on.
    fn open_in(
        dir: SpoolDir,
        settings: Settings,
        clock: Arc<dyn Clock>,
        disk: Arc<dyn Disk>,
        began: Duration,
    ) -> Result<(Self, Recovery), Error> {
        let disk: Arc<dyn Disk> = Guarded::new(disk, Arc::clone(dir.guard()));
        let picture = Picture::take(dir.path())?.ok_or_else(|| Error::Damaged {
            what: "it was made a moment ago and is gone".into(),
            path: dir.path().to_owned(),
        })?;
        let mut record = picture.record.clone();
        let incidents = put_on_record(&dir, &mut record, picture.news(), &*clock)?;
        let Picture {
            identity,
            journal: seen,
            mut row,
            mut letters,
            memo,
            settings: kept,
            recovered,
            letter_books,
            leaving,
            notes,
            ..
        } = picture;
        let Recovered {
            ledger,
            tail,
            tail_first,
            missing,
            islands,
            ..
        } = recovered;
        let journal = Journal::own(
            Arc::clone(&disk),
            dir.path(),
            settings.journal_bytes,
            dir.queue(),
            &seen,
            letter_books,
        )?;
        dir.mend_markers(&identity)?;
        row.put_in_order()?;
        letters.own(Layout::of_segments(settings.segment_bytes))?;
        let mut shelf = row.into_shelf(settings.segment_bytes);
        shelf.keep_named(record.all().iter().map(|incident| incident.place.as_str()));
        if !missing.is_empty() {
            // What is gone may be behind the last readable chunk: its file is kept for people.
            shelf.keep_last();
        }
        for (first, events) in islands {
            let stored = events.into_iter().zip(first..);
            let stored: Vec<StoredEvent> = stored
                .map(|(event, seq)| StoredEvent { seq, event })
                .collect();
            shelf.adopt(&stored, settings.chunk_bytes)?;
        }
        let mut log = Self {
            journal,
            tail: Tail::new(tail_first, settings.chunk_bytes),
            shelf: Keeper::new(shelf),
            sealing: None,
            removing: None,
            removal_tried: None,
            letters_bytes: letters.bytes(),
            letters_to_tidy: true,
            letters,
            letter_books,
            memo,
            unseen: None,
            unrecorded: Vec::new(),
            record,
            ledger,
            durable_cursor: ledger.settled(),
            staged: Staged::default(),
            durable_last: ledger.appended,
            missing,
            fault: None,
            news: true,
            seal_rest: None,
            read: ReadTimes::default(),
            oldest: Cell::new(None),
            settings,
            clock,
            dir,
        };
        log.note_record();
        let replayed = tail.len() as u64;
        log.tail.extend(tail);
        for seq in leaving {
            // Its event is pending, or it left: the note of that is in the journal (I5).
            log.letters.remove(seq)?;
        }
        log.letters_changed();
        log.resume()?;
        log.keep_settings(kept.as_ref())?;
        log.dir.keep();
        let missing = log.missing.clone();
        let took = log.clock.monotonic().saturating_sub(began);
        Ok((
            log,
            Recovery {
                replayed,
                missing,
                notes,
                incidents,
                took,
            },
        ))
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
        self.journal.resume(self.ledger, self.recyclable())?;
        self.note_synced();
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
            self.journal.rotate(self.ledger, self.recyclable(), true)?;
            self.note_synced();
        }
        Ok(())
    }
}

/// Puts what the picture found on record, durably, before anything is changed because of it.
fn put_on_record(
    dir: &SpoolDir,
    record: &mut Record,
    news: Vec<Finding>,
    clock: &dyn Clock,
) -> Result<Vec<Incident>, Error> {
    if news.is_empty() {
        return Ok(Vec::new());
    }
    for finding in &news {
        observe::incident(finding);
    }
    let added = record.add(news, unix_ms(clock.wall()));
    with_ballast(dir, || record.write(dir.path()))?;
    Ok(added)
}

fn make(path: &Path, queue: Uuid, disk: &Arc<dyn Disk>, settings: &Settings) -> Result<(), Error> {
    for name in ["journal", "segments"] {
        let dir = path.join(name);
        create_private_dir(&dir).map_err(Error::storage("make a directory of the spool", &dir))?;
    }
    Journal::create(disk, path, settings.journal_bytes, queue)
}

/// Does something that needs a little room on the disk; if there is none, the ballast is given up
/// and it is tried once more.
fn with_ballast<T>(dir: &SpoolDir, mut work: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    match work() {
        Err(error) if error.is_out_of_room() && dir.drop_ballast() => work(),
        other => other,
    }
}
