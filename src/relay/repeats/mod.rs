//! Requests and messages that come again, and how they are recognised.

mod files;
mod mark;
mod memory;
mod record;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::clock::{Clock, SystemClock};
use crate::error::Error;
use crate::id::EventId;
use crate::log::disk::{Disk, RealDisk, create_private_dir, open_to_lock, sync_dir};
use crate::millis::unix_ms;
use files::Files;
pub(super) use mark::{Key, Mark, Request};
use memory::{Look, Memory};
use record::Record;
use writer::{Job, Writer};

/// Records of one of the two generations that are kept for a channel. A request under a key is one,
/// and so is a message by its own id.
pub const REPEATS_MAX: usize = 100_000;

/// How long a request is known by its `Idempotency-Key` if nothing else is said.
pub const KEY_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// How long to wait before a disk that refused is tried again.
const REST: Duration = Duration::from_millis(250);

/// Requests that wait to hand over what they took.
const JOBS_MAX: usize = 512;

/// For how long what comes again is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepeatWindows {
    keys: Duration,
    messages: Option<Duration>,
}

/// What a channel took lately, so that a request that comes again is not taken twice.
///
/// A request is known by the `Idempotency-Key` that its client gave it; with
/// [`messages`](RepeatWindows::messages), a message is known by its own `id` and its bytes. Nothing is
/// ever known by its content alone.
///
/// What is kept of each are digests, on disk and in memory: at most two generations of
/// [`REPEATS_MAX`], so that at least so many of the last are known, and at most 10 MiB of disk and
/// about 15 MiB of memory are in use. If more come within the window, the log says so and the oldest
/// are not known any more. A damaged record is not known either, and what it speaks of is taken as new,
/// as is what comes after the clock has gone back: an event is rather taken twice, under the same id,
/// than not at all.
///
/// Cloning gives another handle. When the last one is dropped, which waits for what is being written,
/// the directory is free.
#[derive(Clone)]
pub struct Repeats {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    memory: Arc<Mutex<Memory>>,
    windows: Arc<Mutex<RepeatWindows>>,
    clock: Arc<dyn Clock>,
    /// Taken when the thread is to end.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Held as long as the directory is ours.
    _lock: File,
}

/// What a request is known by: itself, and each of its messages with the id of its event.
#[derive(Debug, Default)]
pub(super) struct Marks {
    pub(super) request: Option<Mark>,
    /// Empty, or one for each message.
    pub(super) messages: Vec<Option<(Mark, EventId)>>,
}

impl Marks {
    pub(super) fn is_empty(&self) -> bool {
        self.request.is_none() && self.messages.iter().all(Option::is_none)
    }
}

/// What is to be done with a request.
#[derive(Debug)]
pub(super) enum Begun {
    /// It is to be taken, but for the messages that are known.
    New(Claim),
    /// It was taken, and this was its id.
    Known(EventId),
    /// Another request was taken under its key.
    Other,
    /// One that it has in common with this one is still being taken.
    Busy,
}

/// The right to take in what is new in a request. Others that hold some of the same wait until it is
/// dropped.
#[derive(Debug)]
pub(super) struct Claim {
    repeats: Repeats,
    request: Option<Mark>,
    messages: Sorted,
    /// Its end is heard by those who wait.
    _end: watch::Sender<()>,
}

/// The messages of a request: those that are to be taken, and for each the id that it had if it is
/// known.
#[derive(Debug, Default)]
struct Sorted {
    new: Vec<(Mark, EventId)>,
    known: Vec<Option<EventId>>,
}

/// What the memory says about a request.
enum Step {
    Begun(Begun),
    /// First what is known has to be on disk.
    Settle,
    /// First this has to end.
    Wait(watch::Receiver<()>),
}

impl Default for RepeatWindows {
    /// Requests for [`KEY_WINDOW`], messages not at all.
    fn default() -> Self {
        Self {
            keys: KEY_WINDOW,
            messages: None,
        }
    }
}

impl RepeatWindows {
    /// Those that hold if nothing else is said.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Recognises a request under an `Idempotency-Key` for so long.
    #[must_use]
    pub fn keys(mut self, time: Duration) -> Self {
        self.keys = time;
        self
    }

    /// Recognises a message that has an `id` of its own, a text, for so long, if it comes again under
    /// that id with the very same bytes. Under the same id with others, it is another message.
    #[must_use]
    pub fn messages(mut self, time: Duration) -> Self {
        self.messages = Some(time);
        self
    }

