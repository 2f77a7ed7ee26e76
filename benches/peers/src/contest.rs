//! How a system is driven: how many producers, and through what.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use everpost::{Event, Queue, blocking};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::processor;

/// What an acknowledged append survives; a greater one survives more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Survives {
    /// Not even the death of the process.
    Nothing,
    /// The death of the process.
    Process,
    /// A power cut.
    PowerCut,
}

impl Survives {
    /// In words.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Nothing => "may go with the process",
            Self::Process => "survives the process",
            Self::PowerCut => "survives a power cut",
        }
    }
}

/// A system that one thread drives.
pub(crate) trait Store: Send {
    /// Appends these events as one commit. When it returns, they are as safe as is promised.
    fn append(&mut self, events: &[Bytes]) -> Result<()>;
}

/// A system that many threads may drive at once.
pub(crate) trait SharedStore: Send + Sync {
    /// Appends one event, which is given away, as it is to everpost. When it returns, the event is
    /// as safe as is promised.
    fn append(&self, event: Bytes) -> Result<()>;
}

/// A system that was opened.
pub(crate) enum Opened {
    /// everpost: producers are tasks that await their append.
    Queue(Queue),
    /// everpost: one task that has as many appends under way as there would be producers.
    Submitting(Queue),
    /// everpost: producers are threads that block until their append is done.
    Blocking(blocking::Queue),
    /// One thread. A single producer calls it directly; 64 of them are tasks that await a writer
    /// thread, which commits together whatever waits.
    Store(Box<dyn Store>),
    /// As `Store`, but a single producer is a task in front of the writer thread, too.
    Writer(Box<dyn Store>),
    /// Each producer is a thread of its own.
    Shared(Arc<dyn SharedStore>),
    /// A bare loop, whatever the number of producers: it commits that many events at a time.
    Loop(Box<dyn Store>),
}

/// A system that takes part in a case.
pub(crate) struct System {
    /// Its name, with the setting.
    pub(crate) name: &'static str,
    /// What it promises.
    pub(crate) survives: Survives,
    /// What else is to be said of the setting; may be empty.
    pub(crate) remark: &'static str,
    /// Whether it is a limit to be held against, and no peer.
    pub(crate) is_limit: bool,
    /// Opens it in an empty directory.
    pub(crate) open: fn(&Path) -> Result<Opened>,
}

impl System {
    /// The promise and the remark.
    pub(crate) fn promise(&self) -> String {
        if self.remark.is_empty() {
            self.survives.text().to_owned()
        } else {
            format!("{}; {}", self.survives.text(), self.remark)
        }
    }
}

/// How a rate is measured.
#[derive(Clone, Debug)]
pub(crate) struct Race {
    /// Where the tasks run.
    pub(crate) runtime: Handle,
    /// How many append at once.
    pub(crate) producers: usize,
    /// The processor that a producer stays on which is a thread.
    pub(crate) processor: Option<usize>,
    /// What they append.
    pub(crate) pool: Arc<[Bytes]>,
    /// How long they run before it counts.
    pub(crate) warm_up: Duration,
    /// How long it counts.
    pub(crate) span: Duration,
}

/// What producers and the clock have in common.
#[derive(Default)]
struct Track {
    acknowledged: AtomicU64,
    ended: AtomicBool,
    fault: Mutex<Option<anyhow::Error>>,
}

