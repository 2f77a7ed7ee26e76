//! `pause`, `resume` and `wake`.
//!
//! A pause outlives its owner, so it can be asked for and ended while nobody owns the spool too.
//! The flusher keeps the note of it; it is run for that, with a sink that takes nothing.

use std::time::Duration;

use everpost::control::ClientError;
use everpost::{Answer, Batch, Error, Outcome, Queue, Sink, Verdict};
use serde::Serialize;

use crate::args::Cli;
use crate::environment;
use crate::fault::Fault;
use crate::incidents;
use crate::out::Out;
use crate::target::{Target, connect, must_exist, why_not_live};

/// What was done.
#[derive(Serialize)]
struct Done {
    /// `pause`, `resume` or `wake`.
    order: &'static str,
    /// Whether it was passed to the owner of the spool.
    live: bool,
}

/// Answers every batch with "later".
struct NoSink;

impl Sink for NoSink {
    /// # Cancel safety
    /// Nothing is delivered.
    async fn deliver(&self, _: &Batch) -> Outcome {
        Outcome::new(Verdict::Retry { not_before: None }, Answer::default())
    }
}

pub(crate) async fn pause(cli: &Cli, out: Out) -> Result<(), Fault> {
    let live = match open(cli).await? {
        Target::Live(client) => {
            client.pause().await?;
            true
        }
        Target::Offline(queue) => {
            closed(&queue, queue.pause().await).await?;
            false
        }
    };
    let order = "pause";
    out.show(&Done { order, live }, || {
        "delivery is paused until `everpost resume`, also across restarts\n".to_owned()
    })
}

pub(crate) async fn resume(cli: &Cli, out: Out) -> Result<(), Fault> {
    let live = match open(cli).await? {
        Target::Live(client) => {
            client.resume().await?;
            true
        }
        Target::Offline(queue) => {
            closed(&queue, queue.resume().await).await?;
            false
        }
    };
    let order = "resume";
    out.show(&Done { order, live }, || {
        if live {
            "delivery goes on\n".to_owned()
        } else {
            "the pause is over; `everpost drain` or `everpost run` delivers\n".to_owned()
        }
    })
}

/// Closes the queue, whatever came of the order.
async fn closed(queue: &Queue, ordered: Result<(), Error>) -> Result<(), Fault> {
    let closed = queue.close(Duration::ZERO).await;
    ordered?;
    closed?;
    Ok(())
}

pub(crate) async fn wake(cli: &Cli, out: Out) -> Result<(), Fault> {
    let spool = environment::spool(cli)?;
    must_exist(&spool).await?;
    let order = "wake";
    // A spool is not opened for this: with no owner there is no delivery to wake.
    let live = match connect(&spool).await {
        Ok((client, status)) => {
            incidents::tell(&status.incidents);
            client.wake().await?;
            true
        }
        Err(ClientError::NoOwner { .. }) => false,
        Err(why) => return Err(why.into()),
    };
    out.show(&Done { order, live }, || {
        if live {
            "delivery tries again now\n".to_owned()
        } else {
            "no owner answers; `everpost drain` or `everpost run` tries at once\n".to_owned()
        }
    })
}

/// Opens the spool with a sink that takes nothing, or reaches its owner.
async fn open(cli: &Cli) -> Result<Target, Fault> {
    let spool = environment::spool(cli)?;
    must_exist(&spool).await?;
    let settings = environment::settings(cli)?;
    let builder = Queue::builder(&spool).settings(settings).sink(NoSink);
    match builder.open().await {
        Ok(queue) => {
            environment::tell_overrides(cli);
            incidents::tell(&queue.status().incidents);
            Ok(Target::Offline(queue))
        }
        Err(error @ Error::InUse { .. }) => match connect(&spool).await {
            Ok((client, status)) => {
                incidents::tell(&status.incidents);
                Ok(Target::Live(client))
            }
            Err(why) => Err(why_not_live(error, &why)),
        },
        Err(error) => Err(error.into()),
    }
}
