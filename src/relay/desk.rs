//! Where requests are read, let in, and put into the queue of their channel.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use bytes::Bytes;
use hyper::header::CONTENT_LENGTH;
use hyper::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::admission::Admitted;
use super::answer::{Answer, Refusal};
use super::browsers;
use super::numbers::Tally;
use super::posted::Posted;
use super::rate::Limits;
use super::repeats::{Key as RequestKey, Request as RequestUnderKey};
use super::way::Way;
use super::{
    BODIES_BYTES_MAX, BODY_BYTES_MAX, BODY_TIME, Channel, MESSAGES_MAX, Origin, Rules, Tokens,
};
use crate::event::Event;
#[cfg(feature = "fleet")]
use crate::fleet::BooksWatch;
use crate::hosts::Wrong;
use crate::id::EventId;
use crate::intake::{self, NOT_A_LIST};
use crate::sandbox::check_message;

/// The unit in which memory for bodies is given out.
const PERMIT_BYTES: usize = 1 << 10;

/// What the routes share.
#[derive(Debug)]
pub(super) struct Desk {
    tokens: Tokens,
    channels: BTreeMap<String, Channel>,
    /// They may be changed at any time, so that each request takes its own at its beginning.
    rules: RwLock<Arc<Rules>>,
    limits: RwLock<Arc<Limits>>,
    tally: Tally,
    /// A fleet whose numbers are shown beside those of the channels.
    #[cfg(feature = "fleet")]
    fleet: Option<BooksWatch>,
    /// Memory for bodies, in units of [`PERMIT_BYTES`].
    memory: Arc<Semaphore>,
}

pub(super) fn router(desk: Arc<Desk>) -> Router {
    let mut routes = Router::new();
    // The Python client drops the version from a base URL without a final `/`, and both take a base
    // URL with one.
    for path in ["/v2/messages", "/v2/messages/", "/messages", "/messages/"] {
        routes = routes.route(path, post(messages));
    }
    let counted = from_fn_with_state(Arc::clone(&desk), count);
    routes
        .method_not_allowed_fallback(async || Refusal::no_such_method())
        .fallback(async || Refusal::no_such_path())
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::clone(&desk))
        .layer(browsers::answers(&desk))
        .layer(from_fn_with_state(desk, check_place))
        .layer(counted)
}

/// What a client is told for which there is no place.
pub(super) fn busy(desk: Arc<Desk>) -> Router {
    let told = async || Refusal::later("too many connections are open; nothing was taken");
    let answers = browsers::answers(&desk);
    let routes = Router::new().fallback(told).layer(answers);
    routes.layer(from_fn_with_state(desk, check_place))
}

/// The channel of a request, told to the one that counts its answer.
#[derive(Clone, Debug, Default)]
struct Told(Arc<OnceLock<String>>);

/// Counts each request with its answer, and how long that took.
async fn count(State(desk): State<Arc<Desk>>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let told = Told::default();
    request.extensions_mut().insert(told.clone());
    let response = next.run(request).await;
    let channel = told.0.get().map_or("", String::as_str);
    desk.tally.add(channel, response.status(), began.elapsed());
    response
}

/// Refuses what is meant for another host, or comes from a page that is not let in.
async fn check_place(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    let rules = desk.rules();
    let (uri, headers) = (request.uri(), request.headers());
    match rules.hosts().check(request.version(), uri, headers) {
        Ok(()) => {}
        Err(Wrong::Unknown) if !Way::of(&request).is_open_to_pages() => {}
        Err(wrong) => return Refusal::new(wrong.status(), wrong.to_string()).into_response(),
    }
    if let Err(refusal) = browsers::origin(&rules, headers) {
        return refusal.into_response();
    }
    next.run(request).await
}

