//! Whether the queue is alive and ready, and its numbers: what only looks.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use hyper::StatusCode;
use tokio::time::timeout;

use super::ANSWER_TIME;
use super::answer::{Answer, Refusal, json, text};
use super::wire::{ErrorBody, Liveness, Readiness};
use crate::error::Error;
use crate::metrics::page::{self, Page, Source};
use crate::queue::Queue;

/// The routes, without anything for what is none of them.
pub(crate) fn routes(queue: Queue) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(queue)
}

async fn livez(State(queue): State<Queue>) -> Answer {
    let liveness = liveness(&queue).await;
    json(status_of(liveness.live), &liveness)
}

async fn readyz(State(queue): State<Queue>) -> Answer {
    let readiness = readiness(&queue).await;
    json(status_of(readiness.ready), &readiness)
}

async fn metrics(State(queue): State<Queue>) -> Answer {
    let mut page = Page::default();
    page::add_queues(&mut page, &[Source::new(queue.place(), queue.status())]);
    Ok(text(page::TYPE, page.into_text()))
}

/// Whether the log's thread answers.
pub(crate) async fn liveness(queue: &Queue) -> Liveness {
    Liveness::new(fault(queue.ping()).await)
}

/// Whether an append would be taken, and why not.
pub(crate) async fn readiness(queue: &Queue) -> Readiness {
    let checked = fault(queue.check_append()).await;
    let status = queue.status();
    let disk = status.storage_fault.as_ref().map(|fault| {
        ErrorBody::new(
            "storage",
            format!("the disk refused: {fault}"),
            "see that the disk is there, writable and has room; the next append tries it again, and so does `everpost wake`",
        )
    });
    Readiness::new(checked.or(disk), &status)
}

pub(crate) fn status_of(is_well: bool) -> StatusCode {
    if is_well {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

/// What is wrong, if the log's thread says so or says nothing.
async fn fault<E: Into<Error>>(asked: impl Future<Output = Result<(), E>>) -> Option<ErrorBody> {
    match timeout(ANSWER_TIME, asked).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(Refusal::from(error.into()).into_body()),
        Err(_) => Some(ErrorBody::new(
            "no_answer",
            format!("the log's thread does not answer. waited=`{ANSWER_TIME:?}`"),
            "see whether the disk answers; if it does, restart the owner of the spool",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use axum::response::IntoResponse as _;

    use super::*;
    use crate::room::Guest;

    /// Holds up the log's thread when it is dropped there, until the other end of the channel is
    /// dropped: a disk that does not answer.
    #[derive(Debug)]
    struct Hold(Receiver<()>);

    impl Guest for Hold {}

    impl Drop for Hold {
        fn drop(&mut self) {
            let _ = self.0.recv();
        }
    }

    async fn read(answer: Answer) -> (StatusCode, serde_json::Value) {
        let response = answer.into_response();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await;
        (status, serde_json::from_slice(&body.unwrap()).unwrap())
    }

    #[tokio::test]
    async fn a_log_that_is_held_up_is_neither_alive_nor_ready() {
        let dir = tempfile::tempdir().unwrap();
        let queue = Queue::builder(dir.path().join("spool")).open().await;
        let queue = queue.unwrap();
        assert_eq!(
            read(livez(State(queue.clone())).await).await.0,
            StatusCode::OK
        );
        let (release, hold) = channel::<()>();
        let held = tokio::spawn({
            let queue = queue.clone();
            async move { queue.send_away(Some(Box::new(Hold(hold)))).await }
        });
        tokio::task::yield_now().await;
        tokio::time::pause();
        for answer in [
            livez(State(queue.clone())).await,
            readyz(State(queue.clone())).await,
        ] {
            let (status, body) = read(answer).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(body["kind"], "no_answer");
            assert!(body["hint"].as_str().unwrap().contains("disk"));
        }
        tokio::time::resume();
        drop(release);
        held.await.unwrap();
        let (status, body) = read(readyz(State(queue.clone())).await).await;
        assert_eq!((status, &body["ready"]), (StatusCode::OK, &true.into()));
        queue.close(Duration::ZERO).await.unwrap();
        let (status, body) = read(livez(State(queue.clone())).await).await;
        assert_eq!(
            (status, &body["kind"]),
            (StatusCode::SERVICE_UNAVAILABLE, &"closed".into())
        );
    }
}
