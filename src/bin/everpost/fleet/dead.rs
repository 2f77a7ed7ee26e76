//! `fleet dead`: the events of a fleet that were set aside.

use clap::Subcommand;
use everpost::control::wire::LetterLine;
use everpost::fleet::{Fleet, Letter, Letters};
use serde::Serialize;

use super::access::Which;
use crate::args::{self, Change, Choice};
use crate::dead::{Deed, HEADING, Summary, agreed, line, whole};
use crate::fault::Fault;
use crate::out::{Out, remark};
use crate::text::{count, plain};

/// What is done with dead letters. Each is named by the place of its event in the stream, or by its id.
#[derive(Debug, Subcommand)]
pub(crate) enum Dead {
    /// Lists dead letters: all, or those that are chosen.
    List(Look),
    /// Shows dead letters with their events.
    Show(Look),
    /// Puts the events of dead letters into the stream again, under the same ids.
    Retry(Alter),
    /// Removes dead letters and their events for ever.
    Discard(Alter),
}

/// What is looked at.
#[derive(Debug, clap::Args)]
pub(crate) struct Look {
    #[command(flatten)]
    choice: Choice,

    #[command(flatten)]
    which: Which,
}

/// What is changed.
#[derive(Debug, clap::Args)]
pub(crate) struct Alter {
    #[command(flatten)]
    change: Change,

    #[command(flatten)]
    which: Which,
}

pub(super) async fn dead(command: &Dead, out: Out) -> Result<(), Fault> {
    match command {
        Dead::List(look) => list(&open(&look.which).await?, &look.choice, out).await,
        Dead::Show(look) => show(&open(&look.which).await?, &look.choice, out).await,
        Dead::Retry(alter) => change(alter, Deed::Retry, out).await,
        Dead::Discard(alter) => change(alter, Deed::Discard, out).await,
    }
}

async fn open(which: &Which) -> Result<Letters, Fault> {
    let (access, names) = which.open().await?;
    Ok(Fleet::connect(&access, names).await?.letters())
}

/// A dead letter without its event.
#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    summary: Summary<'a>,
    partition: u16,
    spool: Option<&'a str>,
    spool_seq: Option<u64>,
}

impl<'a> Listed<'a> {
    fn of(letter: &'a Letter, line: &'a LetterLine) -> Self {
        Self {
            summary: Summary::of(line),
            partition: letter.partition,
            spool: letter.spool.as_deref(),
            spool_seq: letter.spool_seq,
        }
    }
}

/// A dead letter with its event.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    line: &'a LetterLine,
    partition: u16,
    spool: Option<&'a str>,
    spool_seq: Option<u64>,
}

/// Calls `each` for every letter that is chosen, in order; a place or an id that no letter has is a
/// fault.
async fn each(
    letters: &Letters,
    choice: &Choice,
    mut each: impl FnMut(&Letter, &LetterLine) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut unknown = choice.letters.clone();
    let mut pages = letters.list(..);
    while let Some(letter) = pages.next().await? {
        let line = LetterLine::new(&letter.letter)?;
        unknown.retain(|name| {
            ![args::Letter::Seq(line.seq), args::Letter::Id(line.id)].contains(name)
        });
        if choice.takes(&line) {
            each(&letter, &line)?;
        }
    }
    match unknown.first() {
        None => Ok(()),
        Some(args::Letter::Seq(seq)) => Err(everpost::Error::NoSuchLetter { seq: *seq }.into()),
        Some(args::Letter::Id(id)) => Err(Fault::usage(format!("no such dead letter. id=`{id}`"))
            .hint("`everpost fleet dead list` shows which there are")),
    }
}

async fn list(letters: &Letters, choice: &Choice, out: Out) -> Result<(), Fault> {
    let mut is_any = false;
    each(letters, choice, |letter, one| {
        if !std::mem::replace(&mut is_any, true) {
            out.heading(true, HEADING, "")?;
        }
        out.show(&Listed::of(letter, one), || line(one))
    })
    .await?;
    match is_any {
        true => Ok(()),
        false => out.heading(false, "", "no dead letters"),
    }
}

async fn show(letters: &Letters, choice: &Choice, out: Out) -> Result<(), Fault> {
    each(letters, choice, |letter, line| {
        let shown = Whole {
            line,
            partition: letter.partition,
            spool: letter.spool.as_deref(),
            spool_seq: letter.spool_seq,
        };
        out.show(&shown, || {
            let spool = plain(letter.spool.as_deref().unwrap_or("unknown"));
            format!("spool        {spool}\n{}", whole(line))
        })
    })
    .await
}

/// What is done, or would be done, to a letter.
#[derive(Serialize)]
struct Done {
    seq: u64,
    id: everpost::EventId,
    action: Deed,
    done: bool,
}

async fn change(alter: &Alter, action: Deed, out: Out) -> Result<(), Fault> {
    let (choice, yes) = (&alter.change.choice, alter.change.yes);
    if choice.is_empty() {
        let text = format!("nothing is chosen to {}", action.name());
        return Err(
            Fault::usage(text).hint("name letters by seq or id, or add --all, --status or --text")
        );
    }
    let letters = open(&alter.which).await?;
    // Chosen before the first is touched, since what is sent again may come back as a letter.
    let mut chosen = Vec::new();
    each(&letters, choice, |_, one| {
        let (seq, id) = (one.seq, one.id);
        chosen.push((seq, id));
        if yes {
            return Ok(());
        }
        let done = false;
        let plan = Done {
            seq,
            id,
            action,
            done,
        };
        out.show(&plan, || format!("would {} {}", action.name(), line(one)))
    })
    .await?;
    if chosen.is_empty() {
        remark("no dead letter is chosen");
        return Ok(());
    }
    if !yes && !agreed(action, &count(chosen.len() as u64, "dead letter")) {
        return Err(Fault::usage("nothing was changed").hint("add --yes to do it"));
    }
    for (seq, id) in chosen {
        match action {
            Deed::Retry => letters.retry(seq).await?,
            Deed::Discard => letters.discard(seq).await?,
        }
        let done = true;
        let report = Done {
            seq,
            id,
            action,
            done,
        };
        out.show(&report, || match action {
            Deed::Retry => format!("{seq} is in the stream again\n"),
            Deed::Discard => format!("{seq} is discarded\n"),
        })?;
    }
    Ok(())
}
