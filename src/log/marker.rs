//! What a directory is: two small files say which queue it belongs to and in which format.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::disk::open_to_look;
use super::journal;
use crate::error::Error;
use crate::incident::{Finding, IncidentKind};

/// The format of the directory as a whole that this version writes; it reads all before it.
pub(crate) const FORMAT: u32 = 2;

pub(crate) const MARKER: &str = "spool.json";
pub(crate) const COPY: &str = "spool.copy.json";

/// Bytes that are read of a marker at the most.
const BYTES_MAX: u64 = 64 << 10;

/// Names that may stand in a directory whose making was interrupted or whose markers are gone, and
/// what a file system puts into its root.
const OWN_NAMES: [&str; 23] = [
    "lock",
    MARKER,
    COPY,
    "spool.json.new",
    "spool.copy.json.new",
    "ballast",
    "journal",
    "segments",
    "letters",
    "state",
    "witness",
    "witness.new",
    "settings",
    "settings.new",
    "settings.toml",
    "settings.toml.new",
    "incidents",
    "incidents.new",
    "memo",
    "memo.new",
    "quarantine",
    "control.sock",
    "lost+found",
];

/// What `spool.json` says.
#[derive(Serialize, Deserialize)]
pub(crate) struct Marker {
    pub(crate) everpost_format: u32,
    pub(crate) queue_id: Uuid,
}

/// What a spool is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) queue: Uuid,
    pub(crate) format: u32,
    /// What is wrong with one of the markers.
    pub(crate) finding: Option<Finding>,
}

impl Identity {
    /// Whether both markers say what this version would write.
    pub(crate) fn is_current(&self) -> bool {
        self.format == FORMAT && self.finding.is_none()
    }
}

/// What a directory is; `None` if it is no spool yet: it is empty, or the making of one was
/// interrupted, and nothing was ever acknowledged.
///
/// A flipped bit can leave a marker readable and wrong. With a wrong queue id nothing in the spool
/// would check, and all of it would look damaged, so where the two differ, the frames of the
/// journal say which one is right.
///
/// # Errors
/// [`Error::NotASpool`], [`Error::FutureFormat`], [`Error::Damaged`], [`Error::Storage`].
pub(crate) fn identify(dir: &Path) -> Result<Option<Identity>, Error> {
    if !is_marked(dir) {
        return match refuse_unmarked(dir) {
            // The markers are there before the first frame is: another process has made it since.
            Err(_) if is_marked(dir) => identify(dir),
            refused => refused.map(|()| None),
        };
    }
    let both = [MARKER, COPY].map(|name| (name, read_marker(&dir.join(name))));
    let mut format = FORMAT;
    for marker in both.iter().filter_map(|(_, marker)| marker.as_ref().ok()) {
        if !(1..=FORMAT).contains(&marker.everpost_format) {
            return Err(Error::FutureFormat {
                path: dir.to_owned(),
                found: marker.everpost_format,
                supported: FORMAT,
            });
        }
        // A crash may have left one of an older format.
        format = format.min(marker.everpost_format);
    }
    let finding = |name: &str, what: &str| {
        let what = format!("{what}; it is written again from its twin");
        Some(Finding::new(IncidentKind::Marker, name, what))
    };
    let wrong = "it names another queue than the frames of the journal do";
    let (queue, finding) = match &both {
        [(_, Ok(first)), (_, Ok(copy))] if first.queue_id == copy.queue_id => {
            (first.queue_id, None)
        }
        [(name, Ok(first)), (other, Ok(copy))] => {
            let known = |queue| journal::is_of(dir, queue);
            match (known(first.queue_id)?, known(copy.queue_id)?) {
                (true, false) => (first.queue_id, finding(other, wrong)),
                (false, true) => (copy.queue_id, finding(name, wrong)),
                _ => {
                    let what = format!("{MARKER} and {COPY} name different queues");
                    return Err(damaged(dir, what));
                }
            }
        }
        [(_, Ok(good)), (name, Err(what))] | [(name, Err(what)), (_, Ok(good))] => {
            (good.queue_id, finding(name, what))
        }
        [(_, Err(what)), (_, Err(_))] => {
            let what = format!("neither {MARKER} nor {COPY} can be read: {what}");
            return Err(damaged(dir, what));
        }
    };
    Ok(Some(Identity {
        queue,
        format,
        finding,
    }))
}

/// Whether there is a marker, readable or not.
pub(crate) fn is_marked(dir: &Path) -> bool {
    let is_there = |name: &&str| dir.join(name).symlink_metadata().is_ok();
    [MARKER, COPY].iter().any(is_there)
}

fn damaged(dir: &Path, what: String) -> Error {
    Error::Damaged {
        what,
        path: dir.to_owned(),
    }
}

/// What a marker says, or what is wrong with it: never a part of what is in the file, which may be
/// no marker at all.
fn read_marker(path: &Path) -> Result<Marker, String> {
    let mut bytes = Vec::new();
    let read = open_to_look(path).and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => serde_json::from_slice(&bytes)
            .map_err(|error| format!("it is not as it was written, at line {}", error.line())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err("it is missing".into()),
        Err(error) => Err(format!("it cannot be read: {error}")),
    }
}

/// Without a marker there can be no acknowledged event, unless a person removed the markers.
/// Data is then left untouched: without the queue id nothing in it can be checked.
fn refuse_unmarked(dir: &Path) -> Result<(), Error> {
    let failed = |path: &PathBuf| Error::storage("look into an unfinished spool", path.clone());
    let path = dir.to_owned();
    let entries = match std::fs::read_dir(dir) {
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) if source.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(Error::NotASpool { path });
        }
        entries => entries.map_err(failed(&path))?,
    };
    for entry in entries {
        let name = entry.map_err(failed(&path))?.file_name();
        if !OWN_NAMES.iter().any(|own| name == *own) {
            return Err(Error::NotASpool { path });
        }
    }
    let segments = dir.join("segments").read_dir();
    let mut with_data = segments.is_ok_and(|mut dir| dir.next().is_some());
    let journal = dir.join("journal");
    for entry in journal.read_dir().into_iter().flatten() {
        let path = entry.map_err(failed(&journal))?.path();
        with_data |= !is_zero(&path).map_err(failed(&path))?;
    }
    if with_data {
        let what = format!("there is data but neither {MARKER} nor {COPY}");
        return Err(damaged(dir, what));
    }
    Ok(())
}

fn is_zero(path: &Path) -> std::io::Result<bool> {
    let mut file = open_to_look(path)?;
    let mut block = vec![0; 64 << 10];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(true),
            n if block.iter().take(n).any(|byte| *byte != 0) => return Ok(false),
            _ => {}
        }
    }
}