async fn messages(State(desk): State<Arc<Desk>>, request: Request) -> Answer {
    let rules = desk.rules();
    let way = Way::of(&request);
    let origin = browsers::origin(&rules, request.headers())?;
    let asked = (request.uri(), request.headers());
    let admitted = desk.admit(&rules, origin.as_ref(), asked).await?;
    let channel = admitted.channel;
    if let Some(told) = request.extensions().get::<Told>() {
        // The first word on it is the only one.
        let _ = told.0.set(channel.name().to_owned());
    }
    desk.count(&admitted, &way)?;
    let is_text = admitted.is_text_let_in && intake::is_text(request.headers());
    if !is_text && !intake::is_json(request.headers()) {
        let text = "Request payloads must be in JSON format.";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, text));
    }
    let key = request_key(channel, request.headers(), origin.as_ref())?;
    let memory = desk.memory_for(&rules, request.headers());
    let memory = way.unless_it_closes(memory).await?;
    let body = way.unless_it_closes(read_body(request)).await?;
    let request = key.map(|key| key.of_request(channel.name(), &body));
    let events = events(&rules, channel.name(), &body, request.as_ref())?;
    drop(body);
    let posted = Posted {
        events,
        request,
        memory,
    };
    posted.take(channel, rules.hold_time(), way).await
}

/// The key under which a request can come again, if the channel looks for that.
fn request_key(
    channel: &Channel,
    headers: &HeaderMap,
    page: Option<&Origin>,
) -> Result<Option<RequestKey>, Refusal> {
    if channel.recognises().is_none() {
        return Ok(None);
    }
    RequestKey::of(headers, page).map_err(|text| Refusal::bad(vec![text]))
}

impl Desk {
    pub(super) fn new(tokens: Tokens, channels: BTreeMap<String, Channel>, rules: Rules) -> Self {
        Self {
            tokens,
            channels,
            limits: RwLock::new(Arc::new(Limits::new(rules.rates()))),
            rules: RwLock::new(Arc::new(rules)),
            tally: Tally::default(),
            #[cfg(feature = "fleet")]
            fleet: None,
            memory: Arc::new(Semaphore::new(BODIES_BYTES_MAX / PERMIT_BYTES)),
        }
    }

    /// With this fleet beside the channels.
    #[cfg(feature = "fleet")]
    pub(super) fn beside(self, fleet: Option<BooksWatch>) -> Self {
        Self { fleet, ..self }
    }

    /// The fleet beside the channels.
    #[cfg(feature = "fleet")]
    pub(super) fn fleet(&self) -> Option<&BooksWatch> {
        self.fleet.as_ref()
    }

