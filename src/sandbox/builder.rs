//! How a sandbox is set up.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::mpsc;

use super::Sandbox;
use super::connection::Service;
use super::contract::{BASE_PATH, Contract};
use super::keys::forge;
use super::listener::{Listener, open};
use super::record::Accepted;
use super::shared::{Rules, Shared, SigningKey, Store};
use crate::clock::{Clock, SystemClock};

/// Sets up a [`Sandbox`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    bind: IpAddr,
    port: u16,
    key: Option<SecretString>,
    any_key: bool,
    rules: Rules,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            bind: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            key: None,
            any_key: false,
            rules: Rules {
                channel: "universal".to_owned(),
                id_pointer: "/id".to_owned(),
                max_body_bytes: 8 * 1024 * 1024,
                max_events: usize::MAX,
                keep_bodies: true,
                is_any_receiver: false,
                signing_keys: Vec::new(),
                store: None,
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

    /// The address to listen on, 127.0.0.1 by default. What is sent there, keys and all, is plain
    /// HTTP: on any other address than a loopback one, others can read it, and send to it.
    pub fn bind(mut self, address: impl Into<IpAddr>) -> Self {
        self.bind = address.into();
        self
    }

    /// The port; 0, the default, is any free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The first key to accept, instead of one that the sandbox makes up.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into().into());
        self
    }

    /// Accepts every key of the channel beside its own: three parts with dots between them, the
    /// middle one with the claims, and none that was revoked or has expired. So a program under test
    /// can carry a key of its own.
    pub fn any_key(mut self) -> Self {
        self.any_key = true;
        self
    }

    /// Puts the events of each batch somewhere before they count as accepted, such as into a file.
    /// Each event has its bytes only if bodies are kept. If that fails, nothing of the batch is
    /// accepted, and it is answered with 500. Batches come one at a time, in the order of their
    /// acceptance; the sandbox waits meanwhile, so be quick.
    ///
    /// A panic in it ends the sandbox; [`Sandbox::stop`] passes it on.
    pub fn store(
        mut self,
        store: impl Fn(&[Accepted]) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.rules.store = Some(Store(Arc::new(store)));
        self
    }

    /// The base URL and the first key of a sandbox with these settings, without starting it. `None`
    /// if the port is any free one.
    #[must_use]
    pub fn preview(&self) -> Option<(String, String)> {
        let address = SocketAddr::new(self.bind, self.port);
        (self.port != 0).then(|| {
            let key = self.first_key(address);
            (base_url(address), key.expose_secret().to_owned())
        })
    }

    fn first_key(&self, address: SocketAddr) -> SecretString {
        self.key.clone().unwrap_or_else(|| {
            let mark = format!("sandbox {} key 0", address.port());
            forge(&self.rules.channel, None, &mark).into()
        })
    }

    /// Stands in for other receivers as well, on every path but the API's: takes a `POST`, `PUT` or
    /// `PATCH` of JSON in any form that [`http`](crate::http) sends, compressed or not, and answers as
    /// its receiver would: OTLP with `partialSuccess` and Loki with 204, or, where a rule rejects some of
    /// the events, by taking the others; a webhook with 200, or with 400 for all.
    ///
    /// Events are recorded as they stand in the body, but for the wrapper: of OTLP the log record, of
    /// Loki the line. Their ids are those of their form: of a CloudEvent its `id`, of a log record
    /// `log.record.uid`, of a line its time.
    pub fn any_receiver(mut self) -> Self {
        self.rules.is_any_receiver = true;
        self
    }

    /// Answers other paths than the API's with 401 where a request is not signed as Standard Webhooks
    /// has it with this secret: `whsec_` and base64, or several with white space between them.
    ///
    /// # Errors
    /// If it is no such secret, or this build cannot sign (feature `signatures`).
    pub fn signing_secret(mut self, secret: &str) -> io::Result<Self> {
        let unusable = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        if !cfg!(feature = "signatures") {
            return Err(unusable("this build cannot sign"));
        }
        let keys = SigningKey::read(secret).filter(|keys| !keys.is_empty());
        self.rules.signing_keys =
            keys.ok_or_else(|| unusable("the secret is not `whsec_` and base64"))?;
        Ok(self)
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
        let listener = open(SocketAddr::new(self.bind, self.port))?;
        let address = listener.local_addr()?;

        let key = self.first_key(address);
        let any_key = self.any_key.then(|| self.rules.channel.clone());
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
            base_url: base_url(address),
            address,
            key,
            keys_issued: 0.into(),
            shared,
            commands,
            task: runtime.spawn(listener.run()),
        };
        sandbox.accept_key(sandbox.key());
        if let Some(channel) = any_key {
            sandbox.shared.state().keys.accept_all_of(channel);
        }
        Ok(sandbox)
    }
}

/// Where a sandbox that listens there is reached from this machine.
fn base_url(mut address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    format!("http://{address}{BASE_PATH}")
}
