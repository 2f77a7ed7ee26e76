//! Keeps the shelf: on the thread of its owner, or on one of its own.
//!
//! Sealing compresses, waits for sled and for several fdatasyncs; beginning a segment makes a
//! database; reading an old one reads its whole file. A commit must not wait behind any of that.
//! So a log that runs on its thread gives the shelf a thread as well, `everpost-shelf`, which does
//! one piece of work after the other, in the order they were given. It is started with the first
//! of them: a queue that seals nothing and reads nothing that is sealed has one thread less. A log
//! that is used directly keeps the shelf with itself, and the same work is done at once.
//!
//! What the log does not wait for, and takes long, is done in steps while there is nothing else to do:
//! a backlog is read while the segment before is deleted and the one behind is looked through.
//!
//! Only work that the log waits for is given a thread to wait on: what the log has to know at
//! each commit is in [`Seen`], as of the last work whose end the log has taken note of. It may be
//! older than the shelf and is then on the safe side: what is synced on the shelf stays so.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use super::super::Nudge;
use super::Shelf;
use super::begun::{Begun, Seen};
use crate::error::Error;
use crate::observe::Place;

/// Pieces of work, behind each other, for which work in steps waits at the most.
const PIECES_MAX: usize = 8;

/// What the shelf is given to do.
enum Work {
    /// What the log has to look at afterwards.
    Awaited(Box<dyn FnOnce(&mut Shelf) + Send>),
    /// What it has not. To wake it for that would only be in the way of those who wait for it.
    Unawaited(Box<dyn FnOnce(&mut Shelf) + Send>),
    /// What gives way to other work between its steps, and what the log has to look at then.
    InSteps(Step),
}

/// One step of work; true if it was the last one.
type Step = Box<dyn FnMut(&mut Shelf) -> bool + Send>;

/// Where the shelf is.
#[derive(Debug)]
pub(crate) struct Keeper {
    place: Keeping,
    /// What its thread is started with when there is work: then it will not be here any more.
    start: Option<Start>,
    seen: Seen,
    found: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Keeping {
    Here(Box<Shelf>),
    Apart {
        /// Taken out only to end the thread.
        work: Option<Sender<Work>>,
        thread: Option<JoinHandle<()>>,
        /// Set when the thread is about to end.
        ended: Arc<AtomicBool>,
    },
}

#[derive(Clone)]
struct Start {
    place: Place,
    nudge: Nudge,
}

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Start").finish_non_exhaustive()
    }
}

impl Keeper {
    /// Keeps the shelf here.
    pub(crate) fn new(shelf: Shelf) -> Self {
        Self {
            seen: Seen::of(&shelf),
            found: shelf.has_found(),
            place: Keeping::Here(Box::new(shelf)),
            start: None,
        }
    }

    /// What is known of the shelf.
    pub(crate) fn seen(&self) -> Seen {
        self.seen
    }

    /// Whether something was found while reading. To be asked at each commit.
    pub(crate) fn has_findings(&self) -> bool {
        self.found.load(Ordering::Acquire)
    }

    /// Whether work is done elsewhere, so that beginning it does not mean to wait for it.
    pub(crate) fn is_apart(&self) -> bool {
        self.start.is_some() || matches!(self.place, Keeping::Apart { .. })
    }

    /// Gives the shelf a thread of its own, as soon as there is work for it.
    pub(crate) fn move_apart(&mut self, place: Place, nudge: Nudge) {
        self.start = Some(Start { place, nudge });
    }

    /// Starts the thread.
    fn start(&mut self, Start { place, nudge }: Start) -> Result<(), Error> {
        let (orders, inbox) = channel::<Work>();
        let (hand_over, taken) = channel();
        let ended = Arc::new(AtomicBool::new(false));
        let last_word = LastWord {
            ended: Arc::clone(&ended),
            nudge: Arc::clone(&nudge),
        };
        let body = move || {
            let _last_word = last_word;
            if let Ok(shelf) = taken.recv() {
                Bench::new(shelf).serve(&inbox, &nudge);
            }
        };
        let thread = std::thread::Builder::new()
            .name("everpost-shelf".into())
            .spawn(move || place.enter(body))
            .map_err(Error::no_thread("start the shelf's thread"))?;
        let apart = Keeping::Apart {
            work: Some(orders),
            thread: Some(thread),
            ended,
        };
        if let Keeping::Here(shelf) = std::mem::replace(&mut self.place, apart) {
            // Received, since the thread does nothing else first.
            drop(hand_over.send(*shelf));
        }
        self.start = None;
        Ok(())
    }

