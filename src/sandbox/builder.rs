//! How a sandbox is set up.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::Sandbox;
use super::connection::Service;
use super::contract::{BASE_PATH, Contract};
use super::keys::forge;
use super::listener::{Listener, open};
use super::shared::{Rules, Shared};
use crate::clock::{Clock, SystemClock};

/// Sets up a [`Sandbox`].
#[derive(Debug)]
#[must_use]
pub struct Builder {
    port: u16,
    key: Option<secrecy::SecretString>,
    rules: Rules,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            port: 0,
            key: None,
            rules: Rules {
                channel: "universal".to_owned(),
                id_pointer: "/id".to_owned(),
                max_body_bytes: 8 * 1024 * 1024,
                max_events: usize::MAX,
                keep_bodies: true,
                clock: Arc::new(SystemClock),
            },
        }
    }
}

impl Builder {
    /// The channel of the sandbox, `universal` by default. Messages of that channel are checked
    /// field by field; those of any other only for being objects, since the API passes the native
    /// objects of other platforms through.
    pub fn channel(mut self, channel: impl Into<String>) -> Self {
        self.rules.channel = channel.into();
        self
    }

    /// The port on 127.0.0.1; 0, the default, is any free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The first key to accept, instead of one that the sandbox makes up.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into().into());
        self
    }

    /// Where the id of an event stands in its message, as a JSON pointer (RFC 6901); `/id` by
    /// default. Bot Framework has it at `/activity/id`.
    pub fn id_pointer(mut self, pointer: impl Into<String>) -> Self {
        self.rules.id_pointer = pointer.into();
        self
    }

    /// The largest body that is not answered with 413; 8 MiB by default. The API documents no
    /// limit.
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.rules.max_body_bytes = bytes;
        self
    }

    /// The most messages in one request that are not answered with 413; no limit by default. The
    /// API documents none.
    pub fn max_events(mut self, events: usize) -> Self {
        self.rules.max_events = events;
        self
    }

    /// Whether the bytes of events and requests are kept; they are by default. Without them a
    /// million events take about 200 MB: their ids, and which request they came in.
    pub fn keep_bodies(mut self, keep: bool) -> Self {
        self.rules.keep_bodies = keep;
        self
    }

    /// The clock that decides whether a key has expired; the system's by default.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.rules.clock = Arc::new(clock);
        self
    }

    /// Starts the sandbox: when this returns, it listens.
    ///
    /// # Errors
    /// If the port cannot be had, or this is not called inside a tokio runtime.
    ///
    /// # Panics
    /// If the tokio runtime was built without its I/O or time drivers.
    pub async fn start(self) -> io::Result<Sandbox> {
        let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let listener = open(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))?;
        let address = listener.local_addr()?;

        let key = self.key.unwrap_or_else(|| {
            let mark = format!("sandbox {} key 0", address.port());
            forge(&self.rules.channel, None, &mark).into()
        });
        let shared = Arc::new(Shared::new(self.rules));
        let (outages, outages_asked) = mpsc::channel(1);
        let (commands, commands_given) = mpsc::channel(1);
        let service = Service {
            shared: shared.clone(),
            contract: Contract::new(shared.clone()),
            outages,
        };
        let listener = Listener::new(listener, address, service, commands_given, outages_asked);
        let sandbox = Sandbox {
            base_url: format!("http://{address}{BASE_PATH}"),
            address,
            key,
            keys_issued: 0.into(),
            shared,
            commands,
            task: runtime.spawn(listener.run()),
        };
        sandbox.accept_key(sandbox.key());
        Ok(sandbox)
    }
}
