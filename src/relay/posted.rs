//! A request that was read, on its way into the queue.

use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Channel;
use super::answer::{Answer, Refusal, Taken};
use super::repeats::{Begun, Claim, Mark, Marks, Repeats, Request};
use super::way::Way;
use crate::error::Error;
use crate::event::Event;
use crate::id::EventId;
use crate::intake::NOT_A_LIST;

/// The events of a request, and what it is known by.
pub(super) struct Posted {
    pub(super) events: Vec<Event>,
    /// If it came under an `Idempotency-Key`.
    pub(super) request: Option<Request>,
    /// Room in memory, given back when the events are in the queue.
    pub(super) memory: OwnedSemaphorePermit,
}

impl Posted {
    /// Takes in what is new in it; held for no longer than the way that it came by is open.
    ///
    /// # Cancel safety
    /// What may come again is taken to its end, so that the one that comes again finds it: the client
    /// has gone away in most cases when the future is dropped. Otherwise as [`Channel::take`].
    pub(super) async fn take(self, channel: &Channel, hold: Duration, way: Way) -> Answer {
        let Some(repeats) = channel.recognises() else {
            return self.append(channel, hold, &way).await;
        };
        let marks = self.marks(repeats);
        if marks.is_empty() {
            return self.append(channel, hold, &way).await;
        }
        let (channel, repeats) = (channel.clone(), repeats.clone());
        let taken = tokio::spawn(async move {
            let until = Instant::now() + hold;
            let events = self.events.len();
            match repeats.begin(&marks, until).await {
                Ok(Begun::New(claim)) => self.take_new(&channel, claim, until, &way).await,
                Ok(Begun::Known(id)) => Ok(Taken::again(id, events)),
                Ok(Begun::Other) => Err(Refusal::other_request()),
                Ok(Begun::Busy) => Err(Refusal::later(
                    "the same is being taken in at this moment; of this request nothing was taken",
                )),
                Err(error) => Err(Refusal::later(format!(
                    "{}; nothing more was taken",
                    in_full(&error)
                ))),
            }
        });
        taken.await.unwrap_or_else(|_| Err(Refusal::panicked()))
    }

    fn marks(&self, repeats: &Repeats) -> Marks {
        let message = |event: &Event| Mark::of_message(event).map(|mark| (mark, event.id()));
        Marks {
            request: self.request.map(|request| request.mark()),
            messages: match repeats.knows_messages() {
                true => self.events.iter().map(message).collect(),
                false => Vec::new(),
            },
        }
    }

    async fn append(self, channel: &Channel, hold: Duration, way: &Way) -> Answer {
        // There is one: an empty list is refused.
        let id = self.events.first().map(Event::id).ok_or_else(is_empty)?;
        channel.take(self.events, hold, way.closing()).await?;
        Ok(Taken::new(id))
    }

    async fn take_new(self, channel: &Channel, claim: Claim, until: Instant, way: &Way) -> Answer {
        let first = self.events.first().map(Event::id).ok_or_else(is_empty)?;
        let request_id: EventId = claim.known(0).unwrap_or(first);
        let all = self.events.len();
        let places = self.events.into_iter().enumerate();
        let new = places.filter(|(place, _)| claim.known(*place).is_none());
        let new: Vec<Event> = new.map(|(_, event)| event).collect();
        let repeated = all - new.len();
        if !new.is_empty() {
            let hold = until.saturating_duration_since(Instant::now());
            channel.take(new, hold, way.closing()).await?;
        }
        drop(self.memory);
        // Now, and not before: a request that is known and not in the queue would be lost.
        let kept = claim.keep(request_id, until).await;
        kept.map_err(|error| {
            Refusal::later(format!(
                "{}; all of it is in the queue, but would not be known if it came again after a \
                 restart: send the same again",
                in_full(&error)
            ))
        })?;
        Ok(Taken::new(request_id).beside(repeated))
    }
}

fn is_empty() -> Refusal {
    Refusal::bad(vec![NOT_A_LIST.to_owned()])
}

/// With what the system said.
fn in_full(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
