//! The spool a command works on: opened here if nobody owns it, or reached through its owner.

use everpost::control::wire::{EventLine, LetterLine};
use everpost::control::{Client, ClientError, REQUEST_BYTES_MAX};
use everpost::{Error, Event, OnFull, Queue, Receipt, Seq, Settings, Status, exit};
use tokio::time::{Instant, sleep_until};

use crate::args::Cli;
use crate::environment;
use crate::fault::Fault;
use crate::signals::Signals;

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
    /// so and there is none.
    pub(crate) async fn open(cli: &Cli, settings: Settings, make: bool) -> Result<Self, Fault> {
        let spool = environment::spool(cli)?;
        if !make && !spool.exists() {
            return Err(no_spool(&spool));
        }
        let mut settings = settings;
        if settings.on_full == OnFull::Block {
            // Nobody delivers here, so there would never be room again.
            settings.on_full = OnFull::Reject;
        }
        match Queue::builder(&spool).settings(settings).open().await {
            Ok(queue) => Ok(Self::Offline(queue)),
            Err(error @ Error::InUse { .. }) => match connect(&spool).await {
                Ok(client) => Ok(Self::Live(client)),
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

    /// Pending events after `after`; none is the end.
    pub(crate) async fn peek(&self, after: Seq, max: usize) -> Result<Vec<EventLine>, Fault> {
        match self {
            Self::Offline(queue) => {
                let found = queue.peek(after, max).await?;
                let lines: Result<_, Error> = found.iter().map(EventLine::new).collect();
                Ok(lines?)
            }
            Self::Live(client) => Ok(client.peek(after, max).await?),
        }
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

    pub(crate) async fn letter(&self, seq: Seq) -> Result<LetterLine, Fault> {
        match self {
            Self::Offline(queue) => Ok(LetterLine::new(&queue.dead_letters().show(seq).await?)?),
            Self::Live(client) => Ok(client.dead_letter(seq).await?),
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

pub(crate) fn no_spool(spool: &std::path::Path) -> Fault {
    let text = format!("there is no spool. path=`{}`", spool.display());
    Fault::usage(text).hint("see --spool and EVERPOST_SPOOL; `everpost append` makes a new spool")
}

/// The client of the owner, if one answers.
pub(crate) async fn connect(spool: &std::path::Path) -> Result<Client, ClientError> {
    let client = Client::new(spool);
    client.status().await.map(|_| client)
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
        "no_such_letter" | "no_sink" => exit::USAGE,
        "busy" | "not_owner" => exit::IN_USE,
        _ => exit::UNEXPECTED,
    }
}
