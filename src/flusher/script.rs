//! What the tests of the flusher stand on: a rig without a runtime, a scripted sink, a clock
//! that follows the paused time of the runtime, and a log that fails on demand.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use super::fact::Fact;
use super::machine::Machine;
use super::step::{Action, Entry, Input, Now, Reading};
use crate::clock::Clock;
use crate::dead::{Cause, DeadLetter};
use crate::error::Error;
use crate::event::{Event, Receipt};
use crate::id::Seq;
use crate::id::SeqRange;
use crate::ledger::Settled;
use crate::log::memory::MemoryLog;
use crate::log::{Log, Memo, Position, Read};
use crate::outcome::{Answer, Hindrance, Outcome, PauseReason, Verdict};
use crate::settings::{Delivery, Settings};
use crate::sink::{Batch, Request, Sink};
use crate::status::FlusherState;

pub(super) const DELIVERED: Verdict = Verdict::Delivered;
pub(super) const RETRY: Verdict = Verdict::Retry { not_before: None };
pub(super) const DENIED: Verdict = Verdict::Pause(PauseReason::Credentials);

/// Noon of some day; any time well past 1970 would do.
pub(super) const NOON: Duration = Duration::from_secs(1_800_000_000);

pub(super) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) fn outcome(verdict: Verdict) -> Outcome {
    let status = match verdict {
        Verdict::Delivered => 200,
        Verdict::Retry { .. } => 502,
        Verdict::Stalled => 408,
        Verdict::Divide => 413,
        Verdict::Poison => 400,
        Verdict::Pause(_) => 401,
    };
    Outcome::new(verdict, Answer::from_status(status))
}

/// The defaults without anything random.
pub(super) fn steady() -> Delivery {
    Delivery {
        backoff_jitter: 0.0,
        return_delay_max: Duration::ZERO,
        ..Delivery::default()
    }
}

/// So many seconds after noon.
pub(super) fn at(seconds: u64) -> Now {
    Now {
        mono: secs(seconds),
        run: secs(seconds),
        wall: UNIX_EPOCH + NOON + secs(seconds),
        cursor: 0,
        last_seq: 0,
    }
}

/// Events that happened at noon.
pub(super) fn events(n: u64) -> Vec<Event> {
    (0..n)
        .map(|i| {
            Event::json(i.to_string())
                .unwrap()
                .with_time(UNIX_EPOCH + NOON)
        })
        .collect()
}

fn disk_full() -> Error {
    Error::storage("write", "spool")(io::ErrorKind::StorageFull.into())
}

/// Which calls of a log fail, and what it has lost.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) settles: AtomicU32,
    pub(super) buries: AtomicU32,
    pub(super) reads: AtomicU32,
    pub(super) memos: AtomicU32,
    pub(super) recalls: AtomicU32,
    pub(super) missing: Mutex<Option<SeqRange>>,
    pub(super) memo_writes: AtomicU32,
}

impl Faults {
    fn strike(countdown: &AtomicU32) -> Result<(), Error> {
        let left = countdown.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_ok() {
            Err(disk_full())
        } else {
            Ok(())
        }
    }
}

/// A log in memory whose next so many calls of a kind fail.
pub(super) struct FaultyLog {
    pub(super) log: MemoryLog,
    pub(super) faults: Arc<Faults>,
}

impl FaultyLog {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            log: MemoryLog::new(settings),
            faults: Arc::default(),
        }
    }
}

