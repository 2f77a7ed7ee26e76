//! What the routes share, and the routes.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, Path, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::{Notify, Semaphore, watch};

use super::access::{Caller, Gate, guard};
use super::channel::Shown;
use super::diary::{Deed, Diary};
use super::keeper::Kept;
use super::ticket::Tickets;
use super::token::Token;
use super::{deed, letters, live, page};
use crate::clock::{Clock as _, SystemClock};
use crate::control::answer::{Answer, Refusal, json};
use crate::control::router as control;
use crate::event::json_fault;
use crate::id::Seq;
use crate::millis::unix_ms;

/// Lists and slices that are made at once; others wait.
const SCANS_MAX: usize = 2;

/// Bytes in the body of a request of the page itself.
const BODY_BYTES_MAX: usize = 16 << 10;

/// How the page deals with who comes.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) token: Option<Token>,
    /// Whether the page offers to append a sample.
    pub(super) sample: bool,
    /// How long live news may last in one connection.
    pub(super) live_time: Option<Duration>,
}

/// A channel and what is kept of it.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) shown: Shown,
    /// Its name as a part of a path.
    pub(super) path: String,
    pub(super) kept: Mutex<Kept>,
    /// Has its keeper look again.
    pub(super) nudge: Arc<Notify>,
}

/// What the routes share.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) channels: Vec<Watched>,
    pub(super) rules: Rules,
    pub(super) diary: Diary,
    pub(super) tickets: Tickets,
    pub(super) scans: Semaphore,
    pub(super) deeds: Arc<Semaphore>,
    /// How many sets were retried or discarded, or begun to be.
    pub(super) jobs: AtomicU64,
    /// The number of the newest piece of news.
    pub(super) news: watch::Sender<u64>,
    /// The fleet that is shown beside the channels, as JSON.
    pub(super) fleet: watch::Sender<Option<Arc<str>>>,
}

impl Desk {
    pub(super) fn new(shown: Vec<Shown>, rules: Rules) -> Self {
        Self {
            channels: shown.into_iter().map(Watched::new).collect(),
            rules,
            diary: Diary::default(),
            tickets: Tickets::default(),
            scans: Semaphore::new(SCANS_MAX),
            deeds: Arc::new(Semaphore::new(1)),
            jobs: AtomicU64::new(0),
            news: watch::Sender::new(0),
            fleet: watch::Sender::new(None),
        }
    }

    /// Which of the channels has this name.
    pub(super) fn place(&self, name: &str) -> Result<usize, Refusal> {
        let mut channels = self.channels.iter();
        channels
            .position(|watched| watched.shown.name() == name)
            .ok_or_else(|| {
                let text = "there is no such channel";
                let hint = "see /api/channels for those that there are";
                Refusal::new(StatusCode::NOT_FOUND, "no_such_channel", text, hint)
            })
    }

    pub(super) fn channel(&self, name: &str) -> Result<&Watched, Refusal> {
        self.place(name).map(|at| &self.channels[at])
    }

    /// Writes down what was done, and has the page told.
    pub(super) fn note(&self, caller: &Caller, deed: &Deed<'_>) {
        self.diary.note(SystemClock.wall(), caller, deed);
        self.news.send_modify(|number| *number += 1);
    }
}

/// Everything, with what is served beside it, behind its gate.
pub(super) fn routes(gate: Gate, beside: Router) -> Router {
    let desk = Arc::clone(&gate.desk);
    let letters = Router::new()
        .route("/", get(letters::list))
        .route("/survey", get(letters::count))
        .route("/act", post(deed::act))
        .route("/stop", post(deed::stop))
        .route("/ticket", post(letters::ticket))
        .route("/export", get(letters::export))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let mut routes = Router::new()
        .route("/api/channels", get(channels))
        .route(
            "/api/live",
            get(async |State(desk): State<Arc<Desk>>| live::live(desk)),
        )
        .route("/api/log", get(log))
        .route("/api/channels/{channel}/history", get(history))
        .nest("/api/channels/{channel}/letters", letters)
        .with_state(Arc::clone(&desk));
    for (at, watched) in desk.channels.iter().enumerate() {
        let queue = watched.shown.queue().clone();
        let nested =
            control::router(queue).layer(from_fn_with_state((Arc::clone(&desk), at), through));
        routes = routes.nest(&format!("/api/channels/{}/control", watched.path), nested);
    }
    routes
        .merge(page::routes())
        .merge(beside)
        .fallback(control::no_such_endpoint)
        .method_not_allowed_fallback(control::method_not_allowed)
        .layer(from_fn_with_state(gate, guard))
}

/// What the caller may do.
#[derive(Debug, Serialize)]
struct Access {
    may_act: bool,
    by: &'static str,
    /// Whether there is a token that would let it.
    has_token: bool,
}

/// All channels.
#[derive(Debug, Serialize)]
struct Channels {
    version: &'static str,
    now_ms: u64,
    access: Access,
    sample: bool,
    channels: Vec<Box<RawValue>>,
    fleet: Option<Box<RawValue>>,
}

