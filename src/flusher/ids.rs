//! What a sink may ask of the source: which event is at a place.

use super::source::{Found, Source};
use super::step::Reading;
use crate::id::Seq;
use crate::log::Read;
use crate::sink::{FoundId, Ids};

/// Answers from the source. It only reads.
pub(super) struct SourceIds<P>(P);

impl<P> SourceIds<P> {
    pub(super) fn new(source: P) -> Self {
        Self(source)
    }
}

impl<P: Source> Ids for SourceIds<P> {
    fn id_at(&self, seq: Seq) -> FoundId<'_> {
        Box::pin(async move {
            let reading = Reading {
                from: seq,
                events_max: 1,
                bytes_max: 0,
            };
            let (found, _) = self.0.read(reading).await?;
            Ok(match found {
                Found::Read(Read::Events(events)) => {
                    let first = events.first().filter(|stored| stored.seq == seq);
                    first.map(|stored| stored.event.id())
                }
                // What is damaged is not known, so it is taken for another event.
                _ => None,
            })
        })
    }
}
