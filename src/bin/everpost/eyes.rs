//! What only looks at a spool: through its owner if one answers, otherwise at its files.
//!
//! It never makes, locks, opens or changes a spool, and keeps no owner out.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everpost::control::wire::{EventLine, FateLine, LetterLine};
use everpost::control::{Client, ClientError};
use everpost::inspect::{self, Look, Paused};
use everpost::{Error, Incident, Seq, Status, exit};
use tokio::sync::OnceCell;

use crate::args::{Cli, Letter};
use crate::fault::Fault;
use crate::incidents;
use crate::out::remark;
use crate::owner::{Way, is_gone};
use crate::text::plain;

/// The eyes on one spool.
#[derive(Debug)]
pub(crate) struct Eyes {
    way: Way,
    /// The owner, if one answered.
    owner: Option<Client>,
    /// The files as they were at one moment, once they were looked at: with no owner, or after it
    /// has gone in the midst.
    still: OnceCell<Arc<Mutex<Look>>>,
}

impl Eyes {
    /// Reaches the owner if one answers, otherwise looks at the files.
    pub(crate) async fn open(way: Way) -> Result<Self, Fault> {
        let client = way.client();
        let owner = match client.status().await {
            Ok(_) => Some(client),
            Err(why) if way.spool().is_none() => return Err(why.into()),
            Err(why) if is_gone(&why) => None,
            Err(why) => {
                let text = plain(&why.to_string());
                remark(&format!("everpost: {text}; looking at the files instead"));
                None
            }
        };
        let eyes = Self {
            way,
            owner,
            still: OnceCell::new(),
        };
        if eyes.owner.is_none() {
            eyes.still().await?;
        }
        Ok(eyes)
    }

    /// As [`open`](Self::open); tells on standard error what no person has acknowledged yet.
    pub(crate) async fn open_and_tell(cli: &Cli) -> Result<Self, Fault> {
        let eyes = Self::open(Way::of(cli)?).await?;
        incidents::tell(&eyes.status().await?.incidents);
        Ok(eyes)
    }

    /// The owner, if it answers.
    pub(crate) fn owner(&self) -> Option<&Client> {
        self.owner.as_ref().filter(|_| !self.still.initialized())
    }

    /// The state of the queue.
    pub(crate) async fn status(&self) -> Result<Status, Fault> {
        if let Some(client) = self.owner()
            && let Some(status) = unless_gone(client.status().await)?
        {
            return Ok(status);
        }
        self.look(|look| Ok(look.status())).await
    }

    /// The pause that the next owner will go on with; an owner has its own in its status.
    pub(crate) async fn paused(&self) -> Result<Option<Paused>, Fault> {
        if self.owner().is_some() {
            return Ok(None);
        }
        self.look(move |look| Ok(look.paused())).await
    }

    /// Pending events after `after`; none is the end.
    pub(crate) async fn peek(&self, after: Seq, max: usize) -> Result<Vec<EventLine>, Fault> {
        if let Some(client) = self.owner()
            && let Some(lines) = unless_gone(client.peek(after, max).await)?
        {
            return Ok(lines);
        }
        self.look(move |look| {
            let found = look.peek(after, max)?;
            found.iter().map(EventLine::new).collect()
        })
        .await
    }

    /// The oldest pending events, as far as they are this user's to read.
    pub(crate) async fn glimpse(&self, max: usize) -> Result<Vec<EventLine>, Fault> {
        let Some(client) = self.owner() else {
            return self.peek(0, max).await;
        };
        match client.peek(0, max).await {
            Err(ClientError::Refused { kind, .. }) if kind == "forbidden" => Ok(Vec::new()),
            answer => match unless_gone(answer)? {
                Some(lines) => Ok(lines),
                None => self.peek(0, max).await,
            },
        }
    }

    /// Dead letters after `after`; none is the end.
    pub(crate) async fn letters(&self, after: Seq, max: usize) -> Result<Vec<LetterLine>, Fault> {
        if let Some(client) = self.owner()
            && let Some(lines) = unless_gone(client.dead_letters(after, max).await)?
        {
            return Ok(lines);
        }
        self.look(move |look| {
            let found = look.letters(after, max)?;
            found.iter().map(LetterLine::new).collect()
        })
        .await
    }

    pub(crate) async fn letter(&self, seq: Seq) -> Result<LetterLine, Fault> {
        if let Some(client) = self.owner()
            && let Some(letter) = unless_gone(client.dead_letter(seq).await)?
        {
            return Ok(letter);
        }
        let letter = move |look: &mut Look| LetterLine::new(&look.letter(seq)?);
        self.look(letter).await
    }

    /// What became of an event.
    pub(crate) async fn fate(&self, event: Letter) -> Result<FateLine, Fault> {
        if let Some(client) = self.owner() {
            let asked = match event {
                Letter::Seq(seq) => client.fate(seq).await,
                Letter::Id(id) => client.fate_of_id(id).await,
            };
            if let Some(line) = unless_gone(asked)? {
                return Ok(line);
            }
        }
        self.look(move |look| match event {
            Letter::Seq(seq) => Ok(FateLine::new(seq, look.fate(seq)?)),
            Letter::Id(id) => Ok(FateLine::found(id, look.fate_of_id(id)?)),
        })
        .await
    }

    /// What became of an event, once it has left the queue or the time is up; at once if there is no
    /// owner, or no more.
    pub(crate) async fn settled(&self, seq: Seq, within: Duration) -> Result<FateLine, Fault> {
        if let Some(client) = self.owner()
            && let Some(line) = unless_gone(client.settled(seq, within).await)?
        {
            return Ok(line);
        }
        let fate = move |look: &mut Look| Ok(FateLine::new(seq, look.fate(seq)?));
        self.look(fate).await
    }

    /// All that is on record, and what is found and not on record yet, with the number 0.
    pub(crate) async fn incidents(&self) -> Result<Vec<Incident>, Fault> {
        if let Some(client) = self.owner()
            && let Some(incidents) = unless_gone(client.incidents().await)?
        {
            return Ok(incidents);
        }
        self.look(move |look| {
            let mut all = look.record().to_vec();
            let unseen = look.status().incidents;
            all.extend(unseen.into_iter().filter(|incident| incident.number == 0));
            Ok(all)
        })
        .await
    }

    /// The files as they are when this is called first.
    async fn still(&self) -> Result<&Arc<Mutex<Look>>, Fault> {
        let first = || async {
            let Some(spool) = self.way.spool().map(Path::to_owned) else {
                let path = self.way.client().path().to_owned();
                return Err(ClientError::NoOwner { path }.into());
            };
            let look = blocking(move || inspect::look(&spool)).await?;
            if look.is_disturbed() {
                remark(DISTURBED);
            }
            Ok(Arc::new(Mutex::new(look)))
        };
        self.still.get_or_try_init(first).await
    }

    /// Reads from the files, on a thread that may wait for a disk.
    async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Look) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Fault> {
        let look = Arc::clone(self.still().await?);
        blocking(move || work(&mut look.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

/// The answer of an owner; none if it went away, so that the files say the rest.
fn unless_gone<T>(answer: Result<T, ClientError>) -> Result<Option<T>, Fault> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What is said of a look beside an owner that never stood still.
pub(crate) const DISTURBED: &str = "everpost: an owner kept writing while the spool was looked \
    at; what is shown is of different moments, and damage is not looked for";

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
