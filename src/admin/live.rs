//! Live news as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use hyper::header::CONTENT_TYPE;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep, timeout_at};

use super::desk::Desk;

/// The least time between two pieces of news.
const PACE: Duration = Duration::from_millis(250);

/// How long nothing may be sent: a client that has gone is found out by that.
const SILENCE: Duration = Duration::from_secs(15);

/// One client that listens.
struct Listener {
    desk: Arc<Desk>,
    news: watch::Receiver<u64>,
    fleet: watch::Receiver<Option<Arc<str>>>,
    /// The last that it was told; none before the first.
    told: Option<u64>,
    entries: u64,
    ends: Option<Instant>,
}

/// All channels and the fleet now, and each of them as it changes.
pub(super) fn live(desk: Arc<Desk>) -> Response {
    let listener = Listener {
        news: desk.news.subscribe(),
        fleet: desk.fleet.subscribe(),
        told: None,
        entries: desk.diary.newest(),
        ends: desk.rules.live_time.map(|time| Instant::now() + time),
        desk,
    };
    let body = stream::unfold(listener, |mut listener| async {
        let text = listener.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), listener))
    });
    let kind = "text/event-stream";
    ([(CONTENT_TYPE, kind)], Body::from_stream(body)).into_response()
}

impl Listener {
    /// The next text; none at the end.
    async fn next(&mut self) -> Option<String> {
        let Some(told) = self.told else {
            let now = *self.news.borrow_and_update();
            self.told = Some(now);
            let mut text = "retry: 1000\n\n".to_owned();
            for watched in &self.desk.channels {
                text += &event("channel", &watched.json());
            }
            return Some(text + &self.of_the_fleet());
        };
        let silent_at = Instant::now() + SILENCE;
        let until = self.ends.map_or(silent_at, |ends| ends.min(silent_at));
        let changed = async {
            tokio::select! {
                changed = self.news.changed() => changed,
                changed = self.fleet.changed() => {
                    self.fleet.mark_changed();
                    changed
                }
            }
        };
        match timeout_at(until, changed).await {
            Err(_) if self.ends.is_some_and(|ends| Instant::now() >= ends) => return None,
            Err(_) => return Some(": still here\n\n".to_owned()),
            Ok(Err(_)) => return None,
            Ok(Ok(())) => {}
        }
        sleep(PACE).await;
        let now = *self.news.borrow_and_update();
        let mut text = String::new();
        for watched in &self.desk.channels {
            if let Some(json) = watched.told_since(told) {
                text += &event("channel", &json);
            }
        }
        if self.fleet.has_changed().unwrap_or(false) {
            text += &self.of_the_fleet();
        }
        let entries = self.desk.diary.newest();
        if std::mem::replace(&mut self.entries, entries) != entries {
            text += &event("log", &entries.to_string());
        }
        self.told = Some(now);
        Some(text)
    }

    /// The fleet as it is known now; nothing if there is none.
    fn of_the_fleet(&mut self) -> String {
        let json = self.fleet.borrow_and_update();
        json.as_deref()
            .map_or_else(String::new, |json| event("fleet", json))
    }
}

/// JSON has no line breaks but in strings, where they are escaped.
fn event(name: &str, data: &str) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}
