//! The spool a command changes: opened here if no process owns it, or reached through its owner.

use everpost::control::wire::LetterLine;
use everpost::control::{Client, ClientError, REQUEST_BYTES_MAX};
use everpost::{
    Error, Event, Incident, OnFull, Queue, Receipt, Seq, Settings, Status, exit, inspect,
};
use tokio::time::{Instant, sleep_until};

use crate::args::Cli;
use crate::environment;
use crate::eyes::blocking;
use crate::fault::Fault;
use crate::incidents;
use crate::out::remark;
use crate::overrides;
use crate::signals::Signals;
use crate::text::plain;

/// Whoever can do what is asked.
#[derive(Debug)]
pub(crate) enum Target {
    /// The spool is open in this process.
    Offline(Queue),
    /// Another process owns the spool.
    Live(Client),
}

impl Target {
    /// Opens the spool without a sink, or connects to its owner. A spool is made if `make` says
    /// so and there is none. Tells what no person has acknowledged yet.
    pub(crate) async fn open(cli: &Cli, settings: Settings, make: bool) -> Result<Self, Fault> {
        let target = Self::open_quietly(cli, settings, make).await?;
        incidents::tell(&target.status().await?.incidents);
        Ok(target)
    }

    /// As [`open`](Self::open), and tells nothing.
    pub(crate) async fn open_quietly(
        cli: &Cli,
        settings: Settings,
        make: bool,
    ) -> Result<Self, Fault> {
        let spool = environment::spool(cli)?;
        let makes = if make {
            makes(cli, &spool).await?
        } else {
            must_exist(&spool).await?;
            false
        };
        let mut settings = settings;
        if settings.on_full == OnFull::Block {
            // Nobody delivers here, so there would never be room again.
            settings.on_full = OnFull::Reject;
        }
        match Queue::builder(&spool).settings(settings).open().await {
            Ok(queue) => {
                tell_opened(cli, &spool, makes);
                Ok(Self::Offline(queue))
            }
            Err(error @ Error::InUse { .. }) => match connect(&spool).await {
                Ok((client, _)) => Ok(Self::Live(client)),
                Err(why) => Err(why_not_live(error, &why)),
            },
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        matches!(self, Self::Live(_))
    }

    pub(crate) async fn status(&self) -> Result<Status, Fault> {
        Ok(match self {
            Self::Offline(queue) => queue.status(),
            Self::Live(client) => client.status().await?,
        })
    }

    /// Dead letters after `after`; none is the end.
    pub(crate) async fn letters(&self, after: Seq, max: usize) -> Result<Vec<LetterLine>, Fault> {
        match self {
            Self::Offline(queue) => {
                let found = queue.dead_letters().list(after, max).await?;
                let lines: Result<_, Error> = found.iter().map(LetterLine::new).collect();
                Ok(lines?)
            }
            Self::Live(client) => Ok(client.dead_letters(after, max).await?),
        }
    }

    /// All incidents on record.
    pub(crate) async fn incidents(&self) -> Result<Vec<Incident>, Fault> {
        match self {
            Self::Offline(queue) => Ok(queue.incidents().list().await?),
            Self::Live(client) => Ok(client.incidents().await?),
        }
    }

    /// Gives 0 if it was acknowledged before.
    pub(crate) async fn acknowledge(&self, number: u64) -> Result<u64, Fault> {
        match self {
            Self::Offline(queue) => Ok(queue.incidents().acknowledge(Some(number)).await?),
            Self::Live(client) => Ok(client.acknowledge(Some(number)).await?),
        }
    }

    pub(crate) async fn retry(&self, seq: Seq) -> Result<Receipt, Fault> {
        match self {
            Self::Offline(queue) => Ok(queue.dead_letters().retry(seq).await?),
            Self::Live(client) => Ok(client.retry(seq).await?),
        }
    }

    pub(crate) async fn discard(&self, seq: Seq) -> Result<(), Fault> {
        match self {
            Self::Offline(queue) => Ok(queue.dead_letters().discard(seq).await?),
            Self::Live(client) => Ok(client.discard(seq).await?),
        }
    }

    /// Appends these as one commit.
    pub(crate) async fn append(&self, events: &[Event]) -> Result<Vec<Receipt>, Fault> {
        match self {
            Self::Offline(queue) => Ok(queue.append_all(events.iter().cloned()).await?),
            Self::Live(client) => Ok(client.append(events).await?),
        }
    }

    /// Bytes of JSON that are well within one commit.
    pub(crate) fn commit_bytes(&self, settings: &Settings) -> usize {
        match self {
            // Half a journal file is the limit, with what each event takes beside its JSON.
            Self::Offline(_) => usize::try_from(settings.journal_bytes / 4).unwrap_or(usize::MAX),
            Self::Live(_) => REQUEST_BYTES_MAX / 4,
        }
    }

    /// Gives the spool back, with everything durable.
    pub(crate) async fn close(self) -> Result<(), Fault> {
        if let Self::Offline(queue) = self {
            queue.close(std::time::Duration::ZERO).await?;
        }
        Ok(())
    }
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
    if blocking(move || inspect::exists(&path)).await? {
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

/// The client of the owner, if one answers, and what it says of its queue.
pub(crate) async fn connect(spool: &std::path::Path) -> Result<(Client, Status), ClientError> {
    let client = Client::new(spool);
    let status = client.status().await?;
    Ok((client, status))
}

/// The spool is in use and its owner cannot be asked.
pub(crate) fn why_not_live(in_use: Error, why: &ClientError) -> Fault {
    let mut fault = Fault::from(in_use);
    fault.text = format!("{}; {why}", fault.text);
    fault.hint(
        "stop that process, or let it serve the control socket, as `everpost run` does; \
         programs call `everpost::control::serve`",
    )
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
        "no_such_letter" | "no_such_incident" | "no_sink" => exit::USAGE,
        "busy" | "not_owner" => exit::IN_USE,
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
