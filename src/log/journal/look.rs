//! What the journal says, read without changing a byte: for an owner that goes on with it, and for
//! a look.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use uuid::Uuid;

use super::files::{DIR, FILES, Known, list};
use super::witness::{self, Witness};
use super::{END, events_of};
use crate::error::Error;
use crate::id::SeqRange;
use crate::incident::{Finding, IncidentKind};
use crate::ledger::Ledger;
use crate::log::disk::{DiskFile, open_to_look};
use crate::log::frame::{self, Entry, Frame, Kind, Window};
use crate::log::recovery::End;
use crate::settings::JOURNAL_BYTES_MIN;

/// Bytes of the witness of format 1 that are read at the most: it has one short frame.
const OLD_END_BYTES: u64 = 4096;

/// Frames and files of a journal.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// By number.
    pub(super) files: Vec<SeenFile>,
    /// All frames to believe, of all files, in the order they were written; of runs of events only
    /// the heads, until [`read_runs`](Self::read_runs).
    pub(crate) frames: Vec<Frame>,
    pub(super) generation_max: u64,
    /// How far the journal went, as far as the frames do not say it.
    pub(crate) end: End,
    /// What was damaged.
    pub(crate) findings: Vec<Finding>,
    /// What was odd and cost nothing, for people.
    pub(crate) notes: Vec<String>,
}

/// A file, and what its frames say together.
#[derive(Debug)]
pub(super) struct SeenFile {
    pub(super) known: Known,
    file: Box<dyn DiskFile>,
    /// Of any frame that checks.
    generation_max: u64,
    /// Whether anything but zeroes is in it.
    used: bool,
    /// Where the next frame may be written.
    pub(super) end: u64,
}

/// Reads the journal of a spool. `is_old` says that the spool is of format 1, which kept no witness.
pub(crate) fn look(spool: &Path, queue: Uuid, is_old: bool) -> Result<Seen, Error> {
    let mut seen = Seen::default();
    let dir = spool.join(DIR);
    let paths = if dir.is_dir() {
        list(&dir)?
    } else {
        seen.find(IncidentKind::Gone, DIR, "it is missing");
        Vec::new()
    };
    let witness = witness::read(spool, queue)?;
    if !is_old && witness.is_none() {
        let what = "it is missing, or does not check";
        seen.find(IncidentKind::Damaged, witness::NAME, what);
    }
    for (number, path) in paths {
        seen.read(number, path, queue, witness)?;
    }
    if seen.files.len() < FILES && seen.findings.iter().all(|f| f.place != DIR) {
        let gone = FILES - seen.files.len();
        let what = format!("{gone} of {FILES} files are missing");
        seen.find(IncidentKind::Gone, DIR, what);
    }
    seen.frames
        .sort_by_key(|frame| (frame.generation, frame.offset));
    match witness {
        Some(witness) => seen.hold_against(witness),
        None => seen.hold_against_old_end(&dir.join(END), queue),
    }
    Ok(seen)
}

impl Seen {
    fn find(&mut self, kind: IncidentKind, place: impl Into<String>, what: impl Into<String>) {
        self.findings.push(Finding::new(kind, place, what));
    }

    fn read(
        &mut self,
        number: u32,
        path: PathBuf,
        queue: Uuid,
        witness: Option<Witness>,
    ) -> Result<(), Error> {
        let failed = || Error::storage("read a journal file", &path);
        let file: Box<dyn DiskFile> = Box::new(open_to_look(&path).map_err(failed())?);
        let len = file.len().map_err(failed())?;
        let mut scan = frame::scan_source(&mut Window::new(&*file, len), queue).map_err(failed())?;
        scan.frames.iter_mut().for_each(|frame| frame.file = number);
        let place = place(number);
        if len < JOURNAL_BYTES_MIN {
            // Made as a whole before it has its name, and never shorter than this.
            let what = format!("it was cut to {len} bytes");
            self.find(IncidentKind::Damaged, &place, what);
        } else if scan.used && scan.generation_max == 0 {
            let what = "it holds nothing that checks";
            // The first write to a file that was just made may be torn.
            if witness.is_some_and(|w| w.file == number && !w.synced) {
                self.notes.push(format!("{place}: {what}"));
            } else {
                self.find(IncidentKind::Damaged, &place, what);
            }
        }
        for (offset, generation) in &scan.damaged {
            let what =
                format!("it does not check at offset {offset}, before generation {generation}");
            // A file that was being begun anew when the power went looks like this too; if it was
            // damage, events are missing.
            if *offset == 0 {
                self.notes.push(format!("{place}: {what}"));
            } else {
                self.find(IncidentKind::Damaged, &place, what);
            }
        }
        self.generation_max = self.generation_max.max(scan.generation_max);
        let known = Known {
            number,
            len,
            generation: scan.generation(),
            events: events_of(&scan),
            path,
        };
        let seen = SeenFile {
            known,
            generation_max: scan.generation_max,
            used: scan.used,
            end: scan.end().into(),
            file,
        };
        self.frames.extend(scan.frames);
        self.files.push(seen);
        Ok(())
    }

