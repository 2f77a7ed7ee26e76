//! Those who have given an order and wait for its answer.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::error::Error;

/// What an order is answered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The flusher has taken it up.
    TakenUp,
    /// The flusher goes at the pace that was asked for.
    Paced,
    /// What it changes about a pause is on disk.
    Kept,
}

/// Holds one place for each caller that waits, and no longer than the flusher lives.
#[derive(Debug, Default)]
pub(super) struct Askers(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    waiting: Vec<Asker>,
    is_closed: bool,
}

#[derive(Debug)]
struct Asker {
    wish: Wish,
    /// Orders of a wish are numbered, and answered through a number.
    number: u64,
    reply: oneshot::Sender<Result<(), Error>>,
}

impl Askers {
    /// Waits for the answer to this order. The channel closes without one if the flusher ends.
    pub(super) fn wait(&self, wish: Wish, number: u64) -> oneshot::Receiver<Result<(), Error>> {
        let (reply, answer) = oneshot::channel();
        let mut book = self.book();
        if !book.is_closed {
            // A caller that gave up leaves its place here, at the latest.
            book.waiting.retain(|asker| !asker.reply.is_closed());
            let asker = Asker {
                wish,
                number,
                reply,
            };
            book.waiting.push(asker);
        }
        answer
    }

    /// Answers all orders of this wish through this number.
    pub(super) fn tell(&self, wish: Wish, through: u64, result: &Result<(), Error>) {
        let is_told = |asker: &mut Asker| asker.wish == wish && asker.number <= through;
        let told: Vec<Asker> = self.book().waiting.extract_if(.., is_told).collect();
        for asker in told {
            let result = result.as_ref().copied().map_err(Error::again);
            // A caller that has gone away needs no answer.
            let _ = asker.reply.send(result);
        }
    }

    /// The flusher has ended: no order is answered any more.
    pub(super) fn close(&self) {
        let mut book = self.book();
        book.is_closed = true;
        book.waiting.clear();
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.book().waiting.len()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Nothing that can panic is done under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
