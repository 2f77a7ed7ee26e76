//! How a queue is opened.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::{Queue, Shared};
use crate::clock::{Clock, SystemClock};
use crate::ending::TaskEnd;
use crate::error::{Error, OpenError};
use crate::flusher::{self, FlusherEnd, FlusherHandle};
use crate::log::disk::RealDisk;
use crate::log::spool::SpoolLog;
use crate::log::thread::{self, LogHandle, ThreadSettings};
use crate::observe::Place;
#[cfg(feature = "control")]
use crate::room::Room;
use crate::settings::{Durability, OnFull, Settings};
use crate::sink::Sink;

type Started = (FlusherHandle, JoinHandle<()>);
type Start = Box<dyn FnOnce(&Handle, LogHandle, &Settings, Arc<dyn Clock>) -> Started + Send>;

/// Opens a [`Queue`]. Made by [`Queue::builder`].
#[must_use = "a builder does nothing until it is opened"]
pub struct QueueBuilder {
    path: PathBuf,
    settings: Settings,
    clock: Arc<dyn Clock>,
    start: Option<Start>,
    own_thread: bool,
}

impl std::fmt::Debug for QueueBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueueBuilder")
            .field("path", &self.path)
            .field("settings", &self.settings)
            .field("has_sink", &self.start.is_some())
            .finish_non_exhaustive()
    }
}

impl QueueBuilder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            settings: Settings::default(),
            clock: Arc::new(SystemClock),
            start: None,
            own_thread: false,
        }
    }

    /// The settings; [`Settings::default`] otherwise. They win over what the spool was used with
    /// before, and over a `settings.toml` in it, which is for the command `everpost` alone.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Where events go. Without a sink the queue keeps them for a later owner of the spool.
    pub fn sink<S: Sink>(mut self, sink: S) -> Self {
        self.start = Some(Box::new(move |runtime, log, settings, clock| {
            let (delivery, max_age) = (settings.delivery.clone(), settings.max_age);
            flusher::spawn(runtime, Arc::new(sink), log, delivery, max_age, clock)
        }));
        self
    }

    /// Delivers on a thread of the queue's own, even if there is a tokio runtime to deliver on:
    /// for programs that keep their runtime busy, or end it before the queue.
    ///
    /// Without a runtime this is so anyway. The thread is named `everpost-flusher`, has a small
    /// runtime for itself, and ends when the queue is closed, which waits for it, or when its last
    /// clone is dropped, which does not. A sink that panics is seen as everywhere: in
    /// [`FlusherState::Failed`](crate::FlusherState::Failed) and at [`Queue::close`].
    pub fn flusher_thread(mut self) -> Self {
        self.own_thread = true;
        self
    }

    /// Where the time and the ids come from; the system's clock otherwise.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the spool, making it if it does not exist, and starts delivery: on the tokio runtime
    /// this is called in, or on a thread of its own if there is none or
    /// [`flusher_thread`](Self::flusher_thread) asks for it.
    ///
    /// This reads the journal, the last segment and the dead letters, and the size of each segment's
    /// directory; events in the other segments are not read. What was found and mended is in
    /// [`Queue::recovery`].
    ///
    /// # Errors
    /// [`OpenError::Settings`]; [`OpenError::InUse`], [`OpenError::NotYours`],
    /// [`OpenError::Unsafe`], [`OpenError::NotASpool`], [`OpenError::FutureFormat`] and
    /// [`OpenError::Damaged`], after which nothing was touched; [`OpenError::Full`] if there is no
    /// room for a new spool, of which nothing stays; [`OpenError::Storage`],
    /// [`OpenError::NoThread`]. What to do about each: [`OpenError::kind`].
    ///
    /// # Cancel safety
    /// If the future is dropped, the spool is closed again in the background.
    pub async fn open(self) -> Result<Queue, OpenError> {
        self.open_all().await.map_err(OpenError::of)
    }

    async fn open_all(self) -> Result<Queue, Error> {
        let runtime = Handle::try_current().ok().filter(|_| !self.own_thread);
        let settings = self.settings.in_effect();
        let threads = ThreadSettings {
            intake_bytes: settings.intake_bytes,
            block_when_full: settings.on_full == OnFull::Block,
            sync_every: match settings.durability {
                Durability::Synced => None,
                Durability::Written { sync_every } => Some(sync_every),
            },
            place: Place::new(&self.path),
        };
        let sync = settings.durability == Durability::Synced;
        let max_bytes = settings.max_bytes;
        let (path, clock) = (self.path.clone(), Arc::clone(&self.clock));
        let opening = settings.clone();
        let open = move || SpoolLog::open(&path, opening, clock, Arc::new(RealDisk));
        let (log, recovery) = thread::spawn(threads, Arc::clone(&self.clock), open).await?;
        let log = log.of_spool(&self.path);
        let (flusher, delivery) = match self.start {
            None => (None, None),
            Some(start) => {
                let (log, clock) = (log.clone(), self.clock);
                let start = move |runtime: &Handle| start(runtime, log, &settings, clock);
                let (flusher, end) = deliver(start, runtime).await?;
                (Some(flusher), Some(end))
            }
        };
        let closing = AtomicBool::new(false);
        Ok(Queue {
            shared: Arc::new(Shared {
                spool: self.path,
                log,
                flusher,
                delivery,
                recovery,
                sync,
                max_bytes,
                closing,
                #[cfg(feature = "control")]
                room: Room::default(),
            }),
        })
    }
}

/// Begins to deliver, on this runtime or on a thread of its own.
async fn deliver(
    start: impl FnOnce(&Handle) -> Started + Send + 'static,
    runtime: Option<Handle>,
) -> Result<(FlusherHandle, FlusherEnd), Error> {
    if let Some(runtime) = runtime {
        let (flusher, task) = start(&runtime);
        return Ok((flusher, FlusherEnd::Task(TaskEnd::new(task))));
    }
    let (flusher, thread) = flusher::thread::spawn(start).await?;
    Ok((flusher, FlusherEnd::Thread(thread)))
}
