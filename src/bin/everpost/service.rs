//! `run`: deliver for ever, as a service.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use everpost::admin::Shown;
use everpost::{Closed, Error, FlusherState, OnFull, Queue, exit};
use serde::Serialize;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tracing::field::display;
use tracing::level_filters::LevelFilter;

use crate::append::{Feed, Form, Tally, open_lines};
use crate::args::{Cli, Intake};
use crate::disk;
use crate::environment;
use crate::fault::Fault;
use crate::incidents;
use crate::key_care::KeyCare;
use crate::lines::Lines;
use crate::logging;
use crate::notify;
use crate::out::Out;
use crate::overrides::Run;
use crate::owner::{Owned, Way, opened, own};
use crate::settings::Effective;
use crate::signals::{Hangup, Hangups, Signals};
use crate::summary;
use crate::target::{Target, in_time, makes, tell_opened};
use crate::text::count;
use crate::upstream::Upstream;

/// How long closing may take if nothing else was said: well within what systemd allows.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Lines of standard input that are committed together, if they are there.
const BATCH: u32 = 256;

pub(crate) async fn run(cli: &Cli, run: &Run, out: Out) -> Result<(), Fault> {
    let spool = environment::spool(cli)?;
    let way = Way::to_run(cli)?;
    let effective = environment::effective(cli, true)?;
    let settings = effective.settings().clone();
    let service = effective.service();
    let deadline = run.deadline.deadline.or(service.deadline);
    logging::begin_for_a_service(LevelFilter::INFO, service.log_format);
    // Before the spool is opened: an address that cannot be had is a mistake in the command line.
    let ports = run.listen.bind(service.listen)?;
    let mut signals = Signals::catch_for_a_service()?;
    let hangups = Hangups::catch()?;
    let input = if io::stdin().is_terminal() {
        None
    } else {
        Some(open_lines(&[], &settings)?)
    };
    let sink = environment::upstream_that_waits(&effective, run.deadline.redirect)?;
    let is_new = makes(cli, &spool).await?;
    let open = async |spool: &Path| {
        let builder = Queue::builder(spool).settings(settings.clone());
        opened(builder.sink(sink.clone()).open().await)
    };
    let opening = own(&way, cli.owners.wait, open);
    let owned = in_time(opening, &mut signals, exit::PENDING, None).await?;
    let queue = owned.queue();
    tell_opened(cli, &spool, is_new && owned.is_made_here());
    tell_what_was_found(queue);
    let ports = run.listen.serve(&shown(&effective, queue, &sink), ports)?;
    let care = KeyCare::new(sink, environment::key_file(&effective));
    let channel = care.look().await;
    let pending = queue.status().pending;
    let channel = channel.as_deref().map(display);
    tracing::info!(url = %care.url(), channel, spool = %spool.display(), pending, "delivering");
    notify::say("READY=1");
    let keepers = Keepers::begin(std::slice::from_ref(queue));
    let reading = Reading {
        cli,
        in_effect: &effective,
        care,
        hangups,
    };
    let served = serve(&owned, input, reading, &mut signals).await;
    let deadline = deadline.unwrap_or(DEADLINE);
    tracing::info!(?deadline, pending = queue.status().pending, "closing");
    // In this order: once systemd is told, nothing more is taken in.
    let tell = async { notify::say("STOPPING=1") };
    let (closed, ()) = tokio::join!(close(queue, deadline, signals.next()), tell);
    drop(keepers);
    let closed = closed?;
    for port in ports {
        port.close().await?;
    }
    finish(served, End::of(&closed), out)
}

/// The queue as the page shows it: by its channel, or else by the name of its spool.
fn shown(effective: &Effective, queue: &Queue, sink: &Upstream) -> Shown {
    let spool = queue.spool().file_name();
    let spool = spool.map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let name = effective.service().channel.clone().unwrap_or(spool);
    let shown = Shown::new(name, queue.clone()).upstream(sink.url());
    match environment::key_file(effective) {
        Some(file) => shown.key_hint(format!(
            "Put a valid key into {}: it is read again by itself.",
            file.display()
        )),
        None => shown,
    }
}

/// Says in the log what opening found.
pub(crate) fn tell_what_was_found(queue: &Queue) {
    for note in &queue.recovery().notes {
        tracing::warn!("found while opening: {note}");
    }
    for incident in &queue.status().incidents {
        tracing::error!(
            "incident {}; see `everpost incidents`",
            incidents::line(incident)
        );
    }
}

/// What a service does beside delivering: a line an hour, a word to the watchdog, another try at a
/// disk that refused. Ends when it is dropped.
pub(crate) struct Keepers(Vec<JoinHandle<()>>);

impl Keepers {
    pub(crate) fn begin(queues: &[Queue]) -> Self {
        let mut tasks = vec![tokio::spawn(notify::keep_watch(queues.to_vec()))];
        for queue in queues {
            tasks.push(tokio::spawn(summary::keep(queue.clone())));
            tasks.push(tokio::spawn(disk::keep_trying(queue.clone())));
        }
        Self(tasks)
    }
}

impl Drop for Keepers {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// What a SIGHUP has read again.
struct Reading<'a> {
    cli: &'a Cli,
    in_effect: &'a Effective,
    care: KeyCare,
    hangups: Hangups,
}

