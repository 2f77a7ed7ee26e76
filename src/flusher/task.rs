//! Carries out what the machine decides: one task, one action under way, one `select!`.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::askers::{Askers, Wish};
use super::fact::Fact;
use super::ids::SourceIds;
use super::machine::Machine;
use super::reader::Reader;
use super::source::{Leaving, Source, Told};
use super::step::{Action, At, Done, Entry, Input, Job, Now};
use super::{FlusherView, Orders};
use crate::clock::Clock;
use crate::ending::panic_text;
use crate::error::Error;
use crate::id::SeqRange;
use crate::ledger::Settled;
use crate::log::Position;
use crate::observe;
use crate::sink::Sink;
use crate::status::FlusherState;

/// What people ask for, and who waits for an answer.
pub(super) struct Inbox {
    orders: watch::Receiver<Orders>,
    /// What was passed on.
    seen: Orders,
    /// Wakes that were answered.
    woken: u64,
    /// Changes of the pace that were answered.
    paced: u64,
    askers: Arc<Askers>,
}

impl Inbox {
    pub(super) fn new(orders: watch::Receiver<Orders>, askers: Arc<Askers>) -> Self {
        Self {
            orders,
            seen: Orders::default(),
            woken: 0,
            paced: 0,
            askers,
        }
    }

    /// The next order that was not yet passed on. Orders of a kind count as one, and a pause is
    /// the newest of them all, since a resume takes back the pauses before it.
    fn next(&mut self, started: Instant) -> Option<Input> {
        let orders = self.orders.borrow_and_update().clone();
        let seen = &mut self.seen;
        if orders.resumes != seen.resumes {
            seen.resumes = orders.resumes;
            seen.pauses = 0;
            if orders.pauses == 0 {
                seen.notes = orders.notes;
            }
            return Some(Input::Resume);
        }
        if orders.pauses != seen.pauses {
            seen.pauses = orders.pauses;
            seen.notes = orders.notes;
            return Some(Input::Pause);
        }
        if orders.paces != seen.paces {
            seen.paces = orders.paces;
            return Some(Input::SetPace(orders.pace));
        }
        if orders.wakes != seen.wakes {
            seen.wakes = orders.wakes;
            return Some(Input::Wake);
        }
        if orders.close != seen.close {
            seen.close = orders.close;
            let by = orders.close.unwrap_or(started);
            return Some(Input::Close(by.saturating_duration_since(started)));
        }
        None
    }

    /// Answers the orders that were passed on.
    fn answer(&mut self, kept: Option<Result<(), Error>>) {
        if let Some(result) = kept {
            self.askers.tell(Wish::Kept, self.seen.notes, &result);
        }
        if self.woken != self.seen.wakes {
            self.woken = self.seen.wakes;
            self.askers.tell(Wish::TakenUp, self.woken, &Ok(()));
        }
        if self.paced != self.seen.paces {
            self.paced = self.seen.paces;
            self.askers.tell(Wish::Paced, self.paced, &Ok(()));
        }
    }
}

/// The flusher's task.
pub(super) struct Task<S, E> {
    sink: Arc<S>,
    source: E,
    clock: Arc<dyn Clock>,
    started: Instant,
    machine: Machine,
    inbox: Inbox,
    changes: watch::Receiver<Position>,
    /// Cursor and last sequence number, as far as they are known here. What the source answers may be
    /// ahead of what it has published.
    at: At,
    publish: watch::Sender<FlusherView>,
    reader: Reader<E>,
}

impl<S: Sink, E: Source> Task<S, E> {
    pub(super) fn new(
        sink: Arc<S>,
        source: E,
        clock: Arc<dyn Clock>,
        machine: Machine,
        inbox: Inbox,
        publish: watch::Sender<FlusherView>,
    ) -> Self {
        let changes = source.changes();
        let reader = Reader::new(source.clone());
        Self {
            sink,
            source,
            clock,
            started: Instant::now(),
            machine,
            inbox,
            changes,
            at: (0, 0),
            publish,
            reader,
        }
    }

