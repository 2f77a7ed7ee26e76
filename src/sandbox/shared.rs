//! What the handle, the listener and the connections of one sandbox have in common.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, io};

use bytes::Bytes;
use hyper::http::request;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use super::fault::Fault;
use super::keys::Keys;
use super::record::{Accepted, Recording, Stats};
use crate::clock::Clock;
use crate::intake;
use crate::webhook;

/// How many messages a body holds, if it is a batch at all.
fn count_messages(body: &Bytes) -> Option<usize> {
    intake::messages(body).ok().map(|messages| messages.len())
}

/// A rule of the user's: the error text for a message that is to be refused.
pub(super) type RejectRule = Arc<dyn Fn(&Value) -> Option<String> + Send + Sync>;

/// Where accepted events are put before they count as accepted.
#[derive(Clone)]
pub(super) struct Store(pub(super) Arc<Keep>);

type Keep = dyn Fn(&[Accepted]) -> io::Result<()> + Send + Sync;

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store(..)")
    }
}

/// A key that requests are signed with. It cannot be printed.
#[derive(Clone)]
pub(super) struct SigningKey(webhook::Key);

impl SigningKey {
    /// The keys in a text, as `whsec_` and base64.
    pub(super) fn read(text: &str) -> Option<Vec<Self>> {
        Some(webhook::keys(text)?.into_iter().map(Self).collect())
    }
}

impl std::ops::Deref for SigningKey {
    type Target = webhook::Key;

    fn deref(&self) -> &webhook::Key {
        &self.0
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// Headers that carry credentials and are therefore not recorded.
const SECRET_HEADERS: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];

/// What the builder settles once and for all.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) channel: String,
    pub(super) id_pointer: String,
    pub(super) max_body_bytes: usize,
    pub(super) max_events: usize,
    pub(super) keep_bodies: bool,
    /// Whether other paths than the API's are taken as those of other receivers.
    pub(super) is_any_receiver: bool,
    pub(super) signing_keys: Vec<SigningKey>,
    pub(super) store: Option<Store>,
    pub(super) clock: Arc<dyn Clock>,
}

/// What changes as requests come and tests speak. One lock holds it, so that the order of
/// acceptances is one for all.
#[derive(Default)]
pub(super) struct State {
    pub(super) script: VecDeque<Fault>,
    pub(super) sticky: Option<Fault>,
    pub(super) keys: Keys,
    pub(super) reject: Option<RejectRule>,
    pub(super) record: Recording,
}

/// The counters, and whether more can come.
#[derive(Clone, Copy, Default)]
pub(super) struct News {
    pub(super) stats: Stats,
    pub(super) stopped: bool,
}

/// A request and the fault it is to meet.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) number: u64,
    pub(super) fault: Fault,
    /// Notes the end of the request, however it comes.
    pub(super) ending: Ending,
}

/// A request that has not ended yet.
#[derive(Debug)]
pub(super) struct Ending {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.shared.change(|state| state.record.end(self.number));
    }
}

pub(super) struct Shared {
    pub(super) rules: Rules,
    state: Mutex<State>,
    news: watch::Sender<News>,
    /// Wakes the requests that hang.
    pub(super) release: Notify,
}

impl Shared {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            state: Mutex::default(),
            news: watch::Sender::default(),
            release: Notify::new(),
        }
    }

    /// Looks at the state. A panic elsewhere while it was locked leaves it usable: every change
    /// to it is a push or a count.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and tells the callers that wait. The news are sent under the lock, so that
    /// they never go back.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        let mut stats = state.record.stats();
        stats.script_left = u64::try_from(state.script.len()).unwrap_or(u64::MAX);
        self.news.send_modify(|news| news.stats = stats);
        result
    }

    pub(super) fn news(&self) -> watch::Receiver<News> {
        self.news.subscribe()
    }

    /// Says that no request will come any more.
    pub(super) fn stop(&self) {
        self.news.send_modify(|news| news.stopped = true);
    }

    /// A request begins: it gets its number and its fault.
    pub(super) fn begin(self: &Arc<Self>) -> Turn {
        let (number, fault) = self.change(|state| {
            let fault = state
                .script
                .pop_front()
                .or_else(|| state.sticky.clone())
                .unwrap_or(Fault::None);
            let number = state.record.begin(fault.clone());
            (number, fault)
        });
        let shared = Arc::clone(self);
        Turn {
            number,
            fault,
            ending: Ending { shared, number },
        }
    }

    /// Notes the head of a request.
    pub(super) fn note_head(&self, number: u64, head: &request::Parts) {
        let headers = head
            .headers
            .iter()
            .filter(|(name, _)| !SECRET_HEADERS.contains(&name.as_str()))
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes());
                (name.as_str().to_owned(), value.into_owned())
            })
            .collect();
        let authorized = self.admits(head).is_ok();
        if let Some(exchange) = self.state().record.exchange(number) {
            exchange.method = head.method.to_string();
            exchange.path = head.uri.to_string();
            exchange.headers = headers;
            exchange.authorized = authorized;
        }
    }

    /// Notes the body of a request; `None` if it was too large to keep.
    pub(super) fn note_body(&self, number: u64, body_bytes: u64, body: Option<&Bytes>) {
        let events = body.and_then(count_messages).unwrap_or(0);
        if let Some(exchange) = self.state().record.exchange(number) {
            exchange.body_bytes = body_bytes;
            exchange.events = events;
            exchange.body = body.filter(|_| self.rules.keep_bodies).cloned();
        }
    }

    /// Whether the request carries a key that is accepted now, or why it does not.
    pub(super) fn admits(&self, head: &request::Parts) -> Result<(), String> {
        let header = head.headers.get(hyper::header::AUTHORIZATION);
        let header = header.and_then(|value| value.to_str().ok());
        self.state().keys.admit(header, self.rules.clock.wall())
    }

    /// Takes a batch: first stores it, if it is to be stored. One lock is held over both, so that
    /// what is stored is in the order of acceptance.
    ///
    /// # Errors
    /// If it could not be stored. Nothing of it is taken then.
    pub(super) fn accept(&self, number: u64, events: Vec<Accepted>) -> io::Result<()> {
        self.change(|state| {
            if let Some(Store(store)) = &self.rules.store {
                store(&events)?;
            }
            state.record.accept(number, events);
            Ok(())
        })
    }

    /// Notes why a request is refused.
    pub(super) fn refuse(&self, number: u64, reason: impl Into<String>) {
        self.state().record.refuse(number, reason.into());
    }

    pub(super) fn answer(&self, number: u64, status: u16) {
        self.change(|state| state.record.answer(number, status));
    }

    /// Counts a request as hanging for as long as the guard lives.
    pub(super) fn hang(&self) -> Hanging<'_> {
        self.change(|state| state.record.hang());
        Hanging(self)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// A request that hangs.
pub(super) struct Hanging<'a>(&'a Shared);

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.record.end_hang());
    }
}
