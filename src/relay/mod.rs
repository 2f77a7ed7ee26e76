//! The API's own door, on this machine: any program that speaks to the API can speak to a relay
//! instead, and a 200 then means that its messages survive a power cut.
//!
//! A [`Relay`] has one [`Channel`] for each channel of the API, each with a queue of its own, so that
//! a slow or refused one holds up no other. It takes what the API documents and what its official
//! clients send, and answers as the API does; the queues deliver.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! use everpost::Queue;
//! use everpost::relay::{Channel, Relay, Tokens};
//!
//! let queue = Queue::builder(dir.path().join("universal")).open().await?;
//! let tokens = Tokens::open(dir.path())?;
//! let token = tokens.mint("universal")?;
//! let relay = Relay::builder(tokens)
//!     .channel(Channel::new("universal", queue.clone()))
//!     .build();
//! let port = relay.serve(std::net::TcpListener::bind("127.0.0.1:0")?)?;
//!
//! // A bot, in any language: BA_BASE_URL and BA_API_KEY are all that it is told.
//! # let _ = rustls::crypto::ring::default_provider().install_default();
//! let client = reqwest::Client::builder().no_proxy().build()?;
//! let answer = client
//!     .post(format!("http://{}/v2/messages", port.address()))
//!     .header("authorization", format!("Bearer {}", token.expose()))
//!     .header("content-type", "application/json")
//!     .body(r#"{"messages":[{"message":{"timestamp":1}}]}"#)
//!     .send()
//!     .await?;
//! assert_eq!(answer.status(), 200);
//! assert_eq!(queue.status().pending, 1); // From here on a power cut cannot take it.
//!
//! port.close().await?;
//! queue.close(std::time::Duration::ZERO).await?;
//! # Ok(()) }
//! ```
//!
//! # The contract
//!
//! `POST /v2/messages` with `Authorization: Bearer <key>`, `Content-Type: application/json` and
//! `{"messages":[{"message":{...}}, ...]}`. As the official clients send it: also `/messages`
//! without the version, a final `/`, and Universal messages without the wrapper. Each message is
//! one event, its bytes as they came; all messages of a request are one commit, in a row or not at
//! all. Its id is the message's own `id` if that is a UUID, and made here otherwise.
//!
//! | what it is | answer |
//! |---|---|
//! | all of it is as safe as the queue's [`Durability`](crate::Durability) says | 200, `{"request_id":"..."}`: the id of the first event |
//! | not JSON, no list of messages, an empty one, a message that is no object; with [`validate`](Rules::validate) one that its channel does not document | 400 |
//! | no key, or one that does not open the door: see [below](#keys) | 401 |
//! | it comes from a web page whose origin is not [let in](Rules::origin) | 403 |
//! | another path, another method | 404, 405 |
//! | a host that is not [served](Rules::host) | 400, 421 |
//! | an `Idempotency-Key` that is none: see [below](#what-comes-again) | 400 |
//! | another request under an `Idempotency-Key` that was used | 422 |
//! | the body did not come within [`BODY_TIME`] | 408 |
//! | more than [`BODY_BYTES_MAX`] bytes or [`MESSAGES_MAX`] messages, or more than the queue's settings take at once | 413 |
//! | the client asks more often than its [rate](Rules::rate) | 429, with `Retry-After` |
//! | the queue can take no more in, nor could for as long as the request was [held](Rules::hold) | 503, with `Retry-After` |
//! | the queue or the port is closing; too many connections are open | 503, with `Retry-After` |
//! | anything else | 500 |
//!
//! Every answer but 200 has `{"errors":["..."]}`, and nothing of the request is in the queue, but
//! for one that was cut off by the disk: that may be found there after a restart, under its ids.
//! The text says so where it is otherwise.
//!
//! # What comes again
//!
//! With [`Channel::repeats`], a request under the same `Idempotency-Key` with the same body is taken
//! once within a [window](RepeatWindows), which outlives the process. The second answer has the same
//! `request_id`, the header `Idempotency-Replayed: true`, and how many messages were `repeated`. One
//! that comes while the first is being taken waits for it. A key is 1 to 255 visible ASCII characters
//! and belongs to the channel, whichever token comes with it, or to the origin of a web page there; with
//! another body it is refused.
//!
//! With [`RepeatWindows::messages`] a message is known by its own `id`, a text, together with its
//! bytes, and is `repeated` without being taken again; with other bytes it is another message.
//!
//! The commit comes first, then the record of it, then the answer. So what was answered is known, and a
//! crash in between leaves events in the queue that were not answered. Under a key their ids follow
//! from the channel, the key and the body, so that a repeat has the same; it is in the queue twice.
//! If the record cannot be written, the answer is 503 although all of the request is in the queue; the
//! same request is answered with 200 once the record can be written. See [`Repeats`] for the bounds.
//!
//! # Keys
//!
//! The channel of a request is the `channel` claim of its key. The key opens the door if it is
//!
//! - a token of this relay ([`Tokens::mint`]): worth nothing elsewhere, so that no bot has to hold
//!   the key of the API;
//! - the very key that the channel delivers with ([`Channel::upstream`]);
//! - with [`any_key`](Rules::any_key), any key that is made for the channel, unless the request comes
//!   from a web page;
//! - a token for web pages ([`Tokens::mint_for_pages`]), if the request comes from one of its origins.
//!   It may stand in the query too, as `?token=...`, and the body may be `text/plain` then, as
//!   `navigator.sendBeacon` sends it.
//!
//! No key is stored, logged, or sent on: what is delivered carries the channel's own.
//!
//! # Pressure
//!
//! While the queue is full, or the disk refuses, a request is held, since the official Python client
//! takes every answer but 200 for the last word. Only then is it answered with 503 and a
//! `Retry-After` of [`RETRY_AFTER`]: at a longer one the Node client gives up. What was answered with
//! 200 is never dropped for what comes later, as long as the queue is not opened with
//! [`OnFull::DropOldest`](crate::OnFull::DropOldest).

