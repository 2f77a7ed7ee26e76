//! Who writes to standard error while a service runs: a thread of its own.
//!
//! A pipe that is open and never read takes 64 KiB, and then holds up the thread that writes to it. Delivery
//! must not be among those, so that lines wait here, up to a bound. What does not fit is dropped and
//! counted, and before the next line that fits stands one that says how many.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::screen;
use crate::text::{count, visible};

/// Bytes of lines that may wait: a thousand lines of the ordinary length.
const WAITING_BYTES: usize = 256 << 10;

/// How long the end of the process waits for a standard error that takes nothing.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where lines go once a service has begun.
static BACKLOG: OnceLock<Backlog> = OnceLock::new();

/// Makes a line of the log, in its form, of what is to be said.
type Form = fn(&str) -> String;

/// From here on no thread that says something waits until it is written.
pub(crate) fn begin(form: Form) {
    let thread = std::thread::Builder::new().name("everpost-stderr".to_owned());
    let mut is_new = false;
    let backlog = BACKLOG.get_or_init(|| {
        is_new = true;
        Backlog::new(form)
    });
    if is_new && thread.spawn(|| backlog.work(write)).is_err() {
        // Where the system gives no thread, each thread writes for itself.
        backlog.lock().is_served = false;
    }
}

/// Says a line, with the break at its end.
pub(crate) fn say(line: &str) {
    let line = visible(line).into_owned();
    let unserved = match BACKLOG.get() {
        Some(backlog) => backlog.put(line),
        None => Some(line),
    };
    if let Some(line) = unserved {
        write(&line);
    }
}

/// Waits until everything that was said is written, but not for long: perhaps it is never read.
pub(crate) fn finish() {
    if let Some(backlog) = BACKLOG.get() {
        backlog.finish(LAST_WORDS);
    }
}

/// That a line cannot be written changes nothing.
fn write(line: &str) {
    screen::above(|| {
        let _ = io::stderr().lock().write_all(line.as_bytes());
    });
}

/// Lines that wait for the thread.
#[derive(Debug)]
struct Backlog {
    waiting: Mutex<Waiting>,
    /// Something has been put here, or written.
    changed: Condvar,
    form: Form,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<String>,
    /// Of the lines here, and of the one that is being written.
    bytes: usize,
    is_writing: bool,
    /// Since the last line that fitted.
    dropped: u64,
    /// Whether there is a thread.
    is_served: bool,
}

impl Backlog {
    fn new(form: Form) -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                is_served: true,
                ..Waiting::default()
            }),
            changed: Condvar::new(),
            form,
        }
    }

    /// A panic of another thread leaves nothing half done here.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line, or gives it back if no thread would write it. Never waits for a write.
    fn put(&self, line: String) -> Option<String> {
        let mut waiting = self.lock();
        if !waiting.is_served {
            return Some(line);
        }
        // One that is longer than all that may wait is taken where nothing else waits.
        if waiting.bytes > 0 && waiting.bytes + line.len() > WAITING_BYTES {
            waiting.dropped += 1;
            return None;
        }
        self.note_dropped(&mut waiting);
        waiting.add(line);
        self.changed.notify_all();
        None
    }

    fn note_dropped(&self, waiting: &mut Waiting) {
        let dropped = std::mem::take(&mut waiting.dropped);
        if dropped > 0 {
            let (lines, were) = match dropped {
                1 => (count(1, "log line"), "was"),
                more => (count(more, "log line"), "were"),
            };
            let text = format!("{lines} {were} dropped: standard error was not read");
            waiting.add((self.form)(&text));
        }
    }

    /// Writes what comes, for ever.
    fn work(&self, write: impl Fn(&str)) {
        let mut waiting = self.lock();
        loop {
            let Some(line) = waiting.lines.pop_front() else {
                let woken = self.changed.wait(waiting);
                waiting = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            waiting.is_writing = true;
            drop(waiting);
            write(&line);
            waiting = self.lock();
            waiting.is_writing = false;
            waiting.bytes -= line.len();
            self.changed.notify_all();
        }
    }

    fn finish(&self, patience: Duration) {
        let mut waiting = self.lock();
        self.note_dropped(&mut waiting);
        self.changed.notify_all();
        let is_behind = |waiting: &mut Waiting| {
            waiting.is_served && (waiting.is_writing || !waiting.lines.is_empty())
        };
        drop(
            self.changed
                .wait_timeout_while(waiting, patience, is_behind),
        );
    }
}

impl Waiting {
    fn add(&mut self, line: String) {
        self.bytes += line.len();
        self.lines.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{channel, sync_channel};

    use super::*;

    fn backlog() -> Backlog {
        Backlog::new(|text| format!("WARN {text}\n"))
    }

    /// A standard error that was not read held up the thread that logged, and with it delivery.
    #[test]
    fn what_does_not_fit_is_dropped_and_the_next_line_says_how_many() {
        let backlog = backlog();
        let line = || "x".repeat(1 << 10);
        let fit = WAITING_BYTES / line().len();
        for _ in 0..fit + 3 {
            assert_eq!(backlog.put(line()), None);
        }
        let mut waiting = backlog.lock();
        assert_eq!((waiting.lines.len(), waiting.dropped), (fit, 3));
        // As the thread does it.
        let written = waiting.lines.pop_front().map(|line| line.len());
        waiting.bytes -= written.unwrap();
        drop(waiting);
        backlog.put("next\n".to_owned());
        backlog.put("other\n".to_owned());
        let waiting = backlog.lock();
        let last: Vec<&String> = waiting.lines.iter().rev().take(3).rev().collect();
        let note = "WARN 3 log lines were dropped: standard error was not read\n";
        assert_eq!(last, [note, "next\n", "other\n"]);
        assert_eq!(waiting.dropped, 0);
    }

    #[test]
    fn a_line_longer_than_all_that_may_wait_is_said_where_nothing_waits() {
        let backlog = backlog();
        assert_eq!(backlog.put("x".repeat(2 * WAITING_BYTES)), None);
        assert_eq!(backlog.put("y".to_owned()), None);
        let waiting = backlog.lock();
        assert_eq!((waiting.lines.len(), waiting.dropped), (1, 1));
    }

    #[test]
    fn the_end_waits_for_what_is_being_written_and_not_for_what_never_is() {
        let backlog = Arc::new(backlog());
        let (written, lines) = channel();
        let (release, held) = sync_channel::<()>(0);
        std::thread::spawn({
            let backlog = Arc::clone(&backlog);
            move || {
                backlog.work(|line| {
                    // The last one is held up for ever, as by a pipe without a reader.
                    let _ = held.recv();
                    let _ = written.send(line.to_owned());
                });
            }
        });
        for line in ["one\n", "two\n"] {
            backlog.put(line.to_owned());
        }
        let twice = std::thread::spawn(move || {
            for () in [(), ()] {
                release.send(()).unwrap();
            }
            release
        });
        backlog.finish(Duration::from_secs(3_600));
        assert_eq!(lines.try_iter().collect::<String>(), "one\ntwo\n");
        let _held = twice.join().unwrap();
        backlog.put("three\n".to_owned());
        backlog.finish(Duration::ZERO);
        assert_eq!(lines.try_iter().count(), 0);
    }
}
