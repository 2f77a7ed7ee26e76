//! everpost, through its public API, as its users have it.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use everpost::blocking::Queue;
use everpost::{Durability, Settings};

use crate::contest::{Opened, Survives, System};

/// The default settings, but for the bound on the spool: a backlog of 10 million must fit.
pub(crate) fn settings(durability: Durability) -> Settings {
    Settings {
        durability,
        max_bytes: 64 << 30,
        ..Settings::default()
    }
}

/// What `Written` is measured with: a sync each second.
pub(crate) const WRITTEN: Durability = Durability::Written {
    sync_every: Duration::from_secs(1),
};

fn queue(dir: &Path, durability: Durability) -> Result<Queue> {
    let queue = Queue::builder(dir.join("spool")).settings(settings(durability));
    Ok(queue.open()?)
}

/// At `Synced`, the default.
pub(crate) fn synced(producers: usize) -> Vec<System> {
    let remark = if producers == 1 {
        "a blocking append; group commit, checks that events are JSON, gives each an id"
    } else {
        "`append`, awaited by tasks; group commit, checks that events are JSON, gives each an id"
    };
    ways(
        producers,
        Survives::PowerCut,
        remark,
        |dir| Ok(Opened::Blocking(queue(dir, Durability::Synced)?)),
        |dir| {
            Ok(Opened::Queue(
                queue(dir, Durability::Synced)?.as_async().clone(),
            ))
        },
        |dir| {
            Ok(Opened::Submitting(
                queue(dir, Durability::Synced)?.as_async().clone(),
            ))
        },
    )
}

/// At `Written`.
pub(crate) fn written(producers: usize) -> Vec<System> {
    let remark = if producers == 1 {
        "and a power cut but for the last second; a blocking append; group commit, checks that events are JSON, gives each an id"
    } else {
        "and a power cut but for the last second; `append`, awaited by tasks; group commit, checks that events are JSON, gives each an id"
    };
    ways(
        producers,
        Survives::Process,
        remark,
        |dir| Ok(Opened::Blocking(queue(dir, WRITTEN)?)),
        |dir| Ok(Opened::Queue(queue(dir, WRITTEN)?.as_async().clone())),
        |dir| Ok(Opened::Submitting(queue(dir, WRITTEN)?.as_async().clone())),
    )
}

/// The ways to append, first the one that the peers are driven in: a single producer calls them
/// directly, many are tasks.
fn ways(
    producers: usize,
    survives: Survives,
    remark: &'static str,
    blocking: fn(&Path) -> Result<Opened>,
    awaited: fn(&Path) -> Result<Opened>,
    submitted: fn(&Path) -> Result<Opened>,
) -> Vec<System> {
    let system = |name, remark, open| System {
        name,
        survives,
        remark,
        is_limit: false,
        open,
    };
    if producers == 1 {
        vec![
            system("everpost", remark, blocking),
            system("everpost, awaited by a task", "`append`", awaited),
        ]
    } else {
        vec![
            system("everpost", remark, awaited),
            system("everpost, from threads", "`blocking::Queue`", blocking),
            system("everpost, 64 under way by one task", "`submit`", submitted),
        ]
    }
}