mod admission;
mod answer;
#[cfg(unix)]
mod berth;
mod browsers;
mod builder;
mod channel;
mod desk;
mod door;
mod health;
mod numbers;
mod origin;
mod posted;
mod rate;
mod repeats;
mod rules;
pub(crate) mod token;
mod way;

use std::time::Duration;

pub use builder::{Builder, Port, Relay};
pub use channel::Channel;
pub use door::Door;
#[cfg(unix)]
pub use door::UnixSocket;
pub use numbers::{REQUEST_TIME, REQUESTS};
pub use origin::{Origin, OriginError};
pub use rate::Rate;
pub use repeats::{KEY_WINDOW, REPEATS_MAX, RepeatWindows, Repeats};
pub use rules::Rules;
pub use token::{ORIGINS_MAX, Token, Tokens};

pub use crate::serving::{Address, Tls};

/// Bytes in the body of one request.
pub const BODY_BYTES_MAX: usize = 8 << 20;

/// Messages in one request.
pub const MESSAGES_MAX: usize = 10_000;

/// Bytes of bodies that are in memory at once; a request that finds no room waits as long as it may
/// be held.
pub const BODIES_BYTES_MAX: usize = 64 << 20;

/// How long the body of a request may take to arrive.
pub const BODY_TIME: Duration = Duration::from_secs(10);

/// How long a request is held while the queue can take nothing in, if nothing else is said.
pub const HOLD: Duration = Duration::from_secs(20);

/// When a client that was answered with 503 is to come again.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How long a client may take nothing of its answer.
pub const WRITE_TIME: Duration = Duration::from_secs(30);

/// Connections that are served at once. Beyond them, the one on which nothing was asked for the longest
/// time makes way; if something is asked on each, a few more are told that the relay is busy.
pub const CONNECTIONS_MAX: usize = 512;

/// Bytes of the head of a request.
pub const HEAD_BYTES_MAX: usize = 16 << 10;

/// How long the head of a request may take to arrive, and a connection may be idle.
pub const HEAD_TIME: Duration = Duration::from_secs(60);
