//! `run`: deliver for ever, as a service.

use std::io::{self, IsTerminal as _};
use std::pin::pin;
use std::time::Duration;

use everpost::{Closed, Error, FlusherState, OnFull, Queue, Settings, control, exit};
use serde::Serialize;

use crate::append::{Feed, Form, Tally, open_lines};
use crate::args::{Cli, Intake};
use crate::environment;
use crate::fault::Fault;
use crate::incidents;
use crate::lines::Lines;
use crate::notify;
use crate::out::Out;
use crate::overrides::Run;
use crate::signals::Signals;
use crate::target::{Target, in_time, makes, tell_opened};
use crate::text::count;

/// How long closing may take if nothing else was said: well within what systemd allows.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Lines of standard input that are committed together, if they are there.
const BATCH: u32 = 256;

pub(crate) async fn run(cli: &Cli, run: &Run, out: Out) -> Result<(), Fault> {
    let spool = environment::spool(cli)?;
    let settings = environment::settings(cli)?;
    let service = environment::service(cli)?;
    let deadline = run.deadline.deadline.or(service.deadline);
    log_to_stderr("info");
    // Before the spool is opened: an address that cannot be had is a mistake in the command line.
    let ports = run.listen.bind(service.listen)?;
    // In this order: whatever ends the service ends its input too.
    let mut feed_signals = Signals::catch()?;
    let mut signals = Signals::catch()?;
    let input = if io::stdin().is_terminal() {
        None
    } else {
        Some(open_lines(&[], &settings)?)
    };
    let sink = environment::sink(cli)?;
    let builder = Queue::builder(&spool).settings(settings.clone()).sink(sink);
    let is_new = makes(cli, &spool).await?;
    let opening = async { Ok(builder.open().await?) };
    let queue = in_time(opening, &mut signals, exit::PENDING, None).await?;
    tell_opened(cli, &spool, is_new);
    for note in &queue.recovery().notes {
        tracing::warn!("found while opening: {note}");
    }
    for incident in &queue.status().incidents {
        tracing::error!(
            "incident {}; see `everpost incidents`",
            incidents::line(incident)
        );
    }
    let control = match control::serve(&queue).await {
        Ok(control) => Some(control),
        Err(error) => {
            // Delivery matters more than being asked about it.
            tracing::error!(%error, hint = error.hint(), "nobody can reach this owner");
            None
        }
    };
    let ports = run.listen.serve(&queue, ports)?;
    let pending = queue.status().pending;
    tracing::info!(spool = %spool.display(), pending, "delivering");
    notify::say("READY=1");
    let served = serve(&queue, input, &settings, &mut feed_signals, &mut signals).await;
    notify::say("STOPPING=1");
    let deadline = deadline.unwrap_or(DEADLINE);
    tracing::info!(?deadline, pending = queue.status().pending, "closing");
    let closed = close(&queue, deadline, signals.next()).await?;
    if let Some(control) = control {
        control.close().await?;
    }
    for port in ports {
        port.close().await?;
    }
    finish(served?, &closed, out)
}

/// Waits for the signal that ends the service, and takes the input in meanwhile. What was read
/// when the signal came is taken in before this returns.
async fn serve(
    queue: &Queue,
    input: Option<Lines>,
    settings: &Settings,
    feed_signals: &mut Signals,
    signals: &mut Signals,
) -> Result<Tally, Fault> {
    let mut watch = queue.watch();
    let failed = watch.wait_for(|status| {
        matches!(
            status.flusher,
            FlusherState::Failed { .. } | FlusherState::Closed
        )
    });
    let target = Target::Offline(queue.clone());
    let feed = async {
        let Some(lines) = input else {
            return (Tally::default(), Ok(()));
        };
        let intake = Intake {
            batch: BATCH,
            strict: false,
            check: None,
        };
        let feed = Feed::new(&target, settings, intake, Form::Event, None);
        // Somebody makes room here, so that what is piped in waits for it.
        let feed = match settings.on_full {
            OnFull::DropOldest => feed,
            _ => feed.patient(),
        };
        feed.run(lines, feed_signals).await
    };
    let end = async {
        tokio::select! {
            () = signals.next() => Ok(()),
            _ = failed => Err(delivery_ended(queue)),
        }
    };
    tokio::pin!(feed, end);
    let mut taken = None;
    let ended = loop {
        tokio::select! {
            ended = &mut end => break ended,
            result = &mut feed, if taken.is_none() => {
                if let Err(fault) = &result.1 {
                    tracing::error!("the input ended: {}", fault.text);
                }
                taken = Some(result);
            }
        }
    };
    // A queue whose delivery has ended makes no room; the signal ends the input.
    ended?;
    let (tally, result) = match taken {
        Some(taken) => taken,
        None => feed.await,
    };
    result.map(|()| tally)
}