impl Reading<'_> {
    /// Reads again at each SIGHUP; ends once the terminal of the service is gone.
    async fn follow(&mut self, queue: &Queue) {
        loop {
            match self.hangups.next().await {
                Hangup::TerminalGone => return,
                Hangup::ReadAgain => {
                    notify::say_reloading();
                    self.read_again(queue).await;
                    notify::say("READY=1");
                }
            }
        }
    }

    /// The key is taken at once, and what waits is tried with it. Settings are looked at, so that
    /// a mistake shows now; they are the queue's for as long as it is open.
    async fn read_again(&self, queue: &Queue) {
        match environment::effective(self.cli, true) {
            Ok(read) => {
                let (old, new) = (self.in_effect.values(), read.values());
                let changed = new
                    .iter()
                    .filter(|(name, value)| old.get(*name) != Some(value));
                let names: Vec<&str> = changed.map(|(name, _)| name.as_str()).collect();
                if !names.is_empty() {
                    let settings = names.join(", ");
                    tracing::warn!(%settings, "settings have changed; they take effect at the next start");
                }
            }
            Err(fault) => tracing::error!(
                hint = fault.hint,
                "the settings cannot be read again, and those in effect stay: {}",
                fault.text
            ),
        }
        let channel = self.care.look().await;
        // If delivery has ended instead, that is told elsewhere.
        drop(queue.wake().await);
        let pending = queue.status().pending;
        let channel = channel.as_deref().map(display);
        tracing::info!(url = %self.care.url(), channel, pending, "key and settings were read again");
    }
}

/// Waits for what ends the service, and takes the input in meanwhile. What was read when that came
/// is taken in before this returns.
async fn serve(
    owned: &Owned,
    input: Option<Lines>,
    mut reading: Reading<'_>,
    signals: &mut Signals,
) -> (Tally, Result<(), Fault>) {
    let queue = owned.queue();
    let settings = reading.in_effect.settings();
    // Whatever ends the service ends its input too.
    let word = Arc::new(Notify::new());
    let mut feed_signals = Signals::word(&word);
    let mut watch = queue.watch();
    let failed = watch.wait_for(|status| {
        matches!(
            status.flusher,
            FlusherState::Failed { .. } | FlusherState::Closed
        )
    });
    let target = Target::of(reading.cli, owned.clone(), settings);
    let feed = take_in(&target, input, settings.on_full, &mut feed_signals);
    let end = async {
        tokio::select! {
            () = signals.next() => Ok(()),
            () = reading.follow(queue) => Ok(()),
            _ = failed => Err(delivery_ended(queue)),
        }
    };
    tokio::pin!(feed, end);
    let mut taken = None;
    let ended = loop {
        tokio::select! {
            ended = &mut end => break ended,
            result = &mut feed, if taken.is_none() => {
                let is_broken = result.1.is_err();
                taken = Some(result);
                if is_broken {
                    // The end of the input is none of the service, but this is not its end: what
                    // is still to come would go nowhere, and all would look well.
                    break Ok(());
                }
            }
        }
    };
    let (tally, fed) = match taken {
        Some(taken) => taken,
        // A queue whose delivery has ended makes no room.
        None if ended.is_err() => (Tally::default(), Ok(())),
        None => {
            word.notify_one();
            feed.await
        }
    };
    (tally, ended.and(fed))
}

/// Takes the input in, if there is one.
async fn take_in(
    target: &Target<'_>,
    input: Option<Lines>,
    on_full: OnFull,
    signals: &mut Signals,
) -> (Tally, Result<(), Fault>) {
    let Some(lines) = input else {
        return (Tally::default(), Ok(()));
    };
    let intake = Intake {
        batch: BATCH,
        strict: false,
        check: None,
    };
    let feed = Feed::new(target, intake, Form::Event, None);
    // The service delivers and makes room, so that what is piped in waits for it.
    let feed = match on_full {
        OnFull::DropOldest => feed,
        _ => feed.patient(),
    };
    feed.run(lines, signals).await
}

pub(crate) fn delivery_ended(queue: &Queue) -> Fault {
    let text = match queue.status().flusher {
        FlusherState::Failed { message } => format!("delivery ended by a panic: {message}"),
        _ => "the queue ended by itself".to_owned(),
    };
    Fault::new(exit::UNEXPECTED, text).hint("nothing is lost; start it again")
}

/// Closes within the deadline; a second signal ends the waiting.
pub(crate) async fn close(
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

/// What is left when a service ends, in all of its queues.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct End {
    pending: u64,
    is_undrained: bool,
}

impl End {
    pub(crate) fn of(closed: &Closed) -> Self {
        let mut end = Self::default();
        end.add(closed);
        end
    }

    /// With one queue more.
    pub(crate) fn add(&mut self, closed: &Closed) {
        self.pending = self.pending.saturating_add(closed.status.pending);
        self.is_undrained |= !closed.drained;
    }
}

/// Reports, and gives the exit code. That the report cannot be written does not hide how the
/// service ended.
pub(crate) fn finish(
    (tally, served): (Tally, Result<(), Fault>),
    end: End,
    out: Out,
) -> Result<(), Fault> {
    let (pending, drained) = (end.pending, !end.is_undrained);
    let report = Report {
        drained,
        pending,
        appended: tally.appended,
        refused: tally.refused,
    };
    let shown = out.show(&report, || {
        format!("closed; {} pending\n", count(pending, "event"))
    });
    served?;
    tally.verdict()?;
    if let Err(unseen) = shown {
        // A terminal that is gone, say. Whether all is delivered is what the exit code is for.
        tracing::warn!("{}", unseen.text);
    }
    if drained {
        return Ok(());
    }
    // The line above says how many; that is no fault worth a second one.
    Err(Fault::silent(exit::PENDING))
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
