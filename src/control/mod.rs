//! Live control: eyes and hands for a queue that another process owns.
//!
//! [`router`] is one function that gives an HTTP router over a [`Queue`](crate::Queue);
//! [`serve`] lets the owner of a spool serve it on `control.sock` in the spool's directory; a
//! [`Client`] speaks to that socket; [`wire`] holds the JSON forms.
//!
//! ```
//! # #[cfg(unix)]
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let spool = dir.path().join("spool");
//! use everpost::control::{self, Client};
//! use everpost::{Event, Queue};
//!
//! // In the owner:
//! let queue = Queue::builder(&spool).open().await?;
//! let control = control::serve(&queue).await?;
//!
//! // Anywhere else on this machine, as the same user:
//! let client = Client::new(&spool);
//! client.append(&[Event::json(r#"{"text":"hello"}"#)?]).await?;
//! assert_eq!(client.status().await?.pending, 1);
//!
//! control.close().await?;
//! queue.close(std::time::Duration::ZERO).await?;
//! # Ok(()) }
//! # #[cfg(not(unix))] fn main() {}
//! ```
//!
//! Or from a shell: `curl --unix-socket SPOOL/control.sock http://everpost/status`.
//!
//! # Endpoints
//!
//! Every answer is JSON (`application/json`) or JSON lines (`application/x-ndjson`, marked
//! *lines*). Unknown query parameters are refused. `{seq}` is a sequence number.
//!
//! | endpoint | what it does | success |
//! |---|---|---|
//! | `GET /status` | the state of the queue | 200, a [`Status`](crate::Status) |
//! | `GET /status/watch` | the state now and at each change, at most ten a second, changes in between told as one; ends with the queue | 200, *lines*: `Status` |
//! | `GET /livez` | whether the log's thread answers, within [`ANSWER_TIME`] | 200, a [`Liveness`](wire::Liveness); 503 with one if it does not |
//! | `GET /readyz` | whether an append would be taken; delivery does not count and is told beside it | 200, a [`Readiness`](wire::Readiness); 503 with one if not |
//! | `GET /metrics` | the [numbers](crate::metrics) in the text format of Prometheus | 200, `text/plain; version=0.0.4` |
//! | `GET /recovery` | what opening found and mended | 200, a [`Recovery`](crate::Recovery) |
//! | `GET /events?after=0&max=100` | pending events after this sequence number, in order; moves nothing | 200, *lines*: [`EventLine`](wire::EventLine) |
//! | `POST /events?form=event` | appends the body, which is one event; `id` (a UUID) and `time_ms` in the query are kept if given | 200, *lines*: one [`Receipt`](crate::Receipt) |
//! | `POST /events?form=lines` | appends each line of the body, which is one event; blank lines are passed over | 200, *lines*: `Receipt`, in order |
//! | `POST /events?form=entries` | the same, where each line is an [`Entry`](wire::Entry) with the event in it; an exported line is one | 200, *lines*: `Receipt`, in order |
//! | `GET /dead?after=0&max=100` | dead letters after this sequence number, in order | 200, *lines*: [`LetterLine`](wire::LetterLine) |
//! | `GET /dead/{seq}` | one dead letter | 200, a `LetterLine` |
//! | `POST /dead/{seq}/retry` | appends its event anew and removes the letter | 200, a `Receipt` |
//! | `DELETE /dead/{seq}` | removes the letter and its event for ever | 204 |
//! | `GET /fate/{seq}`, `GET /fate/{id}` | what became of an event; one that is named by its id is looked for in all that waits and in the dead letters. With `wait_ms`, also what it is once it has left the queue or that time is up | 200, *lines*: one [`FateLine`](wire::FateLine), and a second if it was pending and `wait_ms` is not 0; without it the queue has ended before |
//! | `GET /incidents` | what was found wrong with the spool and is on record, in order of the numbers | 200, *lines*: [`Incident`](crate::Incident) |
//! | `POST /incidents/{number}/acknowledge` | notes durably that a person has seen this one | 200, an [`Acknowledged`](wire::Acknowledged): `{"acknowledged":1}`, 0 if that was on record before |
//! | `POST /incidents/acknowledge` | the same for all that are on record | 200, an `Acknowledged` |
//! | `POST /drain?deadline_ms=60000` | tries now, and waits until everything that is pending at this moment has left the queue, or until the deadline; appends and delivery go on, also after it | 200, *lines*: [`DrainLine`](wire::DrainLine), the last with `done` |
//! | `POST /pause` | stops delivery after the request in flight, also across restarts; answers when nothing is sent any more and the pause is on disk | 202, `{"accepted":true}` |
//! | `POST /resume` | ends a pause, whatever its reason, and tries at once; answers when that is on disk | 202, the same |
//! | `POST /pace?rate_events=100&rate_bytes=65536` | sets how much may go out in a second, until the owner ends; what is left out is not bounded; answers when the flusher has taken that up | 202, the same |
//! | `POST /wake` | tries now what waits for a time, and a disk that refused; answers when the flusher has taken that up | 202, the same |
//!
//! An answer to `POST /events` means what a return of [`append_all`](crate::Queue::append_all)
//! means: the events are as safe as the owner's [`Durability`](crate::Durability) says. One
//! request is one commit: all of its events in a row, or none. If the connection ends without an
//! answer, the events are there or not; send them again under the same ids.
//!
//! `form=event` keeps the body to the byte. On the line forms see [`EventJson`](wire::EventJson).
//!
//! A request that its client gives up is dropped: a drain stops waiting (delivery goes on), an
//! append that was not taken up yet appends nothing. A pause and a resume are done all the same.
//!
//! An owner without a sink has nothing to pause. It keeps a pause, or its end, for the next owner
//! that delivers, as it holds across restarts.
//!
//! If the disk refuses to keep a pause or its end, the answer is the error (500 `storage`, or as
//! the disk says), and its hint tells what holds until the owner restarts.
//!
//! # Health over TCP
//!
//! [`listen`] serves `/livez`, `/readyz` and `/metrics`, and nothing else, on TCP: for probes and
//! for a Prometheus server. It is plain HTTP without authentication, shows no event, no key and
//! nothing that the receiver said, and changes nothing.
//!
//! # Errors
//!
//! An answer that is no success has an [`ErrorBody`](wire::ErrorBody):
//! `{"error":"...","hint":"...","kind":"..."}`.
//!
//! | status | `kind` | |
//! |---|---|---|
//! | 400 | `bad_request` | the path, the query or the body is not as documented |
//! | 400 | `invalid_event` | an event is not one JSON value; the line is named; nothing was appended |
//! | 403 | `forbidden` | asked by a member of the socket's group; see [`GroupSocket`] |
//! | 404 | `no_such_letter`, `no_such_incident`, `no_such_endpoint` | |
//! | 405 | `method_not_allowed` | |
//! | 408 | `too_slow` | the body did not come within [`BODY_TIME`] |
//! | 409 | `no_sink` | the owner has no sink, so nothing can be delivered |
//! | 409 | `failed` | delivery has ended by a panic |
//! | 400, 421 | `wrong_host` | over TCP: the request names no host, or one that is not served; see [`listen`] |
//! | 413 | `request_too_large` | more than [`REQUEST_BYTES_MAX`] bytes or [`EVENTS_MAX`] events |
//! | 413 | `too_large` | one event, or all together, are larger than the owner's settings allow |
//! | 500 | `storage`, `damaged`, `not_owner`, `panicked`, `unexpected` | as the [`Error`](crate::Error) of that name |
//! | 503 | `busy` | [`APPENDS_MAX`] appends are under way, or too many connections are open |
//! | 503 | `closed` | the queue is closing, or its socket; nothing was done |
//! | 507 | `full` | the spool or the disk is full; nothing was appended |
//!
//! What is not HTTP, or has a head that is too large, is answered before there is a request, by
//! a bare 400 or 431, and its connection ends.
//!
//! # Limits
//!
//! Lists end at `max` lines, at most [`LIST_MAX`], or at [`PAGE_BYTES`] if that comes first, but
//! hold one line at least if there is any; the last line's `seq` goes on from there, and an empty
//! answer is the end. The bounds of [`serve`] are [`CONNECTIONS_MAX`], [`HEAD_BYTES_MAX`],
//! [`HEAD_TIME`] and [`WRITE_TIME`].

