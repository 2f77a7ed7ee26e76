//! What the log's thread and its callers block on and are started with. Their tests put
//! primitives in their place that try one interleaving after the other (`schedule_tests.rs`).

pub(super) use std::sync::{Condvar, Mutex, MutexGuard, TryLockError};
pub(super) use std::thread;

/// Runs a future to its end on this thread, also inside a runtime: without the runtime's budget,
/// which would otherwise never be refilled here.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    pollster::block_on(tokio::task::unconstrained(future))
}