impl Log for FaultyLog {
    fn take_up(&mut self, events: &mut Vec<Event>) -> Result<Seq, Error> {
        self.log.take_up(events)
    }
    fn commit(&mut self, sync: bool) -> Result<(), Error> {
        self.log.commit(sync)
    }
    fn is_unsynced(&self) -> bool {
        self.log.is_unsynced()
    }
    fn read(&mut self, from: Seq, events_max: usize, bytes_max: u64) -> Result<Read, Error> {
        Faults::strike(&self.faults.reads)?;
        match *self.faults.missing.lock().unwrap() {
            Some(range) if range.first <= from && from <= range.last => Ok(Read::Missing(range)),
            Some(range) if range.first > from => {
                let most = usize::try_from(range.first - from).unwrap();
                self.log.read(from, events_max.min(most), bytes_max)
            }
            _ => self.log.read(from, events_max, bytes_max),
        }
    }
    fn settle(&mut self, through: Seq, how: Settled) -> Result<(), Error> {
        Faults::strike(&self.faults.settles)?;
        self.log.settle(through, how)
    }
    fn bury(&mut self, letter: &DeadLetter, how: Settled) -> Result<(), Error> {
        Faults::strike(&self.faults.buries)?;
        let next = self.log.position().cursor + 1;
        assert!(letter.seq <= next, "buried {} at {next}", letter.seq);
        self.log.bury(letter, how)
    }
    fn letters(&mut self, after: Seq, max: usize) -> Result<Vec<DeadLetter>, Error> {
        self.log.letters(after, max)
    }
    fn letter(&mut self, seq: Seq) -> Result<Option<DeadLetter>, Error> {
        self.log.letter(seq)
    }
    fn retry(&mut self, seq: Seq) -> Result<Receipt, Error> {
        self.log.retry(seq)
    }
    fn discard(&mut self, seq: Seq) -> Result<(), Error> {
        self.log.discard(seq)
    }
    fn memo(&mut self) -> Result<Memo, Error> {
        Faults::strike(&self.faults.recalls)?;
        self.log.memo()
    }
    fn remember(&mut self, memo: &Memo) -> Result<(), Error> {
        Faults::strike(&self.faults.memos)?;
        self.faults.memo_writes.fetch_add(1, Ordering::SeqCst);
        self.log.remember(memo)
    }
    fn position(&self) -> Position {
        self.log.position()
    }
    fn tidy(&mut self) -> Result<bool, Error> {
        self.log.tidy()
    }
    fn close(&mut self) -> Result<(), Error> {
        self.log.close()
    }
}

/// What the machine wants after the log has answered everything it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// These events go out.
    Send(Vec<Seq>),
    /// Nothing to do until this moment, or until something happens.
    Wait(Option<Duration>),
    End,
}

/// A machine on a log in memory, without a runtime.
pub(super) struct Rig {
    pub(super) machine: Machine,
    pub(super) log: FaultyLog,
    pub(super) now: Now,
    /// What went out, request by request.
    pub(super) sent: Vec<Vec<Seq>>,
    /// What the sink says when it is asked whether it could deliver.
    pub(super) hindrance: Option<Hindrance>,
    /// Where there is no event but something else.
    pub(super) unfit: Option<Seq>,
}

impl Rig {
    pub(super) fn new(count: u64, delivery: Delivery, max_age: Option<Duration>) -> Self {
        let mut log = FaultyLog::new(&Settings::default());
        log.stage(&events(count)).unwrap();
        log.commit(true).unwrap();
        Self {
            machine: Machine::new(&delivery, max_age),
            log,
            now: at(0),
            sent: Vec::new(),
            hindrance: None,
            unfit: None,
        }
    }

    /// One input, and everything the log has to say to it.
    pub(super) fn step(&mut self, input: Input) -> Next {
        let mut input = input;
        // Each round of asking the log makes some progress, so this bounds only a runaway.
        for _ in 0..100_000 {
            let at = self.log.position();
            (self.now.cursor, self.now.last_seq) = (at.cursor, at.last_seq);
            let action = self.machine.step(input, &self.now);
            self.machine.tell(Fact::log);
            input = match action {
                None => return Next::Wait(self.machine.wake_at()),
                Some(Action::End) => return Next::End,
                Some(Action::Send(request)) => {
                    let seqs: Vec<Seq> = request.events().iter().map(|e| e.seq).collect();
                    self.sent.push(seqs.clone());
                    return Next::Send(seqs);
                }
                Some(Action::Check) => Input::Checked(self.hindrance.clone()),
                Some(Action::Recall) => Input::Recalled(self.log.memo()),
                Some(Action::Read(r)) => self.read(r),
                Some(Action::Store(Entry::Settle { last, how, .. })) => {
                    Input::Stored(self.log.settle(last, how))
                }
                Some(Action::Store(Entry::Bury(letter, how))) => {
                    Input::Stored(self.log.bury(&letter, how))
                }
                Some(Action::Remember(memo)) => Input::Remembered(self.log.remember(&memo)),
            };
        }
        panic!("the machine asks the log without end");
    }

