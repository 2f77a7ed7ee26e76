//! `drain`: deliver what is pending, then end.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use everpost::clock::{Clock as _, SystemClock};
use everpost::control::Lines;
use everpost::control::wire::DrainLine;
use everpost::{FlusherState, Ledger, PauseReason, Queue, Settings, Status, StatusWatch, exit};
use serde::Serialize;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tracing::level_filters::LevelFilter;

use crate::args::{Cli, Deadline};
use crate::environment;
use crate::fault::Fault;
use crate::gate::Gated;
use crate::incidents;
use crate::logging;
use crate::out::{Out, remark};
use crate::owner::{Found, Opened, Undone, Way, delivers, opened, with_settings};
use crate::screen::{Bar, grouped};
use crate::signals::Signals;
use crate::status::Pace;
use crate::target::{in_time, must_exist};
use crate::text::{count, cut, duration};
use crate::view;
use crate::waiting::Patience;

/// A drain without a deadline.
const FOR_EVER: Duration = everpost::control::DRAIN_MAX;

/// How long opening may take at least, however soon the deadline: before that it is not known
/// whether anything is pending.
const OPENING: Duration = Duration::from_secs(2);

/// How long a pause may take to be on disk.
const PAUSE_TIME: Duration = Duration::from_secs(10);

/// Lines of progress are at least so far apart.
const PACE: Duration = Duration::from_secs(1);

/// The bar is drawn so often that it counts down without leaving a second out.
const TICK: Duration = Duration::from_millis(250);

/// Characters shown of a fault of the disk.
const SAID: usize = 200;

