//! What programs do with a queue while their disk is being recorded. Each runs in a process of
//! its own, which this binary is too, and says in marks what it was told.

mod sessions;

use std::collections::BTreeSet;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everpost::{
    Answer, Batch, Durability, Event, OnFull, Outcome, Queue, Request, Settings, Sink, StoredEvent,
    Verdict,
};

use super::event::{LARGE_FROM, Name, WORDY_FROM, event, recognise};
use super::mark::{Mark, Marks};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Workload {
    /// One producer, level `Synced`.
    Append,
    /// Four producers at once, some appends of several events.
    Group,
    /// Two producers, appends of many large events: so long that the journal packs them.
    Import,
    /// Level `Written`, with pauses after which the sync must have happened.
    Written,
    /// Level `Written`, with delivery and burying of what may not be durable yet.
    WrittenBury,
    /// Deliver while appending, with a receiver that often asks to come back later.
    Drain,
    /// A backlog is sealed and rolled, then delivered and its segments deleted.
    Roll,
    /// Refused events are buried; letters are appended again or thrown away.
    Bury,
    /// The oldest events are given up at the bound.
    Evict,
    /// A spool is made where there is none.
    Create,
    /// As `Drain` with burying, killed with SIGKILL eight times and started again.
    Kill,
    /// As `Drain` with burying, while a thread looks at the spool all the time.
    Beside,
    /// Opened again and again for a few events, and closed or dropped.
    Sessions,
    /// The same, each time under other bounds.
    Settings,
    /// Many letters, thrown away or appended again in one go.
    Letters,
    /// What every nested recording does: open what a power cut left, and go on.
    Resume,
}

impl Workload {
    /// All that are recorded from an empty disk.
    pub(crate) const FRESH: [Self; 15] = [
        Self::Append,
        Self::Group,
        Self::Import,
        Self::Written,
        Self::WrittenBury,
        Self::Drain,
        Self::Roll,
        Self::Bury,
        Self::Evict,
        Self::Create,
        Self::Kill,
        Self::Beside,
        Self::Sessions,
        Self::Settings,
        Self::Letters,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Group => "group commit",
            Self::Import => "import",
            Self::Written => "written",
            Self::WrittenBury => "written, bury",
            Self::Drain => "drain",
            Self::Roll => "seal and roll",
            Self::Bury => "bury and retry",
            Self::Evict => "evict",
            Self::Create => "create",
            Self::Kill => "kill x8",
            Self::Beside => "looks beside",
            Self::Sessions => "sessions",
            Self::Settings => "other settings",
            Self::Letters => "many letters",
            Self::Resume => "cut again",
        }
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::FRESH.into_iter().chain([Self::Resume]);
        let found = all.find(|workload| workload.name() == text);
        found.ok_or_else(|| format!("no workload `{text}`"))
    }
}

/// Limits so small that sealing, rolling and recycling happen all the time; which, is drawn from
/// the seed.
pub(crate) fn settings(workload: Workload, seed: u64) -> Settings {
    const KIB: u64 = 1024;
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut settings = Settings {
        journal_bytes: [16, 32, 64][rng.usize(0..3)] * KIB,
        max_event_bytes: 4 * KIB,
        tail_bytes: [4, 8][rng.usize(0..2)] * KIB,
        chunk_bytes: [4, 8][rng.usize(0..2)] * KIB,
        segment_bytes: [32, 64][rng.usize(0..2)] * KIB,
        ..Settings::default()
    };
    settings.delivery.batch_events = rng.u32(2..20);
    settings.delivery.backoff_min = Duration::from_millis(1);
    settings.delivery.backoff_max = Duration::from_millis(4);
    settings.delivery.breaker_refusals = u32::MAX;
    match workload {
        Workload::Append => settings.tail_bytes = settings.journal_bytes,
        // An append has to fit half a journal file.
        Workload::Import => settings.journal_bytes = [256, 512][rng.usize(0..2)] * KIB,
        Workload::Written => {
            let sync_every = SYNC_EVERY;
            settings.durability = Durability::Written { sync_every };
        }
        Workload::WrittenBury => {
            // Nothing is synced for an append alone.
            let sync_every = Duration::from_secs(60);
            settings.durability = Durability::Written { sync_every };
        }
        Workload::Evict => {
            settings.on_full = OnFull::DropOldest;
            settings.journal_bytes = 16 * KIB;
            settings.segment_bytes = 32 * KIB;
            // Just above what these limits need at the least.
            settings.max_bytes = 680_000;
        }
        _ => {}
    }
    settings
}

