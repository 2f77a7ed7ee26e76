//! What a sink may ask of the log: which event is at a place.

use crate::id::Seq;
use crate::log::Read;
use crate::log::thread::LogHandle;
use crate::sink::{FoundId, Ids};

/// Answers from the log. It only reads.
pub(super) struct LogIds(LogHandle);

impl LogIds {
    pub(super) fn new(log: LogHandle) -> Self {
        Self(log)
    }
}

impl Ids for LogIds {
    fn id_at(&self, seq: Seq) -> FoundId<'_> {
        Box::pin(async move {
            let (read, _) = self.0.read(seq, 1, 0).await?;
            Ok(match read {
                Read::Events(events) => {
                    let found = events.first().filter(|stored| stored.seq == seq);
                    found.map(|stored| stored.event.id())
                }
                // What is damaged is not known, so it is taken for another event.
                Read::Missing(_) | Read::End => None,
            })
        })
    }
}
