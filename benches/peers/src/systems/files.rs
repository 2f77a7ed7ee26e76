//! The limits: what the disk and the system give to a program that does nothing else.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Result;
use bytes::Bytes;

use crate::contest::{Opened, Store, Survives, System};

/// As large as the three journal files of everpost together.
const PREALLOCATED_BYTES: u64 = 12 << 20;

/// A file whose blocks are all written, overwritten in place from its beginning to its end and
/// then again, each commit with one write and one fdatasync.
#[derive(Debug)]
pub(crate) struct Preallocated {
    file: File,
    at: u64,
    buffer: Vec<u8>,
}

impl Preallocated {
    /// Makes and writes the file.
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        let mut file = OpenOptions::new()
            .create_new(true)
            .read(true)
            .write(true)
            .open(dir.join("preallocated"))?;
        // In pieces as everpost writes its journal: a page cache that holds them in larger ones
        // takes longer for each small write later.
        let zeros = vec![0; 64 << 10];
        for _ in 0..PREALLOCATED_BYTES / zeros.len() as u64 {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        Ok(Self {
            file,
            at: 0,
            buffer: Vec::new(),
        })
    }
}

impl Store for Preallocated {
    fn append(&mut self, events: &[Bytes]) -> Result<()> {
        self.buffer.clear();
        for event in events {
            self.buffer.extend_from_slice(event);
        }
        let length = self.buffer.len() as u64;
        if self.at + length > PREALLOCATED_BYTES {
            self.at = 0;
        }
        self.file.write_all_at(&self.buffer, self.at)?;
        self.at += length;
        Ok(self.file.sync_data()?)
    }
}

/// A growing file, each commit one write, never synced.
struct Growing {
    file: File,
    buffer: Vec<u8>,
}

impl Growing {
    fn create(dir: &Path) -> Result<Self> {
        Ok(Self {
            file: File::create(dir.join("growing"))?,
            buffer: Vec::new(),
        })
    }
}

impl Store for Growing {
    fn append(&mut self, events: &[Bytes]) -> Result<()> {
        self.buffer.clear();
        for event in events {
            self.buffer.extend_from_slice(event);
        }
        Ok(self.file.write_all(&self.buffer)?)
    }
}

/// A bare loop over a preallocated file, as many events to a commit as there are producers.
pub(crate) fn bare_synced() -> System {
    System {
        name: "limit: overwrite + fdatasync",
        survives: Survives::PowerCut,
        remark: "a bare loop over a preallocated file, one event for each producer to a commit; keeps nothing",
        is_limit: true,
        open: |dir| Ok(Opened::Loop(Box::new(Preallocated::create(dir)?))),
    }
}

/// The same behind a writer thread, as every library that many tasks use must have it.
pub(crate) fn grouped_synced() -> System {
    System {
        name: "limit behind a writer thread",
        survives: Survives::PowerCut,
        remark: "the same file, written by a thread that commits together what waits; keeps nothing",
        is_limit: true,
        open: |dir| Ok(Opened::Writer(Box::new(Preallocated::create(dir)?))),
    }
}

/// A bare loop of writes to a growing file.
pub(crate) fn bare_written() -> System {
    System {
        name: "limit: plain writes",
        survives: Survives::Process,
        remark: "a bare loop of write calls to a growing file, one event for each producer to a call",
        is_limit: true,
        open: |dir| Ok(Opened::Loop(Box::new(Growing::create(dir)?))),
    }
}

/// The same behind a writer thread.
pub(crate) fn grouped_written() -> System {
    System {
        name: "limit behind a writer thread",
        survives: Survives::Process,
        remark: "a thread that writes in one call what waits",
        is_limit: true,
        open: |dir| Ok(Opened::Writer(Box::new(Growing::create(dir)?))),
    }
}