    /// Begins a piece of work: done already if the shelf is here.
    pub(crate) fn begin<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Shelf) -> T + Send + 'static,
    ) -> Begun<T> {
        let (begun, done) = Begun::new();
        let work = move |shelf: &mut Shelf| {
            let result = work(shelf);
            done(result, shelf);
        };
        self.send(Work::Awaited(Box::new(work)));
        begun
    }

    /// As [`begin`](Self::begin), for work that gives way to other work after each step. The last
    /// step gives what came of it.
    pub(crate) fn begin_in_steps<T: Send + 'static>(
        &mut self,
        mut step: impl FnMut(&mut Shelf) -> Option<T> + Send + 'static,
    ) -> Begun<T> {
        let (begun, done) = Begun::new();
        let mut done = Some(done);
        let step = move |shelf: &mut Shelf| {
            let Some(result) = step(shelf) else {
                return false;
            };
            if let Some(done) = done.take() {
                done(result, shelf);
            }
            true
        };
        self.send(Work::InSteps(Box::new(step)));
        begun
    }

    /// Begins a piece of work whose end the log need not know of.
    pub(crate) fn order(&mut self, work: impl FnOnce(&mut Shelf) + Send + 'static) {
        self.send(Work::Unawaited(Box::new(work)));
    }

    fn send(&mut self, work: Work) {
        // Where no thread is to be had, work is done here, and there may be one for the next.
        let here = self
            .start
            .clone()
            .filter(|start| self.start(start.clone()).is_err());
        self.give(work);
        if let Some(Start { nudge, .. }) = here {
            nudge();
        }
    }

    fn give(&mut self, work: Work) {
        match &mut self.place {
            Keeping::Here(shelf) => match work {
                Work::Awaited(work) | Work::Unawaited(work) => work(shelf),
                Work::InSteps(mut step) => while !step(shelf) {},
            },
            Keeping::Apart { work: orders, .. } => {
                let sent = orders.as_ref().map(|orders| orders.send(work));
                if !matches!(sent, Some(Ok(()))) {
                    self.rethrow();
                }
            }
        }
    }

    /// Takes note of work that was begun; waits for it if it is not done.
    pub(crate) fn finish<T>(&mut self, begun: Begun<T>) -> T {
        let Some((came, seen)) = begun.wait() else {
            self.rethrow();
        };
        self.seen = seen;
        came
    }

    /// Does a piece of work and waits for it.
    pub(crate) fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Shelf) -> T + Send + 'static,
    ) -> T {
        let begun = self.begin(work);
        self.finish(begun)
    }

    /// Ends as the shelf's thread did, if it did.
    pub(crate) fn check(&mut self) {
        if let Keeping::Apart { ended, .. } = &self.place
            && ended.load(Ordering::Acquire)
        {
            self.rethrow();
        }
    }

    /// The thread has ended before its time, and only a panic ends it: the panic goes on here,
    /// as it would have done if the shelf had been here. The log's thread catches it.
    fn rethrow(&mut self) -> ! {
        let ended = self.join();
        let payload = ended.err().unwrap_or_else(|| Box::new("the shelf is gone"));
        std::panic::resume_unwind(payload)
    }

    fn join(&mut self) -> std::thread::Result<()> {
        match &mut self.place {
            Keeping::Here(_) => Ok(()),
            Keeping::Apart { work, thread, .. } => {
                drop(work.take());
                thread.take().map_or(Ok(()), JoinHandle::join)
            }
        }
    }
}

/// The files are let go of before this returns.
impl Drop for Keeper {
    fn drop(&mut self) {
        // A panic that the log has not met yet has no one left to tell.
        drop(self.join());
    }
}

/// The shelf on its thread, and what is done there when there is time.
struct Bench {
    shelf: Shelf,
    in_steps: VecDeque<Step>,
    /// Pieces of work since the last step.
    pieces: usize,
}

impl Bench {
    fn new(shelf: Shelf) -> Self {
        Self {
            shelf,
            in_steps: VecDeque::new(),
            pieces: 0,
        }
    }

    /// Does what comes, until nothing can come any more and all is done.
    fn serve(&mut self, inbox: &Receiver<Work>, nudge: &Nudge) {
        loop {
            let work = match inbox.try_recv() {
                Ok(work) => work,
                Err(TryRecvError::Disconnected) if self.in_steps.is_empty() => return,
                Err(_) if self.step(nudge) => continue,
                Err(_) => match inbox.recv() {
                    Ok(work) => work,
                    Err(_) => return,
                },
            };
            match work {
                Work::Awaited(work) => {
                    work(&mut self.shelf);
                    nudge();
                }
                Work::Unawaited(work) => work(&mut self.shelf),
                Work::InSteps(step) => self.in_steps.push_back(step),
            }
            self.pieces += 1;
            if self.pieces >= PIECES_MAX {
                self.step(nudge);
            }
        }
    }