    /// Holds what the frames say against what was written down beside them.
    fn hold_against(&mut self, witness: Witness) {
        if witness.generation < self.generation_max {
            // Written before the last generation, which took nothing in yet.
            return;
        }
        let begun = self
            .files
            .iter()
            .find(|file| file.known.number == witness.file);
        // 0: no file was begun yet.
        let is_whole = witness.file == 0
            || begun.is_some_and(|file| {
                let has_begun = file.generation_max >= witness.generation;
                file.known.len >= witness.file_bytes && (has_begun || !witness.synced)
            });
        self.generation_max = witness.generation;
        if let Some(books) = witness.closed {
            self.hold_against_books(books);
        } else if !is_whole {
            let what = match begun {
                None => "it is gone",
                Some(file) if file.known.len < witness.file_bytes => "it was cut",
                Some(file) if file.used => "it does not hold what was written to it last",
                Some(_) => "it is empty",
            };
            let what = format!(
                "{what}; of the events up to number {}, those behind the last one known may have \
                 been in it",
                witness.numbers
            );
            self.find(IncidentKind::Gone, place(witness.file), what);
            self.end.numbers = Some(witness.numbers);
        }
    }

    /// At an orderly close the books are the last frame.
    fn hold_against_books(&mut self, books: Ledger) {
        let last = self.frames.last().filter(|frame| frame.kind == Kind::Ack);
        let reaches = match last.and_then(Frame::entry) {
            Some(Entry::Ack(last)) => last == books,
            _ => false,
        };
        if !reaches {
            let what = "it does not reach the end that it had when it was closed";
            self.find(IncidentKind::Damaged, DIR, what);
        }
        self.end.closed = Some(books);
    }

    /// The witness of an orderly close in format 1: one frame in a file of its own.
    fn hold_against_old_end(&mut self, path: &Path, queue: Uuid) {
        let mut bytes = Vec::new();
        let read =
            open_to_look(path).and_then(|file| file.take(OLD_END_BYTES).read_to_end(&mut bytes));
        if read.is_err() {
            return;
        }
        let frames = frame::scan(&Bytes::from(bytes), queue).frames;
        let end = frames.first().filter(|end| {
            end.kind == Kind::Ack && end.offset == 0 && end.generation >= self.generation_max
        });
        if let Some(end) = end
            && let Some(Entry::Ack(books)) = end.entry()
        {
            self.generation_max = end.generation;
            self.hold_against_books(books);
        }
    }

    /// Reads the runs of events that the caller wants: looking left all of them in the files, since
    /// most are sealed or settled and all of them together are large.
    pub(crate) fn read_runs(
        &mut self,
        queue: Uuid,
        is_wanted: impl Fn(SeqRange) -> bool,
    ) -> Result<(), Error> {
        for file in &self.files {
            let mut window = Window::new(&*file.file, file.known.len).whole();
            let here = self
                .frames
                .iter_mut()
                .filter(|frame| frame.file == file.known.number);
            for frame in here.filter(|frame| frame.is_cut()) {
                if frame.range().is_some_and(|range| !is_wanted(range)) {
                    continue;
                }
                let changed = || io::Error::other("it changed while it was read");
                let read = frame.read_whole(&mut window, queue);
                read.and_then(|read| read.ok_or_else(changed))
                    .map_err(Error::storage("read a journal file", &file.known.path))?;
            }
        }
        Ok(())
    }

    /// Whether no generation was begun in it yet: it was made, and never opened.
    pub(crate) fn is_unused(&self) -> bool {
        self.generation_max == 0 && self.files.len() == FILES && !self.files.iter().any(|f| f.used)
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.known.len).sum()
    }
}

fn place(number: u32) -> String {
    format!("{DIR}/{number:08}.journal")
}
