//! The spool a command changes: opened here if no process owns it, or reached through its owner.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::sync::Arc;

use everpost::control::wire::LetterLine;
use everpost::control::{Client, ClientError, REQUEST_BYTES_MAX};
use everpost::{
    Error, Event, EventId, Incident, OnFull, Queue, Receipt, Seq, Settings, Status, exit, inspect,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::args::Cli;
use crate::environment;
use crate::eyes::blocking;
use crate::fault::Fault;
use crate::incidents;
use crate::out::remark;
use crate::overrides;
use crate::owner::{Found, Opened, Owned, Undone, Way, any, none, opened, with_settings};
use crate::signals::Signals;
use crate::text::plain;
use crate::waiting::Patience;

/// Does what is asked: this command, if it owns the spool, or the process that does. If that one
/// closes or dies, its place is taken or its successor asked.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    cli: &'a Cli,
    way: Way,
    /// Whether this command must be the owner.
    alone: bool,
    at: RefCell<At>,
    /// What the queue held when it was last known. What is appended from here on stands behind it.
    last_seq: Cell<Seq>,
    /// Ends all waiting.
    end: Arc<Notify>,
}

#[derive(Clone, Debug)]
enum At {
    Own {
        owned: Owned,
        /// Of its settings.
        journal_bytes: u64,
    },
    Live(Client),
}

impl<'a> Target<'a> {
    /// Opens the spool without a sink, or connects to its owner. A spool is made if `make` says
    /// so and there is none. Tells what no person has acknowledged yet.
    pub(crate) async fn open(cli: &'a Cli, make: bool) -> Result<Self, Fault> {
        let (target, status) = Self::find(cli, Way::of(cli)?, make, false).await?;
        incidents::tell(&status.incidents);
        Ok(target)
    }

    /// As [`open`](Self::open), and tells nothing.
    pub(crate) async fn open_quietly(cli: &'a Cli, make: bool) -> Result<Self, Fault> {
        let found = Self::find(cli, Way::of(cli)?, make, false).await;
        found.map(|(target, _)| target)
    }

    /// As [`open`](Self::open) with `make`, but only as the owner of the spool.
    pub(crate) async fn open_alone(cli: &'a Cli) -> Result<Self, Fault> {
        let (target, status) = Self::find(cli, Way::to_own(cli)?, true, true).await?;
        incidents::tell(&status.incidents);
        Ok(target)
    }

    async fn find(
        cli: &'a Cli,
        way: Way,
        make: bool,
        alone: bool,
    ) -> Result<(Self, Status), Fault> {
        let is_new = match way.spool() {
            Some(spool) if make => makes(cli, spool).await?,
            Some(spool) => must_exist(spool).await.map(|()| false)?,
            None => false,
        };
        let end = Arc::new(Notify::new());
        let mut patience = Patience::new(cli.owners.wait, &end);
        let (at, status) = seek(cli, &way, alone, &mut patience).await?;
        match (&at, way.spool()) {
            (At::Own { owned, .. }, Some(spool)) => {
                tell_opened(cli, spool, is_new && owned.is_made_here());
            }
            _ => environment::tell_unfollowed(cli),
        }
        let target = Self {
            cli,
            way,
            alone,
            at: RefCell::new(at),
            last_seq: Cell::new(status.last_seq),
            end,
        };
        Ok((target, status))
    }

    /// A spool that this command owns already.
    pub(crate) fn of(cli: &'a Cli, owned: Owned, settings: &Settings) -> Self {
        let last_seq = owned.queue().status().last_seq;
        let way = Way::to(owned.queue().spool());
        let journal_bytes = settings.journal_bytes;
        let at = At::Own {
            owned,
            journal_bytes,
        };
        Self {
            cli,
            way,
            alone: true,
            at: RefCell::new(at),
            last_seq: Cell::new(last_seq),
            end: Arc::new(Notify::new()),
        }
    }

    /// Waits for no other owner any more: what waits fails, what is being done is let finish.
    pub(crate) fn stop_waiting(&self) {
        self.end.notify_one();
    }

    fn patience(&self) -> Patience {
        Patience::new(self.cli.owners.wait, &self.end)
    }

