//! sled as a naive queue: one key for each event.

use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use sled::{Batch, Config, Db};

use crate::contest::{Opened, Store, Survives, System};

struct Keys {
    db: Db,
    next: u64,
    flush: bool,
}

impl Keys {
    fn open(dir: &Path, flush: bool) -> Result<Opened> {
        let db = Config::new().path(dir.join("sled")).open()?;
        Ok(Opened::Store(Box::new(Self { db, next: 0, flush })))
    }
}

impl Store for Keys {
    fn append(&mut self, events: &[Bytes]) -> Result<()> {
        let mut batch = Batch::default();
        for event in events {
            batch.insert(&self.next.to_be_bytes(), &event[..]);
            self.next += 1;
        }
        self.db.apply_batch(batch)?;
        if self.flush {
            self.db.flush()?;
        }
        Ok(())
    }
}

/// A `flush` for each commit. On Linux that is a `sync_file_range`, which neither flushes the
/// disk's cache nor writes metadata (sled 0.34.7 src/pagecache/iobuf.rs:728).
pub(crate) fn flushed() -> System {
    System {
        name: "sled, a key each, flush",
        survives: Survives::Process,
        remark: "a weaker promise: `flush` is `sync_file_range`, no fdatasync; one batch for what waits",
        is_limit: false,
        open: |dir| Keys::open(dir, true),
    }
}

/// No `flush`; sled writes its buffers each half second, or when they are full.
pub(crate) fn unflushed() -> System {
    System {
        name: "sled, a key each, no flush",
        survives: Survives::Nothing,
        remark: "buffered inside the process for up to 500 ms; one batch for what waits",
        is_limit: false,
        open: |dir| Keys::open(dir, false),
    }
}