pub(crate) mod answer;
#[cfg(all(feature = "fleet", feature = "relay"))]
pub(crate) mod books;
mod client;
#[cfg(unix)]
mod connection;
mod dial;
#[cfg(unix)]
mod doors;
mod error;
mod fate;
mod follow;
mod group;
pub(crate) mod health;
mod lines;
pub(crate) mod router;
mod serve;
#[cfg(unix)]
mod socket;
mod tcp;
pub mod wire;
#[cfg(feature = "fleet")]
mod worker;

use std::time::Duration;

pub use client::Client;
pub use error::ClientError;
pub use group::GroupSocket;
pub use lines::Lines;
pub use router::router;
pub use serve::{Control, serve, serve_group};
pub use tcp::{Listening, listen};
#[cfg(feature = "fleet")]
pub use worker::listen_for_worker;

/// The name of the socket in the directory of the spool.
pub const SOCKET: &str = "control.sock";

/// Bytes in the body of one request.
pub const REQUEST_BYTES_MAX: usize = 8 << 20;

/// Events in one request.
pub const EVENTS_MAX: usize = 10_000;

/// Requests to append that may be under way at once. Under `OnFull::Block` they wait for room.
pub const APPENDS_MAX: usize = 8;

/// Lines of a list, if the request does not say.
pub const LIST_DEFAULT: usize = 100;

/// Lines of a list at the most.
pub const LIST_MAX: usize = 10_000;

/// Bytes of a list, beyond the first line.
pub const PAGE_BYTES: usize = 1 << 20;

/// How long a drain waits, if the request does not say.
pub const DRAIN_DEFAULT: Duration = Duration::from_secs(60);

/// How long a drain waits at the most: a week.
pub const DRAIN_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long a question for what became of an event waits at the most: a week.
pub const FATE_WAIT_MAX: Duration = DRAIN_MAX;

/// How long the body of a request may take to arrive.
pub const BODY_TIME: Duration = Duration::from_secs(10);

/// Connections that are served at once. A few more are told that the owner is busy.
pub const CONNECTIONS_MAX: usize = 64;

/// Bytes of the head of a request.
pub const HEAD_BYTES_MAX: usize = 16 << 10;

/// How long the head of a request may take to arrive, and a connection may be idle.
pub const HEAD_TIME: Duration = Duration::from_secs(5);

/// How long a client may take nothing of its answer.
pub const WRITE_TIME: Duration = Duration::from_secs(30);

/// How long the log's thread may take to answer before the queue counts as dead. A probe has to
/// wait longer than that to be told why.
pub const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Connections of [`listen`] that are served at once; a few more are told that it is busy.
pub const TCP_CONNECTIONS_MAX: usize = 16;

/// How long a connection of [`listen`] may take, from its beginning to the end of the answer.
pub const TCP_TIME: Duration = Duration::from_secs(15);
