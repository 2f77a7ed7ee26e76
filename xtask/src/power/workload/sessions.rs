//! Workloads of many short lives of one queue, of many letters, and of looks beside an owner.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use everpost::{AppendError, Error, OpenError, Queue, Settings};

use super::super::inspect::look;
use super::super::mark::Mark;
use super::{Cured, Failure, Program, Refuse, settings};

/// Lives of one queue.
const SESSIONS: u64 = 14;

/// How often a queue is tried to be opened whose last handle was dropped a moment ago.
const TRIES: u32 = 500;

impl Program {
    /// Deliver and bury, while a thread looks at the spool all the time.
    pub(super) async fn beside(&self, spool: &Path) -> Result<(), Failure> {
        let watcher = Watcher::start(spool, self.seed);
        self.deliver(spool, 260, Refuse::SOME).await?;
        watcher.stop()
    }

    /// Many letters, which are then appended again or thrown away in one go.
    pub(super) async fn many_letters(&self, spool: &Path) -> Result<(), Failure> {
        let receiver = self.receiver(Refuse::SOME);
        let cured = Arc::clone(&receiver.cured);
        let queue = self.open(spool, Some(receiver)).await?;
        for number in 1..=300 {
            self.append(&queue, number).await?;
        }
        self.wait_until_drained(&queue).await?;
        let mut rng = fastrand::Rng::with_seed(self.seed ^ 1);
        while queue.status().dead_letters > 0 {
            self.clear_letter(&queue, &cured, rng.u8(0..4) == 0).await?;
        }
        self.drain(&queue).await
    }

    /// Opens the queue again and again, does a little and closes it, or drops it; each time under
    /// other settings if they are `changing`.
    pub(super) async fn sessions(&self, spool: &Path, changing: bool) -> Result<(), Failure> {
        let mut rng = fastrand::Rng::with_seed(self.seed ^ 3);
        let cured = Cured::default();
        let mut number = 0;
        for _ in 0..SESSIONS {
            let mut chosen = settings(self.workload, self.seed);
            if changing {
                change(&mut chosen, &mut rng);
            }
            let queue = self.open_again(spool, &chosen, &cured).await?;
            for _ in 0..rng.u64(0..24) {
                number += 1;
                match self.append(&queue, number).await {
                    Err(error) if is_full(&*error) => break,
                    appended => appended?,
                }
            }
            if rng.bool() {
                self.wait_until_drained(&queue).await?;
            }
            if queue.status().dead_letters > 2 {
                self.clear_letter(&queue, &cured, rng.bool()).await?;
            }
            if rng.bool() {
                queue.close(Duration::ZERO).await?;
            }
        }
        let last = settings(self.workload, self.seed);
        let queue = self.open_again(spool, &last, &cured).await?;
        self.drain(&queue).await
    }

    /// Opens a queue that may be on its way to close.
    async fn open_again(
        &self,
        spool: &Path,
        settings: &Settings,
        cured: &Cured,
    ) -> Result<Queue, Failure> {
        let mut tries = 0;
        loop {
            let mut receiver = self.receiver(Refuse::SOME);
            receiver.cured = Arc::clone(cured);
            let builder = Queue::builder(spool).settings(settings.clone());
            match builder.sink(receiver).open().await {
                Err(OpenError::InUse { .. }) if tries < TRIES => tries += 1,
                opened => {
                    let queue = opened?;
                    self.marks.write(&Mark::Open)?;
                    return Ok(queue);
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Other bounds, on both sides of 1 MiB of a segment, where its layout is another one.
fn change(settings: &mut Settings, rng: &mut fastrand::Rng) {
    const KIB: u64 = 1024;
    settings.journal_bytes = [16, 32, 64, 256][rng.usize(0..4)] * KIB;
    settings.tail_bytes = settings.tail_bytes.min(settings.journal_bytes);
    settings.segment_bytes = [32, 64, 1024, 2048][rng.usize(0..4)] * KIB;
    settings.max_bytes = [700, 1_500, 4_000, 1 << 20][rng.usize(0..4)] * KIB;
    while settings.check().is_err() && settings.max_bytes < 1 << 40 {
        settings.max_bytes *= 2;
    }
}

fn is_full(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(AppendError::Full { .. }))
        || matches!(error.downcast_ref(), Some(Error::Full { .. }))
}

/// A thread that looks at a spool until it is stopped, or sees an alarm.
struct Watcher {
    thread: JoinHandle<Vec<String>>,
    is_over: Arc<AtomicBool>,
}

impl Watcher {
    fn start(spool: &Path, seed: u64) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (spool, over) = (PathBuf::from(spool), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            let mut alarms = Vec::new();
            while alarms.is_empty() && !over.load(Ordering::Relaxed) {
                look::beside(&spool, seed, &mut alarms);
            }
            alarms
        });
        Self { thread, is_over }
    }

    /// # Errors
    /// The alarm that was seen.
    fn stop(self) -> Result<(), Failure> {
        self.is_over.store(true, Ordering::Relaxed);
        let alarms = self.thread.join().map_err(|_| "a look panicked")?;
        if alarms.is_empty() {
            return Ok(());
        }
        Err(alarms.join("; ").into())
    }
}
