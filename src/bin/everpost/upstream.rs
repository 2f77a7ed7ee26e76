//! The receiver of a spool, as `drain` and `run` deliver to it.

use std::num::NonZeroUsize;
use std::sync::Arc;

use everpost::botanalytics::Botanalytics;
use everpost::http::Http;
use everpost::nats::{JetStream, Target};
use everpost::{Batch, Bytes, Hindrance, Outcome, Request, Sink};

/// What the events of a spool are delivered to.
#[derive(Clone, Debug)]
pub(crate) enum Upstream {
    /// The Botanalytics API, as `[service]` and the variables `BA_*` say.
    Api(Botanalytics),
    /// The receiver that `service.receiver` names.
    Receiver(Http),
    /// The stream that `service.receiver` names.
    Stream(Arc<JetStream>, String),
}

impl Upstream {
    /// A stream, as its target says.
    pub(crate) fn of_stream(target: &Target, sink: JetStream) -> Self {
        Self::Stream(Arc::new(sink), target.servers().to_string())
    }

    /// The address that requests go to, without its query.
    pub(crate) fn url(&self) -> &str {
        match self {
            Self::Api(sink) => sink.url(),
            Self::Receiver(sink) => sink.url(),
            Self::Stream(_, url) => url,
        }
    }
}

impl Sink for Upstream {
    /// # Cancel safety
    /// As the sink itself.
    async fn deliver(&self, request: Request) -> Outcome {
        match self {
            Self::Api(sink) => sink.deliver(request).await,
            Self::Receiver(sink) => sink.deliver(request).await,
            Self::Stream(sink, _) => sink.deliver(request).await,
        }
    }

    fn prepare(&self, batch: &Batch) -> Option<Bytes> {
        match self {
            Self::Api(sink) => sink.prepare(batch),
            Self::Receiver(sink) => sink.prepare(batch),
            Self::Stream(sink, _) => sink.prepare(batch),
        }
    }

    /// # Cancel safety
    /// As the sink itself.
    async fn hindrance(&self) -> Option<Hindrance> {
        match self {
            Self::Api(sink) => sink.hindrance().await,
            Self::Receiver(sink) => sink.hindrance().await,
            Self::Stream(sink, _) => sink.hindrance().await,
        }
    }

    /// # Cancel safety
    /// As the sink itself.
    async fn changed(&self) {
        match self {
            Self::Api(sink) => sink.changed().await,
            Self::Receiver(sink) => sink.changed().await,
            Self::Stream(sink, _) => sink.changed().await,
        }
    }

    fn batch_events_max(&self) -> Option<NonZeroUsize> {
        match self {
            Self::Api(sink) => sink.batch_events_max(),
            Self::Receiver(sink) => sink.batch_events_max(),
            Self::Stream(sink, _) => sink.batch_events_max(),
        }
    }
}
