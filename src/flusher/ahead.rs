//! A read that is begun before the machine asks for it.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::sync::oneshot;

use super::step::{Input, Reading};
use super::task::{Done, Job};
use crate::error::Error;
use crate::id::Seq;
use crate::log::thread::LogHandle;
use crate::log::{Log, Read};
use crate::sink::{Batch, Request, Sink};

/// Done on the log's thread.
pub(super) type Work = Box<dyn FnOnce(&mut dyn Log) + Send>;

/// A read on its way, and what came of it.
pub(super) struct Ahead {
    reading: Reading,
    job: Job,
    done: Option<Done>,
    /// It goes on without being looked at.
    is_ordered: bool,
    is_prepared: bool,
}

impl Ahead {
    /// A read of its own, which begins when it is looked at first.
    pub(super) fn begin(log: LogHandle, reading: Reading) -> Self {
        Self::new(reading, read(log, reading), false)
    }

    /// A read that begins with what else the log's thread has to do.
    pub(super) fn order(log: LogHandle, reading: Reading) -> (Self, Work) {
        let (reply, answer) = oneshot::channel();
        let job = async move {
            match answer.await {
                Ok(done) => done,
                // What it was to begin with failed, and nothing was read.
                Err(_) => read(log, reading).await,
            }
        };
        let work = move |log: &mut dyn Log| {
            let position = log.position();
            let at = (position.cursor, position.last_seq);
            let Reading {
                from,
                events_max,
                bytes_max,
            } = reading;
            // Nobody waiting is no fault: the batch may not have come to be sent.
            let tell = move |read: Result<Read, Error>| {
                let at = read.is_ok().then_some(at);
                drop(reply.send((Input::Found(read), at)));
            };
            log.read_later(from, events_max, bytes_max, Box::new(tell));
        };
        (Self::new(reading, Box::pin(job), true), Box::new(work))
    }

    fn new(reading: Reading, job: Job, is_ordered: bool) -> Self {
        Self {
            reading,
            job,
            done: None,
            is_ordered,
            is_prepared: false,
        }
    }

    pub(super) fn reading(&self) -> Reading {
        self.reading
    }

    /// Whether there is something to do for it. Not during a request if it goes on by itself:
    /// another wake-up then costs more than it saves, as the log is waited for after the request.
    pub(super) fn wants_a_look(&self, is_sending: bool) -> bool {
        !(self.is_prepared || is_sending && self.is_ordered)
    }

    /// The last event of what was read, if it is there and will do for a batch.
    pub(super) fn last(&mut self) -> Option<Seq> {
        if self.done.is_none() {
            // Whoever goes on to wait for it looks again.
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(done) = Pin::as_mut(&mut self.job).poll(&mut context) {
                self.done = Some(gathered(done));
            }
        }
        match self.done.as_ref()? {
            (Input::Ready(request), _) => request.events().last().map(|stored| stored.seq),
            _ => None,
        }
    }

    /// Waits for what is read and has the sink prepare it.
    ///
    /// # Cancel safety
    /// Nothing is lost, and nothing is prepared twice.
    pub(super) async fn prepare(&mut self, sink: &impl Sink) {
        if self.done.is_none() {
            self.done = Some(gathered(self.job.as_mut().await));
        }
        self.prepare_now(sink);
    }

    fn prepare_now(&mut self, sink: &impl Sink) {
        if !std::mem::replace(&mut self.is_prepared, true)
            && let Some((Input::Ready(request), _)) = &mut self.done
        {
            request.prepare(sink);
        }
    }

    /// What was read, prepared, or the wait for it; none if there was nothing or a fault, which
    /// is to be met again.
    pub(super) fn take(mut self, sink: &impl Sink) -> Option<Job> {
        if self.done.is_none() {
            return Some(self.job);
        }
        self.prepare_now(sink);
        let done = self
            .done
            .filter(|(input, _)| matches!(input, Input::Ready(_)))?;
        Some(Box::pin(std::future::ready(done)))
    }
}

/// Reads when it is polled.
pub(super) fn read(log: LogHandle, reading: Reading) -> Job {
    Box::pin(async move {
        let read = log.read(reading.from, reading.events_max, reading.bytes_max);
        match read.await {
            Ok((read, at)) => (Input::Found(Ok(read)), Some(at)),
            Err(error) => (Input::Found(Err(error)), None),
        }
    })
}

/// Events as a batch.
fn gathered((input, at): Done) -> Done {
    let input = match input {
        Input::Found(Ok(Read::Events(events))) => {
            let request = Batch::new(events).map(Request::new);
            request.map_or(Input::Found(Ok(Read::End)), Input::Ready)
        }
        other => other,
    };
    (input, at)
}
