//! okaywal: a write-ahead log with group commit.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use okaywal::{Configuration, LogVoid, WriteAheadLog};

use crate::contest::{Opened, SharedStore, Store, Survives, System};

struct Wal(WriteAheadLog);

/// Segments as large as the journal files of everpost, since the default of 1 MiB is recycled too
/// often. What is checkpointed is thrown away, so nothing beyond the log itself is measured.
fn open(dir: &Path) -> Result<Wal> {
    let configuration = Configuration::default_for(dir.join("wal"))
        .preallocate_bytes(4 << 20)
        .checkpoint_after_bytes(3 << 20)
        .buffer_bytes(64 << 10);
    Ok(Wal(configuration.open(LogVoid)?))
}

impl Store for Wal {
    fn append(&mut self, events: &[Bytes]) -> Result<()> {
        let mut entry = self.0.begin_entry()?;
        for event in events {
            entry.write_chunk(event)?;
        }
        entry.commit()?;
        Ok(())
    }
}

impl SharedStore for Wal {
    fn append(&self, event: Bytes) -> Result<()> {
        let mut entry = self.0.begin_entry()?;
        entry.write_chunk(&event)?;
        entry.commit()?;
        Ok(())
    }
}

/// Each producer is a thread; the log commits together what they wrote.
pub(crate) fn own() -> System {
    System {
        name: "okaywal",
        survives: Survives::PowerCut,
        remark: "its own group commit, a thread for each producer; only the log, checkpoints go nowhere",
        is_limit: false,
        open: |dir| Ok(Opened::Shared(Arc::new(open(dir)?))),
    }
}

/// One entry for all that waits.
pub(crate) fn batched() -> System {
    System {
        name: "okaywal, one entry for many",
        survives: Survives::PowerCut,
        remark: "one entry for what waits; only the log, checkpoints go nowhere",
        is_limit: false,
        open: |dir| Ok(Opened::Store(Box::new(open(dir)?))),
    }
}
