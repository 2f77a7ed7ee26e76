//! `dead`: the events that were set aside.

use std::io::{self, IsTerminal as _, Write as _};

use everpost::Seq;
use everpost::control::wire::LetterLine;
use serde::Serialize;

use crate::args::{Change, Choice, Cli, Dead, Letter};
use crate::eyes::Eyes;
use crate::fault::Fault;
use crate::out::{Out, remark};
use crate::screen::Bar;
use crate::target::Target;
use crate::text::{count, cut, time};
use crate::view::said;

/// Letters fetched at a time: each may hold as large an event as there is.
pub(crate) const PAGE: usize = 16;

/// The heading of the list; times are UTC.
pub(crate) const HEADING: &str =
    "seq  set aside (UTC)           id                                    why";

/// Characters shown of an event.
const SHOWN: usize = 2_000;

pub(crate) async fn dead(cli: &Cli, command: &Dead, out: Out) -> Result<(), Fault> {
    match command {
        Dead::List(choice) => list(&Eyes::open_and_tell(cli).await?, choice, out).await,
        Dead::Show(choice) => show(&Eyes::open_and_tell(cli).await?, choice, out).await,
        Dead::Retry(change) => open_and_alter(cli, change, Deed::Retry, out).await,
        Dead::Discard(change) => open_and_alter(cli, change, Deed::Discard, out).await,
    }
}

async fn open_and_alter(cli: &Cli, change: &Change, deed: Deed, out: Out) -> Result<(), Fault> {
    let target = Target::open(cli, false).await?;
    let result = alter(&target, change, deed, out).await;
    target.close().await?;
    result
}

/// Where letters are listed.
trait Letters {
    /// Letters after `after`; none is the end.
    async fn page(&self, after: Seq) -> Result<Vec<LetterLine>, Fault>;
}

impl Letters for Eyes {
    async fn page(&self, after: Seq) -> Result<Vec<LetterLine>, Fault> {
        self.letters(after, PAGE).await
    }
}

impl Letters for Target<'_> {
    async fn page(&self, after: Seq) -> Result<Vec<LetterLine>, Fault> {
        self.letters(after, PAGE).await
    }
}

impl Choice {
    /// Whether this letter is chosen.
    pub(crate) fn takes(&self, letter: &LetterLine) -> bool {
        let named = self.letters.is_empty()
            || self.letters.iter().any(|name| match name {
                Letter::Seq(seq) => *seq == letter.seq,
                Letter::Id(id) => *id == letter.id,
            });
        let answer = &letter.answer;
        let status = self
            .status
            .is_none_or(|status| answer.status == Some(status));
        let text = self.text.as_ref().is_none_or(|text| {
            let text = text.to_lowercase();
            let texts = answer
                .errors
                .iter()
                .chain(&answer.warnings)
                .chain(&answer.detail);
            texts
                .into_iter()
                .any(|said| said.to_lowercase().contains(&text))
        });
        named && status && text
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.letters.is_empty() && !self.all && self.status.is_none() && self.text.is_none()
    }
}

/// Calls `each` for every letter that is chosen, in order.
async fn each(
    letters: &impl Letters,
    choice: &Choice,
    mut each: impl FnMut(&LetterLine) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut unknown: Vec<Letter> = choice.letters.clone();
    let mut after = 0;
    loop {
        let page = letters.page(after).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        for letter in &page {
            let names = [Letter::Seq(letter.seq), Letter::Id(letter.id)];
            unknown.retain(|name| !names.contains(name));
            if choice.takes(letter) {
                each(letter)?;
            }
        }
    }
    match unknown.first() {
        None => Ok(()),
        Some(Letter::Seq(seq)) => Err(everpost::Error::NoSuchLetter { seq: *seq }.into()),
        Some(Letter::Id(id)) => Err(Fault::usage(format!("no such dead letter. id=`{id}`"))
            .hint("list the dead letters to see which there are")),
    }
}

/// A dead letter without its event.
#[derive(Serialize)]
pub(crate) struct Summary<'a> {
    seq: Seq,
    id: everpost::EventId,
    time_ms: u64,
    cause: everpost::Cause,
    answer: &'a everpost::Answer,
    attempts: u32,
    first_attempt_ms: u64,
    last_attempt_ms: u64,
    /// Bytes of JSON in the event.
    bytes: usize,
}

impl<'a> Summary<'a> {
    pub(crate) fn of(letter: &'a LetterLine) -> Self {
        Self {
            seq: letter.seq,
            id: letter.id,
            time_ms: letter.time_ms,
            cause: letter.cause,
            answer: &letter.answer,
            attempts: letter.attempts,
            first_attempt_ms: letter.first_attempt_ms,
            last_attempt_ms: letter.last_attempt_ms,
            bytes: letter.event.as_str().len(),
        }
    }
}

