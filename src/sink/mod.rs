//! Where batches go, and what the answer means.
//!
//! A [`Sink`] delivers one batch at a time and says what came of it in an [`Outcome`]. It knows
//! nothing of the log; the log knows nothing of it.

pub mod botanalytics;
pub mod classify;
pub mod key;
pub mod message;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use uuid::Uuid;

use crate::event::StoredEvent;
use crate::outcome::{Hindrance, Outcome};

pub use classify::Classifier;

/// What one request carries: events in `seq` order. Never empty. Cloning is cheap.
#[derive(Clone)]
pub struct Batch {
    shared: Arc<Shared>,
}

struct Shared {
    events: Vec<StoredEvent>,
    key: OnceLock<Uuid>,
    /// The body of its request, if that was made ahead of time.
    body: Mutex<Option<Bytes>>,
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
                body: Mutex::new(None),
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

    /// Keeps the body of its request for [`take_body`](Self::take_body).
    pub(crate) fn keep_body(&self, body: Bytes) {
        *self
            .shared
            .body
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(body);
    }

    /// The body that was kept, once: while its answer is waited for, however long, the batch
    /// holds no more than its events.
    pub(crate) fn take_body(&self) -> Option<Bytes> {
        let body = self.shared.body.lock();
        body.unwrap_or_else(PoisonError::into_inner).take()
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

/// Takes batches to a receiver.
///
/// The flusher calls [`deliver`](Sink::deliver) for one batch at a time and never for the next
/// before this one is settled. Report faults as outcomes; a panic ends the flusher (the events
/// stay).
pub trait Sink: Send + Sync + 'static {
    /// Delivers one batch and says what came of it.
    ///
    /// Return [`Verdict::Delivered`](crate::Verdict::Delivered) only if the receiver has taken every event: on this word the
    /// events are removed (invariant I6). Set time limits of your own: the flusher waits as long
    /// as this future does.
    ///
    /// # Cancel safety
    /// The future is dropped when the queue closes at its deadline. The batch is then not
    /// settled and will be sent again, under the same ids, by the next owner of the spool.
    fn deliver(&self, batch: &Batch) -> impl Future<Output = Outcome> + Send;

    /// Makes ready what delivering this batch will take, such as its body. It is called while an
    /// earlier batch is under way or being settled, with what is likely to be delivered next, and
    /// may be called with a batch that is never delivered as it is. It must be quick, and must not
    /// wait. The default does nothing.
    fn prepare(&self, batch: &Batch) {
        let _ = batch;
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
    fn a_body_that_was_kept_is_given_once_and_never_shown() {
        let batch = batch(&[1]);
        assert_eq!(batch.take_body(), None);
        batch.keep_body("hunter2".into());
        assert!(!format!("{batch:?}").contains("hunter2"));
        assert_eq!(batch.clone().take_body().unwrap(), "hunter2");
        assert_eq!(batch.take_body(), None);
    }
}
