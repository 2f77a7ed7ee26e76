//! What became of an event.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::routing::get;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::answer::{Answer, Refusal, line, lines};
use super::wire::FateLine;
use super::{FATE_WAIT_MAX, follow};
use crate::error::Error;
use crate::fate::Fate;
use crate::id::{EventId, Seq};
use crate::queue::Queue;

/// What is asked for by an id is looked for in all that waits: one at a time.
struct Searcher {
    queue: Queue,
    searches: Semaphore,
}

type Shared = State<Arc<Searcher>>;

/// The route.
pub(super) fn routes(queue: Queue) -> Router {
    let searches = Semaphore::new(1);
    let searcher = Searcher { queue, searches };
    Router::new()
        .route("/fate/{name}", get(fate))
        .with_state(Arc::new(searcher))
}

/// How an event is named in a path.
enum Name {
    Seq(Seq),
    Id(EventId),
}

impl FromStr for Name {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        if let Ok(seq) = text.parse() {
            return Ok(Self::Seq(seq));
        }
        text.parse().map(Self::Id).map_err(|_| {
            Refusal::bad_request("the event is named neither by a sequence number nor by an id")
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Waiting {
    #[serde(default)]
    wait_ms: u64,
}

/// What it is now; and, if it waits and its client does too, what it is when it has left the queue
/// or the time is up.
async fn fate(
    State(searcher): Shared,
    name: Result<Path<String>, PathRejection>,
    waiting: Result<Query<Waiting>, QueryRejection>,
) -> Answer {
    let wait = Duration::from_millis(waiting?.wait_ms);
    if wait > FATE_WAIT_MAX {
        let max = FATE_WAIT_MAX.as_millis();
        return Err(Refusal::bad_request(format!(
            "`wait_ms` is too long. max=`{max}`"
        )));
    }
    let first = searcher.find(name?.0.parse()?).await?;
    match first.seq {
        Some(seq) if first.fate == Fate::Pending && !wait.is_zero() => {
            let id = first.id;
            let last = async move {
                let fate = match timeout(wait, searcher.queue.settled(seq)).await {
                    Ok(settled) => settled,
                    Err(_) => searcher.queue.fate(seq).await,
                };
                let seq = Some(seq);
                // Without a last line, the client knows that its owner has gone.
                let last = fate.map(|fate| FateLine { seq, id, fate }).ok()?;
                line(&last).ok()
            };
            Ok(lines(follow::two(line(&first)?, last)))
        }
        _ => Ok(lines(line(&first)?)),
    }
}

impl Searcher {
    async fn find(&self, name: Name) -> Result<FateLine, Error> {
        let id = match name {
            Name::Seq(seq) => return Ok(FateLine::new(seq, self.queue.fate(seq).await?)),
            Name::Id(id) => id,
        };
        let _turn = self.searches.acquire().await;
        Ok(FateLine::found(id, self.queue.fate_of_id(id).await?))
    }
}
