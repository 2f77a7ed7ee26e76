//! Drains a log, or another source, into the sink: in order, one request at a time, for as long as it takes.
//!
//! - `machine.rs` decides; it takes in the receiver's answers in `machine/verdict.rs`, the log's in
//!   `machine/answers.rs` and people's wishes in `machine/orders.rs`; its inputs and actions are in
//!   `step.rs`. All of it is pure.
//! - What it decides by, each pure as well:
//!   - `flow.rs`: whether delivery goes on. `pacing.rs` says when the receiver is tried next
//!     (`backoff.rs` how long a wait is), `breaker.rs` when the fault is not the events'.
//!   - `outbox.rs`: which events go into the next request. `bisect.rs` finds the refused event in a
//!     batch, `limit.rs` says how many events a request takes (`growth.rs` how many more where the
//!     way is long), `age.rs` which are too old, and `shape.rs` how close requests follow each other
//!     (`rate.rs` by what is set, `ease.rs` by what the receiver asks for).
//!   - `storage.rs`: what the log is owed; `trouble.rs` when a disk that refuses is asked next.
//!   - `remembered.rs`: what a restart finds.
//!   - `alarm.rs`: what ends a rest.
//! - `fact.rs` is what the machine has to tell, which the task writes into the log.
//! - `task.rs` carries out what was decided: the one task and its one `select!`. `reader.rs` reads
//!   before the machine asks. `source.rs` says what both need of the place that events come from.
//! - `askers.rs` holds the callers that have given an order and wait for its answer.
//! - `thread.rs` gives it a runtime where the program has none.
//! - This file is the handle.
//!
//! What is certain about a batch in flight when the process ends: it is not settled, and the next
//! owner of the spool sends it again under the same ids (promise 3).

mod age;
mod alarm;
mod askers;
mod backoff;
pub(crate) mod bisect;
mod breaker;
mod ease;
mod fact;
mod flow;
mod growth;
mod ids;
mod limit;
mod machine;
mod outbox;
mod pacing;
mod rate;
mod reader;
mod remembered;
mod shape;
pub(crate) mod source;
pub(crate) mod step;
mod storage;
mod task;
pub(crate) mod thread;
mod trouble;

#[cfg(test)]
mod hindrance_tests;
#[cfg(test)]
mod log_lines_tests;
#[cfg(test)]
mod machine_tests;
#[cfg(test)]
#[cfg(feature = "models")]
mod model_tests;
#[cfg(test)]
mod pause_tests;
#[cfg(test)]
mod script;
#[cfg(test)]
mod shape_tests;
#[cfg(test)]
mod slow_tests;
#[cfg(test)]
mod task_tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::askers::{Askers, Wish};
#[cfg(feature = "fleet")]
pub(crate) use self::backoff::{Backoff, random_up_to};
use crate::clock::Clock;
use crate::ending::TaskEnd;
use crate::error::Error;
use crate::id::Seq;
use crate::log::thread::ThreadEnd;
use crate::outcome::Answer;
use crate::settings::Delivery;
use crate::sink::Sink;
use crate::status::{FlusherState, Pace, PaceStatus};

/// No close waits longer; tokio's clock holds no more than about 30 years.
const DEADLINE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// The flusher as seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FlusherView {
    /// What it is doing, and why.
    pub(crate) state: FlusherState,
    /// The receiver's last answer.
    pub(crate) last_answer: Option<Answer>,
    /// How fast it may go.
    pub(crate) pace: PaceStatus,
    /// Requests sent since it was started.
    pub(crate) requests: u64,
    /// Where the batch under way begins and the one behind it, with the time of the event in Unix
    /// milliseconds, as far as they were read.
    pub(crate) begins: [Option<(Seq, u64)>; 2],
    /// Whether nothing was left to deliver when it closed; false before.
    pub(crate) drained: bool,
}