    /// Does a step of what can wait. False if there is nothing.
    fn step(&mut self, nudge: &Nudge) -> bool {
        self.pieces = 0;
        let Some(step) = self.in_steps.front_mut() else {
            return self.shelf.get_ahead();
        };
        if step(&mut self.shelf) {
            self.in_steps.pop_front();
            nudge();
        }
        true
    }
}

/// However the thread ends, the log learns of it.
struct LastWord {
    ended: Arc<AtomicBool>,
    nudge: Nudge,
}

impl Drop for LastWord {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        (self.nudge)();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::mpsc::channel;

    fn keeper(dir: &Path) -> Keeper {
        let queue = uuid::Uuid::from_u128(7);
        let row = super::super::Row::look(dir, queue).unwrap();
        Keeper::new(row.into_shelf(1 << 20))
    }

    #[test]
    fn a_panic_on_the_shelfs_thread_goes_on_where_the_shelf_is_asked_next() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = keeper(dir.path());
        let (nudge, nudges) = channel();
        let nudge = move || {
            let _ = nudge.send(());
        };
        keeper.move_apart(Place::new(dir.path()), Arc::new(nudge));
        keeper.check();
        // Work that the log need not know of wakes no thread.
        keeper.order(|_| ());
        keeper.run(|_| ());
        nudges.recv().unwrap();
        keeper.order(|_| panic!("boom"));
        // The only nudge is the last word, for a log that is asleep.
        nudges.recv().unwrap();
        let check = std::panic::AssertUnwindSafe(|| keeper.check());
        let payload = std::panic::catch_unwind(check).unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"boom"));
    }

    #[test]
    fn the_thread_is_started_with_the_first_work() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = keeper(dir.path());
        keeper.move_apart(Place::new(dir.path()), Arc::new(|| ()));
        assert!(keeper.is_apart() && matches!(keeper.place, Keeping::Here(_)));
        let here = std::thread::current().id();
        assert_ne!(keeper.run(|_| std::thread::current().id()), here);
        assert!(keeper.is_apart() && matches!(keeper.place, Keeping::Apart { .. }));
    }

    #[test]
    fn work_in_steps_gives_way_to_other_work_but_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = keeper(dir.path());
        let steps = |n: usize, done: std::sync::mpsc::Sender<usize>| {
            let mut left = n;
            move |shelf: &mut Shelf| {
                let _ = done.send(0);
                left -= 1;
                (left == 0).then(|| shelf.bytes())
            }
        };
        let (done, order) = channel();
        // Here, all at once.
        let begun = keeper.begin_in_steps(steps(3, done.clone()));
        assert_eq!(keeper.finish(begun), 0);
        assert_eq!(order.try_iter().count(), 3);
        keeper.move_apart(Place::new(dir.path()), Arc::new(|| ()));
        let (open_gate, gate) = channel::<()>();
        keeper.order(move |_| {
            let _ = gate.recv();
        });
        let begun = keeper.begin_in_steps(steps(4, done.clone()));
        for n in 1..=12 {
            let done = done.clone();
            keeper.order(move |_| {
                let _ = done.send(n);
            });
        }
        drop((open_gate, done));
        assert_eq!(keeper.finish(begun), 0);
        // The gate and the order for steps are pieces of work as well.
        assert!(
            order
                .into_iter()
                .eq([1, 2, 3, 4, 5, 6, 0, 7, 8, 9, 10, 11, 12, 0, 0, 0])
        );
    }

    #[test]
    fn work_is_done_one_after_the_other_and_all_of_it_before_the_shelf_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = keeper(dir.path());
        keeper.move_apart(Place::new(dir.path()), Arc::new(|| ()));
        let (done, order) = channel();
        let (open_gate, gate) = channel::<()>();
        for n in 1..=3 {
            let done = done.clone();
            keeper.order(move |_| {
                let _ = done.send(n);
            });
        }
        keeper.order(move |_| {
            let _ = gate.recv();
        });
        let begun = keeper.begin(|shelf| shelf.bytes());
        let again = keeper.begin(|shelf| shelf.bytes());
        assert!(!begun.is_done());
        drop(open_gate);
        assert_eq!(keeper.finish(again), 0);
        assert!(begun.is_done());
        assert_eq!(keeper.finish(begun), 0);
        keeper.order(move |_| {
            let _ = done.send(4);
        });
        drop(keeper);
        assert!(order.into_iter().eq([1, 2, 3, 4]));
    }
}
