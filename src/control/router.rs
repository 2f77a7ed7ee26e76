//! The router: one function, and one function for each endpoint.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequest as _, Path, Query, Request, State};
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use bytes::Bytes;
use hyper::{Method, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::answer::{Answer, Refusal, json, line, lines};
use super::wire::{Acknowledged, Entry, EventLine, LetterLine};
use super::{
    ANSWER_TIME, APPENDS_MAX, BODY_TIME, DRAIN_DEFAULT, DRAIN_MAX, EVENTS_MAX, LIST_DEFAULT,
    LIST_MAX, PAGE_BYTES, REQUEST_BYTES_MAX, fate, follow, health, wire,
};
use crate::error::Error;
use crate::event::Event;
use crate::id::{EventId, Seq};
use crate::incident::Incident;
use crate::queue::Queue;
use crate::status::{FlusherState, Pace};

/// Lists that are put together at once; others wait. Each holds a few MiB for a moment.
const LISTS_MAX: usize = 2;

/// How many events or letters are fetched at a time while a list is put together.
const STRIDE: usize = 16;

/// What the endpoints share.
struct Endpoints {
    queue: Queue,
    appends: Semaphore,
    lists: Semaphore,
}

type Shared = State<Arc<Endpoints>>;
type Asked<T> = Result<Query<T>, QueryRejection>;
type Named = Result<Path<Seq>, PathRejection>;

/// The router over this queue; see the [module](super) for its endpoints.
///
/// It holds the queue. It knows nothing of who asks: every process that can reach it may do
/// everything, so serve it only where that is meant. The bounds of single requests are its own; those of
/// connections (how many, how slow, how large their headers) are for the server to set, as
/// [`serve`](super::serve) does.
pub fn router(queue: Queue) -> Router {
    let health = health::routes(queue.clone());
    let fates = fate::routes(queue.clone()).method_not_allowed_fallback(method_not_allowed);
    let endpoints = Endpoints {
        queue,
        appends: Semaphore::new(APPENDS_MAX),
        lists: Semaphore::new(LISTS_MAX),
    };
    Router::new()
        .route("/status", get(status))
        .route("/status/watch", get(watch))
        .route("/recovery", get(recovery))
        .route("/events", get(peek).post(append))
        .route("/dead", get(list))
        .route("/dead/{seq}", get(show).delete(discard))
        .route("/dead/{seq}/retry", post(retry))
        .route("/incidents", get(incidents))
        .route("/incidents/acknowledge", post(acknowledge_all))
        .route("/incidents/{number}/acknowledge", post(acknowledge))
        .route("/drain", post(drain))
        .route("/pause", post(pause))
        .route("/resume", post(resume))
        .route("/wake", post(wake))
        .route("/pace", post(pace))
        .fallback(no_such_endpoint)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(Arc::new(endpoints))
        .merge(health)
        .merge(fates)
}

async fn status(State(endpoints): Shared) -> Answer {
    json(StatusCode::OK, &endpoints.queue.status())
}

async fn watch(State(endpoints): Shared) -> Answer {
    Ok(lines(follow::watch(endpoints.queue.watch())))
}

async fn recovery(State(endpoints): Shared) -> Answer {
    json(StatusCode::OK, endpoints.queue.recovery())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    #[serde(default)]
    after: Seq,
    #[serde(default = "list_default")]
    max: usize,
}

fn list_default() -> usize {
    LIST_DEFAULT
}

/// A list under way, bounded in lines and in bytes.
struct Page {
    after: Seq,
    left: usize,
    bytes: Vec<u8>,
}

impl Page {
    fn new(range: &Range) -> Self {
        Self {
            after: range.after,
            left: range.max.min(LIST_MAX),
            bytes: Vec::new(),
        }
    }

    /// How many more to fetch; 0 once the page is full.
    fn wanted(&self) -> usize {
        if self.bytes.len() >= PAGE_BYTES {
            0
        } else {
            self.left.min(STRIDE)
        }
    }

    fn push(&mut self, seq: Seq, line: Vec<u8>) {
        // Once a line had no place, none behind it may take one: a list has no holes.
        if self.left == 0 {
            return;
        }
        // At least one line, however long, so that who reads on gets on.
        if self.bytes.is_empty() || self.bytes.len() + line.len() <= PAGE_BYTES {
            self.bytes.extend(line);
            self.after = seq;
            self.left = self.left.saturating_sub(1);
        } else {
            self.left = 0;
        }
    }
}

async fn peek(State(endpoints): Shared, range: Asked<Range>) -> Answer {
    let mut page = Page::new(&range?.0);
    let _turn = endpoints.lists.acquire().await;
    while page.wanted() > 0 {
        let found = endpoints.queue.peek(page.after, page.wanted()).await?;
        if found.is_empty() {
            break;
        }
        for stored in &found {
            page.push(stored.seq, line(&EventLine::new(stored)?)?);
        }
    }
    Ok(lines(page.bytes))
}

async fn list(State(endpoints): Shared, range: Asked<Range>) -> Answer {
    let mut page = Page::new(&range?.0);
    let _turn = endpoints.lists.acquire().await;
    let letters = endpoints.queue.dead_letters();
    while page.wanted() > 0 {
        let found = letters.page(page.after, page.wanted()).await?;
        if found.is_empty() {
            break;
        }
        for letter in &found {
            page.push(letter.seq, line(&LetterLine::new(letter)?)?);
        }
    }
    Ok(lines(page.bytes))
}

async fn show(State(endpoints): Shared, seq: Named) -> Answer {
    let letter = endpoints.queue.dead_letters().show(seq?.0).await?;
    json(StatusCode::OK, &LetterLine::new(&letter)?)
}

async fn retry(State(endpoints): Shared, seq: Named) -> Answer {
    let receipt = endpoints.queue.dead_letters().retry(seq?.0).await?;
    json(StatusCode::OK, &receipt)
}

async fn discard(State(endpoints): Shared, seq: Named) -> Answer {
    endpoints.queue.dead_letters().discard(seq?.0).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn incidents(State(endpoints): Shared) -> Answer {
    let mut bytes = Vec::new();
    // The record is bounded, and so is the answer.
    for incident in endpoints.queue.incidents().list().await? {
        bytes.extend(line(&incident)?);
    }
    Ok(lines(bytes))
}

async fn acknowledge(State(endpoints): Shared, number: Named) -> Answer {
    let number = number?.0;
    let incidents = endpoints.queue.incidents();
    let is_there = |incident: &Incident| incident.number == number;
    if !incidents.list().await?.iter().any(is_there) {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "no_such_incident",
            format!("no such incident is on record. number=`{number}`"),
            "list the incidents to see which there are",
        ));
    }
    let acknowledged = incidents.acknowledge(Some(number)).await?;
    json(StatusCode::OK, &Acknowledged { acknowledged })
}

