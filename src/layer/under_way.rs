//! A logged event on its way into the queue.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::tally::Ticket;
use crate::queue::Pending;

/// It is polled where it is woken: on the log's thread, which has just found out what became of
/// the event. So it takes neither a task nor a thread to wait for it.
pub(super) struct UnderWay(Mutex<Option<(Pending, Ticket)>>);

impl UnderWay {
    /// Settles the ticket as soon as it is known what became of the event.
    pub(super) fn begin(pending: Pending, ticket: Ticket) {
        Arc::new(Self(Mutex::new(Some((pending, ticket))))).look();
    }

    fn look(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        // Held for the poll, so that a wake-up meanwhile finds what the poll put back.
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((mut pending, ticket)) = held.take() else {
            return;
        };
        // With a budget, a poll in a task that has used it up would wake itself, under the lock.
        let polled = pin!(tokio::task::unconstrained(&mut pending));
        match polled.poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(end) => {
                drop(held);
                ticket.settle(end);
            }
            Poll::Pending => *held = Some((pending, ticket)),
        }
    }
}

impl Wake for UnderWay {
    fn wake(self: Arc<Self>) {
        self.look();
    }
}
