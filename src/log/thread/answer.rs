//! What the log says to one question, for a task or a thread that waits for it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::cell::LogCell;
use super::end::ThreadEnd;
use crate::error::Error;

/// The end of the log and of its thread.
pub(super) struct LogEnd {
    cell: Arc<LogCell>,
    thread: ThreadEnd,
}

impl LogEnd {
    pub(super) fn new(cell: Arc<LogCell>, thread: ThreadEnd) -> Self {
        Self { cell, thread }
    }

    /// Waits until the thread is no more.
    pub(super) async fn wait(&self) {
        self.thread.wait().await;
    }

    /// Why the log does not answer. Asked only when it has ended or is about to.
    pub(super) async fn reason(&self) -> Error {
        self.thread.is_near().await;
        match self.cell.panic() {
            Some(message) => Error::Panicked {
                part: "the log",
                message: message.to_owned(),
            },
            None => Error::Closed,
        }
    }
}

/// A future of what the log says to one question, or why it says nothing any more. It keeps the
/// log from nothing: not even from ending.
pub(crate) struct Answer<T> {
    reply: oneshot::Receiver<Result<T, Error>>,
    end: Arc<LogEnd>,
    /// Once it is certain that no reply will come.
    reason: Option<Pin<Box<dyn Future<Output = Error> + Send>>>,
}

impl<T> Answer<T> {
    pub(super) fn new(reply: oneshot::Receiver<Result<T, Error>>, end: &Arc<LogEnd>) -> Self {
        Self {
            reply,
            end: Arc::clone(end),
            reason: None,
        }
    }
}

impl<T> Future for Answer<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = &mut *self;
        let reason = match &mut answer.reason {
            Some(reason) => reason,
            reason => match Pin::new(&mut answer.reply).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(result)) => return Poll::Ready(result),
                Poll::Ready(Err(_)) => {
                    let end = Arc::clone(&answer.end);
                    reason.insert(Box::pin(async move { end.reason().await }))
                }
            },
        };
        reason.as_mut().poll(context).map(Err)
    }
}