const SYNC_EVERY: Duration = Duration::from_millis(10);

/// How long after the last append the sync of level `Written` must have happened, on a machine
/// that does other things too.
const SYNC_PATIENCE: Duration = Duration::from_millis(500);

/// What a producer of a group appends: how often, how many events mostly, and how many else.
#[derive(Clone, Copy)]
struct Appends {
    count: u64,
    short: u64,
    long: (u64, u64),
}

const GROUPS: Appends = Appends {
    count: 50,
    short: 1,
    long: (2, 6),
};

/// Events are of 1 to 3.5 KB, and the journal packs what is longer than 16 KiB.
const IMPORTS: Appends = Appends {
    count: 24,
    short: 16,
    long: (1, 32),
};

/// One process of a workload.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) workload: Workload,
    pub(crate) seed: u64,
    /// The number of its first producer: no two processes of a spool share one.
    pub(crate) producer: u64,
    pub(crate) marks: Marks,
}

impl Program {
    /// Runs the workload on a spool.
    pub(crate) fn run(self, spool: &Path) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        runtime.block_on(async {
            match self.workload {
                Workload::Append => self.plain(spool, 220).await,
                Workload::Create => self.plain(spool, 3).await,
                Workload::Evict => self.by(LARGE_FROM).plain(spool, 900).await,
                Workload::Group => self.group(spool, 4, GROUPS).await,
                Workload::Import => self.by(WORDY_FROM).group(spool, 2, IMPORTS).await,
                Workload::Written => self.written(spool).await,
                Workload::Drain => self.deliver(spool, 260, Refuse::default()).await,
                Workload::Roll => self.roll(spool).await,
                Workload::WrittenBury => {
                    self.deliver(spool, 150, Refuse::SOME).await?;
                    Ok(self.marks.write(&Mark::Safe)?)
                }
                Workload::Bury => self.deliver(spool, 200, Refuse::SOME).await,
                Workload::Beside => self.beside(spool).await,
                Workload::Sessions => self.sessions(spool, false).await,
                Workload::Settings => self.sessions(spool, true).await,
                Workload::Letters => self.many_letters(spool).await,
                Workload::Kill => self.deliver(spool, 100_000, Refuse::SOME).await,
                Workload::Resume => self.deliver(spool, 25, Refuse::SOME).await,
            }
        })
    }

    /// The same with a producer of another kind of events.
    fn by(mut self, kind: u64) -> Self {
        self.producer += kind;
        self
    }

    async fn open(&self, spool: &Path, sink: Option<Receiver>) -> Result<Queue, Failure> {
        let builder = Queue::builder(spool).settings(settings(self.workload, self.seed));
        let queue = match sink {
            Some(sink) => builder.sink(sink).open().await?,
            None => builder.open().await?,
        };
        self.marks.write(&Mark::Open)?;
        Ok(queue)
    }

    fn event(&self, number: u64) -> Result<Event, Failure> {
        let producer = self.producer;
        Ok(event(self.seed, Name { producer, number }, (0, 1))?)
    }

    /// Appends one event, and says so, and how far the cursor is durable with it.
    async fn append(&self, queue: &Queue, number: u64) -> Result<(), Failure> {
        let cursor = queue.status().cursor;
        let receipt = queue.append(self.event(number)?).await?;
        let producer = self.producer;
        let name = Name { producer, number };
        if self.workload == Workload::WrittenBury {
            return Ok(self.marks.write(&Mark::Wrote(receipt.seq, name, 1))?);
        }
        self.marks.write(&Mark::Ack(receipt.seq, name, 1))?;
        if cursor > 0 {
            // The sync of the append made durable what was written before it.
            self.marks.write(&Mark::Cursor(cursor))?;
        }
        Ok(())
    }

    async fn plain(&self, spool: &Path, count: u64) -> Result<(), Failure> {
        let queue = self.open(spool, None).await?;
        for number in 1..=count {
            self.append(&queue, number).await?;
        }
        queue.close(Duration::ZERO).await?;
        Ok(())
    }

    async fn group(&self, spool: &Path, producers: u64, appends: Appends) -> Result<(), Failure> {
        let queue = self.open(spool, None).await?;
        let mut tasks = Vec::new();
        for producer in 0..producers {
            let mut program = self.clone();
            program.producer += producer;
            let queue = queue.clone();
            tasks.push(tokio::spawn(async move {
                program.produce(&queue, appends).await
            }));
        }
        for task in tasks {
            task.await??;
        }
        queue.close(Duration::ZERO).await?;
        Ok(())
    }

    async fn produce(&self, queue: &Queue, appends: Appends) -> Result<(), Failure> {
        let producer = self.producer;
        let mut rng = fastrand::Rng::with_seed(self.seed ^ producer);
        let mut number = 1;
        for _ in 0..appends.count {
            let count = match rng.u8(0..3) {
                0 => rng.u64(appends.long.0..appends.long.1),
                _ => appends.short,
            };
            let first = Name { producer, number };
            let events = (0..count).map(|i| {
                let number = number + i;
                event(self.seed, Name { producer, number }, (i, count))
            });
            let events = events.collect::<Result<Vec<_>, _>>()?;
            let receipts = queue.append_all(events).await?;
            let seq = receipts.first().map_or(0, |receipt| receipt.seq);
            self.marks.write(&Mark::Ack(seq, first, count))?;
            number += count;
        }
        Ok(())
    }

    async fn written(&self, spool: &Path) -> Result<(), Failure> {
        let mut queue = self.open(spool, None).await?;
        let producer = self.producer;
        for number in 1..=240 {
            let receipt = queue.append(self.event(number)?).await?;
            self.marks
                .write(&Mark::Wrote(receipt.seq, Name { producer, number }, 1))?;
            if number % 60 == 0 {
                queue.close(Duration::ZERO).await?;
                self.marks.write(&Mark::Safe)?;
                queue = self.open(spool, None).await?;
            } else if number % 30 == 0 {
                tokio::time::sleep(SYNC_PATIENCE).await;
                self.marks.write(&Mark::Safe)?;
            }
        }
        Ok(())
    }

    async fn roll(&self, spool: &Path) -> Result<(), Failure> {
        let receiver = self.receiver(Refuse::default());
        receiver.shut.store(true, Ordering::Relaxed);
        let shut = Arc::clone(&receiver.shut);
        let queue = self.open(spool, Some(receiver)).await?;
        for number in 1..=220 {
            self.append(&queue, number).await?;
        }
        shut.store(false, Ordering::Relaxed);
        queue.wake().await?;
        for number in 221..=260 {
            self.append(&queue, number).await?;
        }
        self.drain(&queue).await
    }

    async fn deliver(&self, spool: &Path, count: u64, refuse: Refuse) -> Result<(), Failure> {
        let receiver = self.receiver(refuse);
        let cured = Arc::clone(&receiver.cured);
        let queue = self.open(spool, Some(receiver)).await?;
        let mut rng = fastrand::Rng::with_seed(self.seed ^ self.producer ^ 1);
        for number in 1..=count {
            self.append(&queue, number).await?;
            if queue.status().dead_letters > 3 {
                self.clear_letter(&queue, &cured, rng.bool()).await?;
            }
        }
        self.drain(&queue).await
    }

    async fn wait_until_drained(&self, queue: &Queue) -> Result<(), Failure> {
        let mut watch = queue.watch();
        let drained = watch.wait_for(|status| status.pending == 0);
        tokio::time::timeout(Duration::from_secs(60), drained).await?;
        Ok(())
    }

    async fn drain(&self, queue: &Queue) -> Result<(), Failure> {
        self.wait_until_drained(queue).await?;
        queue.close(Duration::ZERO).await?;
        Ok(())
    }

    /// Appends the first dead letter again, or throws it away.
    async fn clear_letter(
        &self,
        queue: &Queue,
        cured: &Mutex<BTreeSet<Name>>,
        again: bool,
    ) -> Result<(), Failure> {
        let letters = queue.dead_letters();
        let Some(letter) = letters.list(..).take(1).await?.pop() else {
            return Ok(());
        };
        let (name, _) = recognise(self.seed, &letter.event).ok_or("an altered dead letter")?;
        if again {
            self.marks.write(&Mark::Retry(letter.seq, name))?;
            lock(cured).insert(name);
            let new = letters.retry(letter.seq).await?.seq;
            self.marks.write(&Mark::Retried(letter.seq, new, name))?;
        } else {
            self.marks.write(&Mark::Discard(letter.seq, name))?;
            letters.discard(letter.seq).await?;
            self.marks.write(&Mark::Discarded(letter.seq))?;
        }
        Ok(())
    }

    fn receiver(&self, refuse: Refuse) -> Receiver {
        Receiver {
            seed: self.seed,
            marks: self.marks.clone(),
            refuse,
            shut: Arc::default(),
            cured: Arc::default(),
            rng: Mutex::new(fastrand::Rng::with_seed(self.seed ^ self.producer ^ 2)),
        }
    }
}

