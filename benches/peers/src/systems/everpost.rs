//! everpost, through its public API, as its users have it.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use everpost::{Durability, Queue, Settings};

use crate::contest::{Opened, Survives, System};

/// The default settings, but for the bound on the spool: a backlog of 10 million must fit.
pub(crate) fn settings(durability: Durability) -> Settings {
    let mut settings = Settings::default();
    settings.durability = durability;
    settings.max_bytes = 64 << 30;
    settings
}

/// What `Written` is measured with: a sync each second.
pub(crate) const WRITTEN: Durability = Durability::Written {
    sync_every: Duration::from_secs(1),
};

fn open(dir: &Path, durability: Durability) -> Result<Opened> {
    let queue = Queue::builder(dir.join("spool")).settings(settings(durability));
    Ok(Opened::Queue(queue.open_blocking()?))
}

/// At `Synced`, the default.
pub(crate) fn synced() -> System {
    System {
        name: "everpost",
        survives: Survives::PowerCut,
        remark: "group commit, checks that events are JSON, gives each an id",
        is_limit: false,
        open: |dir| open(dir, Durability::Synced),
    }
}

/// At `Written`.
pub(crate) fn written() -> System {
    System {
        name: "everpost",
        survives: Survives::Process,
        remark: "and a power cut but for the last second; group commit, checks that events are JSON, gives each an id",
        is_limit: false,
        open: |dir| open(dir, WRITTEN),
    }
}
