//! A worker: takes its share of the partitions and delivers them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subscriber;
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::hold::{Claim, Hold};
use super::lease::{Lease, Roster};
use super::line::Line;
use super::record::Record;
use super::removal;
use super::station::{Ended, Station, Way, asked};
use super::status::{Held, WorkerStatus};
use super::text::clean;
use super::wire::Wire;
use crate::clock::Clock;
use crate::ending::TaskEnd;
use crate::error::Error;
use crate::nats::Names;
use crate::observe;

/// How long a partition that goes to another worker may take to come to its end.
const GIVE_UP_MAX: Duration = Duration::from_secs(30);
/// How long a partition is left alone whose flusher broke, or that could not be opened.
const COOL: Duration = Duration::from_secs(10);

/// What a worker is started with.
pub(super) struct Plan {
    pub(super) line: Line,
    pub(super) names: Names,
    pub(super) me: String,
    pub(super) lease: Lease,
    pub(super) way: Way,
    pub(super) clock: Arc<dyn Clock>,
}

/// A worker of a fleet: it takes its share of the partitions and delivers their events, in order, as a
/// queue delivers its own, until it is closed. Any number of them share the partitions; what one leaves,
/// another takes.
///
/// At the death of a worker the batch that was under way in each of its partitions may come twice, under
/// the same ids and the same idempotency key (in smaller ones if it had grown beyond
/// [`batch_events`](crate::Delivery::batch_events), or other workers have other settings). A worker that was stopped and goes on later may repeat what
/// it held then, while another one has gone on: nothing can keep that from the receiver, which has to know
/// events by their ids.
///
/// Dropped, it gives its partitions up in the background, without waiting for anything.
///
/// ```no_run
/// # async fn run(sink: everpost::BoxSink) -> Result<(), everpost::Error> {
/// use everpost::fleet::{Access, Worker};
/// use everpost::nats::Names;
///
/// let names = Names::new(Names::STREAM, Names::PARTITIONS)?;
/// let access = Access::new("nats://a.example,b.example,c.example")?;
/// let worker = Worker::builder(access, names).sink(sink).start().await?;
/// // Until the program is to end:
/// worker.close(std::time::Duration::from_secs(20)).await?;
/// # Ok(()) }
/// ```
#[must_use]
pub struct Worker {
    name: Arc<str>,
    close: watch::Sender<Option<Duration>>,
    status: watch::Receiver<WorkerStatus>,
    end: TaskEnd,
}

impl Worker {
    pub(super) fn begin(plan: Plan) -> Self {
        let (close, closing) = watch::channel(None);
        let (publish, status) = watch::channel(WorkerStatus::new(&plan.me));
        let name: Arc<str> = plan.me.as_str().into();
        let wire = plan.line.wire();
        let trouble = plan.line.trouble();
        let tour = Tour {
            roster: Roster::new(&plan.me, plan.lease, plan.names.partitions()),
            beat: beat_subject(&plan.names),
            claim: Claim {
                wire,
                names: Arc::new(plan.names),
                partition: 0,
                me: Arc::clone(&name),
                lease: plan.lease,
                clock: plan.clock,
            },
            way: plan.way,
            began: Instant::now(),
            stations: BTreeMap::new(),
            ended: JoinSet::new(),
            cooling: BTreeMap::new(),
            unread: BTreeSet::new(),
            heard: None,
            is_well: true,
            publish,
            trouble,
        };
        let line = plan.line;
        let task = tokio::spawn(async move {
            tokio::select! {
                () = tour.run(closing) => {}
                () = line.keep() => {}
            }
        });
        Self {
            name,
            close,
            status,
            end: TaskEnd::new(task),
        }
    }

    /// The name by which records and books know it: as it was given, and something that no other start
    /// has.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it does at this moment.
    #[must_use]
    pub fn status(&self) -> WorkerStatus {
        self.status.borrow().clone()
    }

    /// Delivers what is under way, gives all partitions up, so that other workers take them at once, and
    /// ends. What is not delivered within `deadline` stays in the stream.
    ///
    /// # Errors
    /// [`Error::Panicked`] if the worker ended by a panic.
    ///
    /// # Cancel safety
    /// Once polled, the worker closes even if the caller waits no longer.
    pub async fn close(&self, deadline: Duration) -> Result<(), Error> {
        self.close.send_modify(|close| {
            *close = Some(close.map_or(deadline, |old| old.min(deadline)));
        });
        match self.end.wait().await {
            None => Ok(()),
            Some(message) => Err(Error::Panicked {
                part: "the worker",
                message,
            }),
        }
    }
}

/// Where workers say that they are there, to those who listen at that moment: `events_workers` for the
/// stream `EVENTS`. Without the right to it, shares are uneven and everything else is as it is.
pub(super) fn beat_subject(names: &Names) -> String {
    names.stream().to_ascii_lowercase() + "_workers"
}

/// The task of a worker: looks at all records, takes and gives up.
struct Tour {
    claim: Claim,
    way: Way,
    roster: Roster,
    /// Where workers say that they are there.
    beat: String,
    began: Instant,
    stations: BTreeMap<u16, Station>,
    ended: JoinSet<(u16, Ended)>,
    /// Until when a partition is left alone.
    cooling: BTreeMap<u16, Instant>,
    /// Records that were told to be unreadable.
    unread: BTreeSet<u16>,
    heard: Option<Subscriber>,
    /// The last round could read and write.
    is_well: bool,
    publish: watch::Sender<WorkerStatus>,
    trouble: watch::Receiver<Option<String>>,
}

