//! What the log's thread and its callers block on and are started with. Their tests put
//! primitives in their place that try one interleaving after the other (`schedule_tests.rs`).

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
