//! Where batches go, and what the answer means.
//!
//! A [`Sink`] delivers one batch at a time and says what came of it in an [`Outcome`]. It knows
//! nothing of the log; the log knows nothing of it.

pub mod botanalytics;
mod boxed;
pub mod classify;
pub(crate) mod format;
pub mod http;
pub(crate) mod key;
pub mod message;
#[cfg(feature = "nats")]
pub mod nats;

use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use uuid::Uuid;

use crate::error::Error;
use crate::event::StoredEvent;
use crate::id::{EventId, Seq};
use crate::outcome::{Hindrance, Outcome};

pub use boxed::BoxSink;
pub(crate) use classify::Classifier;

/// What one request carries: events in `seq` order. Never empty. Cloning is cheap.
#[derive(Clone)]
pub struct Batch {
    shared: Arc<Shared>,
}

struct Shared {
    events: Vec<StoredEvent>,
    key: OnceLock<Uuid>,
}

impl Batch {
    /// A batch of these events; `None` if there are none.
    #[must_use]
    pub fn new(events: Vec<StoredEvent>) -> Option<Self> {
        if events.is_empty() {
            None
        } else {
            let shared = Shared {
                events,
                key: OnceLock::new(),
            };
            Some(Self {
                shared: Arc::new(shared),
            })
        }
    }

    /// The events, in order.
    #[must_use]
    pub fn events(&self) -> &[StoredEvent] {
        &self.shared.events
    }

    /// A key that is the same for the same events and differs for any others: UUIDs of version 5,
    /// each made of the one before it, over the id and the JSON of each event. Send it with the
    /// request, so that a receiver which keeps such keys can tell a repetition.
    #[must_use]
    pub fn idempotency_key(&self) -> Uuid {
        /// Names the space the keys are made in; any fixed UUID would do.
        const SPACE: Uuid = Uuid::from_u128(0x6576_6572_706f_7374_8000_6261_7463_6800);
        *self.shared.key.get_or_init(|| {
            self.events().iter().fold(SPACE, |key, stored| {
                let event = &stored.event;
                let key = Uuid::new_v5(&key, event.id().as_uuid().as_bytes());
                Uuid::new_v5(&key, event.json_bytes())
            })
        })
    }
}

/// Prints the events, of which nothing shows the content.
impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("events", &self.shared.events)
            .finish_non_exhaustive()
    }
}

/// The id of an event that is being looked for.
pub(crate) type FoundId<'a> =
    Pin<Box<dyn Future<Output = Result<Option<EventId>, Error>> + Send + 'a>>;

/// What a spool says of the events that it holds.
pub(crate) trait Ids: Send + Sync {
    /// The id of the pending event at this place.
    fn id_at(&self, seq: Seq) -> FoundId<'_>;
}

/// What a [`Sink`] is given to deliver: a batch, and what [`Sink::prepare`] made of it.
#[derive(Clone)]
pub struct Request {
    batch: Batch,
    prepared: Option<Bytes>,
    ids: Option<Arc<dyn Ids>>,
}

impl Request {
    /// A request for this batch, with nothing prepared for it.
    #[must_use]
    pub fn new(batch: Batch) -> Self {
        Self {
            batch,
            prepared: None,
            ids: None,
        }
    }

    /// The same request from a spool that can be asked.
    pub(crate) fn with_ids(mut self, ids: Arc<dyn Ids>) -> Self {
        self.ids = Some(ids);
        self
    }

    /// The same request with this prepared for it instead.
    #[must_use]
    pub fn with_prepared(mut self, prepared: Option<Bytes>) -> Self {
        self.prepared = prepared;
        self
    }

    /// Has the sink prepare it, unless it has done so already.
    pub(crate) fn prepare(&mut self, sink: &impl Sink) {
        if self.prepared.is_none() {
            self.prepared = sink.prepare(&self.batch);
        }
    }

