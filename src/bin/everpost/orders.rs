//! `pause`, `resume` and `wake`.
//!
//! A pause outlives its owner, so it can be asked for and ended while the spool has no owner too.
//! The flusher keeps the note of it; it is run for that, with a sink that takes nothing.

use std::path::Path;
use std::sync::Arc;

use everpost::control::{Client, ClientError};
use everpost::{Error, Outcome, Queue, Request, Sink};
use serde::Serialize;
use tokio::sync::Notify;

use crate::args::Cli;
use crate::environment;
use crate::fault::Fault;
use crate::incidents;
use crate::out::Out;
use crate::owner::{Found, Undone, Way, any, delivers, is_gone, opened, with_settings};
use crate::target::must_exist;
use crate::waiting::Patience;

/// Who took an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taker {
    /// The owner of the spool, which delivers.
    Delivers,
    /// The owner of the spool, which only takes events in: it keeps the order for the next one.
    Keeps,
    /// This command.
    Own,
}

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
    async fn deliver(&self, _: Request) -> Outcome {
        Outcome::retry()
    }
}

pub(crate) async fn pause(cli: &Cli, out: Out) -> Result<(), Fault> {
    let live = order(cli, Queue::pause, Client::pause).await? != Taker::Own;
    let order = "pause";
    out.show(&Done { order, live }, || {
        "delivery is paused until `everpost resume`, also across restarts\n".to_owned()
    })
}

pub(crate) async fn resume(cli: &Cli, out: Out) -> Result<(), Fault> {
    let taker = order(cli, Queue::resume, Client::resume).await?;
    let (order, live) = ("resume", taker != Taker::Own);
    out.show(&Done { order, live }, || {
        if taker == Taker::Delivers {
            "delivery goes on\n".to_owned()
        } else {
            "the pause is over; `everpost drain` or `everpost run` delivers\n".to_owned()
        }
    })
}

pub(crate) async fn wake(cli: &Cli, out: Out) -> Result<(), Fault> {
    let way = Way::of(cli)?;
    if let Some(spool) = way.spool() {
        must_exist(spool).await?;
    }
    let order = "wake";
    let client = way.client();
    // A spool is not opened for this: with no owner there is no delivery to wake.
    let woken = async {
        let status = client.status().await?;
        incidents::tell(&status.incidents);
        client.wake().await
    };
    let live = match woken.await {
        Ok(()) => true,
        Err(error) if is_gone(&error) => false,
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

/// Has it done by the owner of the spool, otherwise as its owner, with a sink that takes nothing.
async fn order(
    cli: &Cli,
    own: impl AsyncFn(&Queue) -> Result<(), Error>,
    live: impl AsyncFn(&Client) -> Result<(), ClientError>,
) -> Result<Taker, Fault> {
    let way = Way::of(cli)?;
    if let Some(spool) = way.spool() {
        must_exist(spool).await?;
    }
    let open = async |spool: &Path| {
        let open = async |settings| {
            let builder = Queue::builder(spool).settings(settings);
            opened(builder.sink(NoSink).open().await)
        };
        with_settings(cli, open).await
    };
    let mut is_told = false;
    let mut patience = Patience::new(cli.owners.wait, &Arc::new(Notify::new()));
    loop {
        let error = match way.find(&open, any, &mut patience).await? {
            Found::Own(owned) => {
                environment::tell_overrides(cli);
                incidents::tell(&owned.queue().status().incidents);
                let ordered = own(owned.queue()).await;
                let closed = owned.hand_over().await;
                ordered?;
                closed?;
                return Ok(Taker::Own);
            }
            Found::Live(client, status) => {
                if !std::mem::replace(&mut is_told, true) {
                    environment::tell_unfollowed(cli);
                    incidents::tell(&status.incidents);
                }
                match live(&client).await {
                    Ok(()) if delivers(&status).is_ok() => return Ok(Taker::Delivers),
                    Ok(()) => return Ok(Taker::Keeps),
                    Err(error) => error,
                }
            }
        };
        // Twice does no harm.
        if Undone::of(&error).is_none() {
            return Err(error.into());
        }
        patience.rest(error.into()).await?;
    }
}
