//! `drain`: deliver what is pending, then end.

mod course;
mod outcome;
mod progress;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use everpost::control::Client;
use everpost::{Queue, Settings, Status, exit};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tracing::level_filters::LevelFilter;

use crate::args::{Cli, Deadline};
use crate::environment;
use crate::fault::Fault;
use crate::gate::Gated;
use crate::incidents;
use crate::logging;
use crate::out::Out;
use crate::owner::{Found, Opened, Owned, Undone, Way, delivers, opened, with_settings};
use crate::signals::Signals;
use crate::target::{in_time, must_exist};
use crate::waiting::Patience;
use course::{Course, End, Source};
use outcome::Outcome;
use progress::Progress;

/// A drain without a deadline.
const FOR_EVER: Duration = everpost::control::DRAIN_MAX;

/// How long opening may take at least, however soon the deadline: before that it is not known
/// whether anything is pending.
const OPENING: Duration = Duration::from_secs(2);

/// How long a pause may take to be on disk.
const PAUSE_TIME: Duration = Duration::from_secs(10);

pub(crate) async fn drain(cli: &Cli, deadline: &Deadline, out: Out) -> Result<(), Fault> {
    let way = Way::of(cli)?;
    let began = Instant::now();
    let by = began + deadline.deadline.unwrap_or(FOR_EVER).min(FOR_EVER);
    let mut signals = Signals::catch()?;
    begin_log(cli, out);
    let gate = Arc::new(Semaphore::new(0));
    let open = async |spool: &Path| {
        must_exist(spool).await?;
        with_settings(cli, async |settings| {
            here(cli, deadline, spool, settings, &gate).await
        })
        .await
    };
    let open_by = Some(by.max(began + OPENING));
    let mut progress: Option<Progress> = None;
    loop {
        let mut patience = Patience::new(cli.owners.wait, &Arc::new(Notify::new()));
        let finding = way.find(&open, delivers, &mut patience);
        match in_time(finding, &mut signals, exit::PENDING, open_by).await? {
            Found::Own(owned) => {
                let progress =
                    progress.unwrap_or_else(|| Progress::new(owned.queue().status(), out));
                let done = own(owned, &gate, progress, by, &mut signals).await?;
                return done.report(out);
            }
            Found::Live(client, before) => {
                if progress.is_none() {
                    environment::tell_unfollowed(cli);
                    incidents::tell(&before.incidents);
                }
                let mut now =
                    progress.unwrap_or_else(|| Progress::new(Status::clone(&before), out));
                let end = beside(&client, &before, &mut now, by, &mut signals, &mut patience);
                match end.await? {
                    // It may have been a command that is done.
                    End::Gone => progress = Some(now),
                    end => return now.end(end).report(out),
                }
            }
        }
    }
}

/// What the log tells of delivery, the bar or the lines tell too.
fn begin_log(cli: &Cli, out: Out) {
    let level = if out.json {
        LevelFilter::WARN
    } else {
        LevelFilter::OFF
    };
    // Variables that say nothing usable do no harm where another process delivers.
    let service = environment::service(cli).ok();
    logging::begin(level, service.and_then(|service| service.log_format));
}

/// Delivers from the queue that this command has opened, and closes it.
async fn own(
    owned: Owned,
    gate: &Semaphore,
    mut progress: Progress,
    by: Instant,
    signals: &mut Signals,
) -> Result<Outcome, Fault> {
    let queue = owned.queue().clone();
    let (watch, before) = (queue.watch(), queue.status());
    gate.add_permits(1);
    incidents::tell(&before.incidents);
    let told = incidents::last(&before.incidents);
    // Others may append meanwhile: it goes on until nothing at all is pending.
    let course = Course::new(Source::here(queue, watch), &before);
    let end = course.follow(&mut progress, by, signals).await;
    let closed = owned.close(last_time(&end)).await?;
    incidents::tell_since(told, &closed.status.incidents);
    Ok(progress.end(end?))
}

/// Has the owner deliver, and follows that. If it goes away, another look shows what is left.
async fn beside(
    client: &Client,
    before: &Status,
    progress: &mut Progress,
    by: Instant,
    signals: &mut Signals,
    patience: &mut Patience,
) -> Result<End, Fault> {
    let left = by.saturating_duration_since(Instant::now());
    match client.drain(left).await {
        Ok(lines) => {
            let course = Course::new(Source::There(lines), before);
            course.follow(progress, by, signals).await
        }
        Err(error) if Undone::of(&error).is_some() => {
            patience.rest(error.into()).await?;
            Ok(End::Gone)
        }
        Err(error) => Err(error.into()),
    }
}

/// How long the close may take. A pause that the API asked for ends it as soon as it is on disk, for
/// the next owner, and no request is sent for it; there must be time for that on a slow disk.
fn last_time(end: &Result<End, Fault>) -> Duration {
    match end {
        Ok(End::Paused) => PAUSE_TIME,
        _ => Duration::ZERO,
    }
}

/// Opens the spool to deliver from it; if another process owns it, says which.
async fn here(
    cli: &Cli,
    deadline: &Deadline,
    spool: &Path,
    settings: Settings,
    gate: &Arc<Semaphore>,
) -> Result<Opened, Fault> {
    // An owner that runs has a sink of its own, so that one of ours is not needed for it.
    let sink = environment::upstream(cli, deadline.redirect);
    let builder = Queue::builder(spool).settings(settings);
    let (opened, sink) = match sink {
        Ok(sink) => {
            let gated = Gated::new(sink, gate);
            (opened(builder.sink(gated).open().await)?, Ok(()))
        }
        Err(fault) => (opened(builder.open().await)?, Err(fault)),
    };
    if opened.is_ok() {
        sink?;
        environment::tell_overrides(cli);
    }
    Ok(opened)
}
