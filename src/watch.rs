//! The status of a queue, followed as it changes.

use std::time::{Duration, UNIX_EPOCH};

use tokio::sync::watch;

use crate::flusher::FlusherView;
use crate::log::Position;
use crate::status::{FlusherState, Status};

/// Follows the [`Status`] of a queue. Made by [`Queue::watch`](crate::Queue::watch). Does not keep the queue open.
#[derive(Clone, Debug)]
pub struct StatusWatch {
    pub(crate) positions: watch::Receiver<Position>,
    pub(crate) views: Option<watch::Receiver<FlusherView>>,
    pub(crate) max_bytes: u64,
}

impl StatusWatch {
    /// The status at this moment.
    #[must_use]
    pub fn current(&self) -> Status {
        let position = self.positions.borrow().clone();
        let view = self.views.as_ref().map(|views| views.borrow().clone());
        let view = view.unwrap_or_else(FlusherView::absent);
        // The log knows it of what is in memory, and the flusher of what it has read.
        let mut read = view.begins.into_iter().flatten();
        let read = read.find(|(seq, _)| *seq == position.cursor + 1);
        let oldest_ms = position.oldest_ms.or(read.map(|(_, ms)| ms));
        let pending = position.ledger.pending();
        let flusher = match view.state {
            // The flusher has yet to find out that this was the last.
            FlusherState::Sending if pending == 0 => FlusherState::Idle,
            flusher => flusher,
        };
        Status {
            flusher,
            ledger: position.ledger,
            pending,
            cursor: position.cursor,
            last_seq: position.last_seq,
            oldest_pending: oldest_ms.map(|ms| UNIX_EPOCH + Duration::from_millis(ms)),
            dead_letters: position.dead_letters,
            disk_bytes: position.disk_bytes,
            max_bytes: self.max_bytes,
            missing: position.missing,
            letters: position.letters,
            incidents: position
                .incidents
                .map(|seen| seen.to_vec())
                .unwrap_or_default(),
            storage_fault: position.fault,
            last_answer: view.last_answer,
            requests: view.requests,
            pace: view.pace,
        }
    }

    pub(crate) fn mark_unchanged(&mut self) {
        self.positions.mark_unchanged();
        if let Some(views) = &mut self.views {
            views.mark_unchanged();
        }
    }

    /// Waits until something has changed since the watch was made or last waited; `false` once the queue has ended
    /// and nothing changes any more. That one more request has gone out is told with what comes of it.
    ///
    /// # Cancel safety
    /// No change is lost if the future is dropped.
    pub async fn changed(&mut self) -> bool {
        match &mut self.views {
            Some(views) => tokio::select! {
                changed = self.positions.changed() => changed.is_ok() || views.changed().await.is_ok(),
                changed = views.changed() => changed.is_ok() || self.positions.changed().await.is_ok(),
            },
            None => self.positions.changed().await.is_ok(),
        }
    }

    /// Waits until the status is as `wanted`; gives it, or `None` if the queue ended before.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&Status) -> bool) -> Option<Status> {
        loop {
            // Marked as seen before it is looked at, so that no change slips in between.
            self.mark_unchanged();
            let status = self.current();
            if wanted(&status) {
                return Some(status);
            }
            if !self.changed().await {
                return None;
            }
        }
    }
}
