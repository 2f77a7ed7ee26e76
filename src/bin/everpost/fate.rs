//! `fate`: what became of an event.

use std::time::Duration;

use everpost::control::FATE_WAIT_MAX;
use everpost::control::wire::FateLine;
use everpost::{Fate, Seq, exit};
use tokio::time::{Instant, sleep};

use crate::args::{self, Cli, Letter};
use crate::eyes::Eyes;
use crate::fault::Fault;
use crate::out::Out;
use crate::owner::Way;
use crate::view::said;

/// The shortest and the longest time between two looks at a spool that has no owner to ask. Each
/// reads its journal.
const REST_MIN: Duration = Duration::from_millis(100);
const REST_MAX: Duration = Duration::from_secs(5);

pub(crate) async fn fate(cli: &Cli, args: &args::Fate, out: Out) -> Result<(), Fault> {
    let mut line = Eyes::open_and_tell(cli).await?.fate(args.event).await?;
    // Who waits for the owner without an end means the event.
    let is_awaited = cli.owners.wait >= FATE_WAIT_MAX;
    let settled_by = args.settled.or(is_awaited.then_some(None));
    if let (Some(limit), Some(seq), Fate::Pending) = (settled_by, line.seq, &line.fate) {
        line.fate = settled(Way::of(cli)?, seq, limit).await?;
    }
    if line.fate == Fate::Unknown {
        return Err(unknown(args.event));
    }
    out.show(&line, || for_people(&line))?;
    if settled_by.is_some() && line.fate == Fate::Pending {
        let text = "the event was still pending when the time was up";
        return Err(Fault::new(exit::PENDING, text).hint("see `everpost status` for why"));
    }
    Ok(())
}

/// Waits for it: with the owner, and without one for the next.
async fn settled(way: Way, seq: Seq, limit: Option<Duration>) -> Result<Fate, Fault> {
    let began = Instant::now();
    let mut rest = REST_MIN;
    loop {
        let left = limit.map(|limit| limit.saturating_sub(began.elapsed()));
        let eyes = Eyes::open(way.clone()).await?;
        let within = left.unwrap_or(FATE_WAIT_MAX);
        let fate = eyes.settled(seq, within).await?.fate;
        if fate != Fate::Pending || left.is_some_and(|left| left.is_zero()) {
            return Ok(fate);
        }
        if eyes.owner().is_some() {
            rest = REST_MIN;
            continue;
        }
        sleep(left.unwrap_or(rest).min(rest)).await;
        rest = (rest * 2).min(REST_MAX);
    }
}

fn unknown(event: Letter) -> Fault {
    match event {
        Letter::Seq(seq) => Fault::usage(format!("no event has this number. seq=`{seq}`"))
            .hint("`everpost status` shows how many were appended"),
        Letter::Id(id) => Fault::usage(format!(
            "no pending event and no dead letter has this id: it has left the queue, or was never \
             in it. id=`{id}`"
        ))
        .hint("ask by its sequence number: how a delivered event was called is not kept"),
    }
}

fn for_people(line: &FateLine) -> String {
    let name = match (line.seq, line.id) {
        (Some(seq), Some(id)) => format!("event {seq} ({id})"),
        (Some(seq), None) => format!("event {seq}"),
        (None, _) => "the event".to_owned(),
    };
    let seq = line.seq.unwrap_or_default();
    let fate = match &line.fate {
        Fate::Pending => "is pending".to_owned(),
        Fate::Delivered { request_id: None } => "was delivered".to_owned(),
        Fate::Delivered {
            request_id: Some(id),
        } => format!("was delivered: request {id}"),
        Fate::Dead { answer: None } => "was refused and set aside; its letter has left since, or \
             cannot be read"
            .to_owned(),
        Fate::Dead {
            answer: Some(answer),
        } => format!(
            "is a dead letter: {}; see `everpost dead show {seq}`",
            said(answer)
        ),
        Fate::Expired => "was too old to be sent, and was set aside as a dead letter".to_owned(),
        Fate::Evicted => "made room for newer events".to_owned(),
        Fate::Lost => "was lost to damage; see `everpost incidents`".to_owned(),
        Fate::Settled => "has left the queue; it is not known any more how".to_owned(),
        other => format!("{other:?}"),
    };
    format!("{name} {fate}\n")
}