    /// The batch.
    #[must_use]
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The events of the batch, in order.
    #[must_use]
    pub fn events(&self) -> &[StoredEvent] {
        self.batch.events()
    }

    /// The id of the event at a place of the spool, such as one that the receiver says it has: it may
    /// be in this batch or behind it. None if the spool holds no event there that is pending, and
    /// for what is outside the batch also if the request is of no spool.
    ///
    /// # Errors
    /// Those of the disk: nothing follows from them.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn id_at(&self, seq: Seq) -> Result<Option<EventId>, Error> {
        let events = self.events();
        if let Ok(at) = events.binary_search_by_key(&seq, |stored| stored.seq) {
            return Ok(events.get(at).map(|stored| stored.event.id()));
        }
        match &self.ids {
            Some(ids) => ids.id_at(seq).await,
            None => Ok(None),
        }
    }

    /// What was prepared, once: so that a sink can let go of it while it waits for the answer,
    /// however long that takes. `None` if nothing was prepared.
    #[must_use]
    pub fn take_prepared(&mut self) -> Option<Bytes> {
        self.prepared.take()
    }
}

/// Prints the events, of which nothing shows the content, and nothing of what was prepared.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}

/// Takes batches to a receiver.
///
/// The flusher calls [`deliver`](Sink::deliver) for one batch at a time and never for the next
/// before this one is settled. Report faults as outcomes; a panic ends the flusher (the events
/// stay). One that is chosen at run time is a [`BoxSink`]; one that speaks HTTP has its outcome from
/// [`Classifier::outcome`]; a whole program with a sink of its own is `examples/own_sink.rs`.
///
/// ```
/// use std::io::Write as _;
///
/// use everpost::{Outcome, Request, Sink};
///
/// /// Appends events to a file, one in a line.
/// struct ToFile(std::path::PathBuf);
///
/// impl Sink for ToFile {
///     async fn deliver(&self, request: Request) -> Outcome {
///         let mut lines = Vec::new();
///         for stored in request.events() {
///             lines.extend_from_slice(stored.event.json_bytes());
///             lines.push(b'\n');
///         }
///         let write = || {
///             let mut file = std::fs::File::options().create(true).append(true).open(&self.0)?;
///             file.write_all(&lines)?;
///             file.sync_data()
///         };
///         match write() {
///             Ok(()) => Outcome::delivered(),
///             Err(error) => Outcome::retry().because(error.to_string()),
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let (spool, file) = (home.path().join("spool"), home.path().join("events"));
/// use everpost::{Event, Queue};
///
/// let queue = Queue::builder(spool).sink(ToFile(file.clone())).open().await?;
/// queue.append(Event::json(r#"{"text":"hello"}"#)?).await?;
/// assert!(queue.close(std::time::Duration::from_secs(5)).await?.drained);
/// assert_eq!(std::fs::read_to_string(file)?, "{\"text\":\"hello\"}\n");
/// # Ok(()) }
/// ```
pub trait Sink: Send + Sync + 'static {
    /// Delivers the batch of this request and says what came of it.
    ///
    /// Return [`Verdict::Delivered`](crate::Verdict::Delivered) only if the receiver has taken every event: on this word the
    /// events are removed (invariant I6). Set time limits of your own: the flusher waits as long
    /// as this future does.
    ///
    /// # Cancel safety
    /// The future is dropped when the queue closes at its deadline. The batch is then not
    /// settled and will be sent again, under the same ids, by the next owner of the spool.
    fn deliver(&self, request: Request) -> impl Future<Output = Outcome> + Send;

    /// Makes what delivering this batch will take, such as the body of an HTTP request; it is
    /// handed to [`deliver`](Sink::deliver) with the batch, once
    /// ([`Request::take_prepared`]).
    ///
    /// The flusher prepares every request: the next ones while an earlier one is under way, so
    /// that the receiver waits for nothing, and at the latest right before `deliver`. A batch that
    /// is prepared may never be delivered as it is, and one that is sent again is prepared again.
    /// It must be quick, and must not wait. The default prepares nothing.
    fn prepare(&self, batch: &Batch) -> Option<Bytes> {
        let _ = batch;
        None
    }

    /// Says what keeps this sink from delivering anything, as far as that can be told without a
    /// request: that there is no key, say.
    ///
    /// It is asked when delivery begins, also if nothing waits, and then only while delivery is
    /// paused for what it said: at each probe. The pause begins before anything is sent, is shown
    /// by the status, and ends by itself once nothing is said any more. A restart does not
    /// remember it, since it asks again. Give the answer within a bounded time, because nothing is
    /// sent meanwhile. The default says nothing.
    ///
    /// # Cancel safety
    /// The future is dropped when the queue closes.
    fn hindrance(&self) -> impl Future<Output = Option<Hindrance>> + Send {
        std::future::ready(None)
    }

    /// Resolves when something changed that makes a paused delivery worth trying at once, such as
    /// a new key. The default never does.
    ///
    /// # Cancel safety
    /// It is polled again and again, and dropped in between: a change must not be lost by that.
    fn changed(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// The most events that one request can carry, where the receiver's form bounds that: one, if a
    /// request is one event. It is asked once, when delivery begins; a batch is never larger. The
    /// default says nothing, so the settings alone decide.
    fn batch_events_max(&self) -> Option<NonZeroUsize> {
        None
    }

    /// The same sink without its type, so that a program can choose among sinks.
    fn boxed(self) -> BoxSink
    where
        Self: Sized,
    {
        BoxSink::new(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::id::EventId;

    fn batch_of(events: &[(u128, &'static str)]) -> Batch {
        let events = (1..).zip(events).map(|(seq, (id, json))| StoredEvent {
            seq,
            event: Event::json(*json)
                .unwrap()
                .with_id(EventId::from_uuid(Uuid::from_u128(*id))),
        });
        Batch::new(events.collect()).unwrap()
    }

    fn batch(ids: &[u128]) -> Batch {
        let events: Vec<_> = ids
            .iter()
            .map(|id| (*id, r#"{"text":"hunter2"}"#))
            .collect();
        batch_of(&events)
    }

    /// Two programs gave their events ids of their own, and the same ones: the receiver took the
    /// second batch for the first and threw it away, since only the ids were in the key.
    #[test]
    fn the_idempotency_key_differs_where_the_contents_differ() {
        let key = batch_of(&[(1, "1"), (2, "2")]).idempotency_key();
        assert_eq!(batch_of(&[(1, "1"), (2, "2")]).idempotency_key(), key);
        for other in [
            [(1, "1"), (2, "3")],
            [(1, "2"), (2, "1")],
            [(1, "1 "), (2, "2")],
            [(2, "1"), (1, "2")],
        ] {
            assert_ne!(batch_of(&other).idempotency_key(), key, "{other:?}");
        }
    }

    #[test]
    fn the_idempotency_key_follows_from_the_events_in_their_order() {
        let key = batch(&[1, 2]).idempotency_key();
        assert_eq!(
            key.to_string(),
            "28c5c0b9-50ee-5842-bf40-de39400d32c5",
            "the same in every version of the library"
        );
        let again = batch(&[1, 2]);
        assert_eq!(again.idempotency_key(), key);
        assert_eq!(again.clone().idempotency_key(), key, "also when it is kept");
        for other in [&[1][..], &[2, 1], &[1, 2, 3]] {
            assert_ne!(batch(other).idempotency_key(), key);
        }
    }

    #[test]
    fn what_was_prepared_is_given_once_and_never_shown() {
        let request = Request::new(batch(&[1]));
        assert_eq!(request.clone().take_prepared(), None);
        let mut request = request.with_prepared(Some("hunter2".into()));
        assert!(!format!("{request:?}").contains("hunter2"));
        assert_eq!(request.take_prepared().unwrap(), "hunter2");
        assert_eq!(request.take_prepared(), None);
    }
}
