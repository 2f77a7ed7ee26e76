//! The handle through which a person looks at incidents and says that they were seen.

use crate::error::Error;
use crate::incident::Incident;
use crate::log::thread::LogHandle;

/// The incidents of a queue. Made by [`Queue::incidents`](crate::Queue::incidents).
///
/// They are on record in the spool, at most 256 of them: beyond that the oldest go, those that were
/// acknowledged first.
#[derive(Clone, Debug)]
pub struct Incidents {
    log: LogHandle,
}

impl Incidents {
    pub(crate) fn new(log: LogHandle) -> Self {
        Self { log }
    }

    /// All that are on record, acknowledged or not, in order of their numbers.
    ///
    /// # Errors
    /// [`Error::Closed`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn list(&self) -> Result<Vec<Incident>, Error> {
        self.log.run(|log| Ok(log.incidents())).await
    }

    /// Notes, durably, that a person has seen the incident of this number, or all: it is not shown
    /// in the status any more. Gives how many that concerned.
    ///
    /// # Errors
    /// [`Error::Closed`]; [`Error::Storage`], and then it is shown still.
    ///
    /// # Cancel safety
    /// Once begun it is done even if the future is dropped.
    pub async fn acknowledge(&self, number: Option<u64>) -> Result<u64, Error> {
        self.log.run(move |log| log.acknowledge(number)).await
    }
}