    fn at(&self) -> At {
        self.at.borrow().clone()
    }

    /// Takes the owner's place or finds its successor, after it did not do what was asked for this
    /// reason.
    async fn find_again(&self, why: ClientError, patience: &mut Patience) -> Result<(), Fault> {
        patience.rest(why.into()).await?;
        let (at, status) = seek(self.cli, &self.way, self.alone, patience).await?;
        if matches!(at, At::Own { .. }) {
            environment::tell_overrides(self.cli);
        }
        self.at.replace(at);
        self.last_seq.set(status.last_seq);
        Ok(())
    }

    /// Asks one that can do it. With `is_harmless`, also where it may have been done already.
    async fn ask<T>(
        &self,
        is_harmless: bool,
        own: impl AsyncFn(&Queue) -> Result<T, Error>,
        live: impl AsyncFn(&Client) -> Result<T, ClientError>,
    ) -> Result<T, Fault> {
        let mut patience = self.patience();
        loop {
            let error = match self.at() {
                At::Own { owned, .. } => return Ok(own(owned.queue()).await?),
                At::Live(client) => match live(&client).await {
                    Ok(done) => return Ok(done),
                    Err(error) => error,
                },
            };
            match Undone::of(&error) {
                Some(Undone::Certainly) => {}
                Some(Undone::Perhaps) if is_harmless => {}
                _ => return Err(error.into()),
            }
            self.find_again(error, &mut patience).await?;
        }
    }

    /// Dead letters after `after`; none is the end.
    pub(crate) async fn letters(&self, after: Seq, max: usize) -> Result<Vec<LetterLine>, Fault> {
        let own = async |queue: &Queue| {
            let letters = queue.dead_letters().list(after.saturating_add(1)..);
            let found = letters.take(max).await?;
            found.iter().map(LetterLine::new).collect()
        };
        let live = async |client: &Client| client.dead_letters(after, max).await;
        self.ask(true, own, live).await
    }

    /// All incidents on record.
    pub(crate) async fn incidents(&self) -> Result<Vec<Incident>, Fault> {
        let own = async |queue: &Queue| queue.incidents().list().await;
        self.ask(true, own, Client::incidents).await
    }

    /// Gives 0 if it was acknowledged before.
    pub(crate) async fn acknowledge(&self, number: u64) -> Result<u64, Fault> {
        let own = async |queue: &Queue| queue.incidents().acknowledge(Some(number)).await;
        let live = async |client: &Client| client.acknowledge(Some(number)).await;
        self.ask(true, own, live).await
    }

    pub(crate) async fn retry(&self, seq: Seq) -> Result<Receipt, Fault> {
        let own = async |queue: &Queue| queue.dead_letters().retry(seq).await;
        let live = async |client: &Client| client.retry(seq).await;
        self.ask(false, own, live).await
    }

    pub(crate) async fn discard(&self, seq: Seq) -> Result<(), Fault> {
        let own = async |queue: &Queue| queue.dead_letters().discard(seq).await;
        let live = async |client: &Client| client.discard(seq).await;
        self.ask(false, own, live).await
    }

    /// Places and ids of pending events after `after`; none is the end.
    pub(crate) async fn ids(&self, after: Seq, max: usize) -> Result<Vec<(Seq, EventId)>, Fault> {
        let own = async |queue: &Queue| {
            let mut events = queue.events(after.saturating_add(1)..);
            let mut found = Vec::new();
            while found.len() < max
                && let Some(stored) = events.next().await?
            {
                found.push((stored.seq, stored.event.id()));
            }
            Ok(found)
        };
        let live = async |client: &Client| {
            let found = client.peek(after, max).await?;
            Ok(found.iter().map(|line| (line.seq, line.id)).collect())
        };
        self.ask(true, own, live).await
    }