pub(crate) async fn drain(cli: &Cli, deadline: &Deadline, out: Out) -> Result<(), Fault> {
    let way = Way::of(cli)?;
    let began = Instant::now();
    let by = began + deadline.deadline.unwrap_or(FOR_EVER).min(FOR_EVER);
    let mut signals = Signals::catch()?;
    // What the log tells of delivery, the bar or the lines tell too.
    let level = if out.json {
        LevelFilter::WARN
    } else {
        LevelFilter::OFF
    };
    // Variables that say nothing usable do no harm where another process delivers.
    let service = environment::service(cli).ok();
    logging::begin(level, service.and_then(|service| service.log_format));
    let gate = Arc::new(Semaphore::new(0));
    let open = async |spool: &Path| {
        must_exist(spool).await?;
        with_settings(cli, async |settings| {
            here(cli, spool, settings, &gate).await
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
                let queue = owned.queue().clone();
                let (watch, before) = (queue.watch(), queue.status());
                gate.add_permits(1);
                let requests = before.requests;
                incidents::tell(&before.incidents);
                let told = incidents::last(&before.incidents);
                let begun = false;
                let source = Source::Here {
                    queue,
                    watch,
                    begun,
                };
                let mut progress = progress.unwrap_or_else(|| Progress::new(before, out));
                // Others may append meanwhile: it goes on until nothing at all is pending.
                let end = follow(source, &mut progress, requests, by, &mut signals).await;
                let closed = owned.close(last_time(&end)).await?;
                incidents::tell_since(told, &closed.status.incidents);
                return progress.end(end?).report(out);
            }
            Found::Live(client, before) => {
                if progress.is_none() {
                    environment::tell_unfollowed(cli);
                    incidents::tell(&before.incidents);
                }
                let requests = before.requests;
                let mut now = progress.unwrap_or_else(|| Progress::new(*before, out));
                let left = by.saturating_duration_since(Instant::now());
                match client.drain(left).await {
                    Ok(lines) => {
                        let source = Source::There(lines);
                        match follow(source, &mut now, requests, by, &mut signals).await? {
                            // It may have been a command that is done.
                            End::Gone => {}
                            end => return now.end(end).report(out),
                        }
                    }
                    Err(error) if Undone::of(&error).is_some() => {
                        patience.rest(error.into()).await?;
                    }
                    Err(error) => return Err(error.into()),
                }
                progress = Some(now);
            }
        }
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
    spool: &Path,
    settings: Settings,
    gate: &Arc<Semaphore>,
) -> Result<Opened, Fault> {
    // An owner that runs has a sink of its own, so that one of ours is not needed for it.
    let sink = environment::sink(cli);
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
                // One that was killed is gone, as one that has ended is.
                let line = lines.next().await.ok().flatten();
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
    /// It has not: the owner that it followed has.
    #[serde(skip)]
    Gone,
    Drained,
    Paused,
    Deadline,
    Interrupted,
    Failed,
}

/// Follows it to its end. `requests` is how many the owner had made before.
async fn follow(
    mut source: Source,
    progress: &mut Progress,
    requests: u64,
    by: Instant,
    signals: &mut Signals,
) -> Result<End, Fault> {
    let mut tick = tokio::time::interval(TICK);
    // When the next probe was due before this drain has asked for one at once. What keeps delivery
    // from sending anything costs no request, and is told by a probe that is due anew.
    let mut asked = match &source {
        Source::Here { .. } => None,
        Source::There(_) => probe(&progress.before.flusher),
    };
    let mut end = loop {
        let next = tokio::select! {
            biased;
            () = signals.next() => break End::Interrupted,
            () = tokio::time::sleep_until(by) => break End::Deadline,
            _ = tick.tick(), if progress.bar.is_some() => {
                progress.draw();
                continue;
            }
            next = source.next() => next?,
        };
        let Some((status, done)) = next else {
            // An owner that ends with its last word at the deadline, or goes away.
            break match &source {
                _ if progress.now.pending == 0 => End::Drained,
                Source::There(_) if Instant::now() < by => End::Gone,
                _ => End::Deadline,
            };
        };
        if done || status.pending == 0 {
            progress.show(&status);
            break End::Drained;
        }
        match &status.flusher {
            FlusherState::Closed if matches!(source, Source::There(_)) => break End::Gone,
            FlusherState::Failed { .. } | FlusherState::Closed => {
                progress.show(&status);
                break End::Failed;
            }
            FlusherState::Paused {
                reason, next_probe, ..
            } => {
                // A probe under way is due already; one that failed is due later.
                let waits = next_probe.is_none_or(|at| at > SystemClock.wall());
                let is_anew = asked.is_some_and(|asked| Some(asked) != *next_probe);
                let has_failed = status.requests > requests || is_anew;
                if *reason == PauseReason::Requested || (waits && has_failed) {
                    progress.show(&status);
                    break End::Paused;
                }
                // It is tried again at once, so that it is no news yet.
                progress.now = status.clone();
                if waits && asked.is_none() {
                    asked = *next_probe;
                    source.wake().await;
                }
            }
            _ => progress.show(&status),
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
    Ok(end)
}

/// When delivery that is paused tries next.
fn probe(state: &FlusherState) -> Option<SystemTime> {
    match state {
        FlusherState::Paused { next_probe, .. } => *next_probe,
        _ => None,
    }
}

/// Tells how it goes while it goes: a bar on a terminal, lines otherwise.
struct Progress {
    before: Status,
    now: Status,
    bar: Option<Bar>,
    pace: Pace,
    lines: bool,
    told: Option<(Instant, std::mem::Discriminant<FlusherState>)>,
    began: Instant,
}

impl Progress {
    fn new(before: Status, out: Out) -> Self {
        let bar = if out.json { None } else { Bar::new(true) };
        let mut pace = Pace::default();
        pace.note(&before);
        Self {
            now: before.clone(),
            before,
            lines: bar.is_none() && !out.json && !io::stderr().is_terminal(),
            bar,
            pace,
            told: None,
            began: Instant::now(),
        }
    }

    /// Events that have left the queue since the beginning, and those that are still to leave.
    fn gone(&self) -> (u64, u64) {
        let settled = self.now.ledger.settled();
        let gone = settled.saturating_sub(self.before.ledger.settled());
        (gone, gone + self.now.pending)
    }

    fn show(&mut self, status: &Status) {
        self.now = status.clone();
        self.pace.note(status);
        self.draw();
        if status.flusher == FlusherState::Idle || status.pending == 0 {
            // It has not begun, or has ended, and the report says so.
            return;
        }
        let (now, kind) = (Instant::now(), std::mem::discriminant(&status.flusher));
        let news = self
            .told
            .is_none_or(|(at, told)| now >= at + PACE || told != kind);
        if self.lines && news {
            self.told = Some((now, kind));
            let (gone, all) = self.gone();
            let state = view::state(&status.flusher, SystemClock.wall());
            remark(&format!("{gone} of {all}: {state}{}", disk(status)));
        }
    }

    /// Draws the bar as it is at this moment.
    fn draw(&self) {
        let Some(bar) = &self.bar else { return };
        let (gone, all) = self.gone();
        let (left, rate) = (self.now.pending, self.pace.rate());
        let pace = rate.map(|rate| (rate, left));
        let words = words(&self.now.flusher, SystemClock.wall(), pace);
        let (done, disk) = (grouped(gone), disk(&self.now));
        bar.set(
            gone,
            Some(all),
            format!("{done} of {}  {words}{disk}", grouped(all)),
        );
    }

    fn end(self, end: End) -> Outcome {
        Outcome {
            end,
            took: self.began.elapsed(),
            before: self.before.ledger,
            now: self.now,
        }
    }
}

/// What the bar says: how fast it goes, or why it does not, counting down in whole seconds.
fn words(state: &FlusherState, now: SystemTime, pace: Option<(f64, u64)>) -> String {
    match (state, pace) {
        (FlusherState::Sending | FlusherState::Idle, Some((rate, left))) if rate >= 1.0 => {
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let seconds = (left as f64 / rate).ceil();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "from 1 on, and an estimate"
            )]
            let per_second = rate as u64;
            let left = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
            format!("{}/s  {} left", grouped(per_second), duration(left))
        }
        (
            FlusherState::BackingOff {
                until,
                attempt,
                last_error,
                ..
            },
            _,
        ) => {
            // What counts down stands first, since the end of a long line is not seen.
            let left = duration(whole(until.duration_since(now).unwrap_or_default()));
            let said = view::said(last_error);
            format!("backing off, next attempt in {left}; attempt {attempt} failed ({said})")
        }
        (state, _) => view::state(state, now),
    }
}

/// Rounded up to whole seconds.
fn whole(left: Duration) -> Duration {
    Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0))
}