async fn channels(State(desk): State<Arc<Desk>>, Extension(caller): Extension<Caller>) -> Answer {
    let channels = desk
        .channels
        .iter()
        .map(|watched| RawValue::from_string(watched.json()));
    let fleet = desk.fleet.borrow().clone();
    let channels = Channels {
        version: env!("CARGO_PKG_VERSION"),
        now_ms: unix_ms(SystemClock.wall()),
        access: Access {
            may_act: caller.may_act(),
            by: caller.by(),
            has_token: desk.rules.token.is_some(),
        },
        sample: desk.rules.sample,
        // What was just written can be read.
        channels: channels.flatten().collect(),
        fleet: fleet.and_then(|json| RawValue::from_string(json.as_ref().to_owned()).ok()),
    };
    json(StatusCode::OK, &channels)
}

async fn log(State(desk): State<Arc<Desk>>) -> Answer {
    json(StatusCode::OK, &desk.diary.entries())
}

async fn history(State(desk): State<Arc<Desk>>, Path(channel): Path<String>) -> Answer {
    json(StatusCode::OK, &desk.channel(&channel)?.points())
}

/// What a request to the control of a queue takes and does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    /// It shows states and numbers.
    Look,
    /// It shows events, or changes something: this, to that number.
    Deed(&'static str, Option<Seq>),
}

impl Errand {
    /// What is not known is for those who may do everything.
    fn of(method: &Method, path: &str) -> Self {
        let mut parts = path.trim_start_matches('/').splitn(3, '/');
        let [first, second, third] = [(); 3].map(|()| parts.next().unwrap_or_default());
        let number = second.parse().ok();
        let is_look = *method == Method::GET || *method == Method::HEAD;
        match (is_look, first, third) {
            (true, "status" | "recovery" | "incidents" | "livez" | "readyz" | "metrics", _) => {
                Self::Look
            }
            (true, "events", _) => Self::Deed("read pending events", None),
            (true, "dead", _) if number.is_some() => {
                Self::Deed("read the event of a dead letter", number)
            }
            (true, "dead", _) => Self::Deed("read dead letters", None),
            (_, "events", _) => Self::Deed("appended events", None),
            (_, "dead", "retry") => Self::Deed("retried a dead letter", number),
            (_, "dead", _) => Self::Deed("discarded a dead letter", number),
            (_, "incidents", _) if number.is_some() => {
                Self::Deed("acknowledged an incident", number)
            }
            (_, "incidents", _) => Self::Deed("acknowledged all incidents", None),
            (_, "pause", _) => Self::Deed("paused delivery", None),
            (_, "resume", _) => Self::Deed("resumed delivery", None),
            (_, "pace", _) => Self::Deed("set the pace of delivery", None),
            (_, "wake", _) => Self::Deed("asked for a try at once", None),
            (_, "drain", _) => Self::Deed("waited for everything to be delivered", None),
            _ => Self::Deed("asked for what is not known", None),
        }
    }
}

/// Lets a request through to the control of a queue, if its caller may, and writes down what it did.
async fn through(
    State((desk, at)): State<(Arc<Desk>, usize)>,
    request: Request,
    next: Next,
) -> Response {
    let Errand::Deed(what, number_of) = Errand::of(request.method(), request.uri().path()) else {
        return next.run(request).await;
    };
    let Some(caller) = request.extensions().get::<Caller>().cloned() else {
        return StatusCode::FORBIDDEN.into_response();
    };
    if let Err(refusal) = caller.must_act() {
        return refusal.into_response();
    }
    let response = next.run(request).await;
    let status = response.status();
    let outcome = match status.is_success() {
        true => "done".to_owned(),
        false => format!("not done: {status}"),
    };
    let deed = Deed {
        channel: desk.channels[at].shown.name(),
        what,
        number_of,
        count: None,
        outcome: &outcome,
    };
    desk.note(&caller, &deed);
    desk.channels[at].nudge.notify_one();
    response
}

/// The body as JSON of this form.
pub(super) fn json_body<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        let text = format!("the body is not as documented: {}", json_fault(&error));
        Refusal::bad_request(text).hinting("see the documentation of everpost::admin")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_shows_no_event_and_changes_nothing_is_a_look() {
        for path in [
            "/status",
            "/status/watch",
            "/incidents",
            "/recovery",
            "/readyz",
        ] {
            assert_eq!(Errand::of(&Method::GET, path), Errand::Look, "{path}");
        }
        for (method, path) in [
            (Method::GET, "/events"),
            (Method::GET, "/dead"),
            (Method::GET, "/dead/7"),
            (Method::GET, "/anything"),
            (Method::GET, "/"),
            (Method::POST, "/status"),
            (Method::POST, "/pause"),
            (Method::DELETE, "/dead/7"),
        ] {
            let errand = Errand::of(&method, path);
            assert!(matches!(errand, Errand::Deed(..)), "{method} {path}");
        }
        let retry = Errand::of(&Method::POST, "/dead/7/retry");
        assert_eq!(retry, Errand::Deed("retried a dead letter", Some(7)));
    }
}
