//! Serving the router on the spool's socket.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::AbortHandle;

use super::{GroupSocket, SOCKET};
use crate::ending::TaskEnd;
use crate::error::Error;
use crate::log::guard::Process;
use crate::queue::Queue;

/// The control socket of a queue. Made by [`serve`].
///
/// It holds the queue: drop it, or close it or the queue, when the program is done. Dropping it
/// removes the socket and cuts all connections; it does not wait.
#[derive(Debug)]
#[must_use = "dropping it ends the control socket"]
pub struct Control {
    path: PathBuf,
    stay: Stay,
    task: Task,
}

/// The task that serves. The queue waits for its end too.
#[derive(Debug)]
struct Task {
    count: Arc<AtomicU64>,
    end: Arc<TaskEnd>,
    abort: AbortHandle,
    process: Process,
}

/// The socket's stay in the queue's spool; ends when it is dropped, however that comes.
#[derive(Debug)]
struct Stay {
    host: Queue,
    number: u64,
    process: Process,
}

impl Drop for Stay {
    fn drop(&mut self) {
        // In a forked process the socket is the parent's, and so may be the lock of the room.
        if !self.process.is_this() {
            return;
        }
        drop(self.host.room().take(self.number));
    }
}

/// Serves the [`router`](super::router) of this queue on `control.sock` in its spool.
///
/// The directory is made private if it is not (mode 0700) and the socket belongs to its owner
/// alone (0600); that is all there is to authentication. A directory that belongs to root and is
/// lent to a group stays as it is, as long as not every user may write to it. A socket left over
/// by an owner that died is replaced; a file that is no socket is left alone. If the socket is
/// removed while it is served, it is bound again within a few seconds, as long as nothing else has
/// its name. Its path may be longer than the system allows for sockets where it can be reached
/// through `/proc/self/fd`.
///
/// It is served until the [`Control`] is dropped or closed, or the queue is closed;
/// while [`Queue::close`] drains it is still served, and it is gone before the spool is free. Then
/// what is under way is answered, what is asked on a connection that was let in is refused with
/// `closed`, clients that are silent have a second to end, and `Queue::close` waits for that.
///
/// Slow, silent and malformed clients are cut off (see [the limits](super#limits)), and none of
/// them holds up the queue.
///
/// # Errors
/// [`Error::Control`] if the path of the socket is too long for the system (more than 107 bytes
/// on Linux without `/proc`), if this queue serves one already, if there is no tokio runtime, on a
/// system without Unix sockets, or if the system refuses. [`Error::Closed`]. The queue goes on in
/// each case.
///
/// # Cancel safety
/// If the future is dropped, nothing is served and no socket stays.
pub async fn serve(queue: &Queue) -> Result<Control, Error> {
    served(queue, None).await
}

/// As [`serve`], and on a second socket too, for the members of a group.
///
/// What they may do is said at [`GroupSocket`].
///
/// # Errors
/// As [`serve`], for either of the sockets; and if the directory of the second is not as
/// [`GroupSocket`] says, or another process serves that socket. Then neither is served.
///
/// # Cancel safety
/// If the future is dropped, nothing is served and no socket stays.
pub async fn serve_group(queue: &Queue, group: GroupSocket) -> Result<Control, Error> {
    served(queue, Some(group)).await
}

async fn served(queue: &Queue, group: Option<GroupSocket>) -> Result<Control, Error> {
    let path = queue.spool().join(SOCKET);
    let (stay, task) = start(queue, group).await?;
    Ok(Control { path, stay, task })
}

fn refused(queue: &Queue, reason: impl Into<String>) -> Error {
    Error::Control {
        reason: reason.into(),
        path: queue.spool().join(SOCKET),
    }
}

#[cfg(unix)]
async fn start(queue: &Queue, group: Option<GroupSocket>) -> Result<(Stay, Task), Error> {
    use super::{doors, socket};
    use crate::room::Guest;

    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return Err(refused(queue, "there is no tokio runtime here"));
    };
    let host = queue.clone();
    // Not on a thread of the runtime: it touches the directory (I9).
    let lodging = runtime.spawn_blocking(move || {
        let lodged = host.room().lodge(|| {
            let (files, doors) = socket::bind(host.spool(), group.as_ref())?;
            Ok((Box::new(files) as Box<dyn Guest>, doors))
        });
        lodged.map(|lodged| {
            lodged.map(|(number, doors)| {
                let process = Process::this();
                let stay = Stay {
                    host,
                    number,
                    process,
                };
                (stay, doors)
            })
        })
    });
    let lodged = lodging
        .await
        .map_err(|error| refused(queue, error.to_string()))?;
    let Some((stay, doors)) = lodged? else {
        return Err(refused(queue, "this queue serves one already"));
    };
    let router = super::router(queue.clone());
    let count = doors.count();
    let task = runtime.spawn(doors::listen(doors, router));
    let abort = task.abort_handle();
    let end = Arc::new(TaskEnd::new(task));
    if !queue.room().note_task(&end) {
        // The queue was closed meanwhile; the guest has left, and that ends the task.
        drop(end.wait().await);
        return Err(Error::Closed);
    }
    let process = stay.process;
    Ok((
        stay,
        Task {
            count,
            end,
            abort,
            process,
        },
    ))
}

#[cfg(not(unix))]
async fn start(queue: &Queue, _: Option<GroupSocket>) -> Result<(Stay, Task), Error> {
    Err(refused(queue, "this system has no Unix sockets"))
}

impl Control {
    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many connections were let in so far. One that closes soon after may wait for those to
    /// be done, instead of refusing what is asked on them.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.task.count.load(Ordering::Relaxed)
    }

    /// Removes the socket and waits until answers under way are out: 30 seconds at the most, and
    /// watchers are cut off after one. The queue goes on.
    ///
    /// # Errors
    /// [`Error::Panicked`] if serving had ended by a panic.
    ///
    /// # Cancel safety
    /// If the future is dropped it ends as if the `Control` was dropped.
    pub async fn close(self) -> Result<(), Error> {
        let (host, number) = (&self.stay.host, self.stay.number);
        host.send_away(host.room().take(number)).await;
        match self.task.end.wait().await {
            Some(message) => Err(Error::Panicked {
                part: "the control socket",
                message,
            }),
            None => Ok(()),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // The runtime of a forked process has no threads, and its locks may be held by one.
        if self.process.is_this() {
            self.abort.abort();
        }
    }
}
