//! Connections on which nothing is asked, so that they make room for those on which something is.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a client has, after it came or was answered, until its place may be given to another.
const IDLE_MIN: Duration = Duration::from_secs(1);

/// Instead of the time since when it waits.
const IS_BUSY: u64 = u64::MAX;

/// A connection, as the listener sees it.
#[derive(Debug)]
pub(super) struct Chair {
    /// When the port was opened.
    epoch: Instant,
    /// Since when nothing is asked, in milliseconds after that.
    waits_since_ms: AtomicU64,
    give_up: Notify,
}

impl Chair {
    fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            waits_since_ms: AtomicU64::new(ms(epoch.elapsed())),
            give_up: Notify::new(),
        }
    }

    pub(super) fn waits(&self) -> bool {
        self.waits_since_ms.load(Ordering::Relaxed) != IS_BUSY
    }

    /// It is busy until what is returned is dropped.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.waits_since_ms.store(IS_BUSY, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Ends when another client is to have the place.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn given_up(&self) {
        self.give_up.notified().await;
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(IS_BUSY - 1)
}

/// A request is under way, and then its answer.
#[derive(Debug)]
pub(super) struct Busy(Arc<Chair>);

impl Drop for Busy {
    fn drop(&mut self) {
        let now = ms(self.0.epoch.elapsed());
        self.0.waits_since_ms.store(now, Ordering::Relaxed);
    }
}

/// The body of an answer: its connection is busy until it is out.
pub(super) struct Outgoing {
    pub(super) body: axum::body::Body,
    pub(super) _busy: Busy,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The connections of a port.
#[derive(Debug)]
pub(super) struct Chairs {
    epoch: Instant,
    /// Those of connections that have ended are taken out now and then.
    chairs: Vec<Arc<Chair>>,
    max: usize,
}

impl Chairs {
    pub(super) fn new(max: usize) -> Self {
        Self {
            epoch: Instant::now(),
            chairs: Vec::new(),
            max,
        }
    }

    /// For a connection that came just now.
    pub(super) fn add(&mut self) -> Arc<Chair> {
        if self.chairs.len() >= 2 * self.max {
            self.clear();
        }
        let chair = Arc::new(Chair::new(self.epoch));
        self.chairs.push(Arc::clone(&chair));
        chair
    }

    fn clear(&mut self) {
        self.chairs.retain(|chair| Arc::strong_count(chair) > 1);
    }

    /// Has the connection give up on which nothing was asked for the longest time; false if something
    /// is asked, or was a moment ago, on each.
    pub(super) fn make_room(&mut self) -> bool {
        self.clear();
        let since = |chair: &Chair| chair.waits_since_ms.load(Ordering::Relaxed);
        let longest = self.chairs.iter().enumerate();
        let Some((at, chair)) = longest.min_by_key(|(_, chair)| since(chair)) else {
            return false;
        };
        let long_enough = ms(self.epoch.elapsed().saturating_sub(IDLE_MIN));
        if since(chair) >= long_enough {
            return false;
        }
        self.chairs.swap_remove(at).give_up.notify_one();
        true
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    async fn is_given_up(chair: &Chair) -> bool {
        timeout(Duration::ZERO, chair.given_up()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn the_place_of_the_client_that_was_silent_for_longest_is_given_away_and_no_busy_one() {
        let mut chairs = Chairs::new(3);
        let busy = chairs.add();
        let asked = busy.busy();
        let [first, second] = [(); 2].map(|()| chairs.add());
        assert!(!chairs.make_room(), "they came just now");
        advance(Duration::from_secs(2)).await;
        let third = chairs.add();
        // It was answered a moment ago.
        drop(first.busy());
        assert!(chairs.make_room());
        assert!(is_given_up(&second).await && !is_given_up(&first).await);
        assert!(!chairs.make_room(), "none of the others is silent for long");
        advance(Duration::from_secs(2)).await;
        assert!(chairs.make_room() && chairs.make_room() && !chairs.make_room());
        assert!(is_given_up(&first).await && is_given_up(&third).await);
        assert!(!is_given_up(&busy).await);
        drop(asked);
        advance(Duration::from_secs(2)).await;
        assert!(busy.waits() && chairs.make_room());
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_have_ended_are_not_remembered_without_end() {
        let mut chairs = Chairs::new(4);
        for _ in 0..100 {
            drop(chairs.add());
            assert!(chairs.chairs.len() <= 8);
        }
        advance(Duration::from_secs(2)).await;
        assert!(!chairs.make_room(), "there is none to give up");
    }
}
