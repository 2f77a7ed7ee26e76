//! When to look for new events: soon after something was published, and every second anyway.

use std::time::Duration;

use async_nats::Subscriber;
use futures_util::StreamExt as _;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::wire::Wire;

/// Without a hint.
const POLL: Duration = Duration::from_secs(1);
/// After a hint: what is published as a batch is there for readers only when all of it is.
const SOON: Duration = Duration::from_millis(10);
/// For how long the steps after a hint stay short.
const SOON_MAX: Duration = Duration::from_secs(1);

/// Hints of one subject. A subscription is made for one message at a time: events are not to come twice,
/// once as a hint and once as themselves.
pub(super) struct Hints {
    wire: Wire,
    subject: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    hint: Option<Subscriber>,
    /// When the last hint came, and how long the next step is.
    hinted: Option<Instant>,
    step: Duration,
}

impl Hints {
    pub(super) fn new(wire: Wire, subject: &str) -> Self {
        Self {
            wire,
            subject: subject.to_owned(),
            state: Mutex::default(),
        }
    }

    /// Listens from now on.
    pub(super) async fn begin(&self) {
        let mut state = self.state.lock().await;
        state.hinted = None;
        if state.hint.is_none() {
            state.hint = self.listen().await;
        }
    }

    async fn listen(&self) -> Option<Subscriber> {
        self.wire.listen(&self.subject, Some(1)).await.ok()
    }

    /// Waits until it is worth looking again.
    pub(super) async fn next(&self) {
        let mut state = self.state.lock().await;
        if let Some(hinted) = state.hinted {
            if hinted.elapsed() < SOON_MAX {
                sleep(state.step).await;
                state.step *= 2;
                return;
            }
            state.hinted = None;
            state.hint = self.listen().await;
        }
        let Some(hint) = &mut state.hint else {
            sleep(POLL).await;
            state.hint = self.listen().await;
            return;
        };
        if let Ok(hint) = timeout(POLL, hint.next()).await {
            state.hint = None;
            if hint.is_some() {
                state.hinted = Some(Instant::now());
                state.step = SOON;
            } else {
                // The connection is another one.
                sleep(SOON).await;
            }
        }
    }
}
