//! One channel of the API, and where its events go.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Repeats;
use super::token::Tokens;
use crate::error::Error;
use crate::event::Event;
use crate::queue::Queue;
use crate::sink::botanalytics::{Botanalytics, Key};

/// How long a request that is held waits for news before it tries again: room may also come from
/// elsewhere, as when a person frees the disk.
const REST: Duration = Duration::from_millis(250);

/// A channel of the API with a queue of its own.
#[derive(Clone)]
pub struct Channel {
    name: String,
    queue: Queue,
    upstream: Option<Botanalytics>,
    repeats: Option<Repeats>,
}

impl Channel {
    /// The channel of this name, as the `channel` claim of its keys has it. What comes for it is
    /// appended to the queue, which the caller opens, with a sink for this channel alone, and closes.
    ///
    /// Open it with [`OnFull::Reject`](crate::OnFull::Reject): the relay holds requests itself. With
    /// [`OnFull::DropOldest`](crate::OnFull::DropOldest) a 200 would not be the last word.
    #[must_use]
    pub fn new(name: impl Into<String>, queue: Queue) -> Self {
        Self {
            name: name.into(),
            queue,
            upstream: None,
            repeats: None,
        }
    }

    /// With the sink that the queue delivers by: clients may present the key that it has at that
    /// moment.
    #[must_use]
    pub fn upstream(mut self, sink: Botanalytics) -> Self {
        self.upstream = Some(sink);
        self
    }

    /// Recognises what comes again: see [`Repeats`], which is for this channel alone. Otherwise every
    /// request is another, and an `Idempotency-Key` says nothing.
    #[must_use]
    pub fn repeats(mut self, repeats: Repeats) -> Self {
        self.repeats = Some(repeats);
        self
    }

    /// What it recognises repeats by.
    pub(super) fn recognises(&self) -> Option<&Repeats> {
        self.repeats.as_ref()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its queue.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Whether this key is the one that the channel delivers with.
    pub(super) async fn delivers_with(&self, key: &Key, tokens: &Tokens) -> bool {
        let Some(sink) = &self.upstream else {
            return false;
        };
        match sink.key().await {
            Ok(own) => tokens.are_equal(own.expose(), key.expose()),
            Err(_) => false,
        }
    }

    /// Appends all of these events as one commit. While the queue can take nothing in, it is tried
    /// again, under the same ids, until `hold` is over or `closing` ends.
    ///
    /// # Cancel safety
    /// As [`Queue::append_all`].
    pub(super) async fn take(
        &self,
        events: Vec<Event>,
        hold: Duration,
        closing: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let mut closing = pin!(closing);
        let until = Instant::now() + hold;
        loop {
            let taken = self.queue.append_all(events.iter().cloned()).await;
            let taken = taken.map_err(Error::from);
            let rest = (Instant::now() + REST).min(until);
            match taken {
                Err(Error::Full { .. } | Error::Storage { .. } | Error::NoThread { .. })
                    if Instant::now() < until =>
                {
                    // What came before this is seen after a rest.
                    let mut news = self.queue.watch();
                    tokio::select! {
                        // Delivery makes room, and then there is news.
                        changed = timeout_at(rest, news.changed()) => {
                            if matches!(changed, Ok(false)) {
                                return Err(Error::Closed);
                            }
                        }
                        () = closing.as_mut() => return match taken {
                            Err(Error::Full { .. }) => Err(Error::Closed),
                            // It says what may be found later.
                            taken => taken.map(drop),
                        },
                    }
                }
                taken => return taken.map(drop),
            }
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("name", &self.name)
            .field("spool", &self.queue.spool())
            .finish_non_exhaustive()
    }
}
