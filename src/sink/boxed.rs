//! A sink that is chosen at run time.

use std::fmt;
use std::num::NonZeroUsize;
use std::pin::Pin;

use bytes::Bytes;

use super::{Batch, Request, Sink};
use crate::outcome::{Hindrance, Outcome};

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A sink of whatever type, chosen at run time; made by [`Sink::boxed`]. It is a sink itself.
///
/// ```
/// use everpost::{BoxSink, Outcome, Request, Sink};
///
/// struct Print;
///
/// impl Sink for Print {
///     async fn deliver(&self, request: Request) -> Outcome {
///         println!("{} events", request.events().len());
///         Outcome::delivered()
///     }
/// }
///
/// struct Refuse;
///
/// impl Sink for Refuse {
///     async fn deliver(&self, _: Request) -> Outcome {
///         Outcome::poison("it is only a trial")
///     }
/// }
///
/// fn choose(is_trial: bool) -> BoxSink {
///     if is_trial { Refuse.boxed() } else { Print.boxed() }
/// }
/// # choose(true);
/// ```
pub struct BoxSink {
    sink: Box<dyn DynSink>,
}

impl BoxSink {
    pub(super) fn new(sink: impl Sink) -> Self {
        Self {
            sink: Box::new(sink),
        }
    }
}

impl fmt::Debug for BoxSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxSink").finish_non_exhaustive()
    }
}

/// [`Sink`] with futures in boxes, so that its type need not be known.
trait DynSink: Send + Sync + 'static {
    fn deliver_boxed(&self, request: Request) -> Boxed<'_, Outcome>;
    fn prepare_boxed(&self, batch: &Batch) -> Option<Bytes>;
    fn hindrance_boxed(&self) -> Boxed<'_, Option<Hindrance>>;
    fn changed_boxed(&self) -> Boxed<'_, ()>;
    fn events_max(&self) -> Option<NonZeroUsize>;
}

impl<S: Sink> DynSink for S {
    fn deliver_boxed(&self, request: Request) -> Boxed<'_, Outcome> {
        Box::pin(self.deliver(request))
    }

    fn prepare_boxed(&self, batch: &Batch) -> Option<Bytes> {
        self.prepare(batch)
    }

    fn hindrance_boxed(&self) -> Boxed<'_, Option<Hindrance>> {
        Box::pin(self.hindrance())
    }

    fn changed_boxed(&self) -> Boxed<'_, ()> {
        Box::pin(self.changed())
    }

    fn events_max(&self) -> Option<NonZeroUsize> {
        self.batch_events_max()
    }
}

/// Each call is that of the sink in the box, with its cancel safety.
impl Sink for BoxSink {
    async fn deliver(&self, request: Request) -> Outcome {
        self.sink.deliver_boxed(request).await
    }

    fn prepare(&self, batch: &Batch) -> Option<Bytes> {
        self.sink.prepare_boxed(batch)
    }

    async fn hindrance(&self) -> Option<Hindrance> {
        self.sink.hindrance_boxed().await
    }

    async fn changed(&self) {
        self.sink.changed_boxed().await;
    }

    fn batch_events_max(&self) -> Option<NonZeroUsize> {
        self.sink.events_max()
    }

    fn boxed(self) -> BoxSink {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, StoredEvent};
    use crate::outcome::{Answer, PauseReason};

    struct Whole;

    impl Sink for Whole {
        async fn deliver(&self, mut request: Request) -> Outcome {
            let prepared = request.take_prepared().unwrap();
            Outcome::delivered().because(String::from_utf8_lossy(&prepared))
        }

        fn prepare(&self, batch: &Batch) -> Option<Bytes> {
            Some(format!("{} events", batch.events().len()).into())
        }

        async fn hindrance(&self) -> Option<Hindrance> {
            let reason = PauseReason::Address;
            let answer = Answer::default();
            Some(Hindrance { reason, answer })
        }

        async fn changed(&self) {}
    }

    #[test]
    fn a_box_does_what_the_sink_in_it_does() {
        let sink = Whole.boxed().boxed();
        let event = Event::json("{}").unwrap();
        let batch = Batch::new(vec![StoredEvent { seq: 1, event }]).unwrap();
        let mut request = Request::new(batch);
        request.prepare(&sink);
        let done = pollster::block_on(async {
            sink.changed().await;
            let hindrance = sink.hindrance().await.unwrap();
            assert_eq!(hindrance.reason, PauseReason::Address);
            sink.deliver(request).await
        });
        assert_eq!(done, Outcome::delivered().because("1 events"));
    }
}
