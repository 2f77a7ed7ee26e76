//! yaque: a queue of segment files. It never syncs, so it has no synced setting.

use std::path::Path;

use anyhow::{Result, anyhow};
use bytes::Bytes;
use yaque::{Sender, SenderBuilder};

use crate::contest::{Opened, Store, Survives, System};

struct Sending(Sender);

impl Store for Sending {
    fn append(&mut self, events: &[Bytes]) -> Result<()> {
        self.0
            .try_send_batch(events)
            .map_err(|error| anyhow!("{error}"))
    }
}

/// The only setting.
pub(crate) fn written() -> System {
    System {
        name: "yaque",
        survives: Survives::Process,
        remark: "never syncs; `send_batch` for what waits",
        is_limit: false,
        open: |dir: &Path| {
            let sender = SenderBuilder::new().open(dir.join("yaque"))?;
            Ok(Opened::Store(Box::new(Sending(sender))))
        },
    }
}
