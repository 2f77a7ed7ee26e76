//! rusqlite: a table as an outbox, in the bundled SQLite.

use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use rusqlite::Connection;

use crate::contest::{Opened, Store, Survives, System};

struct Outbox(Connection);

impl Outbox {
    fn open(dir: &Path, synchronous: &str) -> Result<Opened> {
        let db = Connection::open(dir.join("outbox.db"))?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", synchronous)?;
        db.execute_batch("CREATE TABLE outbox (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")?;
        Ok(Opened::Store(Box::new(Self(db))))
    }
}

impl Store for Outbox {
    fn append(&mut self, events: &[Bytes]) -> Result<()> {
        let transaction = self.0.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO outbox (body) VALUES (?1)")?;
            for event in events {
                insert.execute([&event[..]])?;
            }
        }
        Ok(transaction.commit()?)
    }
}

/// `synchronous=FULL`: each commit is synced.
pub(crate) fn full() -> System {
    System {
        name: "rusqlite, WAL, FULL",
        survives: Survives::PowerCut,
        remark: "one transaction for what waits",
        is_limit: false,
        open: |dir| Outbox::open(dir, "FULL"),
    }
}

/// `synchronous=NORMAL`: synced at checkpoints only.
pub(crate) fn normal() -> System {
    System {
        name: "rusqlite, WAL, NORMAL",
        survives: Survives::Process,
        remark: "synced at checkpoints, one transaction for what waits",
        is_limit: false,
        open: |dir| Outbox::open(dir, "NORMAL"),
    }
}
