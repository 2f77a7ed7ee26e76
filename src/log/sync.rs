//! What the log's thread and its callers block on and are started with. Their tests put
//! primitives in their place that try one interleaving after the other (`schedule_tests.rs`).

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::clock::Deadline;

pub(super) use std::sync::{Condvar, Mutex, MutexGuard, TryLockError};
pub(super) use std::thread;

/// How often the log's thread looks for the next append, giving way to other threads in between,
/// before it sleeps: after a commit that did not wait for the disk, its caller is back sooner than
/// a thread could be woken. Some 50 microseconds if there is nothing else to run.
pub(super) const THREAD_LOOKS: u32 = 100;

/// Runs a future to its end on this thread, also inside a runtime: without the runtime's budget,
/// which would otherwise never be refilled here.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    pollster::block_on(tokio::task::unconstrained(future))
}

/// As [`block_on`], for so long at the most; `None` after that.
pub(crate) fn block_on_for<T>(patience: Duration, future: impl Future<Output = T>) -> Option<T> {
    wait_for(tokio::task::unconstrained(future), patience, ())
}

/// Waits for a future on this thread; `None` if it takes longer than `patience`. What is `kept` is
/// let go of when the future has answered, if its waker is kept until then, as sled does.
pub(super) fn wait_for<T>(
    future: impl Future<Output = T>,
    patience: Duration,
    kept: impl Send + Sync + 'static,
) -> Option<T> {
    struct Unpark<K>(thread::Thread, K);
    impl<K: Send + Sync + 'static> Wake for Unpark<K> {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current(), kept)));
    let mut future = pin!(future);
    let deadline = Deadline::after(patience);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(value);
        }
        // The waker ends this; a wake-up in between is remembered.
        if !deadline.park() {
            return None;
        }
    }
}
