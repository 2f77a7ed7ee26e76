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
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::event::StoredEvent;

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

/// What the receiver said, kept for the log line, the status and the dead letter.
///
/// Texts come from outside: sinks cut them to a bounded length and remove control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Answer {
    /// The HTTP status, if an answer came at all.
    pub status: Option<u16>,
    /// The receiver's name for the request.
    pub request_id: Option<String>,
    /// The receiver's error texts.
    pub errors: Vec<String>,
    /// The receiver's warnings.
    pub warnings: Vec<String>,
    /// What else there is to say in one line: "connection refused", "HTML instead of JSON".
    pub detail: Option<String>,
}

impl Answer {
    /// An answer with only a status.
    #[must_use]
    pub fn from_status(status: u16) -> Self {
        Self {
            status: Some(status),
            ..Self::default()
        }
    }

    /// No answer, only a reason.
    #[must_use]
    pub fn from_detail(detail: impl Into<String>) -> Self {
        Self {
            detail: Some(detail.into()),
            ..Self::default()
        }
    }
}

/// What an answer means for the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What is to be done.
    pub verdict: Verdict,
    /// What was said.
    pub answer: Answer,
}

impl Outcome {
    /// Puts the two together.
    #[must_use]
    pub fn new(verdict: Verdict, answer: Answer) -> Self {
        Self { verdict, answer }
    }
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every event of it was taken.
    Delivered,
    /// Send the same batch again later; not before `not_before` from now, if given.
    Retry {
        /// The receiver's `Retry-After`.
        not_before: Option<Duration>,
    },
    /// A connection stood, but the request did not get through on it: its time was up, or it was
    /// cut while it was being sent. Send the same batch again later, and less at once if that goes
    /// on; no event is ever condemned for it.
    Stalled,
    /// The request was too large: send less at once. A single event is buried.
    Divide,
    /// An event in it is refused: find it, set it aside, deliver the others.
    Poison,
    /// The fault lies with the token or the address, not with the events: keep everything, wait.
    Pause(PauseReason),
}

/// Why delivery waits for a person, or for a probe to succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PauseReason {
    /// Somebody asked for it. Only `resume` ends it.
    Requested,
    /// The key is missing, wrong, expired or lacks a right (401, 402, 403).
    Credentials,
    /// The address is wrong or has moved (3xx, 404, 405, 410, 426, 451).
    Address,
    /// So many different events were refused in a row that the fault is not theirs.
    SystemicRejection,
}

/// Why nothing can be delivered at present, found without any request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hindrance {
    /// What kind of fault it is. [`PauseReason::Requested`] is none: only people request a pause.
    pub reason: PauseReason,
    /// What there is to say about it, for the status and the log.
    pub answer: Answer,
}

/// Takes batches to a receiver.
///
/// The flusher calls [`deliver`](Sink::deliver) for one batch at a time and never for the next
/// before this one is settled. Report faults as outcomes; a panic ends the flusher (the events
/// stay).
pub trait Sink: Send + Sync + 'static {
    /// Delivers one batch and says what came of it.
    ///
    /// Return [`Verdict::Delivered`] only if the receiver has taken every event: on this word the
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
    use crate::event::{Event, EventId};

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
