//! queue-file: a ring in one file.

use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use queue_file::QueueFile;

use crate::contest::{Opened, Store, Survives, System};

/// Room for what a measurement appends, so that growing the file is not what is measured.
const CAPACITY: u64 = 64 << 20;

/// What is written and removed again before, so that the blocks are allocated as they are in a
/// queue that has been used for a while.
const USED_BYTES: usize = 48 << 20;

struct Growing(QueueFile);

impl Store for Growing {
    fn append(&mut self, events: &[Bytes]) -> Result<()> {
        Ok(self.0.add_n(events)?)
    }
}

struct Ring {
    file: QueueFile,
    used_bytes: usize,
}

impl Ring {
    fn open(dir: &Path, sync: bool) -> Result<Opened> {
        let mut ring = QueueFile::with_capacity(dir.join("queue"), CAPACITY)?;
        ring.set_sync_writes(false);
        ring.set_overwrite_on_remove(false);
        let used = vec![0; 1 << 20];
        for _ in 0..USED_BYTES / used.len() {
            ring.add(&used)?;
        }
        while !ring.is_empty() {
            ring.remove()?;
        }
        ring.sync_all()?;
        ring.set_sync_writes(sync);
        Ok(Opened::Store(Box::new(Self {
            file: ring,
            used_bytes: 0,
        })))
    }
}

impl Store for Ring {
    fn append(&mut self, events: &[Bytes]) -> Result<()> {
        // Elements are removed once there are many, as a consumer would: a ring that only grows
        // would copy itself.
        if self.used_bytes > USED_BYTES {
            self.file.clear()?;
            self.used_bytes = 0;
        }
        // Each element has a header; 32 bytes are more than any version of the format takes.
        self.used_bytes += events.iter().map(|event| event.len() + 32).sum::<usize>();
        Ok(self.file.add_n(events)?)
    }
}

/// With `sync_writes`, the default.
pub(crate) fn synced() -> System {
    System {
        name: "queue-file",
        survives: Survives::PowerCut,
        remark: "a ring of allocated blocks, `add_n` for what waits",
        is_limit: false,
        open: |dir| Ring::open(dir, true),
    }
}

/// Without `sync_writes`.
pub(crate) fn written() -> System {
    System {
        name: "queue-file, no sync_writes",
        survives: Survives::Process,
        remark: "a ring of allocated blocks, `add_n` for what waits",
        is_limit: false,
        open: |dir| Ring::open(dir, false),
    }
}

/// As it comes, growing with what it holds.
pub(crate) fn growing() -> System {
    System {
        name: "queue-file",
        survives: Survives::Process,
        remark: "",
        is_limit: false,
        open: |dir| {
            let mut file = QueueFile::open(dir.join("queue"))?;
            file.set_sync_writes(false);
            Ok(Opened::Store(Box::new(Growing(file))))
        },
    }
}
