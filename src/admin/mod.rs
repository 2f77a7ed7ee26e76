//! A page for the people who run queues: what each of them does, why, and what to do about it.
//!
//! An [`Admin`] serves one HTML page, and the JSON that it is made of, over any number of queues:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! use everpost::Queue;
//! use everpost::admin::{Admin, Shown, Token};
//!
//! let queue = Queue::builder(dir.path().join("universal")).open().await?;
//! let token = Token::open(dir.path())?; // In admin.token, for this user alone.
//! let admin = Admin::builder()
//!     .channel(Shown::new("universal", queue.clone()))
//!     .token(token)
//!     .build();
//! let port = admin.serve(std::net::TcpListener::bind("127.0.0.1:0")?)?;
//! println!("admin on http://{}/", port.address());
//!
//! port.close().await?;
//! queue.close(std::time::Duration::ZERO).await?;
//! # Ok(()) }
//! ```
//!
//! # Who may do what
//!
//! | who asks | sees | does |
//! |---|---|---|
//! | who can reach the TCP port | states, numbers, incidents; of dead letters everything but the event itself | nothing |
//! | who presents the [`Token`] there: `Authorization: Bearer <token>` | everything | everything |
//! | who can reach the routes of [`Admin::trusted_router`], such as on a Unix socket | everything | everything |
//!
//! The answers of the receiver are shown to all of them: bind the port to a loopback address.
//!
//! A page of another origin, in the browser of the same person, gets nothing: the host that a
//! request names has to be an address, `localhost` or a name that was [given](Builder::host); an
//! `Origin` has to be the host of the request itself, and a `Sec-Fetch-Site` `same-origin`. The page
//! has a policy under which it can run no script but its own, and ask nothing of any other server.
//!
//! # Endpoints
//!
//! `{channel}` is the name of a [`Shown`]. Errors are as those of [`control`](crate::control#errors),
//! with three kinds more: 401 `wrong_token`; 403 `read_only` and `wrong_origin`; 409 `set_changed`.
//!
//! | endpoint | what it does |
//! |---|---|
//! | `GET /` | the page; its parts are `/page.css` and the scripts `/page.js`, `/text.js`, `/charts.js`, `/letters.js`, `/fleet.js` |
//! | `GET /api/channels` | all channels as they are now, what the caller may do, and under `fleet` the books of a fleet, if the page was given one |
//! | `GET /api/live` | the same as server-sent events: `channel` for each one, now and as it changes, at most four a second; `fleet` after each look at its books; `log` when an entry is added |
//! | `GET /api/log` | who did what, the newest [`LOG_MAX`] entries |
//! | `GET /api/channels/{channel}/history` | numbers of the last [`HISTORY`] |
//! | `GET /api/channels/{channel}/letters?after=0&max=50` | dead letters without their events, in order, from those that the filter lets through |
//! | `GET /api/channels/{channel}/letters/survey?after=0` | counts and groups them by answer, a slice at a time: ask again after `next` until there is none |
//! | `POST /api/channels/{channel}/letters/act` | retries or discards exactly the set that was counted, or says that it is another one by now (409) |
//! | `POST /api/channels/{channel}/letters/stop` | stops that after the letter under way |
//! | `POST /api/channels/{channel}/letters/ticket` | a path that the letters can be downloaded from once, as JSON lines, by a client that can send no header |
//! | `GET /api/channels/{channel}/letters/export` | dead letters as JSON lines, each a [`LetterLine`](crate::control::wire::LetterLine) |
//! | `/api/channels/{channel}/control/...` | the endpoints of [`control`](crate::control) for this queue |
//!
//! A filter is `cause`, `status`, `group` (from a survey), `q`, and with `in=content` or `in=both` a
//! search in the events themselves, which takes the right to see them.
//!
//! # Limits
//!
//! A list or a slice of a survey looks at most for [`SLICE_TIME`] and at [`SLICE_LETTERS`]; two of
//! them are made at once, and others wait. A set that is retried or discarded has at most
//! [`DEED_MAX`] letters, and one set of all channels is at a time.

mod access;
mod builder;
mod channel;
mod deed;
mod desk;
mod diary;
mod filter;
#[cfg(feature = "fleet")]
mod fleet;
mod history;
mod keeper;
mod letters;
mod live;
mod page;
mod survey;
#[cfg(test)]
mod tests;
mod ticket;
mod token;
mod view;
mod words;

use std::time::Duration;

pub use builder::{Admin, Builder};
pub use channel::Shown;
pub use token::Token;

use crate::relay::Port;

/// Entries of the log of who did what that are kept in memory.
pub const LOG_MAX: usize = 200;

/// How far back the charts go.
pub const HISTORY: Duration = Duration::from_secs(6 * 3600);

/// How long one list, or one slice of a survey, may look for letters.
pub const SLICE_TIME: Duration = Duration::from_millis(250);

/// Dead letters that one list, or one slice of a survey, looks at.
pub const SLICE_LETTERS: usize = 50_000;

/// Dead letters in one list.
pub const LIST_MAX: usize = 200;

/// Groups of dead letters that a slice of a survey tells apart; the others are one.
pub const GROUPS_MAX: usize = 200;

/// Dead letters that are retried or discarded at once: their numbers take 32 MiB.
pub const DEED_MAX: usize = 4 << 20;

/// Connections that are served at once; a few more are told that the page is busy.
pub const CONNECTIONS_MAX: usize = 64;

/// How long a connection may last. Each serves one request; the page takes up live news anew.
pub const CONNECTION_TIME: Duration = Duration::from_secs(3600);
