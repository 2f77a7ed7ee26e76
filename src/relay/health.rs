//! Whether the channels of a relay are alive and ready, and their numbers: what only looks.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::routing::get;
use futures_util::future::join_all;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::Channel;
use super::desk::Desk;
use super::numbers::{self, CHANNEL};
use crate::control::answer::{Answer, Refusal, json, text};
#[cfg(feature = "fleet")]
use crate::control::books;
use crate::control::health::{liveness, readiness, status_of};
use crate::control::wire::{Liveness, Readiness};
use crate::metrics::page::{self, Page, Source};

/// The routes, without anything for what is none of them.
pub(super) fn routes(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(desk)
}

/// Which channel is asked about; all of them if none is named.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    channel: Option<String>,
}

type Asked = Result<Query<About>, QueryRejection>;

#[derive(Serialize)]
struct Live {
    live: bool,
    channels: BTreeMap<String, Liveness>,
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    channels: BTreeMap<String, Readiness>,
}

/// Alive are all or none: a log that does not answer is mended by a restart of the process.
async fn livez(State(desk): State<Arc<Desk>>, about: Asked) -> Answer {
    let channels = asked(&desk, about)?;
    let looks = channels.iter().map(|channel| liveness(channel.queue()));
    let looks = join_all(looks).await;
    let live = looks.iter().all(|look| look.live);
    let channels = named(&channels, looks);
    json(status_of(live), &Live { live, channels })
}

/// Ready is the relay while one channel is: its clients should not be sent away for another's sake.
async fn readyz(State(desk): State<Arc<Desk>>, about: Asked) -> Answer {
    let channels = asked(&desk, about)?;
    let looks = channels.iter().map(|channel| readiness(channel.queue()));
    let looks = join_all(looks).await;
    let ready = looks.iter().any(|look| look.ready);
    let channels = named(&channels, looks);
    json(status_of(ready), &Ready { ready, channels })
}

async fn metrics(State(desk): State<Arc<Desk>>) -> Answer {
    let sources: Vec<Source<'_>> = desk.channels().map(source).collect();
    let mut page = Page::default();
    page::add_queues(&mut page, &sources);
    numbers::add(&mut page, desk.tally());
    #[cfg(feature = "fleet")]
    if let Some(fleet) = desk.fleet() {
        books::add(&mut page, fleet);
    }
    Ok(text(page::TYPE, page.into_text()))
}

fn source(channel: &Channel) -> Source<'_> {
    let queue = channel.queue();
    Source::new(queue.place(), queue.status()).label(CHANNEL, channel.name())
}

fn asked(desk: &Desk, about: Asked) -> Result<Vec<&Channel>, Refusal> {
    let Some(name) = about?.0.channel else {
        return Ok(desk.channels().collect());
    };
    let found = desk.channel(&name).ok_or_else(|| {
        let hint = "leave `channel` out to see which there are";
        Refusal::new(
            StatusCode::NOT_FOUND,
            "no_such_channel",
            "there is no such channel",
            hint,
        )
    });
    found.map(|channel| vec![channel])
}

fn named<T>(channels: &[&Channel], looks: Vec<T>) -> BTreeMap<String, T> {
    let names = channels.iter().map(|channel| channel.name().to_owned());
    names.zip(looks).collect()
}