/// Whether the receiver refuses some events for good.
#[derive(Clone, Copy, Debug, Default)]
struct Refuse {
    some: bool,
}

impl Refuse {
    const SOME: Self = Self { some: true };
}

/// Events that were refused once.
type Cured = Arc<Mutex<BTreeSet<Name>>>;

/// Takes batches and says which; often asks to come back later.
struct Receiver {
    seed: u64,
    marks: Marks,
    refuse: Refuse,
    shut: Arc<AtomicBool>,
    /// Refused once, and taken from now on.
    cured: Cured,
    rng: Mutex<fastrand::Rng>,
}

impl Receiver {
    fn answer(&self, batch: &Batch) -> Result<Verdict, Failure> {
        let later = Verdict::Retry { not_before: None };
        if self.shut.load(Ordering::Relaxed) || lock(&self.rng).u8(0..5) == 0 {
            return Ok(later);
        }
        let named = |stored: &StoredEvent| {
            let (name, _) = recognise(self.seed, &stored.event).ok_or("an altered event")?;
            Ok::<_, Failure>((stored.seq, name))
        };
        let events = batch.events().iter().map(named);
        let events = events.collect::<Result<Vec<_>, _>>()?;
        let refused = |name: &Name| {
            let mut rng = fastrand::Rng::with_seed(self.seed ^ (name.producer << 40) ^ name.number);
            self.refuse.some && rng.u8(0..6) == 0 && !lock(&self.cured).contains(name)
        };
        if events.iter().any(|(_, name)| refused(name)) {
            return Ok(Verdict::Poison);
        }
        // Said before the queue knows, so that no cursor is ahead of it in the log.
        self.marks.write(&Mark::Done(events))?;
        Ok(Verdict::Delivered)
    }
}

impl Sink for Receiver {
    async fn deliver(&self, request: Request) -> Outcome {
        match self.answer(request.batch()) {
            Ok(verdict) => Outcome::new(verdict, Answer::default()),
            Err(failure) => {
                // The workload is of no use any more, and must not look as if it were.
                eprintln!("the receiver failed: {failure}");
                std::process::exit(3);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
