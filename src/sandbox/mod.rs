//! The local stand-in for the API: a real HTTP server on 127.0.0.1 that keeps the documented
//! contract, records what it accepts, and misbehaves on request.
//!
//! It is what everpost's own tests deliver to, and it is made for yours: point the queue, or any
//! other client, at [`base_url`](Sandbox::base_url) with [`key`](Sandbox::key), let things go
//! wrong, and look at what arrived.
//!
//! ```
//! use everpost::sandbox::{Fault, Sandbox};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sandbox = Sandbox::start().await?;
//!
//! // The first request is accepted, but its answer is lost; the second one is turned away.
//! sandbox.script([Fault::AcceptThenReset, Fault::status(503)]);
//!
//! # let _ = rustls::crypto::ring::default_provider().install_default();
//! let client = reqwest::Client::builder().no_proxy().build()?;
//! let send = || {
//!     client
//!         .post(format!("{}/messages", sandbox.base_url()))
//!         .header("authorization", format!("Bearer {}", sandbox.key()))
//!         .header("content-type", "application/json")
//!         .body(r#"{"messages":[{"message":{"id":"a","timestamp":1}}]}"#)
//!         .send()
//! };
//! assert!(send().await.is_err());
//! assert_eq!(send().await?.status(), 503);
//! assert_eq!(send().await?.text().await?, r#"{"request_id":"r-3"}"#);
//!
//! // At least once, in order, and recognisable: nothing lost, one event there twice.
//! sandbox.check_order(["a"])?;
//! assert_eq!(sandbox.duplicates()[0].times, 2);
//! sandbox.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! # The contract
//!
//! `POST {base_url}/messages` with `Authorization: Bearer <key>`, `Content-Type:
//! application/json` and `{"messages":[{"message":{...}}, ...]}`. What the official clients send
//! beside that is accepted too: `/messages` without the version, a final `/`, and Universal
//! messages without the wrapper, `{"messages":[{...}, ...]}`. Checked in this order:
//!
//! | what is wrong | answer |
//! |---|---|
//! | the body is larger than [`max_body_bytes`](Builder::max_body_bytes) | 413 |
//! | another path | 404 |
//! | another method | 405 |
//! | no key, or one that is not accepted (any longer) | 401 |
//! | not JSON, by its content type or by its bytes | 400 |
//! | not a list of messages, or an empty one | 400 |
//! | more messages than [`max_events`](Builder::max_events) | 413 |
//! | one message that is not as its channel documents it | 400 |
//! | one message that a rule of the test rejects ([`reject_when`](Sandbox::reject_when)) | 400 |
//! | what was to be stored could not be ([`store`](Builder::store)) | 500 |
//!
//! Each of these is answered with `{"errors":["..."]}`, and then nothing of the batch was taken.
//! [`Exchange::reason`] says more than the answer does.
//! Everything else is answered with 200 and `{"request_id":"r-<number of the request>"}`, and all
//! of it was taken.
//!
//! Where the documentation is silent, the sandbox is generous: unknown fields and empty lists are
//! accepted, `content` and `event` may both be there or neither, and the message may be nested
//! (`{"message":{"message":{...}}}`, as the schema has it) or flat (`{"message":{...}}`, as the
//! example has it). Where the documentation speaks, it is strict: every field of the fifteen kinds
//! of content and of the kinds of event must have its type, `null` is not a string, and a
//! `timestamp` is a number of milliseconds. The sandbox says nothing about what the real API does
//! with what is not documented.
//!
//! # Other receivers
//!
//! With [`any_receiver`](Builder::any_receiver) it stands in for webhooks, CloudEvents, OTLP and Loki on
//! all other paths, and checks signatures where a [secret](Builder::signing_secret) is given.
//!
//! # Misbehaving
//!
//! [`script`](Sandbox::script) lines up faults, one for each request;
//! [`always`](Sandbox::always) makes one stay; [`go_away`](Sandbox::go_away) and
//! [`come_back`](Sandbox::come_back) make and end an outage. [`Fault`] explains each of them;
//! [`parse_script`] reads them from a file.
//!
//! # Waiting
//!
//! [`wait_for`](Sandbox::wait_for) waits for a condition, such as a number of accepted events or
//! a request that hangs, so that no test needs to sleep.
//!
//! # What it is not
//!
//! It has no TLS, and listens on 127.0.0.1 unless told to elsewhere. It keeps everything in memory,
//! without a bound, until [`take_ended`](Sandbox::take_ended), [`forget`](Sandbox::forget) or its
//! end: it is made for tests, not for service.

