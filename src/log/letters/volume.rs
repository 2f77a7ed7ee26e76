//! One volume of dead letters: a store, as its files are.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::VALUE_OVERHEAD_BYTES;
use crate::error::Error;
use crate::incident::{Finding, IncidentKind};
use crate::log::disk::{sync_file, sync_names};
use crate::log::piece::{Key, Scan};
use crate::log::segment::is_foreign;
use crate::log::shelf::quarantine;
use crate::log::store::dir_bytes;

/// The directory of the volumes, in the spool.
pub(super) const DIR: &str = "letters";

/// The names that a swap of format 1 could leave, the one that counts first.
const OLD_NAMES: [&str; 3] = ["state", "state.new", "state.old"];

const OLD_MEMO: u8 = b'm';

/// A store with dead letters.
#[derive(Debug)]
pub(super) struct Volume {
    pub(super) number: u32,
    pub(super) path: PathBuf,
    /// Bytes of all values in it, removed ones too.
    pub(super) weight: u64,
    /// Whether it belongs to another queue: it is not read.
    pub(super) is_foreign: bool,
    /// What is wrong with it.
    pub(super) finding: Option<Finding>,
    /// Whether everything in it may still be in the system's memory only.
    is_unsynced: bool,
}

impl Volume {
    /// Reads the whole file of a volume.
    pub(super) fn look(
        spool: &Path,
        number: u32,
        path: PathBuf,
        queue: Uuid,
    ) -> Result<(Self, Option<Scan>), Error> {
        let mut volume = Self::begun(number, path, 0);
        let scan = match Scan::of(&volume.path.join("db")) {
            Ok(scan) => scan,
            // Its creation was cut off.
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok((volume, None)),
            Err(source) => {
                return Err(Error::storage("read the dead letters", &volume.path)(
                    source,
                ));
            }
        };
        let place = volume.path.strip_prefix(spool).unwrap_or(&volume.path);
        let place = place.to_string_lossy().into_owned();
        volume.is_unsynced = true;
        volume.weight = scan.weight(VALUE_OVERHEAD_BYTES);
        volume.is_foreign = is_foreign(&scan, 0, queue);
        volume.finding = if volume.is_foreign {
            let what = "it is of another queue";
            Some(Finding::new(IncidentKind::Foreign, place, what))
        } else if scan.is_altered() {
            let what = "its bytes have changed since it was closed; what can be read of it is kept";
            Some(Finding::new(IncidentKind::Damaged, place, what))
        } else {
            None
        };
        Ok((volume, Some(scan)))
    }

    /// One that was just made.
    pub(super) fn begun(number: u32, path: PathBuf, weight: u64) -> Self {
        Self {
            number,
            path,
            weight,
            is_foreign: false,
            finding: None,
            is_unsynced: false,
        }
    }

    /// Whether its files are worth keeping once what can be read of it is elsewhere.
    pub(super) fn is_damaged(&self) -> bool {
        self.finding.is_some()
    }

    pub(super) fn bytes(&self) -> u64 {
        dir_bytes(&self.path)
    }

    /// Makes durable what another process may have left in the system's memory.
    pub(super) fn sync(&self) -> Result<(), Error> {
        if !self.is_unsynced {
            return Ok(());
        }
        let path = self.path.join("db");
        let file = OpenOptions::new().write(true).open(&path);
        file.and_then(|file| sync_file(&file))
            .map_err(Error::storage("sync the dead letters", path))
    }

    /// Takes it away: what counts in it is durable elsewhere (I5). A damaged one goes to quarantine
    /// as it is.
    pub(super) fn retire(&self, spool: &Path) -> Result<(), Error> {
        if self.is_damaged() {
            return quarantine(&self.path, spool).map(drop);
        }
        remove(&self.path)
    }
}

/// Volumes, oldest first, each with its number; and directories that format 1 left over.
type Listed = (Vec<(u32, PathBuf)>, Vec<PathBuf>);

/// The volumes of a spool, and what is left over.
pub(super) fn list(spool: &Path) -> Result<Listed, Error> {
    let old = OLD_NAMES.iter().map(|name| spool.join(name));
    let mut leftovers: Vec<PathBuf> = old.filter(|path| path.exists()).collect();
    let mut volumes = Vec::new();
    if !leftovers.is_empty() {
        // Where there is no `state`, the copy that was to become it is complete.
        volumes.push((0, leftovers.remove(0)));
    }
    let dir = spool.join(DIR);
    let entries = match fs::read_dir(&dir).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
        entries => entries.map_err(Error::storage("list the dead letters", &dir))?,
    };
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if let Ok(number) = name.parse::<u32>()
            && (is_dir && name.len() == 8 && number > 0)
        {
            volumes.push((number, entry.path()));
        }
    }
    volumes.sort();
    Ok((volumes, leftovers))
}

pub(super) fn path(spool: &Path, number: u32) -> PathBuf {
    spool.join(DIR).join(format!("{number:08}"))
}

/// Removes a directory, durably, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::storage(
            "remove dead letters that are elsewhere",
            path,
        )(source)),
        Ok(()) => sync_names(path.parent().unwrap_or(Path::new("."))),
    }
}

/// The value of the newest memo of format 1 that is complete.
pub(super) fn old_memo(scan: &Scan) -> io::Result<Option<Vec<u8>>> {
    let last = scan.values(OLD_MEMO).last();
    last.map_or(Ok(None), |(generation, whole, _)| {
        scan.read(Key::new(OLD_MEMO, generation), whole)
    })
}
