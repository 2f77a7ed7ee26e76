//! A partition that this worker holds, with all that works at it.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::fenced::Fenced;
use super::hold::Hold;
use super::partition::Partition;
use super::removal;
use crate::error::Error;
use crate::flusher::{self, FlusherHandle, FlusherView};
use crate::log::Position;
use crate::observe;
use crate::settings::Delivery;
use crate::sink::BoxSink;

use crate::flusher::source::Source as _;

/// How often what is delivered and old enough is removed.
const REMOVE_EVERY: Duration = Duration::from_secs(5 * 60);
/// How soon that is done for the first time.
const REMOVE_FIRST: Duration = Duration::from_secs(10);

/// How a worker delivers.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) sink: Arc<BoxSink>,
    pub(super) delivery: Delivery,
    pub(super) max_age: Option<Duration>,
    /// None if nothing is ever removed.
    pub(super) keep: Option<Duration>,
    pub(super) remove_every: Option<Duration>,
}

/// Reaches the station of a partition.
pub(super) struct Station {
    views: watch::Receiver<FlusherView>,
    positions: watch::Receiver<Position>,
    /// How long it may take to come to its end; none as long as it may go on.
    leave: watch::Sender<Option<Duration>>,
}

/// How a station ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was to, or another worker has taken over.
    Left,
    /// The sink or the flusher is broken.
    Failed,
}

impl Station {
    /// Begins to deliver the partition of this hold, and gives what to wait for.
    ///
    /// # Errors
    /// As [`Partition::open`]; the hold is given up.
    pub(super) async fn open(hold: Hold, way: Way) -> Result<(Self, JoinHandle<Ended>), Error> {
        let partition = match Partition::open(hold.clone()).await {
            Ok(partition) => partition,
            Err(error) => {
                // It is abandoned in time otherwise.
                let _ = hold.give_up().await;
                return Err(error);
            }
        };
        let clock = Arc::clone(&hold.claim().clock);
        let sink = Arc::new(Fenced::new(Arc::clone(&way.sink), hold.clone()));
        let (delivery, max_age) = (way.delivery.clone(), way.max_age);
        let source = partition.clone();
        let runtime = Handle::current();
        let (flusher, task) = flusher::spawn(&runtime, sink, source, delivery, max_age, clock);
        let (leave, leaving) = watch::channel(None);
        let station = Self {
            views: flusher.views(),
            positions: partition.changes(),
            leave,
        };
        let number = hold.claim().partition;
        let mut beside = JoinSet::new();
        beside.spawn(renew(hold.clone()));
        beside.spawn(partition.clone().watch());
        if let Some(keep) = way.keep.filter(|_| number == 0) {
            beside.spawn(remove(hold.clone(), keep, way.remove_every));
        }
        let work = Work {
            hold,
            partition,
            flusher,
            task,
            beside,
        };
        Ok((station, tokio::spawn(work.run(leaving))))
    }

    /// Has it come to its end between two batches, within this time, and give the partition up.
    pub(super) fn leave(&self, within: Duration) {
        self.leave.send_modify(|leave| {
            *leave = Some(leave.map_or(within, |old| old.min(within)));
        });
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leave.borrow().is_some()
    }

    pub(super) fn view(&self) -> FlusherView {
        self.views.borrow().clone()
    }

    pub(super) fn position(&self) -> Position {
        self.positions.borrow().clone()
    }
}

/// Why the work at a partition ends.
enum End {
    Lost,
    Asked(Duration),
    Ended,
}

/// Waits until the end is asked for, and says how long it may take.
pub(super) async fn asked(asked: &mut watch::Receiver<Option<Duration>>) -> Duration {
    match asked.wait_for(Option::is_some).await {
        Ok(within) => (*within).unwrap_or_default(),
        // If there is no one left to say so, there is no time to lose.
        Err(_) => Duration::ZERO,
    }
}

/// What works at a partition.
struct Work {
    hold: Hold,
    partition: Partition,
    flusher: FlusherHandle,
    task: JoinHandle<()>,
    /// Ends with this value.
    beside: JoinSet<()>,
}

impl Work {
    async fn run(self, mut leaving: watch::Receiver<Option<Duration>>) -> Ended {
        let mut views = self.flusher.views();
        let ended = async { drop(views.wait_for(FlusherView::has_ended).await) };
        let end = tokio::select! {
            () = self.hold.lost() => End::Lost,
            within = asked(&mut leaving) => End::Asked(within),
            () = ended => End::Ended,
        };
        match end {
            End::Lost => observe::partition_lost(self.hold.claim().partition),
            End::Asked(within) => {
                self.partition.leave();
                // What it ended by is asked for below.
                let _ = self.flusher.close(within).await;
            }
            End::Ended => {}
        }
        let closed = self.flusher.close(Duration::ZERO).await;
        // The flusher has published its end before.
        let _ = self.task.await;
        if let Err(error) = self.hold.give_up().await {
            observe::partition_not_given_up(self.hold.claim().partition, &error);
        }
        drop(self.beside);
        match closed {
            Ok(_) => Ended::Left,
            Err(_) => Ended::Failed,
        }
    }
}

/// Keeps the hold for as long as there is one: what a settle writes is as good as a renewal.
async fn renew(hold: Hold) {
    loop {
        let wait = hold.due_in();
        if !wait.is_zero() {
            sleep(wait).await;
            continue;
        }
        // What the servers do not take now is tried again; the flusher waits for it.
        if let Err(Error::Closed) = hold.renew().await {
            return;
        }
    }
}

/// Removes what is delivered and older than `keep`, now and then.
async fn remove(hold: Hold, keep: Duration, every: Option<Duration>) {
    sleep(every.unwrap_or(REMOVE_FIRST)).await;
    loop {
        match removal::round(&hold, keep).await {
            Ok(_) => {}
            Err(Error::Closed) => return,
            Err(error) => observe::nothing_removed(&error),
        }
        sleep(every.unwrap_or(REMOVE_EVERY)).await;
    }
}