impl Track {
    fn count(&self, events: usize) {
        self.acknowledged
            .fetch_add(events as u64, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    fn fail(&self, error: anyhow::Error) {
        self.ended.store(true, Ordering::Relaxed);
        if let Ok(mut fault) = self.fault.lock() {
            fault.get_or_insert(error);
        }
    }
}

impl Race {
    /// Acknowledged events in a second.
    pub(crate) fn run(&self, opened: Opened) -> Result<f64> {
        let track = Arc::new(Track::default());
        let running = self.start(opened, &track)?;
        std::thread::sleep(self.warm_up);
        let (begin, before) = (Instant::now(), track.acknowledged.load(Ordering::Relaxed));
        std::thread::sleep(self.span);
        let after = track.acknowledged.load(Ordering::Relaxed);
        let took = begin.elapsed();
        track.ended.store(true, Ordering::Relaxed);
        for thread in running {
            thread.join().map_err(|_| anyhow!("a producer panicked"))?;
        }
        let fault = track.fault.lock().ok().and_then(|mut fault| fault.take());
        match fault {
            Some(error) => Err(error),
            None => Ok((after - before) as f64 / took.as_secs_f64()),
        }
    }

    fn start(
        &self,
        opened: Opened,
        track: &Arc<Track>,
    ) -> Result<Vec<std::thread::JoinHandle<()>>> {
        match opened {
            Opened::Queue(queue) => self.queue(queue, track),
            Opened::Submitting(queue) => self.submitting(queue, track),
            Opened::Blocking(queue) => {
                let queue: Arc<dyn SharedStore> = Arc::new(Blocking(queue));
                self.threads(&queue, track)
            }
            Opened::Store(store) if self.producers == 1 => self.direct(store, 1, track),
            Opened::Store(store) | Opened::Writer(store) => self.writer(store, track),
            Opened::Loop(store) => self.direct(store, self.producers, track),
            Opened::Shared(store) => self.threads(&store, track),
        }
    }

    /// Events that a producer appends one after the other, without end.
    fn turn(&self, producer: usize) -> impl Iterator<Item = Bytes> + Send + use<> {
        let pool = Arc::clone(&self.pool);
        let start = producer * 61;
        (start..).filter_map(move |at| pool.get(at % pool.len()).cloned())
    }

    fn queue(&self, queue: Queue, track: &Arc<Track>) -> Result<Vec<std::thread::JoinHandle<()>>> {
        let tasks: Vec<_> = (0..self.producers)
            .map(|producer| {
                let (queue, track, turn) = (queue.clone(), Arc::clone(track), self.turn(producer));
                self.runtime.spawn(async move {
                    for json in turn {
                        let append = async { anyhow::Ok(queue.append(Event::json(json)?).await?) };
                        match append.await {
                            Ok(_) => track.count(1),
                            Err(error) => track.fail(error),
                        }
                        if !track.goes_on() {
                            break;
                        }
                    }
                })
            })
            .collect();
        self.closing(queue, tasks, track)
    }

    fn submitting(
        &self,
        queue: Queue,
        track: &Arc<Track>,
    ) -> Result<Vec<std::thread::JoinHandle<()>>> {
        let (under_way_max, turn) = (self.producers, self.turn(0));
        let (submitter, counted) = (queue.clone(), Arc::clone(track));
        let task = self.runtime.spawn(async move {
            let mut under_way = VecDeque::with_capacity(under_way_max);
            for json in turn {
                let step = async {
                    under_way.push_back(submitter.submit(Event::json(json)?).await?);
                    if under_way.len() == under_way_max
                        && let Some(oldest) = under_way.pop_front()
                    {
                        oldest.await?;
                        counted.count(1);
                    }
                    anyhow::Ok(())
                };
                if let Err(error) = step.await {
                    counted.fail(error);
                }
                if !counted.goes_on() {
                    break;
                }
            }
        });
        self.closing(queue, vec![task], track)
    }

    fn closing(
        &self,
        queue: Queue,
        tasks: Vec<JoinHandle<()>>,
        track: &Arc<Track>,
    ) -> Result<Vec<std::thread::JoinHandle<()>>> {
        let (runtime, track) = (self.runtime.clone(), Arc::clone(track));
        // Joins the tasks and closes the queue, so that nothing of it is left in the next round.
        let closer = move || {
            for task in tasks {
                let _ = runtime.block_on(task);
            }
            if let Err(error) = queue.blocking().close(Duration::ZERO) {
                track.fail(error.into());
            }
        };
        Ok(vec![spawn("producers", closer)?])
    }

    fn direct(
        &self,
        mut store: Box<dyn Store>,
        together: usize,
        track: &Arc<Track>,
    ) -> Result<Vec<std::thread::JoinHandle<()>>> {
        let (track, mut turn) = (Arc::clone(track), self.turn(0));
        let producer = move || {
            while track.goes_on() {
                let events: Vec<Bytes> = turn.by_ref().take(together).collect();
                match store.append(&events) {
                    Ok(()) => track.count(events.len()),
                    Err(error) => track.fail(error),
                }
            }
        };
        Ok(vec![self.spawn("producer", producer)?])
    }

    /// Tasks that await a writer thread: group commit for systems that have none of their own.
    fn writer(
        &self,
        mut store: Box<dyn Store>,
        track: &Arc<Track>,
    ) -> Result<Vec<std::thread::JoinHandle<()>>> {
        let (sender, receiver) = mpsc::channel::<(Bytes, oneshot::Sender<()>)>();
        for producer in 0..self.producers {
            let (sender, track, turn) = (sender.clone(), Arc::clone(track), self.turn(producer));
            self.runtime.spawn(async move {
                for event in turn {
                    let (reply, answer) = oneshot::channel();
                    if !track.goes_on()
                        || sender.send((event, reply)).is_err()
                        || answer.await.is_err()
                    {
                        break;
                    }
                    track.count(1);
                }
            });
        }
        drop(sender);
        let track = Arc::clone(track);
        let writer = move || {
            while let Ok(first) = receiver.recv() {
                let (events, replies): (Vec<_>, Vec<_>) =
                    std::iter::once(first).chain(receiver.try_iter()).unzip();
                if let Err(error) = store.append(&events) {
                    track.fail(error);
                    break;
                }
                for reply in replies {
                    let _ = reply.send(());
                }
            }
        };
        Ok(vec![spawn("writer", writer)?])
    }

    fn threads(
        &self,
        store: &Arc<dyn SharedStore>,
        track: &Arc<Track>,
    ) -> Result<Vec<std::thread::JoinHandle<()>>> {
        (0..self.producers)
            .map(|producer| {
                let (store, track, turn) =
                    (Arc::clone(store), Arc::clone(track), self.turn(producer));
                self.spawn("producer", move || {
                    for event in turn {
                        match store.append(event) {
                            Ok(()) => track.count(1),
                            Err(error) => track.fail(error),
                        }
                        if !track.goes_on() {
                            break;
                        }
                    }
                })
            })
            .collect()
    }

    /// Starts a producer, on its processor if it has one.
    fn spawn(
        &self,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<std::thread::JoinHandle<()>> {
        let processor = self.processor;
        spawn(name, move || {
            if let Some(Err(error)) = processor.map(processor::stay_on) {
                eprintln!("{error:#}");
            }
            work();
        })
    }
}

/// everpost as a store that threads share.
struct Blocking(blocking::Queue);

impl SharedStore for Blocking {
    fn append(&self, event: Bytes) -> Result<()> {
        self.0.append(Event::json(event)?)?;
        Ok(())
    }
}

/// Closes the queue, so that nothing of it is left in the next round.
impl Drop for Blocking {
    fn drop(&mut self) {
        if let Err(error) = self.0.close(Duration::ZERO) {
            eprintln!("closing the queue: {error}");
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .context("a thread could not be started")
}