impl FlusherView {
    /// What is seen where there is no flusher.
    pub(crate) fn absent() -> Self {
        Self::of(FlusherState::Absent)
    }

    /// What is seen before anything was done.
    fn of(state: FlusherState) -> Self {
        Self {
            state,
            last_answer: None,
            pace: PaceStatus::default(),
            requests: 0,
            begins: [None; 2],
            drained: false,
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(
            self.state,
            FlusherState::Closed | FlusherState::Failed { .. }
        )
    }
}

/// What was asked of the flusher. Only the newest of each kind counts, so this takes no room.
#[derive(Clone, Debug, Default)]
struct Orders {
    wakes: u64,
    resumes: u64,
    /// Counts pauses since the last resume, which takes them back.
    pauses: u64,
    /// Counts both: each is to be kept on disk, and is answered under its number.
    notes: u64,
    /// Counts changes of the pace.
    paces: u64,
    pace: Pace,
    close: Option<Instant>,
}

/// Reaches the flusher from anywhere. Cloning is cheap.
///
/// When the last handle is dropped, the flusher ends without sending more; a request in flight is
/// dropped. This does not block.
#[derive(Clone, Debug)]
pub(crate) struct FlusherHandle {
    orders: watch::Sender<Orders>,
    askers: Arc<Askers>,
    view: watch::Receiver<FlusherView>,
}

/// The end of what a flusher runs on.
#[derive(Debug)]
pub(crate) enum FlusherEnd {
    /// On the program's runtime.
    Task(TaskEnd),
    /// On a thread of its own.
    Thread(ThreadEnd),
}

impl FlusherEnd {
    /// Waits until nothing of the flusher is left.
    ///
    /// # Cancel safety
    /// Only waits; call it again.
    pub(crate) async fn wait(&self) {
        match self {
            // The flusher has published its panic, if there was one.
            Self::Task(task) => drop(task.wait().await),
            Self::Thread(thread) => thread.wait().await,
        }
    }
}

impl FlusherHandle {
    /// Ends the present wait and tries now: after a failure, or during a pause that probes. A
    /// pause that was asked for goes on. Returns when the flusher has taken that up.
    ///
    /// # Errors
    /// [`Error::Closed`], or [`Error::Panicked`], if it has ended.
    ///
    /// # Cancel safety
    /// Once polled, the order is given.
    pub(crate) async fn wake(&self) -> Result<(), Error> {
        self.order(Wish::TakenUp, |orders| orders.wakes += 1).await
    }

    /// Stops delivery until [`resume`](Self::resume). Returns when no request is under way any
    /// more and the pause is on disk.
    ///
    /// # Errors
    /// As [`wake`](Self::wake). What the disk said if it refuses: the pause holds all the same,
    /// and is stored once the disk takes it.
    ///
    /// # Cancel safety
    /// Once polled, the order is given.
    pub(crate) async fn pause(&self) -> Result<(), Error> {
        let change = |orders: &mut Orders| orders.pauses += 1;
        self.order(Wish::Kept, change).await
    }

    /// Ends a pause of any kind and tries now; refusals are counted from zero again. Returns when
    /// the end of the pause is on disk.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    ///
    /// # Cancel safety
    /// Once polled, the order is given.
    pub(crate) async fn resume(&self) -> Result<(), Error> {
        let change = |orders: &mut Orders| {
            orders.resumes += 1;
            orders.pauses = 0;
        };
        self.order(Wish::Kept, change).await
    }

    /// Sets how fast delivery may go, until the flusher ends. Returns when it has taken that up.
    ///
    /// # Errors
    /// As [`wake`](Self::wake).
    ///
    /// # Cancel safety
    /// Once polled, the order is given.
    pub(crate) async fn set_pace(&self, pace: Pace) -> Result<(), Error> {
        let change = |orders: &mut Orders| {
            orders.paces += 1;
            orders.pace = pace;
        };
        self.order(Wish::Paced, change).await
    }