    fn longest(&self) -> Duration {
        self.messages.map_or(self.keys, |time| time.max(self.keys))
    }
}

impl Repeats {
    /// Reads what was kept in this directory, or makes it, for this user alone. It is one of its own,
    /// beside the spool of the channel, and is for one process at a time.
    ///
    /// It blocks while it reads, 10 MiB at most, and starts a thread that writes.
    ///
    /// # Errors
    /// [`Error::InUse`] if another has it open, [`Error::FutureFormat`] if a newer version wrote it,
    /// [`Error::Storage`] if the disk refuses. Damage is no error: it is set aside, and the log says so.
    pub fn open(dir: &Path, windows: RepeatWindows) -> Result<Self, Error> {
        Self::open_with(
            dir,
            windows,
            Box::new(RealDisk),
            Arc::new(SystemClock),
            REPEATS_MAX,
        )
    }

    fn open_with(
        dir: &Path,
        windows: RepeatWindows,
        disk: Box<dyn Disk>,
        clock: Arc<dyn Clock>,
        records_max: usize,
    ) -> Result<Self, Error> {
        let lock = own(dir)?;
        let (files, found) = Files::open(dir, disk, records_max)?;
        let memory = Memory::of(&found.current, &found.previous);
        let memory = Arc::new(Mutex::new(memory));
        let windows = Arc::new(Mutex::new(windows));
        let (jobs, waiting) = mpsc::channel(JOBS_MAX);
        let writer = Writer {
            dir: dir.to_owned(),
            files,
            memory: Arc::clone(&memory),
            windows: Arc::clone(&windows),
            clock: Arc::clone(&clock),
            records_max,
        };
        let thread = std::thread::Builder::new().name("everpost-repeats".to_owned());
        let thread = thread.spawn(move || writer.run(waiting));
        let thread = thread.map_err(Error::no_thread("start a thread that writes"))?;
        Ok(Self {
            shared: Arc::new(Shared {
                dir: dir.to_owned(),
                memory,
                windows,
                clock,
                jobs: Some(jobs),
                thread: Some(thread),
                _lock: lock,
            }),
        })
    }

    /// Recognises what comes from here on for other times. What was not to be recognised when it was
    /// taken is not known.
    pub fn set_windows(&self, windows: RepeatWindows) {
        *locked(&self.shared.windows) = windows;
    }

    /// Whether messages are known by their own ids.
    pub(super) fn knows_messages(&self) -> bool {
        locked(&self.shared.windows).messages.is_some()
    }

    /// Says what is to be done with a request, once those that have something in common with it have
    /// ended, and no later than `until`.
    ///
    /// # Errors
    /// If what was taken lately cannot be written down, so that nothing should be taken now.
    ///
    /// # Cancel safety
    /// Nothing is claimed if the future is dropped.
    pub(super) async fn begin(&self, marks: &Marks, until: Instant) -> Result<Begun, Error> {
        loop {
            let step = self.step(marks);
            match step {
                Step::Begun(begun) => return Ok(begun),
                Step::Settle => self.settle(until).await?,
                Step::Wait(mut end) => {
                    if timeout_at(until, end.changed()).await.is_err() {
                        return Ok(Begun::Busy);
                    }
                }
            }
        }
    }

    /// All that a request has in common with others is claimed at once or not at all, so that no two
    /// ever wait for each other.
    fn step(&self, marks: &Marks) -> Step {
        let windows = *locked(&self.shared.windows);
        let now_ms = unix_ms(self.shared.clock.wall());
        let mut memory = locked(&self.shared.memory);
        if !memory.is_whole() {
            return Step::Settle;
        }
        if let Some(mark) = &marks.request {
            if let Some(end) = memory.under_way(mark) {
                return Step::Wait(end);
            }
            match memory.look(mark, now_ms, windows.keys) {
                Look::New => {}
                Look::Known(id) => return Step::Begun(Begun::Known(id)),
                Look::Other => return Step::Begun(Begun::Other),
            }
        }
        let (send, end) = watch::channel(());
        let window = windows.messages.unwrap_or_default();
        let messages = match Sorted::by(&memory, &marks.messages, now_ms, window) {
            Ok(messages) => messages,
            Err(end) => return Step::Wait(end),
        };
        let names = messages
            .new
            .iter()
            .map(|(mark, _)| mark)
            .chain(&marks.request);
        for mark in names {
            memory.begin(mark.name, end.clone());
        }
        Step::Begun(Begun::New(Claim {
            repeats: self.clone(),
            request: marks.request,
            messages,
            _end: send,
        }))
    }