    /// Runs the flusher. A panic in it, or in the sink, ends it and is published.
    pub(super) fn guarded(self) -> impl Future<Output = ()> + Send {
        // Made before the first poll, so that even a task that is never polled says that it ended.
        let last_word = LastWord(self.publish.clone(), Arc::clone(&self.inbox.askers));
        let place = self.source.place().clone();
        async move {
            let mut run = pin!(self.run());
            let ended = poll_fn(|cx| {
                // The sink works in here as well, and what it logs is the queue's own.
                let poll = || place.enter(|| run.as_mut().poll(cx));
                match catch_unwind(AssertUnwindSafe(poll)) {
                    Ok(poll) => poll.map(Ok),
                    Err(payload) => Poll::Ready(Err(panic_text(payload.as_ref()))),
                }
            });
            if let Err(message) = ended.await {
                observe::flusher_panicked(&message);
                last_word.failed(message);
            }
        }
    }

    async fn run(mut self) {
        let mut job: Option<Job> = None;
        let mut input = Input::Tick;
        loop {
            let now = self.now();
            let action = self.machine.step(input, &now);
            self.machine.tell(Fact::log);
            self.publish_view();
            // After that, so that callers that are answered see what became of it.
            self.inbox.answer(self.machine.take_answer());
            match action {
                Some(Action::End) => return,
                Some(action) => job = Some(self.start(action)),
                None => {}
            }
            self.read_ahead();
            input = self.next(&mut job).await;
        }
    }

    /// Has the reader go on while a request is under way. The machine asks when it is time.
    fn read_ahead(&mut self) {
        if self.machine.is_held_up() {
            self.reader.let_go();
        } else if self.machine.is_sending()
            && let Some(reading) = self.machine.read_ahead()
        {
            self.reader.read_on(reading, self.at.1);
        }
    }

    /// Waits for what happens next.
    async fn next(&mut self, job: &mut Option<Job>) -> Input {
        if let Some(input) = self.inbox.next(self.started) {
            return input;
        }
        let timer = self.machine.wake_at();
        let timer = timer.and_then(|wait| self.started.checked_add(wait));
        loop {
            let is_sending = self.machine.is_sending();
            let is_reading = self.reader.wants_a_look(is_sending);
            tokio::select! {
                // Orders come first: a pause or an end must not wait behind a receiver that answers
                // without delay.
                biased;
                order = self.inbox.orders.changed() => return match order {
                    Ok(()) => self.inbox.next(self.started).unwrap_or(Input::Tick),
                    // The last handle is gone, and no order can come any more.
                    Err(_) => Input::Abandoned,
                },
                // What is under way has come to its end.
                (input, at) = finish(job) => {
                    *job = None;
                    self.see(at);
                    return input;
                }
                // Kept until it is asked for.
                () = self.reader.look(&*self.sink), if is_reading => self.read_ahead(),
                // A wait is over, or the deadline of a close has come.
                () = sleep_until(timer.unwrap_or(self.started)), if timer.is_some() => {
                    return Input::Tick;
                }
                // The cause of a pause may be gone.
                () = self.sink.changed(), if self.machine.listens() => return Input::Changed,
                // Everything was delivered and something new may be there.
                moved = self.changes.changed(), if self.machine.is_dry() => return match moved {
                    Ok(()) => Input::Tick,
                    // The source has ended, and says how.
                    Err(_) => Input::Stored(self.source.answers().await),
                },
            }
        }
    }

