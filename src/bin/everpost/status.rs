//! `status`: what the queue is doing, why, and what waits.

use std::collections::VecDeque;
use std::time::Duration;

use everpost::control::Client;
use everpost::{FlusherState, Status};
use tokio::time::Instant;

use crate::alarm;
use crate::args::{self, Cli};
use crate::eyes::Eyes;
use crate::fault::Fault;
use crate::out::Out;
use crate::owner::Way;
use crate::signals::Signals;
use crate::view::{Sample, View};

/// Events whose size is looked at.
const SAMPLE: usize = 256;

/// How long the rate of a queue that delivers is measured.
const MEASURE: Duration = Duration::from_secs(1);

/// The time that a rate shown while watching covers.
const WINDOW: Duration = Duration::from_secs(10);

pub(crate) async fn status(cli: &Cli, args: &args::Status, out: Out) -> Result<(), Fault> {
    if args.check.is_wanted() {
        return alarm::check(cli, &args.check, out).await;
    }
    if args.watch {
        return tokio::select! {
            watched = watch(cli, out) => watched,
            // While nothing changes nothing is written, and no write says that the pipe is broken.
            () = out.gone() => Ok(()),
        };
    }
    let (eyes, view) = look(cli).await?;
    let view = match eyes.owner() {
        Some(_) if is_moving(&view.status) => measured(&eyes, view).await?,
        _ => view,
    };
    show(&view, out)
}

fn show(view: &View, out: Out) -> Result<(), Fault> {
    out.show(&view.for_programs(), || view.for_people())
}

/// Asks the owner, or looks at the files.
async fn look(cli: &Cli) -> Result<(Eyes, View), Fault> {
    let eyes = Eyes::open(Way::of(cli)?).await?;
    let status = eyes.status().await?;
    let sample = sample(&eyes, &status).await?;
    let mut view = View::new(status, eyes.owner().is_some(), sample);
    view.paused = eyes.paused().await?;
    Ok((eyes, view))
}

async fn sample(eyes: &Eyes, status: &Status) -> Result<Sample, Fault> {
    if status.pending == 0 {
        return Ok(Sample::default());
    }
    let events = eyes.glimpse(SAMPLE).await?;
    Ok(Sample {
        events: events.len() as u64,
        bytes: events.iter().map(|e| e.event.as_str().len() as u64).sum(),
        oldest_ms: events.first().map(|e| e.time_ms),
    })
}

fn is_moving(status: &Status) -> bool {
    status.pending > 0 && status.flusher == FlusherState::Sending
}

async fn measured(eyes: &Eyes, before: View) -> Result<View, Fault> {
    let mut pace = Pace::default();
    pace.note(&before.status);
    tokio::time::sleep(MEASURE).await;
    let status = eyes.status().await?;
    pace.note(&status);
    let mut view = View::new(status, true, before.sample);
    view.rate = pace.rate();
    Ok(view)
}

/// What left the queue, and when that was seen.
#[derive(Debug, Default)]
pub(crate) struct Pace(VecDeque<(Instant, u64)>);

impl Pace {
    pub(crate) fn note(&mut self, status: &Status) {
        let now = Instant::now();
        self.0.push_back((now, status.ledger.settled()));
        while self.0.len() > 2 && self.0.front().is_some_and(|(at, _)| now - *at > WINDOW) {
            self.0.pop_front();
        }
    }

    pub(crate) fn rate(&self) -> Option<f64> {
        let ((from, before), (to, after)) = (self.0.front()?, self.0.back()?);
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let events = after.saturating_sub(*before) as f64;
        let seconds = (*to - *from).as_secs_f64();
        (seconds > 0.0).then_some(events / seconds)
    }
}

async fn watch(cli: &Cli, out: Out) -> Result<(), Fault> {
    let mut signals = Signals::catch()?;
    let way = Way::of(cli)?;
    loop {
        let (eyes, view) = tokio::select! {
            looked = look(cli) => looked?,
            () = signals.next() => return Ok(()),
        };
        screen(&view, out)?;
        let ended = match eyes.owner() {
            Some(client) => follow(&eyes, client, view.sample, &mut signals, out).await?,
            None => wait_for_owner(&way, &mut signals).await,
        };
        if ended {
            return Ok(());
        }
    }
}

/// Shows what changes, until the owner goes (false) or a signal comes (true).
async fn follow(
    eyes: &Eyes,
    client: &Client,
    sample: Sample,
    signals: &mut Signals,
    out: Out,
) -> Result<bool, Fault> {
    let mut lines = client.watch().await?;
    let mut pace = Pace::default();
    let mut sample = sample;
    let mut tick = tokio::time::interval(MEASURE);
    let mut unseen: Option<Status> = None;
    loop {
        tokio::select! {
            () = signals.next() => return Ok(true),
            line = lines.next() => match line {
                Ok(Some(status)) => {
                    pace.note(&status);
                    unseen = Some(status);
                    // Programs get each change, people a picture each second.
                    if !out.json {
                        continue;
                    }
                }
                Ok(None) | Err(_) => return Ok(false),
            },
            _ = tick.tick() => {}
        }
        let Some(status) = unseen.take() else {
            continue;
        };
        if sample.events == 0 && status.pending > 0 {
            sample = self::sample(eyes, &status).await?;
        }
        let mut view = View::new(status, true, sample);
        // Its first event has left the queue since.
        view.sample.oldest_ms = None;
        view.rate = pace.rate();
        screen(&view, out)?;
    }
}

/// True if a signal came before an owner did.
async fn wait_for_owner(way: &Way, signals: &mut Signals) -> bool {
    loop {
        tokio::select! {
            () = signals.next() => return true,
            () = tokio::time::sleep(MEASURE) => {}
        }
        if way.client().status().await.is_ok() {
            return false;
        }
    }
}

fn screen(view: &View, out: Out) -> Result<(), Fault> {
    if out.json {
        return show(view, out);
    }
    out.clear()?;
    let end = if out.is_terminal() { "" } else { "\n" };
    out.text(&format!("{}{end}", view.for_people()))
}