    fn read(&mut self, reading: Reading) -> Input {
        let Reading {
            from,
            mut events_max,
            bytes_max,
        } = reading;
        match self.unfit {
            Some(place) if place == from => Input::Unfit(Box::new(unfit(place))),
            Some(place) if place > from => {
                events_max = events_max.min(usize::try_from(place - from).unwrap());
                Input::Found(self.log.read(from, events_max, bytes_max))
            }
            _ => Input::Found(self.log.read(from, events_max, bytes_max)),
        }
    }

    pub(super) fn start(&mut self) -> Next {
        self.step(Input::Tick)
    }

    pub(super) fn answer(&mut self, verdict: Verdict) -> Next {
        self.step(Input::Answered(outcome(verdict)))
    }

    /// Lets the time come that the machine waits for; gives how long it took.
    pub(super) fn elapse(&mut self) -> (Duration, Next) {
        let until = self
            .machine
            .wake_at()
            .expect("the machine waits for a time");
        let wait = until.saturating_sub(self.now.mono);
        self.pass(wait);
        (wait, self.step(Input::Tick))
    }

    /// Moves both clocks.
    pub(super) fn pass(&mut self, wait: Duration) {
        self.now.mono += wait;
        self.now.run += wait;
        self.now.wall += wait;
    }

    /// Another process takes the same log up.
    pub(super) fn restart(&mut self, delivery: Delivery) -> Next {
        self.machine = Machine::new(&delivery, None);
        self.now.mono = Duration::ZERO;
        self.now.run = Duration::ZERO;
        self.start()
    }

    /// Answers every request by its content until nothing is left to send at once.
    pub(super) fn drain(&mut self, mut next: Next, judge: impl Fn(&[Seq]) -> Verdict) -> Next {
        while let Next::Send(seqs) = next {
            next = self.answer(judge(&seqs));
        }
        next
    }

    pub(super) fn letters(&mut self) -> Vec<DeadLetter> {
        self.log.letters(0, usize::MAX).unwrap()
    }

    pub(super) fn memo_writes(&self) -> u32 {
        self.log.faults.memo_writes.load(Ordering::SeqCst)
    }
}

/// Refuses requests that carry one of these.
pub(super) fn refuse(bad: &[Seq]) -> impl Fn(&[Seq]) -> Verdict + Send + use<> {
    let bad: BTreeSet<Seq> = bad.iter().copied().collect();
    move |seqs| {
        if seqs.iter().any(|seq| bad.contains(seq)) {
            Verdict::Poison
        } else {
            DELIVERED
        }
    }
}

/// What a scripted sink does with a call.
pub(super) enum Reply {
    Say(Outcome),
    /// Answers when the gate is opened.
    Gate(Outcome),
    Panic,
}

impl From<Verdict> for Reply {
    fn from(verdict: Verdict) -> Self {
        Self::Say(outcome(verdict))
    }
}

/// One call of a scripted sink.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) seqs: Vec<Seq>,
    pub(super) at: Instant,
    pub(super) batch: Batch,
    pub(super) prepared: Option<Bytes>,
}

type Script = Box<dyn FnMut(usize, &[Seq]) -> Reply + Send>;