    /// Has all that is known on disk.
    async fn settle(&self, until: Instant) -> Result<(), Error> {
        let mut written = self.write(Vec::new()).await;
        while written.is_err() && Instant::now() < until {
            tokio::time::sleep_until((Instant::now() + REST).min(until)).await;
            written = self.write(Vec::new()).await;
        }
        written
    }

    /// Hands records to the thread and waits until they are on disk.
    async fn write(&self, records: Vec<Record>) -> Result<(), Error> {
        let (done, written) = oneshot::channel();
        let ended = || Error::Panicked {
            part: "the thread that writes down what was taken",
            message: "it is in the log".to_owned(),
        };
        let jobs = self.shared.jobs.as_ref().ok_or_else(ended)?;
        let job = Job { records, done };
        jobs.send(job).await.map_err(|_| ended())?;
        written.await.map_err(|_| ended())?
    }
}

impl Sorted {
    /// A message can be in a request twice. Gives the end of one that is being taken, if there is one.
    fn by(
        memory: &Memory,
        messages: &[Option<(Mark, EventId)>],
        now_ms: u64,
        window: Duration,
    ) -> Result<Self, watch::Receiver<()>> {
        let mut sorted = Self::default();
        let mut first = HashMap::new();
        for message in messages {
            let Some((mark, id)) = message else {
                sorted.known.push(None);
                continue;
            };
            if let Some(end) = memory.under_way(mark) {
                return Err(end);
            }
            let before = match memory.look(mark, now_ms, window) {
                Look::Known(id) => Some(id),
                Look::New | Look::Other => first.get(&mark.name).copied(),
            };
            sorted.known.push(before);
            if before.is_none() {
                first.insert(mark.name, *id);
                sorted.new.push((*mark, *id));
            }
        }
        Ok(sorted)
    }
}

impl Claim {
    /// The id that the message in this place had, if it is known.
    pub(super) fn known(&self, place: usize) -> Option<EventId> {
        self.messages.known.get(place).copied().flatten()
    }

    /// Keeps that all that is new was taken, under this id of the request, and waits until that is on
    /// disk, no longer than `until`.
    ///
    /// # Errors
    /// If it is not. It is known all the same as long as this process lives, and what comes again
    /// waits until it is on disk.
    pub(super) async fn keep(self, request_id: EventId, until: Instant) -> Result<(), Error> {
        let time_ms = unix_ms(self.repeats.shared.clock.wall());
        let request = self.request.map(|mark| (mark, request_id));
        let marks = self.messages.new.iter().copied().chain(request);
        let records = marks.map(|(mark, id)| Record { mark, id, time_ms });
        let records: Vec<Record> = records.collect();
        if records.is_empty() {
            return Ok(());
        }
        match self.repeats.write(records).await {
            Err(Error::Storage { .. }) => self.repeats.settle(until).await,
            written => written,
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut memory = locked(&self.repeats.shared.memory);
        let new = self.messages.new.iter().map(|(mark, _)| mark);
        for mark in new.chain(&self.request) {
            memory.end(&mark.name);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // If it panicked, that is in the log, and those who waited were told.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Repeats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repeats({})", self.shared.dir.display())
    }
}

/// Makes the directory if there is none, and takes it for this process.
fn own(dir: &Path) -> Result<File, Error> {
    let made = create_private_dir(dir).and_then(|made| {
        let parents = made.iter().filter_map(|dir| dir.parent());
        let mut parents = parents.filter(|dir| !dir.as_os_str().is_empty());
        parents.try_for_each(sync_dir)
    });
    made.map_err(Error::storage("make the directory of what was taken", dir))?;
    let path = dir.join("lock");
    let opened = open_to_lock(&path).and_then(|file| match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    });
    let opened: io::Result<Option<File>> = opened;
    let opened = opened.map_err(Error::storage("lock what was taken", &path))?;
    opened.ok_or_else(|| Error::InUse {
        path: dir.to_owned(),
        pid: None,
    })
}

/// What it guards is whole between any two statements, also after a panic.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
