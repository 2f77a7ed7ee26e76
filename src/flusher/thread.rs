//! A flusher on a thread of its own, for programs without an async runtime.

use tokio::runtime::{Builder, Handle};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::FlusherHandle;
use crate::error::Error;
use crate::log::thread::ThreadEnd;

/// Makes a thread with a runtime of its own and starts a flusher there with `start`. The thread
/// ends when the flusher does.
///
/// # Errors
/// [`Error::NoThread`] if the system gives no thread, or its runtime nothing to wait on.
///
/// # Cancel safety
/// If the future is dropped, the flusher ends again.
pub(crate) async fn spawn(
    start: impl FnOnce(&Handle) -> (FlusherHandle, JoinHandle<()>) + Send + 'static,
) -> Result<(FlusherHandle, ThreadEnd), Error> {
    let (ready, answer) = oneshot::channel();
    let (ending, ended) = watch::channel(());
    let body = move || {
        let _ending = ending;
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let (handle, task) = start(runtime.handle());
        if ready.send(Ok(handle)).is_ok() {
            // The flusher publishes its end itself, a panic included.
            let _ = runtime.block_on(task);
        }
        // A name lookup that hangs must not keep the thread.
        runtime.shutdown_background();
    };
    let thread = std::thread::Builder::new()
        .name("everpost-flusher".into())
        .spawn(body)
        .map_err(Error::no_thread("start the flusher's thread"))?;
    let end = ThreadEnd::new(ended, thread);
    let started = match answer.await {
        Ok(started) => started.map_err(Error::no_thread("start the flusher's runtime")),
        Err(_) => Err(Error::Panicked {
            part: "the flusher",
            message: "it did not start".to_owned(),
        }),
    };
    match started {
        Ok(handle) => Ok((handle, end)),
        Err(error) => {
            end.wait().await;
            Err(error)
        }
    }
}
