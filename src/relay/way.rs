//! The way that a request came, as far as it is known.

use std::time::Duration;

use axum::extract::Request;
use tokio::time::sleep;

use super::answer::Refusal;
use crate::serving::{Peer, Via};

/// How long a request that is being read, or waits for memory, may take once its port is to go.
const GRACE: Duration = Duration::from_secs(1);

/// None if another server than ours serves the routes.
#[derive(Clone, Debug)]
pub(super) struct Way(Option<Via>);

impl Way {
    pub(super) fn of(request: &Request) -> Self {
        Self(request.extensions().get().cloned())
    }

    pub(super) fn peer(&self) -> Option<Peer> {
        self.0.as_ref().map(Via::peer)
    }

    /// Whether a page in a browser can come this way under a name that it has made point here.
    pub(super) fn is_open_to_pages(&self) -> bool {
        self.0.as_ref().is_none_or(Via::is_open_to_pages)
    }

    /// Ends when the port is to go.
    pub(super) async fn closing(&self) {
        match &self.0 {
            Some(via) => via.closing().await,
            None => std::future::pending().await,
        }
    }

    /// What takes nothing in yet, if it is done before the port goes or a moment after.
    pub(super) async fn unless_it_closes<T>(
        &self,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let end = async {
            self.closing().await;
            sleep(GRACE).await;
        };
        tokio::select! {
            biased;
            done = work => done,
            () = end => Err(Refusal::closing()),
        }
    }
}
