//! What the flusher needs of the place that its events come from.
//!
//! A [`Source`] is the log of a spool, behind its thread, or anything else that keeps events in order
//! under numbers without gaps and a cursor behind them: a partition of a stream, say. It is asked for
//! one thing at a time, but for the read that goes along with a settle.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::step::{At, Reading};
use crate::dead::DeadLetter;
use crate::error::Error;
use crate::id::SeqRange;
use crate::ledger::Settled;
use crate::log::thread::LogHandle;
use crate::log::{Log, Memo, Position, Read};
use crate::observe::Place;

/// What a source says, and where it stood then.
pub(crate) type Told<T> = Result<(T, At), Error>;

/// What there is to read.
#[derive(Debug)]
pub(crate) enum Found {
    /// Events, or why there are none.
    Read(Read),
    /// At the number asked for stands what is no event and never was one. It is set aside in its turn,
    /// as this letter, without being sent.
    #[cfg_attr(
        not(feature = "fleet"),
        expect(dead_code, reason = "a log holds nothing else")
    )]
    Unfit(Box<DeadLetter>),
}

/// Events that leave together.
#[derive(Debug)]
pub(crate) struct Leaving {
    /// Which ones; the first is the cursor's next.
    pub(crate) range: SeqRange,
    /// How.
    pub(crate) how: Settled,
    /// What the receiver called the request that delivered them.
    pub(crate) request_id: Option<String>,
}

/// Where the flusher's events come from. Cloning is cheap, and a clone reaches the same place.
///
/// Each future holds a clone of its own, so it outlives the call. What a source does for a future that
/// is dropped before its end may be done or not, and the next call finds which.
///
/// # Errors
/// [`Error::Closed`] and [`Error::Panicked`] end the flusher. After any other, the same is asked again
/// later, for as long as it takes.
pub(crate) trait Source: Clone + Send + Sync + 'static {
    /// What was remembered last.
    fn recall(&self) -> impl Future<Output = Told<Memo>> + Send + 'static;

    /// The pending events from `reading.from` on.
    fn read(&self, reading: Reading) -> impl Future<Output = Told<Found>> + Send + 'static;

    /// Moves the cursor over these, and reads behind them if `then` says so: the second future is there
    /// exactly if that does, and goes on by itself once the first was polled.
    fn settle(
        &self,
        leaving: Leaving,
        then: Option<Reading>,
    ) -> (
        impl Future<Output = Told<()>> + Send + 'static,
        Option<impl Future<Output = Told<Found>> + Send + 'static>,
    );

    /// Sets the cursor's next event aside: the letter is durable before the cursor passes it (I5).
    fn bury(
        &self,
        letter: Box<DeadLetter>,
        how: Settled,
    ) -> impl Future<Output = Told<()>> + Send + 'static;

    /// Remembers for [`recall`](Self::recall), durably.
    fn remember(&self, memo: Memo) -> impl Future<Output = Told<()>> + Send + 'static;

    /// Where everything stands, and every change of it.
    fn changes(&self) -> watch::Receiver<Position>;

    /// Whether it still answers: asked when there are no more changes.
    fn answers(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Whose events they are.
    fn place(&self) -> &Place;
}

/// Everything is done on the log's thread (I9), which is woken once for a settle and the read behind it.
impl Source for LogHandle {
    fn recall(&self) -> impl Future<Output = Told<Memo>> + Send + 'static {
        ask(self, |log| log.memo())
    }

    fn read(&self, reading: Reading) -> impl Future<Output = Told<Found>> + Send + 'static {
        read(self.clone(), reading)
    }

    fn settle(
        &self,
        leaving: Leaving,
        then: Option<Reading>,
    ) -> (
        impl Future<Output = Told<()>> + Send + 'static,
        Option<impl Future<Output = Told<Found>> + Send + 'static>,
    ) {
        let (later, read) = then.map(|reading| ordered(self.clone(), reading)).unzip();
        let followers = Arc::clone(self.followers());
        let settled = ask(self, move |log| {
            let Leaving {
                range,
                how,
                request_id,
            } = leaving;
            log.settle(range.last, how)?;
            if let Some(name) = request_id {
                followers.name(range, name);
            }
            if let Some(later) = later {
                later.begin(log);
            }
            Ok(())
        });
        (settled, read)
    }

    fn bury(
        &self,
        letter: Box<DeadLetter>,
        how: Settled,
    ) -> impl Future<Output = Told<()>> + Send + 'static {
        ask(self, move |log| log.bury(&letter, how))
    }

    fn remember(&self, memo: Memo) -> impl Future<Output = Told<()>> + Send + 'static {
        ask(self, move |log| log.remember(&memo))
    }

    fn changes(&self) -> watch::Receiver<Position> {
        LogHandle::changes(self)
    }

    async fn answers(&self) -> Result<(), Error> {
        self.run(|_| Ok(())).await
    }

    fn place(&self) -> &Place {
        LogHandle::place(self)
    }
}

/// Asks the log, and where it stands afterwards.
fn ask<T: Send + 'static>(
    log: &LogHandle,
    work: impl FnOnce(&mut dyn Log) -> Result<T, Error> + Send + 'static,
) -> impl Future<Output = Told<T>> + Send + 'static {
    let log = log.clone();
    async move {
        log.run(move |log| {
            let value = work(log)?;
            let position = log.position();
            Ok((value, (position.cursor, position.last_seq)))
        })
        .await
    }
}

/// Reads when it is polled.
async fn read(log: LogHandle, reading: Reading) -> Told<Found> {
    let read = log.read(reading.from, reading.events_max, reading.bytes_max);
    let (read, at) = read.await?;
    Ok((Found::Read(read), at))
}

/// A read that the log's thread begins behind a settle.
struct Later {
    reading: Reading,
    reply: oneshot::Sender<Told<Found>>,
}

impl Later {
    fn begin(self, log: &mut dyn Log) {
        let position = log.position();
        let at = (position.cursor, position.last_seq);
        let reply = self.reply;
        // The reader may have let go of it.
        let tell = move |read: Result<Read, Error>| {
            drop(reply.send(read.map(|read| (Found::Read(read), at))));
        };
        let Reading {
            from,
            events_max,
            bytes_max,
        } = self.reading;
        log.read_later(from, events_max, bytes_max, Box::new(tell));
    }
}

/// Reads when the log's thread comes to it.
fn ordered(
    log: LogHandle,
    reading: Reading,
) -> (Later, impl Future<Output = Told<Found>> + Send + 'static) {
    let (reply, answer) = oneshot::channel();
    let read = async move {
        match answer.await {
            Ok(told) => told,
            // The settle that it was to go with failed, and nothing was read.
            Err(_) => read(log, reading).await,
        }
    };
    (Later { reading, reply }, read)
}