impl Tour {
    async fn run(mut self, mut closing: watch::Receiver<Option<Duration>>) {
        let mut every = interval(self.claim.lease.renew_every());
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.publish_status();
            tokio::select! {
                biased;
                within = asked(&mut closing) => return self.close(within).await,
                Some(ended) = self.ended.join_next(), if !self.ended.is_empty() => self.left(ended),
                Some(message) = next(&mut self.heard) => self.hear(&message.payload),
                _ = every.tick() => self.round().await,
            }
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn left(&mut self, ended: Result<(u16, Ended), tokio::task::JoinError>) {
        // A task of ours that panicked leaves its hold to be abandoned.
        if let Ok((partition, ended)) = ended {
            self.stations.remove(&partition);
            if ended == Ended::Failed {
                self.cool(partition);
            }
        }
    }

    fn cool(&mut self, partition: u16) {
        self.cooling.insert(partition, Instant::now() + COOL);
    }

    /// A name, and a mark if it goes.
    fn hear(&mut self, payload: &[u8]) {
        let Ok(text) = std::str::from_utf8(payload) else {
            return;
        };
        let now = self.now();
        match text.strip_prefix('-') {
            Some(name) => self.roster.unhear(name),
            None if text.len() <= 256 => self.roster.hear(text, now),
            None => {}
        }
    }

    /// Says that this worker is there, looks at all records, takes what is free and gives up what is too
    /// much.
    async fn round(&mut self) {
        let wire = self.claim.wire.clone();
        self.meet(&wire).await;
        let records = match removal::records(&wire, &self.claim.names).await {
            Ok(records) => records,
            Err(error) => return self.unwell(|| observe::records_not_read(&error)),
        };
        let mut seen = BTreeMap::new();
        let now = self.now();
        for (partition, place, record) in records {
            match record {
                Ok(record) => {
                    self.roster.look(partition, place, &record.owner, now);
                    seen.insert(partition, (record, place));
                }
                Err(error) => {
                    if self.unread.insert(partition) {
                        observe::record_unreadable(&error);
                    }
                    self.cool(partition);
                }
            }
        }
        let held = self.stations.keys().copied().collect();
        let advice = self.roster.advice(&held, now);
        for partition in advice.give_up {
            if let Some(station) = self
                .stations
                .get(&partition)
                .filter(|station| !station.is_leaving())
            {
                station.leave(GIVE_UP_MAX);
            }
        }
        self.cooling.retain(|_, until| *until > Instant::now());
        for partition in advice.take {
            let is_cooling = self.cooling.contains_key(&partition);
            if !is_cooling && !self.take(partition, seen.remove(&partition)).await {
                return;
            }
        }
        self.is_well = true;
    }

    /// Makes this worker known to the others, which shares depend on and nothing else.
    async fn meet(&mut self, wire: &Wire) {
        if self.heard.is_none() {
            self.heard = wire.listen(&self.beat, None).await.ok();
        }
        let name = self.claim.me.to_string();
        let _ = wire.say(self.beat.clone(), name.into()).await;
    }

    /// Takes a partition and begins to deliver it. Says `false` if nothing can be written at present.
    async fn take(&mut self, partition: u16, seen: Option<(Record, u64)>) -> bool {
        let claim = Claim {
            partition,
            ..self.claim.clone()
        };
        let hold = match Hold::take(claim, seen).await {
            Ok(Some(hold)) => hold,
            Ok(None) => return true,
            Err(error) => {
                self.unwell(|| observe::partition_not_taken(partition, &error));
                // Nor could those that have partitions renew.
                let now = self.now();
                self.roster.reprieve(now);
                return false;
            }
        };
        match Station::open(hold, self.way.clone()).await {
            Ok((station, task)) => {
                observe::partition_taken(partition);
                self.stations.insert(partition, station);
                self.ended
                    .spawn(async move { (partition, task.await.unwrap_or(Ended::Failed)) });
            }
            Err(error) => {
                observe::partition_not_taken(partition, &error);
                self.cool(partition);
            }
        }
        true
    }

    /// Said once, until a round is well again.
    fn unwell(&mut self, say: impl FnOnce()) {
        if std::mem::replace(&mut self.is_well, false) {
            say();
        }
    }

    async fn close(mut self, within: Duration) {
        let gone = format!("-{}", self.claim.me);
        let _ = self.claim.wire.say(self.beat.clone(), gone.into()).await;
        for station in self.stations.values() {
            station.leave(within);
        }
        // A little longer, for what is written at the end.
        let slack = Duration::from_secs(10);
        let all = async {
            while let Some(ended) = self.ended.join_next().await {
                self.left(ended);
                self.publish_status();
            }
        };
        let _ = timeout(within.saturating_add(slack), all).await;
        self.publish_status();
    }

    fn publish_status(&self) {
        let held = self.stations.iter().map(|(partition, station)| {
            Held::new(
                *partition,
                &station.position(),
                station.view(),
                station.is_leaving(),
            )
        });
        let trouble = self.trouble.borrow().as_deref().map(clean);
        let status = WorkerStatus {
            name: self.claim.me.to_string(),
            held: held.collect(),
            trouble,
        };
        self.publish.send_replace(status);
    }
}

/// The next message, if there is something to listen to; when that has ended, it is begun anew.
async fn next(heard: &mut Option<Subscriber>) -> Option<async_nats::Message> {
    let Some(subscriber) = heard else {
        return std::future::pending().await;
    };
    let message = subscriber.next().await;
    if message.is_none() {
        *heard = None;
    }
    message
}
