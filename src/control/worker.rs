//! Health and numbers of a worker of a fleet.

use std::net::TcpListener as StdListener;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use hyper::StatusCode;
use serde::Serialize;

use super::answer::{Answer, json, text};
use super::tcp::{self, Listening};
use crate::error::Error;
use crate::fleet::{Held, Worker, WorkerStatus};
use crate::metrics::page::{self, Labels, Page};
use crate::observe::numbers::real;
use crate::observe::worker::{
    DEAD, DELIVERED, EXPIRED, LOST, OF_EVENTS, OF_HELD, OF_WORKER, PARTITION, PENDING, TROUBLE,
    WORKER,
};

/// Serves `/livez`, `/readyz` and `/metrics` of this worker on a TCP port, as
/// [`listen`](super::listen) does of a queue.
///
/// It is alive for as long as it answers, and ready while the servers let it do what it has to.
///
/// # Errors
/// [`Error::Fleet`] if there is no tokio runtime, or the system refuses.
pub fn listen_for_worker(
    worker: &Arc<Worker>,
    listener: StdListener,
    names: impl IntoIterator<Item = String>,
) -> Result<Listening, Error> {
    let routes = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(worker));
    tcp::serve(routes, listener, names).map_err(|source| Error::Fleet {
        reason: format!("health and numbers cannot be served: {source}"),
    })
}

#[derive(Serialize)]
struct Liveness {
    live: bool,
    name: String,
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    name: String,
    /// How many partitions it has.
    partitions: usize,
    /// What the servers do not let it do.
    error: Option<String>,
}

async fn livez(State(worker): State<Arc<Worker>>) -> Answer {
    let name = worker.name().to_owned();
    json(StatusCode::OK, &Liveness { live: true, name })
}

async fn readyz(State(worker): State<Arc<Worker>>) -> Answer {
    let status = worker.status();
    let readiness = Readiness {
        ready: status.trouble.is_none(),
        partitions: status.held.len(),
        error: status.trouble,
        name: status.name,
    };
    json(super::health::status_of(readiness.ready), &readiness)
}

async fn metrics(State(worker): State<Arc<Worker>>) -> Answer {
    Ok(text(page::TYPE, numbers(&worker.status()).into_text()))
}

fn numbers(status: &WorkerStatus) -> Page {
    let mut page = Page::default();
    let worker = Labels::default().with(WORKER, &status.name);
    for number in OF_WORKER {
        page.head(number.name, number.kind, number.meaning);
        let is = match number.name {
            TROUBLE => u64::from(status.trouble.is_some()),
            _ => status.held.len() as u64,
        };
        page.value(number.name, &worker, real(is));
    }
    for number in OF_EVENTS.into_iter().chain(OF_HELD) {
        page.head(number.name, number.kind, number.meaning);
        for held in &status.held {
            let labels = worker.with(PARTITION, &held.partition.to_string());
            page.value(number.name, &labels, real(value(number.name, held)));
        }
    }
    page
}

fn value(name: &str, held: &Held) -> u64 {
    match name {
        DELIVERED => held.ledger.delivered,
        DEAD => held.ledger.dead,
        EXPIRED => held.ledger.expired,
        LOST => held.ledger.lost,
        PENDING => held.pending,
        _ => held.requests,
    }
}
