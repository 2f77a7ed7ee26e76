//! What the tests have in common.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use everpost::botanalytics::{Botanalytics, Builder, KeySource};
use everpost::clock::Clock;
use everpost::{Batch, Event, Outcome, PauseReason, Request, Sink, StoredEvent, Verdict};

use crate::server::{Reply, Server};

pub(crate) const RETRY: Verdict = Verdict::Retry { not_before: None };
pub(crate) const CREDENTIALS: Verdict = Verdict::Pause(PauseReason::Credentials);
pub(crate) const ADDRESS: Verdict = Verdict::Pause(PauseReason::Address);

/// Long enough for a busy machine, short enough that a hang fails the test.
pub(crate) const PATIENT: Duration = Duration::from_secs(20);
/// Less than any patience that is not looked at, so that running into one of those is seen.
pub(crate) const PROMPT: Duration = Duration::from_secs(4);
/// What a test waits where waiting is what it looks at.
pub(crate) const IMPATIENT: Duration = Duration::from_millis(200);

pub(crate) fn key_of(claims: &str) -> String {
    let claims = URL_SAFE_NO_PAD.encode(claims);
    format!("eyJhbGciOiJIUzI1NiJ9.{claims}.SECRETSIGNATURE")
}

pub(crate) fn key() -> String {
    key_of(r#"{"channel":"universal"}"#)
}

pub(crate) fn request(texts: &[&'static str]) -> Request {
    let events = (1..)
        .zip(texts)
        .map(|(seq, text)| StoredEvent {
            seq,
            event: Event::json(*text).unwrap(),
        })
        .collect();
    Request::new(Batch::new(events).unwrap())
}

pub(crate) fn builder(base_url: String) -> Builder {
    Botanalytics::builder(KeySource::value(key()))
        .base_url(base_url)
        .request_timeout(PATIENT)
}

/// Delivers one event to a server that gives this one reply.
pub(crate) async fn ask(reply: Reply) -> Outcome {
    let server = Server::start(vec![reply]).await;
    let sink = builder(server.base_url()).build().unwrap();
    sink.deliver(request(&["{}"])).await
}

pub(crate) fn detail(outcome: &Outcome) -> &str {
    outcome.answer.detail.as_deref().unwrap_or_default()
}

/// A clock that stands still.
#[derive(Debug)]
pub(crate) struct Standing(pub(crate) Mutex<SystemTime>);

impl Standing {
    pub(crate) fn at(seconds: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(UNIX_EPOCH + Duration::from_secs(seconds))))
    }
}

impl Clock for Standing {
    fn wall(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}