    async fn order(&self, wish: Wish, change: impl FnOnce(&mut Orders)) -> Result<(), Error> {
        let mut answer = None;
        self.orders.send_modify(|orders| {
            change(orders);
            let number = match wish {
                Wish::TakenUp => orders.wakes,
                Wish::Paced => orders.paces,
                Wish::Kept => {
                    orders.notes += 1;
                    orders.notes
                }
            };
            // Before the flusher can see the order.
            answer = Some(self.askers.wait(wish, number));
        });
        if let Some(answer) = answer
            && let Ok(result) = answer.await
        {
            return result;
        }
        self.ended().await.and(Err(Error::Closed))
    }

    /// Waits for the flusher's end, and says whether nothing was left to deliver.
    async fn ended(&self) -> Result<bool, Error> {
        let mut view = self.view.clone();
        // The task publishes its end before it drops the channel, however it ends.
        let _ = view.wait_for(FlusherView::has_ended).await;
        let view = view.borrow();
        match &view.state {
            FlusherState::Failed { message } => Err(Error::Panicked {
                part: "the flusher",
                message: message.clone(),
            }),
            _ => Ok(view.drained),
        }
    }

    /// The flusher at this moment.
    #[cfg(test)]
    pub(crate) fn view(&self) -> FlusherView {
        self.view.borrow().clone()
    }

    /// How many places there are for callers that wait for an answer.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.askers.waiting()
    }

    /// The flusher and every change of it.
    pub(crate) fn views(&self) -> watch::Receiver<FlusherView> {
        self.view.clone()
    }

    /// Drains the log until `deadline` from now, ends the flusher, and says whether nothing is
    /// left. A flusher that waits after a failure tries once more at once; it ends early if it is
    /// paused, or if its next try would come after the deadline. A request in flight at the
    /// deadline is dropped and its batch stays. A second call waits for the same end.
    ///
    /// # Errors
    /// [`Error::Panicked`] if the flusher, the sink or the log panicked, now or earlier.
    ///
    /// # Cancel safety
    /// Once polled, the flusher closes even if the caller waits no longer.
    pub(crate) async fn close(&self, deadline: Duration) -> Result<bool, Error> {
        let by = Instant::now() + deadline.min(DEADLINE_MAX);
        self.orders.send_modify(|orders| {
            orders.close = Some(orders.close.map_or(by, |old| old.min(by)));
        });
        self.ended().await
    }
}

/// Starts a flusher on `runtime`, which must have its time driver enabled. It begins to deliver
/// at once.
///
/// The join handle is only for waiting: it ends when the flusher has, and never with an error
/// unless the runtime itself ends. Dropping it changes nothing.
pub(crate) fn spawn<S: Sink, E: source::Source>(
    runtime: &Handle,
    sink: Arc<S>,
    source: E,
    settings: Delivery,
    max_age: Option<Duration>,
    clock: Arc<dyn Clock>,
) -> (FlusherHandle, JoinHandle<()>) {
    let mut settings = settings;
    if let Some(most) = sink.batch_events_max() {
        // More than a number of 32 bits is no bound.
        let most = u32::try_from(most.get()).unwrap_or(u32::MAX);
        settings.batch_events = settings.batch_events.min(most);
        settings.batch_events_max = settings.batch_events_max.min(most);
    }
    let machine = machine::Machine::new(&settings, max_age).check_first();
    let (orders, inbox) = watch::channel(Orders::default());
    let (publish, view) = watch::channel(FlusherView {
        pace: machine.pace(),
        ..FlusherView::of(FlusherState::Idle)
    });
    let askers = Arc::<Askers>::default();
    let inbox = task::Inbox::new(inbox, Arc::clone(&askers));
    let task = task::Task::new(sink, source, clock, machine, inbox, publish);
    let handle = FlusherHandle {
        orders,
        askers,
        view,
    };
    (handle, runtime.spawn(task.guarded()))
}
