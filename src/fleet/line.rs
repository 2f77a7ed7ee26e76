//! Keeps a connection, and lets go of it when the servers do not want us.
//!
//! A client goes on by itself when a server dies. What it does not tell its callers is that it is not let
//! in any more, or may not do something: those requests end without an answer. It comes as an event; then
//! the client is dropped, and a new one is made after a pause, with the credentials that are there then.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ClientError, Event, ServerError};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::connect::Access;
use super::text::clean;
use super::wire::Wire;
use crate::error::Error;
use crate::flusher::Backoff;
use crate::observe;

/// The pauses between two tries to be let in.
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Events that may wait to be looked at; one is enough to end a connection.
const EVENTS_MAX: usize = 16;

/// What a connection's event means for it, where it means anything. What concerns the subject `spared` is
/// no trouble.
fn refusal(event: &Event, spared: &str) -> Option<String> {
    let said = match event {
        Event::ServerError(ServerError::AuthorizationViolation) => {
            "authorization violation".to_owned()
        }
        Event::ServerError(ServerError::Other(said))
        | Event::ClientError(ClientError::Other(said)) => said.clone(),
        Event::ClientError(ClientError::MaxReconnects) => {
            "no server takes the connection".to_owned()
        }
        _ => return None,
    };
    if said.contains(&format!("\"{spared}\"")) {
        return None;
    }
    let small = said.to_ascii_lowercase();
    let words = [
        "violation",
        "authentication",
        "revoked",
        "expired",
        "no server takes",
    ];
    words
        .iter()
        .any(|word| small.contains(word))
        .then(|| clean(&said))
}

/// A connection that is made again when it was refused.
pub(super) struct Line {
    access: Access,
    /// A subject that it can do without.
    spared: Arc<str>,
    clients: watch::Sender<Option<Client>>,
    refusals: mpsc::Receiver<String>,
    refused: mpsc::Sender<String>,
    /// What the servers refuse at present; for people.
    trouble: watch::Sender<Option<String>>,
}

impl Line {
    /// Connects for the first time.
    ///
    /// # Errors
    /// As [`Access::connect`].
    pub(super) async fn open(access: Access, spared: &str) -> Result<Self, Error> {
        let (refused, refusals) = mpsc::channel(EVENTS_MAX);
        let line = Self {
            access,
            spared: spared.into(),
            clients: watch::channel(None).0,
            refusals,
            refused,
            trouble: watch::channel(None).0,
        };
        line.connect().await?;
        Ok(line)
    }

    pub(super) fn wire(&self) -> Wire {
        Wire::through(self.clients.subscribe())
    }

    pub(super) fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.subscribe()
    }

    async fn connect(&self) -> Result<(), Error> {
        let (refused, spared) = (self.refused.clone(), Arc::clone(&self.spared));
        let tell = move |event: Event| {
            if let Some(said) = refusal(&event, &spared) {
                // If there is no room, one is being looked at already.
                let _ = refused.try_send(said);
            }
        };
        let client = self.access.connect_and_tell(tell).await?;
        self.clients.send_replace(Some(client));
        Ok(())
    }

    /// Keeps it, for as long as this is polled.
    pub(super) async fn keep(mut self) {
        let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX, 2.0, 0.3);
        // A sender of its own is in this value, so there is always a next one.
        let mut connected = Instant::now();
        while let Some(said) = self.refusals.recv().await {
            if connected.elapsed() > PAUSE_MAX {
                backoff.reset();
            }
            self.clients.send_replace(None);
            let mut said = said;
            loop {
                let wait = backoff.fail(None);
                observe::refused_by_servers(&said, wait);
                self.trouble.send_replace(Some(said));
                sleep(wait).await;
                match self.connect().await {
                    Ok(()) => break,
                    Err(error) => said = error.to_string(),
                }
            }
            while self.refusals.try_recv().is_ok() {}
            connected = Instant::now();
            self.trouble.send_replace(None);
            observe::taken_by_servers();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_servers_do_not_let_us_do_is_told_from_what_passes() {
        let other = |said: &str| Event::ServerError(ServerError::Other(said.to_owned()));
        for refused in [
            Event::ServerError(ServerError::AuthorizationViolation),
            other("Permissions Violation for Publish to \"x\""),
            other("User Authentication Expired"),
            other("User Authentication Revoked"),
            Event::ClientError(ClientError::Other("authorization violation".to_owned())),
        ] {
            assert!(refusal(&refused, "events_workers").is_some(), "{refused}");
        }
        for passing in [
            Event::Connected,
            Event::Disconnected,
            Event::LameDuckMode,
            other("Stale Connection"),
            other("Permissions Violation for Publish to \"events_workers\""),
        ] {
            assert_eq!(refusal(&passing, "events_workers"), None, "{passing}");
        }
    }
}