    /// Appends these as one commit. Gives their places.
    ///
    /// If the owner dies in the midst of it, they are looked for among what is pending, and
    /// appended again if they are not there. They are there twice, under the same ids, only if the
    /// dead owner had taken them and they have left the queue since.
    pub(crate) async fn append(&self, events: &[Event]) -> Result<Vec<Seq>, Fault> {
        let mut patience = self.patience();
        let mut perhaps_after = None;
        loop {
            if let Some(after) = perhaps_after
                && let Some(seqs) = self.find_appended(after, events).await?
            {
                return Ok(seqs);
            }
            let before = self.last_seq.get();
            let error = match self.at() {
                At::Own { owned, .. } => {
                    let receipts = owned.queue().append_all(events.iter().cloned()).await?;
                    return Ok(self.noted(&receipts));
                }
                At::Live(client) => match client.append(events).await {
                    Ok(receipts) => return Ok(self.noted(&receipts)),
                    Err(error) => error,
                },
            };
            match Undone::of(&error) {
                Some(Undone::Certainly) => {}
                // An earlier try may have been done too.
                Some(Undone::Perhaps) => perhaps_after = perhaps_after.or(Some(before)),
                None => return Err(error.into()),
            }
            self.find_again(error, &mut patience).await?;
        }
    }

    fn noted(&self, receipts: &[Receipt]) -> Vec<Seq> {
        let seqs: Vec<Seq> = receipts.iter().map(|receipt| receipt.seq).collect();
        self.last_seq.set(seqs.last().copied().unwrap_or_default());
        seqs
    }

    /// The places of these events, if they are pending after `after`. They are one commit: where
    /// the first is, the others follow.
    async fn find_appended(&self, after: Seq, events: &[Event]) -> Result<Option<Vec<Seq>>, Fault> {
        let Some(first) = events.first() else {
            return Ok(None);
        };
        let mut after = after;
        loop {
            let page = self.ids(after, PAGE).await?;
            let Some((last, _)) = page.last() else {
                return Ok(None);
            };
            after = *last;
            if let Some((seq, _)) = page.iter().find(|(_, id)| *id == first.id()) {
                return Ok(Some((*seq..).take(events.len()).collect()));
            }
        }
    }

    /// Bytes of JSON that are well within one commit, in this process or in the owner.
    pub(crate) fn commit_bytes(&self) -> usize {
        match self.at() {
            // Half a journal file is the limit, with what each event takes beside its JSON.
            At::Own { journal_bytes, .. } => {
                usize::try_from(journal_bytes / 4).unwrap_or(usize::MAX)
            }
            At::Live(_) => REQUEST_BYTES_MAX / 4,
        }
    }

    /// Gives the spool back, with everything durable.
    pub(crate) async fn close(self) -> Result<(), Fault> {
        if let At::Own { owned, .. } = self.at.into_inner() {
            owned.hand_over().await?;
        }
        Ok(())
    }
}

/// Events looked through at a time.
const PAGE: usize = 256;

async fn seek(
    cli: &Cli,
    way: &Way,
    alone: bool,
    patience: &mut Patience,
) -> Result<(At, Status), Fault> {
    let used = Cell::new(0);
    let open = async |spool: &Path| -> Result<Opened, Fault> {
        let open = async |mut settings: Settings| {
            if settings.on_full == OnFull::Block {
                // This command does not deliver, so there would never be room again.
                settings.on_full = OnFull::Reject;
            }
            used.set(settings.journal_bytes);
            opened(Queue::builder(spool).settings(settings).open().await)
        };
        with_settings(cli, open).await
    };
    let suits = if alone { none } else { any };
    Ok(match way.find(open, suits, patience).await? {
        Found::Own(owned) => {
            let status = owned.queue().status();
            let journal_bytes = used.get();
            let at = At::Own {
                owned,
                journal_bytes,
            };
            (at, status)
        }
        Found::Live(client, status) => (At::Live(client), *status),
    })
}

