//! The row of segments as it lies on the disk, read without changing a byte.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::{Shelf, quarantine, remove_dir};
use crate::error::Error;
use crate::id::SeqRange;
use crate::id::{EventId, Seq};
use crate::incident::{Finding, IncidentKind};
use crate::log::disk::sync_names;
use crate::log::segment::{Found, Segment};
use crate::log::store::dir_bytes;

/// The directory of the segments, in the spool.
const DIR: &str = "segments";

/// The names of all segments, and what is in the last one.
#[derive(Debug)]
pub(crate) struct Row {
    dir: PathBuf,
    queue: Uuid,
    /// All but the last: first sequence number and bytes on disk.
    older: BTreeMap<Seq, u64>,
    last: Option<Segment>,
    foreign: BTreeSet<Seq>,
    /// What carrying a segment on left behind, and what is to have another name.
    leftovers: Vec<PathBuf>,
    renames: Vec<(PathBuf, PathBuf)>,
    /// What was damaged.
    pub(crate) findings: Vec<Finding>,
    /// What was odd and cost nothing, for people.
    pub(crate) notes: Vec<String>,
}

impl Row {
    /// Looks at the segments of a spool: their names and sizes, and into the last one. A directory
    /// that does not exist is an empty row.
    pub(crate) fn look(spool: &Path, queue: Uuid) -> Result<Self, Error> {
        let mut row = Self {
            dir: spool.join(DIR),
            queue,
            older: BTreeMap::new(),
            last: None,
            foreign: BTreeSet::new(),
            leftovers: Vec::new(),
            renames: Vec::new(),
            findings: Vec::new(),
            notes: Vec::new(),
        };
        row.list()?;
        while let Some((first, _)) = row.older.pop_last() {
            let segment = Segment::open_to_read(&dir_of(&row.dir, first), first, queue)?;
            if segment.is_foreign() {
                row.findings.push(foreign(first));
                row.foreign.insert(first);
                continue;
            }
            if segment.is_altered() {
                row.findings.push(altered(first));
            }
            row.last = Some(segment);
            break;
        }
        Ok(row)
    }

    fn list(&mut self) -> Result<(), Error> {
        let mut firsts = BTreeSet::new();
        for entry in entries(&self.dir)? {
            match segment_name(&entry) {
                Some(first) => drop(firsts.insert(first)),
                None => self.notes.push(format!(
                    "left alone in segments/, since it is no segment: {}",
                    entry.file_name().to_string_lossy()
                )),
            }
        }
        for first in firsts {
            let found = dir_of(&self.dir, first);
            let plain = path(&self.dir, first);
            for other in ["new", "old"].map(|end| plain.with_extension(end)) {
                if other != found && other.exists() {
                    self.leftovers.push(other);
                }
            }
            self.older.insert(first, dir_bytes(&found));
            if found != plain {
                self.renames.push((found, plain));
            }
        }
        Ok(())
    }

    /// The last segment.
    pub(crate) fn last(&self) -> Option<&Segment> {
        self.last.as_ref()
    }

    /// The range that the segments cover; `None` if there is nothing in them. What is missing in
    /// between counts as covered.
    pub(crate) fn range(&self) -> Option<SeqRange> {
        let last = self.last.as_ref()?;
        let oldest = self.older.first_key_value().map(|(first, _)| *first);
        let first = oldest.unwrap_or(last.first_seq());
        let last = last.last_seq();
        (first <= last).then_some(SeqRange { first, last })
    }

    /// The id of an event, if it can be read.
    pub(crate) fn id_of(&self, seq: Seq) -> Result<Option<EventId>, Error> {
        let oldest = self
            .older
            .range(..=seq)
            .next_back()
            .map(|(first, _)| *first);
        let last = self.last.as_ref().map(Segment::first_seq);
        let Some(first) = last.filter(|last| *last <= seq).or(oldest) else {
            return Ok(None);
        };
        let next = self.older.range(seq.saturating_add(1)..).next();
        let end = next
            .map(|(first, _)| first - 1)
            .or(last.filter(|last| *last > seq).map(|l| l - 1));
        let mut segment = Segment::open_to_read(&dir_of(&self.dir, first), first, self.queue)?;
        Ok(match segment.read(seq, end)? {
            Found::Chunk(events) => {
                let found = events.iter().find(|stored| stored.seq == seq);
                found.map(|stored| stored.event.id())
            }
            Found::Missing(_) | Found::Behind => None,
        })
    }

