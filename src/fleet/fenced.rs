//! The receiver's sink, as one partition may use it.

use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;

use super::hold::Hold;
use crate::outcome::{Hindrance, Outcome};
use crate::sink::{Batch, BoxSink, Request, Sink};

/// What is said of a request that another worker's hold ended.
const TAKEN_OVER: &str = "another worker has taken the partition over";

/// Notes a batch and lets it go out only while the hold is certain, and drops it if the hold is lost meanwhile.
pub(super) struct Fenced {
    sink: Arc<BoxSink>,
    hold: Hold,
}

impl Fenced {
    pub(super) fn new(sink: Arc<BoxSink>, hold: Hold) -> Self {
        Self { sink, hold }
    }
}

impl Sink for Fenced {
    async fn deliver(&self, request: Request) -> Outcome {
        let last = request.events().last().map_or(0, |stored| stored.seq);
        if let Err(error) = self.hold.begin(last).await {
            return Outcome::retry().because(error.to_string());
        }
        // The hold is renewed in parallel, however long this takes.
        tokio::select! {
            outcome = self.sink.deliver(request) => outcome,
            () = self.hold.lost() => Outcome::retry().because(TAKEN_OVER),
        }
    }

    fn prepare(&self, batch: &Batch) -> Option<Bytes> {
        self.sink.prepare(batch)
    }

    fn hindrance(&self) -> impl Future<Output = Option<Hindrance>> + Send {
        self.sink.hindrance()
    }

    fn changed(&self) -> impl Future<Output = ()> + Send {
        self.sink.changed()
    }

    fn batch_events_max(&self) -> Option<NonZeroUsize> {
        self.sink.batch_events_max()
    }
}
