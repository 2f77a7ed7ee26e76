//! An event on its way to the disk.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::AppendError;
use crate::event::Receipt;
use crate::id::{EventId, Seq};
use crate::log::sync::block_on;
use crate::log::thread::Answer;

/// The receipt of an event that is on its way: a future, made by
/// [`Queue::submit`](crate::Queue::submit) and [`Queue::try_append`](crate::Queue::try_append).
///
/// Its output is what [`Queue::append`](crate::Queue::append) returns, with the same errors: the
/// event is safe once it is `Ok`, and not before. It keeps neither the queue open nor anything
/// else waiting.
///
/// # Cancel safety
/// Dropping it does not withdraw the event, which is appended, or refused, all the same. Its
/// receipt, or the reason, is then not seen.
#[must_use = "the event is safe only once its receipt is there"]
pub struct Pending {
    id: EventId,
    answer: Answer<Seq>,
}

impl Pending {
    pub(crate) fn new(id: EventId, answer: Answer<Seq>) -> Self {
        Self { id, answer }
    }

    /// The id of the event, by which it can be found should the receipt not come.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Blocks the thread until the receipt is there, for code that is not async.
    ///
    /// # Errors
    /// As [`Queue::append`](crate::Queue::append).
    pub fn wait(self) -> Result<Receipt, AppendError> {
        block_on(self)
    }
}

impl Future for Pending {
    type Output = Result<Receipt, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let id = self.id;
        let answer = Pin::new(&mut self.answer).poll(context);
        answer.map(|appended| match appended {
            Ok(seq) => Ok(Receipt::new(seq, id)),
            Err(error) => Err(AppendError::of(error)),
        })
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