async fn acknowledge_all(State(endpoints): Shared) -> Answer {
    let acknowledged = endpoints.queue.incidents().acknowledge(None).await?;
    json(StatusCode::OK, &Acknowledged { acknowledged })
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BodyForm {
    #[default]
    Event,
    Lines,
    Entries,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AppendQuery {
    #[serde(default)]
    form: BodyForm,
    id: Option<EventId>,
    time_ms: Option<u64>,
}

async fn append(State(endpoints): Shared, append: Asked<AppendQuery>, request: Request) -> Answer {
    let Query(append) = append?;
    let Ok(_turn) = endpoints.appends.try_acquire() else {
        return Err(Refusal::busy(format!(
            "too many appends are under way. max=`{APPENDS_MAX}`"
        )));
    };
    let body = read_body(request).await?;
    let receipts = endpoints.queue.append_all(append.events(body)?).await?;
    let mut bytes = Vec::new();
    for receipt in receipts {
        bytes.extend(line(&receipt)?);
    }
    Ok(lines(bytes))
}

async fn read_body(request: Request) -> Result<Bytes, Refusal> {
    match tokio::time::timeout(BODY_TIME, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "request_too_large",
                format!("request is too large. max_bytes=`{REQUEST_BYTES_MAX}`"),
                "send fewer events in one request",
            ))
        }
        Ok(Err(_)) => Err(Refusal::bad_request("the body cannot be read")),
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "too_slow",
            format!("the body did not come in time. max=`{BODY_TIME:?}`"),
            "send the whole request at once",
        )),
    }
}

impl AppendQuery {
    fn events(&self, body: Bytes) -> Result<Vec<Event>, Refusal> {
        if let BodyForm::Event = self.form {
            return Ok(vec![wire::event(owned(&body), self.id, self.time_ms)?]);
        }
        if self.id.is_some() || self.time_ms.is_some() {
            let text = "`id` and `time_ms` in the query are for `form=event` only";
            return Err(Refusal::bad_request(text));
        }
        let mut events = Vec::new();
        for (number, line) in (1..).zip(body.split(|byte| *byte == b'\n')) {
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            if events.len() == EVENTS_MAX {
                return Err(Refusal::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "request_too_large",
                    format!("request has too many events. max=`{EVENTS_MAX}`"),
                    "send fewer events in one request",
                ));
            }
            let event = match self.form {
                BodyForm::Entries => Entry::parse(line).and_then(Entry::into_event),
                _ => Event::json(owned(line)),
            };
            events.push(event.map_err(|error| Refusal::from(error).at_line(number))?);
        }
        Ok(events)
    }
}

