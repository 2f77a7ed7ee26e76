//! Threads for sled, and an end to waiting where it has none.
//!
//! sled starts the seven threads of its pool once in the life of a process, when the first database
//! wants something of them. If the system refuses, it warns and goes on (sled 0.34.7
//! `src/threadpool.rs:183`); opening and flushing then wait for ever for a thread that never was.
//! A limit on the threads of a user (`ulimit -u`) or of a container (`pids.max`) is enough.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;

/// Threads of sled's pool, and the one that opens a database.
const THREADS: usize = 8;

/// Finds out, once in the life of the process, whether sled will get its threads: by having as
/// many at the same time.
pub(super) fn probe() -> io::Result<()> {
    static FOUND: Mutex<bool> = Mutex::new(false);
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if !*found {
        have(THREADS, Builder::new).map_err(refused)?;
        *found = true;
    }
    Ok(())
}

/// Has so many threads at the same time.
fn have(count: usize, mut next: impl FnMut() -> Builder) -> io::Result<()> {
    let (end, ended) = channel::<()>();
    let ended = Mutex::new(ended);
    thread::scope(|scope| {
        // Dropped when this returns, and that ends them.
        let _end = end;
        let wait = || drop(ended.lock().map(|ended| ended.recv()));
        (0..count).try_for_each(|_| next().spawn_scoped(scope, wait).map(drop))
    })
}

/// Does work on a thread of its own, since it may never come back; `None` if it takes longer than
/// `patience`. A panic goes on here.
pub(super) fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (sender, done) = channel();
    let body = move || drop(sender.send(work()));
    let thread = Builder::new().name("everpost-open".into()).spawn(body);
    let thread = thread.map_err(refused)?;
    match done.recv_timeout(patience) {
        Ok(value) => Ok(Some(value)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => rethrow(thread),
    }
}

fn rethrow<T>(thread: JoinHandle<()>) -> io::Result<T> {
    match thread.join() {
        Err(panic) => std::panic::resume_unwind(panic),
        Ok(()) => Err(io::Error::other("a thread ended without a word")),
    }
}

fn refused(source: io::Error) -> io::Error {
    let text = format!("the system refuses a thread, and a database needs {THREADS}: {source}");
    io::Error::new(source.kind(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_never_ends_is_given_up_and_a_panic_goes_on() {
        let (end, ended) = channel::<()>();
        let waits = move || ended.recv().is_ok();
        assert_eq!(within(Duration::from_millis(1), waits).unwrap(), None);
        drop(end);
        let long = Duration::from_secs(60);
        assert_eq!(within(long, || 7).unwrap(), Some(7));
        let panics = || within(long, || panic!("boom")).map(|_: Option<()>| ());
        let panic = std::panic::catch_unwind(panics).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"boom"));
    }

    /// With `ulimit -u 6` a queue hung for ever when it first sealed, and took no signal.
    #[test]
    fn a_thread_that_is_refused_is_an_error_in_words_and_the_others_end() {
        let mut asked = 0;
        let next = || {
            asked += 1;
            // No system has room for such a stack.
            let bytes = if asked == 4 { 1 << 60 } else { 1 << 16 };
            Builder::new().stack_size(bytes)
        };
        let error = refused(have(THREADS, next).unwrap_err());
        assert_eq!(asked, 4);
        assert!(error.to_string().contains("refuses a thread"), "{error}");
    }

    #[test]
    fn the_threads_are_there_at_the_same_time_and_end() {
        have(THREADS, Builder::new).unwrap();
        probe().unwrap();
    }
}
