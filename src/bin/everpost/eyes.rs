//! What only looks at a spool: through its owner if one answers, otherwise at its files.
//!
//! It never makes, locks, opens or changes a spool, and keeps no owner out.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use everpost::control::wire::{EventLine, LetterLine};
use everpost::control::{Client, ClientError};
use everpost::inspect::{self, Look, Paused};
use everpost::{Error, Incident, Seq, Status, exit};

use crate::args::Cli;
use crate::environment;
use crate::fault::Fault;
use crate::incidents;
use crate::out::remark;
use crate::target::connect;
use crate::text::plain;

/// How a spool is seen.
#[derive(Clone, Debug)]
pub(crate) enum Eyes {
    /// Its owner answers.
    Live(Client),
    /// No owner answers; these are its files as they were at one moment.
    Still(Arc<Mutex<Look>>),
}

impl Eyes {
    /// Asks the owner if one answers, otherwise looks at the files.
    pub(crate) async fn open(spool: &Path) -> Result<Self, Fault> {
        match connect(spool).await {
            Ok((client, _)) => return Ok(Self::Live(client)),
            Err(ClientError::NoOwner { .. }) => {}
            Err(why) => not_asked(&why),
        }
        let spool = spool.to_owned();
        let look = blocking(move || inspect::look(&spool)).await?;
        if look.is_disturbed() {
            remark(DISTURBED);
        }
        Ok(Self::Still(Arc::new(Mutex::new(look))))
    }

    /// As [`open`](Self::open); tells on standard error what no person has acknowledged yet.
    pub(crate) async fn open_and_tell(cli: &Cli) -> Result<Self, Fault> {
        let spool = environment::spool(cli)?;
        let eyes = Self::open(&spool).await?;
        incidents::tell(&eyes.status(0).await?.incidents);
        Ok(eyes)
    }

    pub(crate) fn is_live(&self) -> bool {
        matches!(self, Self::Live(_))
    }

    /// The state of the queue. An owner knows its bound; `max_bytes` is shown if there is none.
    pub(crate) async fn status(&self, max_bytes: u64) -> Result<Status, Fault> {
        match self {
            Self::Live(client) => Ok(client.status().await?),
            Self::Still(look) => with(look, move |look| Ok(look.status(max_bytes))).await,
        }
    }

    /// The pause that the next owner will go on with; an owner has its own in its status.
    pub(crate) async fn paused(&self) -> Result<Option<Paused>, Fault> {
        match self {
            Self::Live(_) => Ok(None),
            Self::Still(look) => with(look, |look| Ok(look.paused())).await,
        }
    }

    /// Pending events after `after`; none is the end.
    pub(crate) async fn peek(&self, after: Seq, max: usize) -> Result<Vec<EventLine>, Fault> {
        match self {
            Self::Live(client) => Ok(client.peek(after, max).await?),
            Self::Still(look) => {
                with(look, move |look| {
                    let found = look.peek(after, max)?;
                    found.iter().map(EventLine::new).collect()
                })
                .await
            }
        }
    }

    /// Dead letters after `after`; none is the end.
    pub(crate) async fn letters(&self, after: Seq, max: usize) -> Result<Vec<LetterLine>, Fault> {
        match self {
            Self::Live(client) => Ok(client.dead_letters(after, max).await?),
            Self::Still(look) => {
                with(look, move |look| {
                    let found = look.letters(after, max)?;
                    found.iter().map(LetterLine::new).collect()
                })
                .await
            }
        }
    }

    pub(crate) async fn letter(&self, seq: Seq) -> Result<LetterLine, Fault> {
        match self {
            Self::Live(client) => Ok(client.dead_letter(seq).await?),
            Self::Still(look) => with(look, move |look| LetterLine::new(&look.letter(seq)?)).await,
        }
    }

    /// All that is on record, and what is found and not on record yet, with the number 0.
    pub(crate) async fn incidents(&self) -> Result<Vec<Incident>, Fault> {
        match self {
            Self::Live(client) => Ok(client.incidents().await?),
            Self::Still(look) => {
                with(look, |look| {
                    let mut all = look.record().to_vec();
                    let unseen = look.status(0).incidents;
                    all.extend(unseen.into_iter().filter(|incident| incident.number == 0));
                    Ok(all)
                })
                .await
            }
        }
    }
}

/// What is said of a look beside an owner that never stood still.
pub(crate) const DISTURBED: &str = "everpost: an owner kept writing while the spool was looked \
    at; what is shown is of different moments, and damage is not looked for";

/// Says why the owner, if there is one, was not asked.
fn not_asked(why: &ClientError) {
    let text = plain(&why.to_string());
    remark(&format!("everpost: {text}; looking at the files instead"));
}

async fn with<T: Send + 'static>(
    look: &Arc<Mutex<Look>>,
    work: impl FnOnce(&mut Look) -> Result<T, Error> + Send + 'static,
) -> Result<T, Fault> {
    let look = Arc::clone(look);
    blocking(move || work(&mut look.lock().unwrap_or_else(PoisonError::into_inner))).await
}

/// Does what waits for a disk where it holds nothing up.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(
            Fault::new(exit::UNEXPECTED, "reading the spool ended by a panic")
                .hint("report the text of the panic"),
        ),
    }
}
