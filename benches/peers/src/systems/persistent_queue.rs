//! persistent-queue, on its redb backend.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use bytes::Bytes;
use persistent_queue::{Builder, Consumer, Durability, Producer, RedbStore};

use crate::contest::{Opened, SharedStore, Survives, System};

struct Pushing {
    producer: Producer<RedbStore>,
    /// Kept, since the queue closes with it.
    _consumer: Consumer<RedbStore>,
}

impl Pushing {
    fn open(dir: &Path, durability: Durability) -> Result<Opened> {
        let store = RedbStore::open(dir.join("queue.redb"))?;
        let builder = Builder::new(store)
            .capacity(usize::MAX)
            .durability(durability);
        let (producer, consumer) = builder.open().map_err(|error| anyhow!("{error}"))?;
        Ok(Opened::Shared(Arc::new(Self {
            producer,
            _consumer: consumer,
        })))
    }
}

impl SharedStore for Pushing {
    fn append(&self, event: Bytes) -> Result<()> {
        self.producer
            .push(&event)
            .map_err(|error| anyhow!("{error}"))
    }
}

/// `Durability::Group`: concurrent pushes share an fsync.
pub(crate) fn synced() -> System {
    System {
        name: "persistent-queue, redb, Group",
        survives: Survives::PowerCut,
        remark: "its own group commit, a thread for each producer",
        is_limit: false,
        open: |dir| Pushing::open(dir, Durability::Group),
    }
}

/// `Durability::None`.
pub(crate) fn none() -> System {
    System {
        name: "persistent-queue, redb, None",
        survives: Survives::Nothing,
        remark: "a thread for each producer",
        is_limit: false,
        open: |dir| Pushing::open(dir, Durability::None),
    }
}
