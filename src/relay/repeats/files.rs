//! What was taken lately, as it stands on disk.

use std::io;
use std::path::{Path, PathBuf};

use super::record::{HEAD_BYTES, Head, RECORD_BYTES, Record, VERSION};
use crate::error::Error;
use crate::log::disk::{Disk, DiskFile};
use crate::observe;

/// The records that come last.
const CURRENT: &str = "current";

/// Those before them.
const PREVIOUS: &str = "previous";

/// One that is being made.
const NEW: &str = "new";

/// One whose head did not check: kept for a person to look at, until there is another.
const DAMAGED: &str = "damaged";

/// The unit by which a file grows, so that most writes change none but its bytes.
const STEP_RECORDS: usize = 1_024;

/// The two files of a directory.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    disk: Box<dyn Disk>,
    /// There is none before the first record.
    current: Option<Current>,
}

/// The file that is written to.
#[derive(Debug)]
struct Current {
    file: Box<dyn DiskFile>,
    /// How many places are taken, by what checks or does not.
    taken: usize,
    /// How many places it has.
    places: usize,
}

/// What was found at an opening.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) current: Vec<Record>,
    pub(super) previous: Vec<Record>,
}

/// A file that was read.
struct Read {
    file: Box<dyn DiskFile>,
    records: Vec<Record>,
    taken: usize,
    places: usize,
}

impl Files {
    /// Reads what is in the directory: at most so many records of each file, and as many again that
    /// came while the disk refused.
    pub(super) fn open(
        dir: &Path,
        disk: Box<dyn Disk>,
        records_max: usize,
    ) -> Result<(Self, Found), Error> {
        let records_max = 2 * records_max;
        let mut files = Self {
            dir: dir.to_owned(),
            disk,
            current: None,
        };
        let mut found = Found::default();
        if let Some(read) = files.read(PREVIOUS, records_max)? {
            found.previous = read.records;
        }
        if let Some(read) = files.read(CURRENT, records_max)? {
            found.current = read.records;
            files.current = Some(Current {
                file: read.file,
                taken: read.taken,
                places: read.places,
            });
        }
        // What is known from here on is known also after a power cut.
        let synced = files.disk.sync_dir(dir);
        synced.map_err(Error::storage("sync the directory", dir))?;
        Ok((files, found))
    }

    fn read(&self, name: &str, records_max: usize) -> Result<Option<Read>, Error> {
        let path = self.dir.join(name);
        let at = || Error::storage("read what was taken lately", &path);
        let file = match self.disk.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(at())?,
        };
        let bytes = contents(&*file, records_max).map_err(at())?;
        let (head, slots) = match bytes.split_first_chunk::<HEAD_BYTES>() {
            Some((head, slots)) => (Head::decode(head), slots),
            None => (Head::Damaged, &[][..]),
        };
        match head {
            Head::Good => {}
            Head::Future(found) => {
                let supported = VERSION;
                return Err(Error::FutureFormat {
                    path,
                    found,
                    supported,
                });
            }
            Head::Damaged => {
                observe::repeats_damaged(&path);
                let aside = self.dir.join(DAMAGED);
                self.disk.rename(&path, &aside).map_err(at())?;
                return Ok(None);
            }
        }
        let (slots, _) = slots.as_chunks::<RECORD_BYTES>();
        let last = slots
            .iter()
            .rposition(|slot| slot.iter().any(|&byte| byte != 0));
        let taken = last.map_or(0, |last| last + 1);
        let records: Vec<Record> = slots
            .iter()
            .take(taken)
            .filter_map(Record::decode)
            .collect();
        if records.len() < taken {
            let left_out = taken - records.len();
            observe::repeats_left_out(&path, left_out);
        }
        // It may have been written by a process that ended before it could be certain of it.
        file.sync().map_err(at())?;
        let places = slots.len();
        Ok(Some(Read {
            file,
            records,
            taken,
            places,
        }))
    }

    /// How many places of the current file are taken.
    pub(super) fn taken(&self) -> usize {
        self.current.as_ref().map_or(0, |current| current.taken)
    }

    /// Writes records behind those that are there. They are on disk when it returns.
    ///
    /// After an error nothing is known of the file, and it has to be [made again](Self::make).
    pub(super) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let Some(current) = &mut self.current else {
            return self.make(records);
        };
        let needed = current.taken + records.len();
        if needed > current.places {
            let places = in_steps(needed);
            let more = vec![0; (places - current.places) * RECORD_BYTES];
            current.file.write_at(&more, offset(current.places))?;
            current.places = places;
        }
        current
            .file
            .write_at(&encoded(records), offset(current.taken))?;
        current.file.sync()?;
        current.taken = needed;
        Ok(())
    }

    /// Makes the current file, of these records, in place of the one that is there.
    pub(super) fn make(&mut self, records: &[Record]) -> io::Result<()> {
        let made = self.make_new(records)?;
        self.take_up(made)
    }

    /// Makes the current file the previous one, whose records are gone then; calls `turned` as soon
    /// as that is so; and makes another.
    pub(super) fn turn(&mut self, turned: impl FnOnce()) -> io::Result<()> {
        // First what a full disk refuses.
        let made = self.make_new(&[])?;
        let [current, previous] = [CURRENT, PREVIOUS].map(|name| self.dir.join(name));
        self.current = None;
        self.disk.rename(&current, &previous)?;
        turned();
        // Otherwise a power cut could keep the second renaming alone.
        self.disk.sync_dir(&self.dir)?;
        self.take_up(made)
    }

    fn make_new(&self, records: &[Record]) -> io::Result<Current> {
        let path = self.dir.join(NEW);
        let places = in_steps(records.len().max(1));
        let file = self.disk.create(&path, offset(places))?;
        let bytes = [&Head::encode(VERSION)[..], &encoded(records)].concat();
        file.write_at(&bytes, 0)?;
        file.sync()?;
        Ok(Current {
            file,
            taken: records.len(),
            places,
        })
    }

    /// Gives what was made its name.
    fn take_up(&mut self, made: Current) -> io::Result<()> {
        let [new, current] = [NEW, CURRENT].map(|name| self.dir.join(name));
        self.disk.rename(&new, &current)?;
        self.current = Some(made);
        self.disk.sync_dir(&self.dir)
    }
}

/// The head, and as many records as are wanted, or there are.
fn contents(file: &dyn DiskFile, records_max: usize) -> io::Result<Vec<u8>> {
    let length = file.len()?.min(offset(records_max));
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn encoded(records: &[Record]) -> Vec<u8> {
    records.iter().flat_map(Record::encode).collect()
}

fn offset(place: usize) -> u64 {
    (HEAD_BYTES + place * RECORD_BYTES) as u64
}

fn in_steps(records: usize) -> usize {
    records.next_multiple_of(STEP_RECORDS)
}
