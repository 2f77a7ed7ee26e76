//! The end of a thread, for all who wait for it.

use std::sync::PoisonError;

use tokio::sync::watch;

use super::super::sync::{Mutex, thread::JoinHandle};

/// A thread that will end, or has ended.
pub(crate) struct ThreadEnd {
    /// Closes as the last thing that the thread does.
    ending: watch::Receiver<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for ThreadEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let has_ended = self.ending.has_changed().is_err();
        f.debug_struct("ThreadEnd")
            .field("has_ended", &has_ended)
            .finish_non_exhaustive()
    }
}

impl ThreadEnd {
    /// The thread must drop the sender of `ending` last of all.
    pub(crate) fn new(ending: watch::Receiver<()>, thread: JoinHandle<()>) -> Self {
        Self {
            ending,
            thread: Mutex::new(Some(thread)),
        }
    }

    /// Waits until the thread has done everything.
    pub(super) async fn is_near(&self) {
        while self.ending.clone().changed().await.is_ok() {}
    }

    /// Waits until the thread is no more.
    ///
    /// # Cancel safety
    /// Only waits; call it again.
    pub(crate) async fn wait(&self) {
        self.is_near().await;
        // Held meanwhile, so that all who wait come back after the end. That blocks, for the
        // moment in which the system takes down a thread that has nothing left to do.
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // A panic was caught and noted in the thread.
            drop(thread.join());
        }
    }
}