mod builder;
mod connection;
mod contract;
mod fault;
mod forms;
mod keys;
mod listener;
mod record;
mod reply;
mod schema;
mod script;
mod shared;
mod validate;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub use builder::Builder;
pub use fault::Fault;
pub use record::{Accepted, Duplicate, Ended, Exchange, OrderError, Stats};
pub use reply::Reply;
pub use script::{FAULTS, ScriptError, parse_script};

/// Whether a message is as its channel documents it, by the rules that the sandbox itself keeps:
/// field by field for the channel `universal`, and only whether it is an object for any other.
///
/// ```
/// let message = serde_json::json!({"timestamp": "noon"});
/// let faults = everpost::sandbox::check_message("universal", &message).unwrap_err();
/// assert_eq!(faults, ["message.timestamp must be a number of milliseconds that is not negative"]);
/// ```
///
/// # Errors
/// One text for each fault. They name fields and never repeat a value.
pub fn check_message(channel: &str, message: &Value) -> Result<(), Vec<String>> {
    validate::validate(channel, message)
}

use listener::Command;
use shared::Shared;

pub use crate::intake::CHANNELS;

/// The sandbox has stopped, so what was waited for will not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sandbox has stopped")]
pub struct Stopped;

/// A running sandbox; see the [module](self).
///
/// It ends with [`stop`](Sandbox::stop), or soon after it is dropped: its port is closed, its
/// connections are cut. It lives on the tokio runtime it was started on.
pub struct Sandbox {
    base_url: String,
    address: SocketAddr,
    key: SecretString,
    keys_issued: AtomicU64,
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

impl Sandbox {
    /// Starts a sandbox for the channel `universal` on a free port.
    ///
    /// # Errors
    /// As [`Builder::start`].
    ///
    /// # Panics
    /// As [`Builder::start`].
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// Sets up a sandbox with other than the default settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where the API lives, such as `http://127.0.0.1:40000/v2`. It stays the same while the
    /// sandbox is away.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The first key that is accepted: three base64url parts with a dot between them, the claims
    /// `{"channel":"..."}`, and nonsense for a signature.
    #[must_use]
    pub fn key(&self) -> &str {
        self.key.expose_secret()
    }

    /// Makes another key for the same channel and accepts it from now on, beside those before.
    #[must_use]
    pub fn issue_key(&self) -> String {
        self.issue(None)
    }

    /// As [`issue_key`](Sandbox::issue_key), with an `exp` claim: the key is answered with 401
    /// from that time on. The resolution is one second.
    #[must_use]
    pub fn issue_key_until(&self, expires: SystemTime) -> String {
        self.issue(Some(expires))
    }

    fn issue(&self, expires: Option<SystemTime>) -> String {
        let number = self.keys_issued.fetch_add(1, Ordering::Relaxed) + 1;
        let mark = format!("sandbox {} key {number}", self.address.port());
        let key = keys::forge(&self.shared.rules.channel, expires, &mark);
        self.accept_key(key.clone());
        key
    }

    /// Accepts a key of the caller's from now on. If it has an `exp` claim, that holds.
    pub fn accept_key(&self, key: impl Into<String>) {
        self.shared.state().keys.accept(key.into());
    }

    /// Answers a key with 401 from now on. False if it was not accepted anyway.
    pub fn revoke_key(&self, key: &str) -> bool {
        self.shared.state().keys.revoke(key)
    }

    /// Adds faults to the end of the script. The next request meets the first of them, and so on;
    /// each is used up by one request, on whichever connection it comes.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        let faults: Vec<Fault> = faults.into_iter().collect();
        self.shared.change(|state| state.script.extend(faults));
    }

    /// Makes every request meet this fault, once the script is used up.
    pub fn always(&self, fault: Fault) {
        self.shared.change(|state| state.sticky = Some(fault));
    }

    /// Ends misbehaving: what is left of the script and the fault given to
    /// [`always`](Sandbox::always) are dropped. Requests that have met their fault are not
    /// changed by it; see [`release`](Sandbox::release).
    pub fn clear(&self) {
        self.shared.change(|state| {
            state.script.clear();
            state.sticky = None;
        });
    }

    /// Answers every request that hangs at this moment, as if it had just arrived.
    pub fn release(&self) {
        self.shared.release.notify_waiters();
    }