/// Waits until the spool is open, or its owner reached, but not longer than until a signal, and
/// not beyond the deadline if there is one: a disk that does not answer may take for ever. What
/// was begun ends with the process. A signal ends the command with the code `interrupted`.
pub(crate) async fn in_time<T>(
    opening: impl Future<Output = Result<T, Fault>>,
    signals: &mut Signals,
    interrupted: u8,
    by: Option<Instant>,
) -> Result<T, Fault> {
    let (code, what, hint) = tokio::select! {
        biased;
        opened = opening => return opened,
        () = signals.next() => {
            (interrupted, "a signal", "run it again; nothing is lost")
        }
        () = sleep_until(by.unwrap_or_else(Instant::now)), if by.is_some() => {
            let hint = "see that the disk answers; run it again with more time";
            (exit::PENDING, "the deadline", hint)
        }
    };
    let text = format!("{what} came before the spool was open; nothing was done");
    Err(Fault::new(code, text).hint(hint))
}

/// Refuses where there is no spool yet, before an opening could make one.
pub(crate) async fn must_exist(spool: &std::path::Path) -> Result<(), Fault> {
    let path = spool.to_owned();
    blocking(move || match inspect::exists(&path)? {
        true => Ok(()),
        false => Err(Error::NoSpool { path }),
    })
    .await
}

/// Whether an opening makes a spool where there is none.
///
/// # Errors
/// [`Error::NoSpool`], with what to type, if it may not.
pub(crate) async fn makes(cli: &Cli, spool: &std::path::Path) -> Result<bool, Fault> {
    let path = spool.to_owned();
    // Another process may be making it; if it is damaged, the opening says so.
    if blocking(move || inspect::exists(&path))
        .await
        .unwrap_or(true)
    {
        return Ok(false);
    }
    if overrides::may_make(cli) {
        return Ok(true);
    }
    let path = spool.to_owned();
    let shown = path.display().to_string();
    Err(Fault::from(Error::NoSpool { path }).hint(format!(
        "see that --spool is right; to make one there: everpost init --spool {shown}"
    )))
}

/// Says what a person would want to know of a spool that was opened here: that it is new, and which
/// of its own settings are not followed.
pub(crate) fn tell_opened(cli: &Cli, spool: &std::path::Path, is_new: bool) {
    if is_new {
        let shown = plain(&spool.display().to_string());
        remark(&format!("everpost: made a new spool at {shown}"));
    }
    environment::tell_overrides(cli);
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        let code = match &error {
            ClientError::NoOwner { .. }
            | ClientError::Connect { .. }
            | ClientError::Stranger { .. }
            | ClientError::TimedOut => exit::IN_USE,
            ClientError::Refused { kind, .. } => code(kind),
            ClientError::Event(_) => exit::REFUSED,
            _ => exit::UNEXPECTED,
        };
        let mut text = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            text = format!("{text}: {source}");
        }
        Self::new(code, text).hint(error.hint())
    }
}

/// The exit code of a refusal of the owner.
fn code(kind: &str) -> u8 {
    match kind {
        "invalid_event" | "too_large" | "request_too_large" => exit::REFUSED,
        "full" => exit::FULL,
        "damaged" => exit::DAMAGED,
        "no_such_letter" | "no_such_incident" | "no_sink" | "forbidden" => exit::USAGE,
        "busy" | "closed" | "not_owner" => exit::IN_USE,
        _ => exit::UNEXPECTED,
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    /// The commands that catch signals did not look for them before the spool was open: on a disk
    /// that did not answer only `kill -9` ended them, and a deadline did not count.
    #[tokio::test]
    async fn a_signal_or_the_deadline_ends_a_command_whose_spool_does_not_open() {
        let mut signals = Signals::catch().unwrap();
        let by = Some(Instant::now());
        let never = pending::<Result<(), Fault>>();
        let late = in_time(never, &mut signals, exit::UNEXPECTED, by).await;
        let late = late.unwrap_err();
        let told = "the deadline came before the spool was open; nothing was done";
        assert_eq!((late.code, late.text.as_str()), (exit::PENDING, told));

        let pid = std::process::id().to_string();
        let mut kill = std::process::Command::new("kill");
        assert!(kill.args(["-TERM", &pid]).status().unwrap().success());
        let never = pending::<Result<(), Fault>>();
        let ended = in_time(never, &mut signals, exit::UNEXPECTED, None).await;
        let ended = ended.unwrap_err();
        let told = "a signal came before the spool was open; nothing was done";
        assert_eq!((ended.code, ended.text.as_str()), (exit::UNEXPECTED, told));
    }
}
