//! `drain`: deliver what is pending, then end.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use everpost::clock::{Clock as _, SystemClock};
use everpost::control::Lines;
use everpost::control::wire::DrainLine;
use everpost::{
    Error, FlusherState, Ledger, PauseReason, Queue, Settings, Status, StatusWatch, exit,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::time::Instant;

use crate::args::{Cli, Deadline};
use crate::environment;
use crate::fault::Fault;
use crate::incidents;
use crate::out::{Out, remark};
use crate::service::log_to_stderr;
use crate::signals::Signals;
use crate::target::{connect, in_time, must_exist, why_not_live};
use crate::text::{count, duration};
use crate::view;

/// A drain without a deadline.
const FOR_EVER: Duration = everpost::control::DRAIN_MAX;

/// How long opening may take at least, however soon the deadline: before that it is not known
/// whether anything is pending.
const OPENING: Duration = Duration::from_secs(2);

/// Lines of progress are at least so far apart.
const PACE: Duration = Duration::from_secs(1);

pub(crate) async fn drain(cli: &Cli, deadline: &Deadline, out: Out) -> Result<(), Fault> {
    let spool = environment::spool(cli)?;
    let settings = environment::settings(cli)?;
    let began = Instant::now();
    let by = began + deadline.deadline.unwrap_or(FOR_EVER).min(FOR_EVER);
    let mut signals = Signals::catch()?;
    let opening = here(cli, &spool, settings);
    let open_by = Some(by.max(began + OPENING));
    match in_time(opening, &mut signals, exit::PENDING, open_by).await? {
        Ok(queue) => {
            let source = Source::Here {
                watch: queue.watch(),
                queue: queue.clone(),
                begun: false,
            };
            let before = queue.status();
            incidents::tell(&before.incidents);
            let told = incidents::last(&before.incidents);
            let progress = Progress::new(before, out);
            let outcome = follow(source, progress, by, &mut signals).await;
            let closed = queue.close(Duration::ZERO).await?;
            incidents::tell_since(told, &closed.status.incidents);
            outcome?.report(out)
        }
        Err(in_use) => {
            let (client, before) = match connect(&spool).await {
                Ok(reached) => reached,
                Err(why) => return Err(why_not_live(in_use, &why)),
            };
            incidents::tell(&before.incidents);
            let lines = client.drain(by - Instant::now()).await?;
            let progress = Progress::new(before, out);
            follow(Source::There(lines), progress, by, &mut signals)
                .await?
                .report(out)
        }
    }
}

/// Opens the spool to deliver from it; if somebody else owns it, says who.
async fn here(
    cli: &Cli,
    spool: &std::path::Path,
    settings: Settings,
) -> Result<Result<Queue, Error>, Fault> {
    must_exist(spool).await?;
    // An owner that runs has a sink of its own, so that one of ours is not needed for it.
    let sink = environment::sink(cli);
    let builder = Queue::builder(spool).settings(settings);
    let (opened, sink) = match sink {
        Ok(sink) => (builder.sink(sink).open().await, Ok(())),
        Err(fault) => (builder.open().await, Err(fault)),
    };
    match opened {
        Ok(queue) => {
            sink?;
            environment::tell_overrides(cli);
            log_to_stderr("warn");
            Ok(Ok(queue))
        }
        Err(error @ Error::InUse { .. }) => Ok(Err(error)),
        Err(error) => Err(error.into()),
    }
}

/// Where the status comes from, change by change.
enum Source {
    Here {
        queue: Queue,
        watch: StatusWatch,
        begun: bool,
    },
    There(Lines<DrainLine>),
}

impl Source {
    /// The next status, and, from an owner, whether this is its last word.
    ///
    /// # Cancel safety
    /// No change is lost for good: the next status shows it.
    async fn next(&mut self) -> Result<Option<(Status, bool)>, Fault> {
        match self {
            Self::Here { watch, begun, .. } => {
                if !std::mem::replace(begun, true) || watch.changed().await {
                    return Ok(Some((watch.current(), false)));
                }
                Ok(None)
            }
            Self::There(lines) => {
                let line = lines.next().await?;
                Ok(line.map(|line| (line.status, line.done && line.drained)))
            }
        }
    }

    /// Tries at once what a pause would try later. An owner does that by itself.
    async fn wake(&self) {
        if let Self::Here { queue, .. } = self {
            // If delivery has ended instead, the next status says so.
            drop(queue.wake().await);
        }
    }
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum End {
    Drained,
    Paused,
    Deadline,
    Interrupted,
    Failed,
}

async fn follow(
    mut source: Source,
    mut progress: Progress,
    by: Instant,
    signals: &mut Signals,
) -> Result<Outcome, Fault> {
    let requests = progress.before.requests;
    let mut woken = false;
    let mut end = loop {
        let next = tokio::select! {
            biased;
            () = signals.next() => break End::Interrupted,
            () = tokio::time::sleep_until(by) => break End::Deadline,
            next = source.next() => next?,
        };
        let Some((status, done)) = next else {
            // An owner that ends with its last word at the deadline, or goes away.
            break if progress.now.pending == 0 {
                End::Drained
            } else {
                End::Deadline
            };
        };
        progress.show(&status);
        if done || status.pending == 0 {
            break End::Drained;
        }
        match &status.flusher {
            FlusherState::Failed { .. } | FlusherState::Closed => break End::Failed,
            FlusherState::Paused {
                reason, next_probe, ..
            } => {
                // A probe under way is due already; one that failed is due later.
                let waits = next_probe.is_none_or(|at| at > SystemClock.wall());
                if *reason == PauseReason::Requested || (waits && status.requests > requests) {
                    break End::Paused;
                }
                if waits && !std::mem::replace(&mut woken, true) {
                    source.wake().await;
                }
            }
            _ => {}
        }
    };
    // What came between the last look and the end is a part of the report.
    if let Source::Here { watch, .. } = &source {
        progress.now = watch.current();
    }
    // A deadline of nothing is enough for nothing.
    if end == End::Deadline && progress.now.pending == 0 {
        end = End::Drained;
    }
    Ok(progress.end(end))
}

/// Tells how it goes while it goes: a bar on a terminal, lines otherwise.
struct Progress {
    before: Status,
    now: Status,
    bar: Option<ProgressBar>,
    lines: bool,
    told: Option<(Instant, std::mem::Discriminant<FlusherState>)>,
    began: Instant,
}

impl Progress {
    fn new(before: Status, out: Out) -> Self {
        let terminal = io::stderr().is_terminal();
        let bar = (terminal && !out.json).then(|| {
            let bar = ProgressBar::new(before.pending);
            let template = "{wide_bar} {pos}/{len}  {per_sec}  {eta} left  {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        Self {
            now: before.clone(),
            before,
            bar,
            lines: !terminal && !out.json,
            told: None,
            began: Instant::now(),
        }
    }

    fn show(&mut self, status: &Status) {
        self.now = status.clone();
        let gone = status.ledger.settled() - self.before.ledger.settled();
        let state = || view::state(&status.flusher, SystemClock.wall());
        if let Some(bar) = &self.bar {
            bar.set_length(gone + status.pending);
            bar.set_position(gone);
            bar.set_message(state());
        }
        if status.flusher == FlusherState::Idle {
            // It has not begun, or has ended, and the report says so.
            return;
        }
        let (now, kind) = (Instant::now(), std::mem::discriminant(&status.flusher));
        let news = self
            .told
            .is_none_or(|(at, told)| now >= at + PACE || (told != kind && status.pending > 0));
        if self.lines && news {
            self.told = Some((now, kind));
            remark(&format!(
                "{} of {}: {}",
                gone,
                gone + status.pending,
                state()
            ));
        }
    }

    fn end(self, end: End) -> Outcome {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        Outcome {
            end,
            took: self.began.elapsed(),
            before: self.before.ledger,
            now: self.now,
        }
    }
}

struct Outcome {
    end: End,
    took: Duration,
    before: Ledger,
    now: Status,
}

/// What a drain did.
#[derive(Serialize)]
struct Report<'a> {
    /// `drained`, `paused`, `deadline`, `interrupted` or `failed`.
    end: End,
    delivered: u64,
    dead: u64,
    expired: u64,
    lost: u64,
    pending: u64,
    took_ms: u64,
    flusher: &'a FlusherState,
}

impl Outcome {
    fn report(&self, out: Out) -> Result<(), Fault> {
        let books = &self.now.ledger;
        let report = Report {
            end: self.end,
            delivered: books.delivered - self.before.delivered,
            dead: books.dead - self.before.dead,
            expired: books.expired - self.before.expired,
            lost: books.lost - self.before.lost,
            pending: self.now.pending,
            took_ms: u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            flusher: &self.now.flusher,
        };
        out.show(&report, || {
            let mut text = format!("delivered {}", count(report.delivered, "event"));
            for (number, what) in [
                (report.dead, "set aside; see `everpost dead list`"),
                (report.expired, "expired; see `everpost dead list`"),
                (report.lost, "lost to damage"),
                (report.pending, "pending"),
            ] {
                if number > 0 {
                    text.push_str(&format!("; {number} {what}"));
                }
            }
            format!("{text}; took {}\n", duration(self.took))
        })?;
        self.verdict()
    }

    fn verdict(&self) -> Result<(), Fault> {
        let pending = count(self.now.pending, "event");
        match (self.end, &self.now.flusher) {
            (End::Drained, _) => Ok(()),
            (
                End::Paused,
                FlusherState::Paused {
                    reason, last_error, ..
                },
            ) => {
                let why = view::why(*reason, last_error);
                let text = format!("delivery is paused: {why}; {pending} pending");
                Err(Fault::new(exit::PAUSED, text).hint(view::cure(*reason)))
            }
            (End::Failed, FlusherState::Failed { message }) => {
                let text = format!("delivery ended by a panic: {message}");
                Err(Fault::new(exit::UNEXPECTED, text).hint("nothing is lost; run it again"))
            }
            (_, state) => {
                let state = view::state(state, SystemClock.wall());
                let text = format!("{pending} still pending; {state}");
                Err(Fault::new(exit::PENDING, text)
                    .hint("they are kept; run it again with more time, or `everpost run`"))
            }
        }
    }
}