    /// Refuses batches with a message for which this rule returns a text: 400 with that text. It
    /// is given each `message` object that has passed the checks of the contract; it replaces an
    /// earlier rule.
    ///
    /// A panic in the rule ends the sandbox; [`stop`](Sandbox::stop) passes it on.
    pub fn reject_when(&self, rule: impl Fn(&Value) -> Option<String> + Send + Sync + 'static) {
        self.shared.state().reject = Some(Arc::new(rule));
    }

    /// Drops the rule of [`reject_when`](Sandbox::reject_when).
    pub fn reject_nothing(&self) {
        self.shared.state().reject = None;
    }

    /// Stops listening and cuts every connection: from its return on, connections are refused.
    /// The port stays reserved. What was recorded stays. Does nothing if it is away already, but
    /// then ends the time limit of a [`Fault::Refuse`].
    ///
    /// # Errors
    /// If the port could not be reserved (it is away all the same), or the sandbox has stopped.
    pub async fn go_away(&self) -> io::Result<()> {
        self.ask(Command::GoAway).await
    }

    /// Listens again on the same port. Does nothing if it listens already.
    ///
    /// # Errors
    /// If the port cannot be had any more, or the sandbox has stopped.
    pub async fn come_back(&self) -> io::Result<()> {
        self.ask(Command::ComeBack).await
    }

    async fn ask(
        &self,
        command: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Command,
    ) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        let stopped = || io::Error::other(Stopped);
        let sent = self.commands.send(command(done)).await;
        sent.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Every acceptance so far, in order, repetitions included.
    #[must_use]
    pub fn accepted(&self) -> Vec<Accepted> {
        self.shared.state().record.accepted().to_vec()
    }

    /// The ids accepted so far, each once, in the order of their first acceptance.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        let state = self.shared.state();
        state.record.ids().map(str::to_owned).collect()
    }

    /// The ids accepted more than once, in the order of their first acceptance.
    #[must_use]
    pub fn duplicates(&self) -> Vec<Duplicate> {
        self.shared.state().record.duplicates()
    }

    /// Checks that exactly these ids were accepted, in this order. Repetitions do not count:
    /// where an id stands is where it was accepted first.
    ///
    /// # Errors
    /// [`OrderError`] with the first position that differs.
    pub fn check_order<T: AsRef<str>>(
        &self,
        expected: impl IntoIterator<Item = T>,
    ) -> Result<(), OrderError> {
        self.shared.state().record.check_order(expected)
    }

    /// Every request so far, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<Exchange> {
        let state = self.shared.state();
        state.record.exchanges().cloned().collect()
    }

    /// Hands out every request that has ended, in order, with what was accepted of it, and forgets
    /// them: for a log, or to stay small for days. The counters go on, and which ids there were.
    #[must_use]
    pub fn take_ended(&self) -> Vec<Ended> {
        self.shared.state().record.take_ended()
    }

    /// Forgets every acceptance and request so far, the counters with them. Request numbers, keys
    /// and faults go on.
    pub fn forget(&self) {
        self.shared.change(|state| state.record.forget());
    }

    /// The counters now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.news().borrow().stats
    }

    /// Waits until the counters fulfil a condition, and gives them as they were then. It has no
    /// time limit; put it into `tokio::time::timeout` if the condition may never come.
    ///
    /// # Errors
    /// [`Stopped`] if a panic in a rule has ended the sandbox.
    ///
    /// # Cancel safety
    /// It only looks; dropping it changes nothing.
    pub async fn wait_for(&self, mut holds: impl FnMut(&Stats) -> bool) -> Result<Stats, Stopped> {
        let mut news = self.shared.news();
        let mut held = false;
        let news = news
            .wait_for(|news| {
                held = holds(&news.stats);
                held || news.stopped
            })
            .await
            .map(|news| news.stats);
        match news {
            Ok(stats) if held => Ok(stats),
            _ => Err(Stopped),
        }
    }

    /// Waits until at least so many events were accepted, each id counted once.
    ///
    /// # Errors
    /// As [`wait_for`](Sandbox::wait_for).
    ///
    /// # Cancel safety
    /// As [`wait_for`](Sandbox::wait_for).
    pub async fn wait_for_accepted(&self, events: u64) -> Result<Stats, Stopped> {
        self.wait_for(|stats| stats.distinct >= events).await
    }

    /// Ends the sandbox: when this returns, its port is closed and its connections are cut.
    ///
    /// # Panics
    /// Passes on a panic that ended the sandbox before.
    pub async fn stop(self) {
        drop(self.commands);
        listener::raise_panic(self.task.await);
    }
}

/// Keys are not shown, not even these.
impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox")
            .field("base_url", &self.base_url)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