    fn start(&mut self, action: Action) -> Job {
        match action {
            Action::Recall => told(self.source.recall(), Input::Recalled),
            Action::Read(reading) => self.reader.next(reading),
            Action::Store(Entry::Settle { first, last, how }) => {
                self.settle(SeqRange { first, last }, how)
            }
            Action::Store(Entry::Bury(letter, how)) => {
                told(self.source.bury(letter, how), Input::Stored)
            }
            Action::Remember(memo) => told(self.source.remember(memo), Input::Remembered),
            Action::Check => {
                let sink = Arc::clone(&self.sink);
                Box::pin(async move { (Input::Checked(sink.hindrance().await), None) })
            }
            Action::Send(mut request) => {
                request.prepare(&*self.sink);
                let request = request.with_ids(Arc::new(SourceIds::new(self.source.clone())));
                let (sink, clock) = (Arc::clone(&self.sink), Arc::clone(&self.clock));
                Box::pin(async move {
                    let outcome = observe::request(&*clock, sink.deliver(request)).await;
                    (Input::Answered(outcome), None)
                })
            }
            // The caller has returned on it already.
            Action::End => Box::pin(std::future::pending()),
        }
    }

    fn settle(&mut self, range: SeqRange, how: Settled) -> Job {
        // What is owed is stored before anything else is sent: its answer is the last one.
        let answer = self.machine.last_answer();
        let name = answer.and_then(|answer| answer.request_id.clone());
        let leaving = Leaving {
            range,
            how,
            request_id: name.filter(|_| how == Settled::Delivered),
        };
        let ahead = self.machine.read_ahead();
        let then = ahead.and_then(|reading| self.reader.order(reading, self.at.1));
        let (settled, read) = self.source.settle(leaving, then);
        if let (Some(reading), Some(read)) = (then, read) {
            self.reader.ordered(reading, read);
        }
        told(settled, Input::Stored)
    }

    fn publish_view(&self) {
        let state = self.machine.state();
        let mut view = FlusherView {
            drained: state == FlusherState::Closed && self.machine.is_drained(),
            state,
            last_answer: self.machine.last_answer().cloned(),
            pace: self.machine.pace(),
            requests: self.machine.requests(),
            begins: [self.machine.begins(), self.reader.begins()],
        };
        self.publish.send_if_modified(|old| {
            // A request that goes out wakes no watch: it has more to see once that is answered,
            // and would be in the way of that.
            old.requests = view.requests;
            if self.machine.owes() {
                // Where the plan began is pending until the log is told otherwise.
                view.begins[0] = old.begins[0];
            }
            old.begins = view.begins;
            let changed = *old != view;
            *old = view;
            changed
        });
    }

    fn now(&mut self) -> Now {
        let position = self.changes.borrow_and_update();
        let at = (position.cursor, position.last_seq);
        drop(position);
        self.see(Some(at));
        Now {
            mono: self.started.elapsed(),
            run: self.clock.monotonic(),
            wall: self.clock.wall(),
            cursor: self.at.0,
            last_seq: self.at.1,
        }
    }

    fn see(&mut self, at: Option<At>) {
        if let Some((cursor, last_seq)) = at {
            self.at = (self.at.0.max(cursor), self.at.1.max(last_seq));
        }
    }
}

async fn finish(job: &mut Option<Job>) -> Done {
    match job {
        Some(job) => job.await,
        None => std::future::pending().await,
    }
}

/// What the machine makes of what the source says.
fn told<T: Send + 'static>(
    said: impl Future<Output = Told<T>> + Send + 'static,
    input: impl FnOnce(Result<T, Error>) -> Input + Send + 'static,
) -> Job {
    Box::pin(async move {
        match said.await {
            Ok((value, at)) => (input(Ok(value)), Some(at)),
            Err(error) => (input(Err(error)), None),
        }
    })
}

/// However the task ends, even with its runtime, the last view says so.
struct LastWord(watch::Sender<FlusherView>, Arc<Askers>);

impl LastWord {
    fn failed(&self, message: String) {
        self.0
            .send_modify(|view| view.state = FlusherState::Failed { message });
    }
}

impl Drop for LastWord {
    fn drop(&mut self) {
        self.0.send_if_modified(|view| {
            let open = !view.has_ended();
            if open {
                view.state = FlusherState::Closed;
            }
            open
        });
        // After that, since they look there for the reason.
        self.1.close();
    }
}
