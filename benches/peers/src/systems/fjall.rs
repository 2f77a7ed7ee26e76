//! fjall: a log-structured merge tree, one key for each event.

use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::contest::{Opened, Store, Survives, System};

struct Tree {
    db: Database,
    outbox: Keyspace,
    next: u64,
    mode: PersistMode,
}

impl Tree {
    fn open(dir: &Path, mode: PersistMode) -> Result<Opened> {
        let db = Database::builder(dir.join("fjall")).open()?;
        let outbox = db.keyspace("outbox", KeyspaceCreateOptions::default)?;
        Ok(Opened::Store(Box::new(Self {
            db,
            outbox,
            next: 0,
            mode,
        })))
    }
}

impl Store for Tree {
    fn append(&mut self, events: &[Bytes]) -> Result<()> {
        let mut batch = self.db.batch().durability(Some(self.mode));
        for event in events {
            batch.insert(&self.outbox, self.next.to_be_bytes(), &event[..]);
            self.next += 1;
        }
        Ok(batch.commit()?)
    }
}

/// Each commit with an fdatasync.
pub(crate) fn synced() -> System {
    System {
        name: "fjall, SyncData",
        survives: Survives::PowerCut,
        remark: "one batch for what waits",
        is_limit: false,
        open: |dir| Tree::open(dir, PersistMode::SyncData),
    }
}

/// Each commit is given to the system, the default.
pub(crate) fn written() -> System {
    System {
        name: "fjall, Buffer",
        survives: Survives::Process,
        remark: "one batch for what waits",
        is_limit: false,
        open: |dir| Tree::open(dir, PersistMode::Buffer),
    }
}