fn delivery_ended(queue: &Queue) -> Fault {
    let text = match queue.status().flusher {
        FlusherState::Failed { message } => format!("delivery ended by a panic: {message}"),
        _ => "the queue ended by itself".to_owned(),
    };
    Fault::new(exit::UNEXPECTED, text).hint("nothing is lost; start it again")
}

/// Closes within the deadline; a second signal ends the waiting.
async fn close(
    queue: &Queue,
    deadline: Duration,
    signal: impl Future<Output = ()>,
) -> Result<Closed, Error> {
    let mut patient = pin!(queue.close(deadline));
    tokio::select! {
        closed = &mut patient => return closed,
        () = signal => {}
    }
    // The earlier deadline counts. Which of the two closes the queue is a matter of moments, and
    // the other one is told that it is closed.
    match tokio::join!(patient, queue.close(Duration::ZERO)) {
        (Err(Error::Closed), hasty) => hasty,
        (closed, _) => closed,
    }
}

/// How the service ended.
#[derive(Serialize)]
struct Report {
    /// Whether nothing is pending.
    drained: bool,
    pending: u64,
    /// Events that came on standard input.
    appended: u64,
    /// Lines of standard input that were refused.
    refused: u64,
}

fn finish(tally: Tally, closed: &Closed, out: Out) -> Result<(), Fault> {
    let pending = closed.status.pending;
    let report = Report {
        drained: closed.drained,
        pending,
        appended: tally.appended,
        refused: tally.refused,
    };
    out.show(&report, || {
        format!("closed; {} pending\n", count(pending, "event"))
    })?;
    tally.verdict()?;
    if closed.drained {
        return Ok(());
    }
    // The line above says how many; that is no fault worth a second one.
    Err(Fault::silent(exit::PENDING))
}

/// Logs to standard error, from this level on unless `EVERPOST_LOG` names another.
pub(crate) fn log_to_stderr(level: &str) {
    let wanted = std::env::var("EVERPOST_LOG").unwrap_or_default();
    let level = if wanted.is_empty() { level } else { &wanted };
    let level: tracing::level_filters::LevelFilter = level.parse().unwrap_or_else(|_| {
        crate::out::remark("everpost: EVERPOST_LOG is not a level; using `info`");
        tracing::level_filters::LevelFilter::INFO
    });
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(|| crate::screen::Log)
        .with_ansi(false)
        .with_target(false)
        .finish();
    // There is only one call in a process.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    /// The second signal comes at each moment of a close in turn. The close was begun anew then,
    /// and found a queue that the first one had closed.
    #[tokio::test]
    async fn a_second_signal_at_any_moment_of_a_close_does_not_fail_it() {
        let dir = tempfile::tempdir().unwrap();
        for moment in 0..20 {
            let queue = Queue::builder(dir.path().join("spool")).open().await;
            let queue = queue.unwrap();
            let mut looks = 0;
            let signal = poll_fn(|cx| {
                looks += 1;
                if looks > moment {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            });
            let closed = close(&queue, DEADLINE, signal).await;
            assert!(closed.unwrap().drained, "moment {moment}");
        }
    }
}
