//! A fleet as the people see it who run it.

use async_nats::Client;

use super::books::{self, Books};
use super::connect::Access;
use super::letters::Letters;
use super::wire::Wire;
use crate::error::Error;
use crate::nats::Names;

/// A fleet, to look at it and to decide on its dead letters. Cloning is cheap.
///
/// ```no_run
/// # async fn look() -> Result<(), everpost::Error> {
/// use everpost::fleet::{Access, Fleet};
/// use everpost::nats::Names;
///
/// let names = Names::new(Names::STREAM, Names::PARTITIONS)?;
/// let fleet = Fleet::connect(&Access::new("nats://a.example")?, names).await?;
/// let books = fleet.books().await?;
/// println!("{} of {} events are delivered", books.delivered, books.stored);
/// let mut letters = fleet.letters().list(..);
/// while let Some(letter) = letters.next().await? {
///     println!("{} {:?}", letter.letter.seq, letter.spool);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Fleet {
    wire: Wire,
    names: Names,
}

impl Fleet {
    /// Connects to the servers of a fleet.
    ///
    /// # Errors
    /// As [`Access::connect`].
    ///
    /// # Cancel safety
    /// Dropped, no connection is left.
    pub async fn connect(access: &Access, names: Names) -> Result<Self, Error> {
        Ok(Self::of(access.connect().await?, names))
    }

    /// By a connection that is there.
    pub(super) fn of(client: Client, names: Names) -> Self {
        Self {
            wire: Wire::of(client),
            names,
        }
    }

    /// The books: what became of every event that was ever stored, held against what the stream counts.
    ///
    /// # Errors
    /// [`Error::Fleet`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn books(&self) -> Result<Books, Error> {
        books::read(&self.wire, &self.names).await
    }

    /// The dead letters.
    #[must_use]
    pub fn letters(&self) -> Letters {
        Letters::new(self.wire.clone(), self.names.clone())
    }
}
