//! A sink that waits for a word before it sends anything.

use std::num::NonZeroUsize;
use std::sync::Arc;

use everpost::{Batch, Bytes, Outcome, Request, Sink};
use tokio::sync::Semaphore;

use crate::upstream::Upstream;

/// Sends nothing before this command has seen what was pending, so that it counts all that leaves.
#[derive(Debug)]
pub(crate) struct Gated {
    sink: Upstream,
    gate: Arc<Semaphore>,
}

impl Gated {
    /// This sink behind this gate, which the first permit opens.
    pub(crate) fn new(sink: Upstream, gate: &Arc<Semaphore>) -> Self {
        let gate = Arc::clone(gate);
        Self { sink, gate }
    }
}

impl Sink for Gated {
    /// # Cancel safety
    /// As the sink itself.
    async fn deliver(&self, request: Request) -> Outcome {
        // Never closed; the permit goes back at once.
        drop(self.gate.acquire().await);
        self.sink.deliver(request).await
    }

    fn prepare(&self, batch: &Batch) -> Option<Bytes> {
        self.sink.prepare(batch)
    }

    /// # Cancel safety
    /// As the sink itself.
    async fn changed(&self) {
        self.sink.changed().await;
    }

    fn batch_events_max(&self) -> Option<NonZeroUsize> {
        self.sink.batch_events_max()
    }
}