    /// Those that hold at this moment.
    pub(super) fn rules(&self) -> Arc<Rules> {
        let rules = self.rules.read();
        // It holds one of two whole values at any moment, also after a panic.
        Arc::clone(&rules.unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_rules(&self, rules: Rules) {
        {
            let mut limits = self.limits.write().unwrap_or_else(PoisonError::into_inner);
            if limits.rates() != rules.rates() {
                *limits = Arc::new(Limits::new(rules.rates()));
            }
        }
        let mut current = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(rules);
    }

    /// Counts a request that was let in among those of its client.
    fn count(&self, admitted: &Admitted<'_>, way: &Way) -> Result<(), Refusal> {
        let limits = Arc::clone(&self.limits.read().unwrap_or_else(PoisonError::into_inner));
        let counted = limits.count(admitted.is_published, &admitted.key, way.peer());
        counted.map_err(Refusal::too_often)
    }

    pub(super) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    pub(super) fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.channels.values()
    }

    pub(super) fn channel(&self, name: &str) -> Option<&Channel> {
        self.channels.get(name)
    }

    /// Room in memory for a body, by what its request says of its length; for the longest if it says
    /// nothing.
    async fn memory_for(
        &self,
        rules: &Rules,
        headers: &HeaderMap,
    ) -> Result<OwnedSemaphorePermit, Refusal> {
        let said = headers.get(CONTENT_LENGTH);
        let said = said.and_then(|length| length.to_str().ok()?.parse().ok());
        let bytes: usize = said.unwrap_or(BODY_BYTES_MAX);
        if bytes > BODY_BYTES_MAX {
            // Before any of it was sent, if the client waits for that.
            return Err(too_large());
        }
        let permits = u32::try_from(bytes / PERMIT_BYTES + 1).unwrap_or(u32::MAX);
        let acquired = Arc::clone(&self.memory).acquire_many_owned(permits);
        let acquired = timeout(rules.hold_time(), acquired).await;
        let busy = || Refusal::later("too many requests are under way; nothing was taken");
        acquired.map_err(|_| busy())?.map_err(|_| busy())
    }
}

/// The events of a request, all or none.
fn events(
    rules: &Rules,
    channel: &str,
    body: &Bytes,
    request: Option<&RequestUnderKey>,
) -> Result<Vec<Event>, Refusal> {
    let items = intake::messages(body).map_err(|why| Refusal::bad(vec![why.to_string()]))?;
    if items.is_empty() {
        return Err(Refusal::bad(vec!["messages must not be empty".to_owned()]));
    }
    if items.len() > MESSAGES_MAX {
        let text = format!("Request has more than {MESSAGES_MAX} messages.");
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    let several = items.len() > 1;
    let read = |(number, item)| {
        let made = request.map(|request| request.event_id(number));
        let event = event(rules, channel, item, made);
        event.map_err(|texts| {
            let at = |text| format!("message {number}: {text}");
            let texts = texts.into_iter();
            Refusal::bad(match several {
                true => texts.map(at).collect(),
                false => texts.collect(),
            })
        })
    };
    (1..).zip(items).map(read).collect()
}

/// The event of a message: under its own id, or else the one that was made for it.
fn event(
    rules: &Rules,
    channel: &str,
    item: &RawValue,
    made: Option<EventId>,
) -> Result<Event, Vec<String>> {
    let said = |text: &str| vec![text.to_owned()];
    let message = intake::message_in(channel, item).ok_or_else(|| said(NOT_A_LIST))?;
    let object: Object<'_> =
        serde_json::from_str(message.get()).map_err(|_| said("a message must be an object"))?;
    if rules.validates() {
        let value: Value = serde_json::from_str(message.get())
            .map_err(|_| said("a number is too large, or it is nested too deeply"))?;
        check_message(channel, &value)?;
    }
    // A copy, so that one event in memory does not keep the body of a whole request there.
    let json = Bytes::copy_from_slice(message.get().as_bytes());
    let event = Event::json(json).map_err(|error| vec![error.to_string()])?;
    Ok(match object.id().or(made) {
        Some(id) => event.with_id(id),
        None => event,
    })
}

/// What is looked at in a message.
#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

impl Object<'_> {
    /// Its own id, if that can be the event's.
    fn id(&self) -> Option<EventId> {
        let text: String = serde_json::from_str(self.id?.get()).ok()?;
        text.parse().ok()
    }
}

async fn read_body(request: Request<Body>) -> Result<Bytes, Refusal> {
    match timeout(BODY_TIME, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(too_large())
        }
        Ok(Err(_)) => Err(Refusal::bad(vec!["the body cannot be read".to_owned()])),
        Err(_) => {
            let text = format!("the body did not come within {BODY_TIME:?}");
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, text))
        }
    }
}

fn too_large() -> Refusal {
    let text = format!("Request has more than {BODY_BYTES_MAX} bytes.");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body::Frame;

    use super::*;

    /// A client that says nothing more.
    struct Silent;

    impl http_body::Body for Silent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for_without_end() {
        let refusal = read_body(Request::new(Body::new(Silent))).await;
        let answer = refusal.unwrap_err().into_response();
        assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_in_memory_are_bounded_together_and_one_that_finds_no_room_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(dir.path()).unwrap();
        let desk = Desk::new(tokens, BTreeMap::new(), Rules::new());
        // Of unknown length: each may be the longest.
        let headers = HeaderMap::new();
        let mut held = Vec::new();
        let refused = loop {
            match desk.memory_for(&desk.rules(), &headers).await {
                Ok(permit) => held.push(permit),
                Err(refusal) => break refusal.into_response(),
            }
        };
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(held.len() <= BODIES_BYTES_MAX / BODY_BYTES_MAX && held.len() > 4);
        held.pop();
        assert!(
            desk.memory_for(&desk.rules(), &headers).await.is_ok(),
            "room that is given back"
        );
    }
}