/// A sink that does what the test says and notes what it was given.
pub(super) struct ScriptedSink {
    script: Mutex<Script>,
    calls: watch::Sender<Vec<Call>>,
    /// A permit lets one gated call go on.
    pub(super) gate: Semaphore,
    pub(super) change: Notify,
    /// What was to be prepared, oldest first.
    pub(super) prepared: watch::Sender<Vec<Vec<Seq>>>,
    /// From here on a call is a fault of the flusher.
    shut: AtomicBool,
}

impl ScriptedSink {
    pub(super) fn new<R: Into<Reply>>(
        mut script: impl FnMut(usize, &[Seq]) -> R + Send + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(Box::new(move |call, seqs| script(call, seqs).into())),
            calls: watch::Sender::new(Vec::new()),
            gate: Semaphore::new(0),
            change: Notify::new(),
            prepared: watch::Sender::new(Vec::new()),
            shut: AtomicBool::new(false),
        })
    }

    /// Waits until so many calls were made, and gives them.
    pub(super) async fn calls(&self, count: usize) -> Vec<Call> {
        let mut calls = self.calls.subscribe();
        calls.wait_for(|c| c.len() >= count).await.unwrap().clone()
    }

    /// The calls so far; any further one panics.
    pub(super) fn shut(&self) -> Vec<Call> {
        self.shut.store(true, Ordering::SeqCst);
        self.calls.borrow().clone()
    }
}

impl Sink for ScriptedSink {
    async fn deliver(&self, mut request: Request) -> Outcome {
        assert!(!self.shut.load(Ordering::SeqCst), "called after the end");
        let seqs: Vec<Seq> = request.events().iter().map(|e| e.seq).collect();
        let index = self.calls.borrow().len();
        let reply = (self.script.lock().unwrap())(index, &seqs);
        self.calls.send_modify(|calls| {
            calls.push(Call {
                seqs,
                at: Instant::now(),
                batch: request.batch().clone(),
                prepared: request.take_prepared(),
            });
        });
        match reply {
            Reply::Say(outcome) => outcome,
            Reply::Gate(outcome) => {
                self.gate.acquire().await.unwrap().forget();
                outcome
            }
            Reply::Panic => panic!("the sink is broken"),
        }
    }

    fn prepare(&self, batch: &Batch) -> Option<Bytes> {
        let seqs: Vec<Seq> = batch.events().iter().map(|e| e.seq).collect();
        let text = format!("{seqs:?}");
        self.prepared.send_modify(|prepared| prepared.push(seqs));
        Some(text.into())
    }

    async fn changed(&self) {
        self.change.notified().await;
    }
}

/// Noon, and then on with the runtime's time.
#[derive(Debug)]
pub(super) struct PausedClock(pub(super) Instant);

impl Clock for PausedClock {
    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + NOON + self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// What is set aside without being sent.
fn unfit(seq: Seq) -> DeadLetter {
    DeadLetter {
        seq,
        event: events(1).remove(0),
        cause: Cause::Refused,
        answer: Answer::from_detail("it is no event"),
        attempts: 0,
        first_attempt: at(0).wall,
        last_attempt: at(0).wall,
    }
}

pub(super) fn rig(count: u64) -> Rig {
    Rig::new(count, steady(), None)
}

pub(super) fn wait(seconds: u64) -> Next {
    Next::Wait(Some(secs(seconds)))
}

pub(super) fn retry_after(seconds: u64) -> Verdict {
    Verdict::Retry {
        not_before: Some(secs(seconds)),
    }
}

#[track_caller]
pub(super) fn assert_paused(rig: &Rig, expected: PauseReason) {
    let state = rig.machine.state();
    assert!(
        matches!(&state, FlusherState::Paused { reason, .. } if *reason == expected),
        "{state:?}"
    );
}

#[track_caller]
pub(super) fn assert_backing_off(rig: &Rig, expected: u32) {
    let state = rig.machine.state();
    assert!(
        matches!(&state, FlusherState::BackingOff { attempt, .. } if *attempt == expected),
        "{state:?}"
    );
}
