//! redb: a copy-on-write B-tree, one key for each event.

use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use redb::{Database, Durability, TableDefinition};

use crate::contest::{Opened, Store, Survives, System};

const OUTBOX: TableDefinition<u64, &[u8]> = TableDefinition::new("outbox");

struct Tree {
    db: Database,
    next: u64,
    durability: Durability,
}

impl Tree {
    fn open(dir: &Path, durability: Durability) -> Result<Opened> {
        let db = Database::create(dir.join("outbox.redb"))?;
        Ok(Opened::Store(Box::new(Self {
            db,
            next: 0,
            durability,
        })))
    }
}

impl Store for Tree {
    fn append(&mut self, events: &[Bytes]) -> Result<()> {
        let mut transaction = self.db.begin_write()?;
        transaction.set_durability(self.durability)?;
        {
            let mut outbox = transaction.open_table(OUTBOX)?;
            for event in events {
                outbox.insert(self.next, &event[..])?;
                self.next += 1;
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Drop for Tree {
    /// Has everything written, so that the size of the file can be looked at.
    fn drop(&mut self) {
        if let Ok(transaction) = self.db.begin_write() {
            let _ = transaction.commit();
        }
    }
}

/// `Durability::Immediate`, the default.
pub(crate) fn immediate() -> System {
    System {
        name: "redb, Immediate",
        survives: Survives::PowerCut,
        remark: "one transaction for what waits",
        is_limit: false,
        open: |dir| Tree::open(dir, Durability::Immediate),
    }
}

/// `Durability::None`: durable only with a later commit that is.
pub(crate) fn none() -> System {
    System {
        name: "redb, None",
        survives: Survives::Nothing,
        remark: "one transaction for what waits",
        is_limit: false,
        open: |dir| Tree::open(dir, Durability::None),
    }
}
