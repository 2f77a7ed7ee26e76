//! Where the data of a run lies, and that nothing of it stays behind.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use tempfile::TempDir;

const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;

/// The directory of a run. It goes when this is dropped, and at Ctrl-C.
#[derive(Debug)]
pub(crate) struct Place {
    root: TempDir,
    in_memory: bool,
    next: AtomicU64,
}

impl Place {
    /// Makes the directory of the run below `dir`.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)
            .with_context(|| format!("cannot make the directory. dir=`{}`", dir.display()))?;
        let root = tempfile::Builder::new().prefix("peers-").tempdir_in(dir)?;
        let kind = rustix::fs::statfs(root.path())?.f_type as u64;
        let gone = root.path().to_path_buf();
        ctrlc::set_handler(move || {
            // Twice, since the threads of the run still write until the process has ended.
            for _ in 0..2 {
                let _ = fs::remove_dir_all(&gone);
            }
            std::process::exit(130);
        })?;
        Ok(Self {
            root,
            in_memory: kind == TMPFS || kind == RAMFS,
            next: AtomicU64::new(0),
        })
    }

    /// The kind of the file system it is on, as /proc/mounts says.
    pub(crate) fn file_system(&self) -> String {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let root = self.root.path().canonicalize().unwrap_or_default();
        let longest = mounts
            .lines()
            .filter_map(|line| {
                let mut words = line.split_ascii_whitespace();
                let (_, at, kind) = (words.next()?, words.next()?, words.next()?);
                root.starts_with(at).then_some((at.len(), kind))
            })
            .max();
        longest.map_or("unknown", |(_, kind)| kind).to_owned()
    }

    /// Whether there is no disk below it, so that an fdatasync costs nothing.
    pub(crate) fn is_in_memory(&self) -> bool {
        self.in_memory
    }

    /// The directory of the run.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// A new, empty directory, which goes when it is dropped.
    pub(crate) fn fresh(&self) -> Result<Scratch> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.root.path().join(number.to_string());
        fs::create_dir(&path)?;
        Ok(Scratch { path })
    }
}

/// One directory of a run, for one measurement.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!(
                "cannot remove. path=`{}` error=`{error}`",
                self.path.display()
            );
        }
    }
}

/// The files below a directory. What goes while they are listed is left out.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => dirs.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

/// Bytes that the files below a directory take on disk: allocated blocks, not lengths.
pub(crate) fn disk_bytes(dir: &Path) -> u64 {
    files(dir)
        .iter()
        .filter_map(|path| fs::metadata(path).ok())
        .map(|meta| meta.blocks() * 512)
        .sum()
}

/// Copies a directory of files.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from)?);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(&file, &target)?;
    }
    // Empty directories belong to the shape of a spool.
    for entry in fs::read_dir(from)?
        .flatten()
        .filter(|entry| entry.path().is_dir())
    {
        fs::create_dir_all(to.join(entry.file_name()))?;
    }
    Ok(())
}