/// A copy, so that one event in memory does not keep the buffer of a whole request there.
fn owned(json: &[u8]) -> Bytes {
    Bytes::copy_from_slice(json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainBy {
    deadline_ms: Option<u64>,
}

async fn drain(State(endpoints): Shared, by: Asked<DrainBy>) -> Answer {
    let deadline = by?.deadline_ms.map_or(DRAIN_DEFAULT, Duration::from_millis);
    if deadline > DRAIN_MAX {
        let max = DRAIN_MAX.as_millis();
        return Err(Refusal::bad_request(format!(
            "`deadline_ms` is too long. max=`{max}`"
        )));
    }
    endpoints.delivers()?;
    endpoints.queue.wake().await?;
    Ok(lines(follow::drain(endpoints.queue.watch(), deadline)))
}

async fn pause(State(endpoints): Shared) -> Answer {
    if endpoints.is_without_sink() {
        endpoints.queue.keep_pause(true).await?;
        return accepted();
    }
    endpoints.delivers()?;
    let hint = "delivery is paused, but only until the owner restarts; see that the disk is \
                there, writable and has room, then pause again";
    kept(endpoints.queue.pause().await, hint)
}

async fn resume(State(endpoints): Shared) -> Answer {
    if endpoints.is_without_sink() {
        endpoints.queue.keep_pause(false).await?;
        return accepted();
    }
    endpoints.delivers()?;
    let hint = "delivery goes on, but may be paused again after a restart of the owner; see that \
                the disk is there, writable and has room, then resume again";
    kept(endpoints.queue.resume().await, hint)
}

async fn wake(State(endpoints): Shared) -> Answer {
    endpoints.delivers()?;
    endpoints.queue.wake().await?;
    if endpoints.queue.status().storage_fault.is_some() {
        // What comes of it is in the status. A disk that does not answer holds up no client that only
        // wants delivery tried.
        let _ = tokio::time::timeout(ANSWER_TIME, endpoints.queue.try_disk()).await;
    }
    accepted()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PaceQuery {
    rate_events: Option<NonZeroU32>,
    rate_bytes: Option<NonZeroU64>,
}

async fn pace(State(endpoints): Shared, wanted: Asked<PaceQuery>) -> Answer {
    let Query(wanted) = wanted?;
    endpoints.delivers()?;
    let pace = Pace {
        rate_events: wanted.rate_events.map(NonZeroU32::get),
        rate_bytes: wanted.rate_bytes.map(NonZeroU64::get),
    };
    endpoints.queue.set_pace(pace).await?;
    accepted()
}

/// What was asked for is done, or holds as the hint says since the disk did not take it.
fn kept(result: Result<(), Error>, hint: &str) -> Answer {
    match result {
        Ok(()) => accepted(),
        Err(error @ (Error::Closed | Error::Panicked { .. })) => Err(error.into()),
        Err(error) => Err(Refusal::from(error).hinting(hint)),
    }
}

fn accepted() -> Answer {
    #[derive(Serialize)]
    struct Accepted {
        accepted: bool,
    }
    json(StatusCode::ACCEPTED, &Accepted { accepted: true })
}

impl Endpoints {
    /// Whether this owner only takes events in. A pause is then a note for one that delivers.
    fn is_without_sink(&self) -> bool {
        self.queue.status().flusher == FlusherState::Absent
    }

    /// Whether the queue has a flusher, which could deliver, pause, or resume.
    fn delivers(&self) -> Result<(), Refusal> {
        let (kind, error, hint) = match self.queue.status().flusher {
            FlusherState::Absent => return Err(Error::NoSink.into()),
            FlusherState::Failed { .. } => (
                "failed",
                "delivery has ended by a panic",
                "restart the owner of the spool; see its status for the text of the panic",
            ),
            FlusherState::Closed => return Err(Error::Closed.into()),
            _ => return Ok(()),
        };
        Err(Refusal::new(StatusCode::CONFLICT, kind, error, hint))
    }
}

pub(crate) async fn no_such_endpoint(method: Method, uri: Uri) -> Refusal {
    let text = format!("no such endpoint. method=`{method}`, path=`{}`", uri.path());
    let hint = "see the documentation of everpost::control for the endpoints";
    Refusal::new(StatusCode::NOT_FOUND, "no_such_endpoint", text, hint)
}

pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> Refusal {
    let text = format!(
        "no such method here. method=`{method}`, path=`{}`",
        uri.path()
    );
    let hint = "see the documentation of everpost::control for the endpoints";
    let status = StatusCode::METHOD_NOT_ALLOWED;
    Refusal::new(status, "method_not_allowed", text, hint)
}