fn cause(letter: &LetterLine) -> &'static str {
    match letter.cause {
        everpost::Cause::Refused => "refused",
        everpost::Cause::TooLarge => "too large",
        everpost::Cause::Expired => "expired",
        _ => "set aside",
    }
}

pub(crate) fn line(letter: &LetterLine) -> String {
    let (seq, id, cause) = (letter.seq, letter.id, cause(letter));
    let when = at(letter.last_attempt_ms);
    format!("{seq}  {when}  {id}  {cause}: {}\n", said(&letter.answer))
}

fn at(ms: u64) -> String {
    time(std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms))
}

async fn list(eyes: &Eyes, choice: &Choice, out: Out) -> Result<(), Fault> {
    let mut is_any = false;
    each(eyes, choice, |letter| {
        if !std::mem::replace(&mut is_any, true) {
            out.heading(true, HEADING, "")?;
        }
        out.show(&Summary::of(letter), || line(letter))
    })
    .await?;
    match is_any {
        true => Ok(()),
        false => out.heading(false, "", "no dead letters"),
    }
}

async fn show(eyes: &Eyes, choice: &Choice, out: Out) -> Result<(), Fault> {
    if let (false, [Letter::Seq(seq)]) = (choice.all, choice.letters.as_slice()) {
        // One letter by its number needs no search.
        let letter = eyes.letter(*seq).await?;
        return out.show(&letter, || whole(&letter));
    }
    each(eyes, choice, |letter| out.show(letter, || whole(letter))).await
}

pub(crate) fn whole(letter: &LetterLine) -> String {
    format!(
        "dead letter {}\nid           {}\nhappened     {}\ncause        {}\nanswer       {}\n\
         attempts     {}, first {}, last {}\nevent        {}\n\n",
        letter.seq,
        letter.id,
        at(letter.time_ms),
        cause(letter),
        said(&letter.answer),
        letter.attempts,
        at(letter.first_attempt_ms),
        at(letter.last_attempt_ms),
        cut(letter.event.as_str(), SHOWN),
    )
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Deed {
    Retry,
    Discard,
}

impl Deed {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Discard => "discard",
        }
    }
}

/// What is done, or would be done, to a letter.
#[derive(Serialize)]
struct Done {
    seq: Seq,
    id: everpost::EventId,
    action: Deed,
    done: bool,
    /// Where the event stands now, if it was appended again.
    new_seq: Option<Seq>,
}

async fn alter(target: &Target<'_>, change: &Change, deed: Deed, out: Out) -> Result<(), Fault> {
    if change.choice.is_empty() {
        let text = format!("nothing is chosen to {}", deed.name());
        return Err(
            Fault::usage(text).hint("name letters by seq or id, or add --all, --status or --text")
        );
    }
    // Chosen before the first is touched, since what is sent again may come back as a letter.
    let mut chosen = Vec::new();
    each(target, &change.choice, |letter| {
        chosen.push((letter.seq, letter.id));
        if !change.yes {
            let (seq, id) = (letter.seq, letter.id);
            let (action, done, new_seq) = (deed, false, None);
            let plan = Done {
                seq,
                id,
                action,
                done,
                new_seq,
            };
            out.show(&plan, || format!("would {} {}", deed.name(), line(letter)))?;
        }
        Ok(())
    })
    .await?;
    let letters = count(chosen.len() as u64, "dead letter");
    if chosen.is_empty() {
        remark("no dead letter is chosen");
        return Ok(());
    }
    if !change.yes && !agreed(deed, &letters) {
        return Err(Fault::usage("nothing was changed").hint("add --yes to do it"));
    }
    // On a terminal the lines themselves tell how far it is.
    let bar = (!io::stdout().is_terminal()).then(|| Bar::new(true));
    let (bar, of) = (bar.flatten(), chosen.len() as u64);
    for (at, (seq, id)) in (0..).zip(chosen) {
        if let Some(bar) = &bar {
            bar.set(at, Some(of), format!("{at} of {letters}"));
        }
        let new_seq = match deed {
            Deed::Retry => Some(target.retry(seq).await?.seq),
            Deed::Discard => target.discard(seq).await.map(|()| None)?,
        };
        let (action, done) = (deed, true);
        let report = Done {
            seq,
            id,
            action,
            done,
            new_seq,
        };
        out.show(&report, || match new_seq {
            Some(new) => format!("{seq} is appended again as {new}\n"),
            None => format!("{seq} is discarded\n"),
        })?;
    }
    Ok(())
}

/// Asks, if a person is at the terminal.
pub(crate) fn agreed(deed: Deed, letters: &str) -> bool {
    if !io::stdin().is_terminal() {
        return false;
    }
    let mut stderr = io::stderr().lock();
    let asked = write!(stderr, "{} {letters}? [y/N] ", deed.name()).and_then(|()| stderr.flush());
    let mut answer = String::new();
    asked.is_ok()
        && io::stdin().read_line(&mut answer).is_ok()
        && matches!(answer.trim(), "y" | "Y" | "yes")
}
