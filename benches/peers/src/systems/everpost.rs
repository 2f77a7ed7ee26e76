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

fn queue(dir: &Path, durability: Durability) -> Result<Queue> {
    let queue = Queue::builder(dir.join("spool")).settings(settings(durability));
    Ok(queue.open_blocking()?)
}

/// At `Synced`, the default.
pub(crate) fn synced() -> System {
    System {
        name: "everpost",
        survives: Survives::PowerCut,
        remark: "`append`; group commit, checks that events are JSON, gives each an id",
        is_limit: false,
        open: |dir| Ok(Opened::Queue(queue(dir, Durability::Synced)?)),
    }
}

/// As `synced`, from threads that block.
pub(crate) fn synced_blocking() -> System {
    System {
        name: "everpost, append_blocking",
        survives: Survives::PowerCut,
        remark: "the same from threads",
        is_limit: false,
        open: |dir| Ok(Opened::Blocking(queue(dir, Durability::Synced)?)),
    }
}

/// At `Written`.
pub(crate) fn written() -> System {
    System {
        name: "everpost",
        survives: Survives::Process,
        remark: "`append`; and a power cut but for the last second; group commit, checks that events are JSON, gives each an id",
        is_limit: false,
        open: |dir| Ok(Opened::Queue(queue(dir, WRITTEN)?)),
    }
}

/// As `written`, from threads that block.
pub(crate) fn written_blocking() -> System {
    System {
        name: "everpost, append_blocking",
        survives: Survives::Process,
        remark: "the same from threads",
        is_limit: false,
        open: |dir| Ok(Opened::Blocking(queue(dir, WRITTEN)?)),
    }
}
