//! Reads batches before the machine asks for them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::source::{Found, Source, Told};
use super::step::{Done, Input, Job, Reading};
use crate::id::Seq;
use crate::log::Read;
use crate::sink::{Batch, Request, Sink};

/// Batches that are kept ready beyond the one that is under way.
const AHEAD_MAX: usize = 2;

/// Keeps up to two batches ready behind the one that is under way, so that the receiver waits
/// neither for the source nor for a request to be made. Where the log has the events is all one.
///
/// Only whole batches are read ahead: fewer events may be more by the time they are asked for. The
/// next read goes to the source together with a settle, which wakes a log's thread once for both; a read of its own is begun only while a request is under way and fewer batches are ready.
/// What is ready is good for as long as its events are pending, whatever became of batch sizes:
/// the plan narrows a batch and skips what was evicted. A range that is missing, or a fault, is not
/// kept: the machine meets it when it asks.
pub(super) struct Reader<E> {
    source: E,
    /// Each follows the one before.
    ready: VecDeque<Request>,
    /// How many of them the sink has prepared, from the front.
    prepared: usize,
    /// The read behind them.
    under_way: Option<UnderWay>,
    /// The last read ahead found no events.
    is_at_end: bool,
}

/// A read on its way.
struct UnderWay {
    reading: Reading,
    job: Job,
    /// It goes on without being polled.
    is_ordered: bool,
}

impl<E: Source> Reader<E> {
    pub(super) fn new(source: E) -> Self {
        Self {
            source,
            ready: VecDeque::new(),
            prepared: 0,
            under_way: None,
            is_at_end: false,
        }
    }

    /// What the machine asks for: ready, on its way, or to be read now.
    pub(super) fn next(&mut self, reading: Reading) -> Job {
        while let Some(first) = self.ready.front()
            && last_seq(first).is_none_or(|last| last < reading.from)
        {
            self.pop();
        }
        let is_next = |request: &Request| first_seq(request).is_some_and(|s| s <= reading.from);
        if self.ready.front().is_some_and(is_next)
            && let Some(request) = self.pop()
        {
            return Box::pin(std::future::ready((Input::Ready(request), None)));
        }
        let under_way = self.under_way.take();
        self.let_go();
        match under_way {
            Some(read) if read.reading == reading => read.job,
            _ => self.read(reading),
        }
    }

    /// Forgets what was read ahead.
    pub(super) fn let_go(&mut self) {
        self.ready.clear();
        self.prepared = 0;
        self.under_way = None;
        self.is_at_end = false;
    }

    /// Begins to read what will be asked for behind the request that is under way, `reading`, and
    /// behind what is ready.
    pub(super) fn read_on(&mut self, reading: Reading, last_seq: Seq) {
        if let Some(reading) = self.behind(reading, last_seq, AHEAD_MAX) {
            self.under_way = Some(UnderWay {
                reading,
                job: self.read(reading),
                is_ordered: false,
            });
        }
    }

    /// As [`read_on`](Self::read_on), together with the settle after which `reading` is asked for: says
    /// what is to be read then, which is to be handed to [`ordered`](Self::ordered).
    pub(super) fn order(&mut self, reading: Reading, last_seq: Seq) -> Option<Reading> {
        self.collect();
        if self.ready.is_empty() && self.under_way.is_none() {
            // Asked for at once, however few there are.
            Some(reading).filter(|reading| reading.from <= last_seq)
        } else {
            // One of those that are ready is taken next.
            self.behind(reading, last_seq, AHEAD_MAX + 1)
        }
    }

    /// What was ordered is on its way with a settle.
    pub(super) fn ordered(
        &mut self,
        reading: Reading,
        read: impl Future<Output = Told<Found>> + Send + 'static,
    ) {
        self.under_way = Some(UnderWay {
            reading,
            job: found(read),
            is_ordered: true,
        });
    }

    /// Reads when it is polled.
    fn read(&self, reading: Reading) -> Job {
        found(self.source.read(reading))
    }

    /// What is read next, if that fills a batch and fewer than `max` are ready.
    pub(super) fn behind(&self, reading: Reading, last: Seq, max: usize) -> Option<Reading> {
        if self.is_at_end || self.under_way.is_some() || self.ready.len() >= max {
            return None;
        }
        let from = match self.ready.back() {
            Some(request) => last_seq(request)?.saturating_add(1),
            None => reading.from,
        };
        let waiting = last.saturating_add(1).saturating_sub(from);
        (waiting >= reading.events_max as u64).then_some(Reading { from, ..reading })
    }

    /// Whether [`look`](Self::look) has something to do. A read that goes on by itself is waited
    /// for only where nothing else is ready: to be woken for it costs more than it saves.
    pub(super) fn wants_a_look(&self, is_sending: bool) -> bool {
        let is_waited_for =
            |read: &UnderWay| !read.is_ordered || is_sending && self.ready.is_empty();
        self.prepared < self.ready.len() || self.under_way.as_ref().is_some_and(is_waited_for)
    }

    /// Has the sink prepare the first batch that is not, or waits for one.
    ///
    /// # Cancel safety
    /// Nothing is lost, and nothing is prepared twice.
    pub(super) async fn look(&mut self, sink: &impl Sink) {
        if self.prepared == self.ready.len()
            && let Some(read) = &mut self.under_way
        {
            let done = read.job.as_mut().await;
            self.take_in(done);
        }
        if let Some(request) = self.ready.get_mut(self.prepared) {
            request.prepare(sink);
            self.prepared += 1;
        }
    }

    /// When the first event that is ready happened.
    pub(super) fn begins(&self) -> Option<(Seq, u64)> {
        let stored = self.ready.front()?.events().first()?;
        Some((stored.seq, stored.event.time_ms()))
    }

    /// Takes in a read that is done.
    fn collect(&mut self) {
        if let Some(read) = &mut self.under_way {
            // Whether it is done is all that is asked here.
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(done) = Pin::as_mut(&mut read.job).poll(&mut context) {
                self.take_in(done);
            }
        }
    }

    fn take_in(&mut self, (input, _): Done) {
        self.under_way = None;
        let batch = match input {
            Input::Found(Ok(Read::Events(events))) => Batch::new(events),
            _ => None,
        };
        self.is_at_end = batch.is_none();
        self.ready.extend(batch.map(Request::new));
    }

    fn pop(&mut self) -> Option<Request> {
        self.prepared = self.prepared.saturating_sub(1);
        self.ready.pop_front()
    }
}

fn first_seq(request: &Request) -> Option<Seq> {
    request.events().first().map(|stored| stored.seq)
}

fn last_seq(request: &Request) -> Option<Seq> {
    request.events().last().map(|stored| stored.seq)
}

/// What the machine makes of what was found.
fn found(read: impl Future<Output = Told<Found>> + Send + 'static) -> Job {
    Box::pin(async move {
        match read.await {
            Ok((Found::Read(read), at)) => (Input::Found(Ok(read)), Some(at)),
            Ok((Found::Unfit(letter), at)) => (Input::Unfit(letter), Some(at)),
            Err(error) => (Input::Found(Err(error)), None),
        }
    })
}