/// A fault of the disk, behind whatever else is told.
fn disk(status: &Status) -> String {
    let fault = status.storage_fault.as_ref();
    fault.map_or_else(String::new, |fault| {
        format!("; disk fault: {}", cut(fault, SAID))
    })
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
        let shown = out.show(&report, || {
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
        });
        // That it cannot be written does not hide how the drain ended.
        self.verdict().and(shown)
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

#[cfg(test)]
mod tests {
    use everpost::Answer;

    use super::*;

    /// The bar said "0s left" when nothing moved, numbers had four digits behind the point, and
    /// the time to the next attempt stood still until it was over.
    #[test]
    fn the_bar_has_whole_numbers_and_counts_down_while_nothing_moves() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_000_000);
        let sending = FlusherState::Sending;
        assert_eq!(
            words(&sending, now, Some((86_406.928, 200_000))),
            "86,406/s  3s left"
        );
        assert_eq!(words(&sending, now, Some((0.0, 5))), "sending");
        assert_eq!(words(&sending, now, None), "sending");
        let waiting = FlusherState::BackingOff {
            until: now + Duration::from_millis(12_209),
            attempt: 3,
            since: now,
            last_error: Answer::from_status(503),
        };
        for (later, left) in [
            (0, "13s"),
            (300, "12s"),
            (11_300, "1s"),
            (12_209, "0s"),
            (15_000, "0s"),
        ] {
            let now = now + Duration::from_millis(later);
            let told = format!("backing off, next attempt in {left}; attempt 3 failed (HTTP 503)");
            assert_eq!(words(&waiting, now, Some((5.0, 5))), told);
        }
    }
}
