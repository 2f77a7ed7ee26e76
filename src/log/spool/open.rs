//! Opening a spool: everything on disk is read once, put together, and gone on with.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use super::SpoolLog;
use super::read::ReadTimes;
use super::space::ballast_bytes;
use super::staged::Staged;
use crate::clock::Clock;
use crate::error::Error;
use crate::event::{Seq, StoredEvent};
use crate::log::dir::SpoolDir;
use crate::log::disk::{Disk, create_private_dir};
use crate::log::journal::{FILES, Journal};
use crate::log::piece::Layout;
use crate::log::recovery::{Passed, Recovered, recover};
use crate::log::shelf::Shelf;
use crate::log::shelf::keeper::Keeper;
use crate::log::state::State;
use crate::log::tail::Tail;
use crate::log::{Log, Read};
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
        let dir = SpoolDir::open(path, &*clock, ballast, |path| make(path, &*disk, &settings))?;
        let journal_dir = dir.join("journal");
        let read_journal = || {
            Journal::open(
                Arc::clone(&disk),
                &journal_dir,
                settings.journal_bytes,
                dir.queue(),
            )
        };
        let (journal, stores) = side_by_side(&read_journal, || open_stores(&dir, &settings));
        let (journal, mut found) = journal?;
        let mut notes = found.notes;
        let (mut shelf, state, store_notes) = stores?;
        notes.extend(store_notes);
        // Chunks that a killed process left in the system's memory count as sealed from here on,
        // so they have to be durable before the journal lets go of their events (I3).
        shelf.sync()?;
        let sealed = shelf.range();
        let passed = Passed::of(&found.frames, sealed);
        journal.read_runs(&mut found.frames, dir.queue(), |run| !passed.covers(run))?;
        let Recovered {
            ledger,
            tail,
            tail_first,
            missing,
            islands,
            retried,
            notes: odd,
        } = recover(&found.frames, sealed);
        notes.extend(odd);
        if state.was_empty() && ledger.dead + ledger.expired > 0 {
            // A letter is durable before the books count it (I5), and the state is never emptied.
            notes.push("the state was missing or empty; what dead letters it held are gone".into());
        }
        if !missing.is_empty() {
            // What is gone may be behind the last readable chunk: its file is kept for people.
            shelf.keep_last();
        }
        for (first, events) in islands {
            let events: Vec<StoredEvent> = events
                .into_iter()
                .zip(first..)
                .map(|(event, seq)| StoredEvent { seq, event })
                .collect();
            shelf.adopt(&events, settings.chunk_bytes)?;
        }
        let mut log = Self {
            journal,
            tail: Tail::new(tail_first, settings.chunk_bytes),
            shelf: Keeper::new(shelf),
            sealing: None,
            removing: None,
            removal_tried: None,
            state_bytes: state.bytes(),
            state_to_tidy: true,
            state,
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
        let replayed = tail.len() as u64;
        log.tail.extend(tail);
        log.finish_letters(&retried)?;
        log.resume()?;
        let missing = log.missing.clone();
        for range in &missing {
            observe::damage_found(*range);
        }
        let took = log.clock.monotonic().saturating_sub(began);
        Ok((
            log,
            Recovery {
                replayed,
                missing,
                notes,
                took,
            },
        ))
    }

    /// Ends what a crash interrupted between the journal and the dead letters.
    pub(super) fn finish_letters(&mut self, retried: &[Seq]) -> Result<(), Error> {
        for &seq in retried {
            self.state.remove_letter(seq)?;
        }
        // A letter whose event the cursor has not passed was being buried. The event is still
        // there and will be sent again, so the letter goes; if it is not there any more, the
        // letter is all that is left of it and stays (promise 4).
        for letter in self.state.letters(self.ledger.settled(), usize::MAX)? {
            let is_there = match self.read(letter.seq, 1, 0)? {
                Read::Events(events) => events.iter().any(|e| e.event.id() == letter.event.id()),
                _ => false,
            };
            if is_there {
                self.state.remove_letter(letter.seq)?;
            }
        }
        Ok(())
    }

    /// Begins a new generation in the journal, sealing first if there is no room to begin in.
    pub(super) fn resume(&mut self) -> Result<(), Error> {
        if !self.journal.fits(0) {
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
            self.journal.rotate(self.ledger, self.recyclable())?;
            self.journal.write()?;
            self.journal.sync()?;
            self.note_synced();
        }
        Ok(())
    }
}

/// Opens what is on disk beside the journal.
fn open_stores(dir: &SpoolDir, settings: &Settings) -> Result<(Shelf, State, Vec<String>), Error> {
    let (shelf, mut notes) = with_ballast(dir, || {
        Shelf::open(&dir.join("segments"), settings.segment_bytes, dir.queue())
    })?;
    let layout = Layout::of_segments(settings.segment_bytes);
    let (state, state_notes) = with_ballast(dir, || State::open(dir.path(), layout, dir.queue()))?;
    notes.extend(state_notes);
    Ok((shelf, state, notes))
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

fn make(path: &Path, disk: &dyn Disk, settings: &Settings) -> Result<(), Error> {
    for name in ["journal", "segments"] {
        let dir = path.join(name);
        create_private_dir(&dir).map_err(Error::storage("make a directory of the spool", &dir))?;
    }
    Journal::create(disk, &path.join("journal"), settings.journal_bytes)
}

/// Opens something that needs a little room on the disk; if there is none, the ballast is given
/// up and it is tried once more.
fn with_ballast<T>(dir: &SpoolDir, open: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
    match open() {
        Err(error) if error.is_out_of_room() && dir.drop_ballast() => open(),
        other => other,
    }
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
}