    /// Ends the last segment before `seq`: what is behind was never durable, and stands in the
    /// journal.
    pub(crate) fn end_before(&mut self, seq: Seq) {
        if let Some(last) = &mut self.last {
            last.end_before(seq);
        }
    }

    /// The shelf, to read from or, after [`put_in_order`](Shelf::put_in_order), to go on with.
    pub(crate) fn into_shelf(self, segment_bytes: u64) -> Shelf {
        let last_first = self.last.as_ref().map(Segment::first_seq);
        let altered = self.last.as_ref().is_some_and(Segment::is_altered);
        Shelf {
            dir: self.dir,
            segment_bytes,
            queue: self.queue,
            inherited: true,
            findings: Vec::new(),
            has_found: Arc::default(),
            foreign: self.foreign,
            older: self.older,
            last: self.last,
            reader: None,
            coming: None,
            damaged: last_first.filter(|_| altered).into_iter().collect(),
            homeless: Vec::new(),
            cached: VecDeque::new(),
            synced_before: 0,
        }
    }

    /// Gives every segment its name and removes what carrying left behind: each of them has a
    /// twin that has all its chunks (I2). Directories that belong elsewhere go to quarantine. The
    /// caller has put on record what was found.
    pub(crate) fn put_in_order(&mut self) -> Result<(), Error> {
        for (from, to) in self.renames.drain(..) {
            fs::rename(&from, &to).map_err(Error::storage("name a segment", &to))?;
            if let Some(last) = self.last.as_mut().filter(|last| last.is_in(&from)) {
                last.renamed(&to);
            }
        }
        for leftover in self.leftovers.drain(..) {
            remove_dir(&leftover)?;
        }
        let spool = self.dir.parent().unwrap_or(Path::new(".")).to_owned();
        while let Some(first) = self.foreign.pop_first() {
            quarantine(&path(&self.dir, first), &spool)?;
        }
        if self.dir.is_dir() {
            sync_names(&self.dir)?;
        }
        // What a killed process left in the system's memory counts as sealed from here on, so it
        // has to be durable before the journal lets go of its events (I3).
        self.last.as_mut().map_or(Ok(()), Segment::sync_found)
    }
}

/// A directory that is not read.
pub(super) fn foreign(first: Seq) -> Finding {
    let what = "it is of another queue, or of another place in this one";
    Finding::new(IncidentKind::Foreign, place(first), what)
}

/// A file whose sum is not what it was.
pub(super) fn altered(first: Seq) -> Finding {
    let what = "its bytes have changed since it was closed; what can be read of it is kept";
    Finding::new(IncidentKind::Damaged, place(first), what)
}

/// A segment as it is named to people.
pub(crate) fn place(first: Seq) -> String {
    format!("{DIR}/{first:020}")
}

/// Where a segment is to be.
pub(super) fn path(dir: &Path, first: Seq) -> PathBuf {
    dir.join(format!("{first:020}"))
}

/// Where a segment is: under its name, or where a crash left it while it was carried on.
pub(super) fn dir_of(dir: &Path, first: Seq) -> PathBuf {
    let plain = path(dir, first);
    let others = ["new", "old"].map(|end| plain.with_extension(end));
    let is_missing = !plain.exists();
    let mut others = others.into_iter().filter(|_| is_missing);
    others.find(|other| other.exists()).unwrap_or(plain)
}

fn entries(dir: &Path) -> Result<Vec<fs::DirEntry>, Error> {
    match fs::read_dir(dir).and_then(Iterator::collect) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map_err(Error::storage("list the segments", dir)),
    }
}

/// The first sequence number in the name of a segment's directory.
fn segment_name(entry: &fs::DirEntry) -> Option<Seq> {
    let name = entry.file_name();
    let name = name.to_str()?;
    let name = ["", ".new", ".old"]
        .into_iter()
        .find_map(|end| name.strip_suffix(end).filter(|name| name.len() == 20))?;
    let digits = name.bytes().all(|b| b.is_ascii_digit());
    let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
    let first = name.parse().ok()?;
    (digits && is_dir && 0 < first && first < Seq::MAX).then_some(first)
}
