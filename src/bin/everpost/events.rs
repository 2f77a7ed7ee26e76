//! `peek` and `export`.

use everpost::control::wire::EventLine;

use crate::args::{Cli, Export, Peek};
use crate::eyes::Eyes;
use crate::fault::Fault;
use crate::out::Out;
use crate::text::{cut, time};

/// Events fetched at a time.
pub(crate) const PAGE: usize = 256;

/// The heading of `peek`; times are UTC.
const HEADING: &str = "seq  happened (UTC)            id                                    event";

/// Characters of an event shown to people.
const SHOWN: usize = 100;

pub(crate) async fn peek(cli: &Cli, peek: &Peek, out: Out) -> Result<(), Fault> {
    let eyes = Eyes::open_and_tell(cli).await?;
    let mut left = usize::try_from(peek.number).unwrap_or(usize::MAX);
    let mut after = 0;
    let mut is_first = true;
    while left > 0 {
        let page = eyes.peek(after, left.min(PAGE)).await?;
        if std::mem::take(&mut is_first) {
            out.heading(!page.is_empty(), HEADING, "no pending events")?;
        }
        let Some(last) = page.last() else { break };
        after = last.seq;
        left = left.saturating_sub(page.len());
        for line in &page {
            out.show(line, || for_people(line))?;
        }
    }
    Ok(())
}

fn for_people(line: &EventLine) -> String {
    let happened = std::time::UNIX_EPOCH + std::time::Duration::from_millis(line.time_ms);
    let event = cut(line.event.as_str(), SHOWN);
    format!("{}  {}  {}  {event}\n", line.seq, time(happened), line.id)
}

pub(crate) async fn export(cli: &Cli, export: &Export, out: Out) -> Result<(), Fault> {
    let eyes = Eyes::open_and_tell(cli).await?;
    if export.dead {
        export_dead(&eyes, out).await
    } else {
        export_pending(&eyes, out).await
    }
}

/// Those that are pending now: what is appended meanwhile may never end, as when it is what this
/// writes.
async fn export_pending(eyes: &Eyes, out: Out) -> Result<(), Fault> {
    let end = eyes.status().await?.last_seq;
    let mut after = 0;
    loop {
        let mut page = eyes.peek(after, PAGE).await?;
        page.retain(|line| line.seq <= end);
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.seq;
        out.lines(&page)?;
    }
}

async fn export_dead(eyes: &Eyes, out: Out) -> Result<(), Fault> {
    let mut after = 0;
    loop {
        let page = eyes.letters(after, crate::dead::PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.seq;
        out.lines(&page)?;
    }
}
