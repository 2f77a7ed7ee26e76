//! Where the servers are, who we are, and what it means if they do not let us in.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event};

use super::text::clean;
use crate::error::Error;
use crate::nats::Servers;

/// The first pause between two tries to connect, and the longest.
const RECONNECT_MIN: Duration = Duration::from_millis(100);
const RECONNECT_MAX: Duration = Duration::from_secs(5);
/// More than any file with credentials has.
const CREDENTIALS_BYTES_MAX: u64 = 64 << 10;
/// Commands that may wait for the connection; a request behind them has a time limit all the same.
const COMMANDS_MAX: usize = 4096;

/// Where the servers of a fleet are and who we are to them.
///
/// ```no_run
/// # async fn connect() -> Result<(), everpost::Error> {
/// use everpost::fleet::Access;
///
/// let access = Access::new("nats://a.example,b.example,c.example")?
///     .credentials_file("/etc/everpost/worker.creds")
///     .ca_file("/etc/everpost/ca.pem");
/// access.connect().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Access {
    servers: Servers,
    allow_plain: bool,
    credentials: Option<PathBuf>,
    ca: Option<PathBuf>,
    inbox: Option<String>,
    name: String,
    patience: Duration,
}

/// Shows the servers and the names of files.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("servers", &self.to_string())
            .field("allow_plain", &self.allow_plain)
            .field("credentials", &self.credentials)
            .field("ca", &self.ca)
            .finish_non_exhaustive()
    }
}

/// The servers, as they can be given to [`Access::new`] again.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.servers.fmt(f)
    }
}

impl Access {
    /// The servers of a cluster: `nats://HOST[:PORT][,HOST[:PORT]...]`. With `tls://` a connection is
    /// encrypted or not made; with `nats://` that is so to another machine unless
    /// [`allow_plain`](Self::allow_plain) is set, and otherwise where the server asks for it.
    ///
    /// # Errors
    /// [`Error::Sink`] if it is no such list, or has a user, a password or a token in it: a list of
    /// processes shows those. They belong into a [credentials file](Self::credentials_file).
    pub fn new(servers: &str) -> Result<Self, Error> {
        let servers = match servers.trim() {
            bare if bare.contains("://") => bare.parse()?,
            bare => format!("nats://{bare}").parse()?,
        };
        Ok(Self {
            servers,
            allow_plain: false,
            credentials: None,
            ca: None,
            inbox: None,
            name: "everpost".to_owned(),
            patience: Duration::from_secs(10),
        })
    }

    /// The file with the JWT and the seed of a user, as `nsc generate creds` writes it, or with a seed
    /// alone (`SU...`), whose public key stands in the servers' own configuration. It is read at each
    /// [`connect`](Self::connect).
    pub fn credentials_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.credentials = Some(path.into());
        self
    }

    /// The authority that signed the certificates of the servers, as a PEM file; it is believed beside
    /// those of the system.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca = Some(path.into());
        self
    }

    /// Whether events and passwords may go to another machine in clear, where they may be read and changed
    /// by anyone on the way. By default they may not: a server there has to speak TLS. Where all servers
    /// are this machine, those that they name beside themselves are then not connected to.
    pub fn allow_plain(mut self, allows: bool) -> Self {
        self.allow_plain = allows;
        self
    }

    /// Where answers go: subjects that begin so, `_INBOX` unless this is called. Credentials with few
    /// rights may only allow one of their own; under a wrong one every request ends without an answer.
    ///
    /// # Errors
    /// [`Error::Sink`] if it is not of letters, digits, `-`, `_` and dots between them.
    pub fn inbox_prefix(mut self, prefix: &str) -> Result<Self, Error> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let mut parts = prefix.split('.');
        if prefix.len() > 128 || !parts.all(|part| !part.is_empty() && part.bytes().all(is_plain)) {
            return Err(wrong(
                "an inbox prefix is of letters, digits, `-`, `_` and dots between them, such as _INBOX_worker",
            ));
        }
        self.inbox = Some(prefix.to_owned());
        Ok(self)
    }

    /// What the servers show this connection as; `everpost` unless this is called.
    pub fn named(mut self, name: &str) -> Self {
        self.name = clean(name);
        self
    }

    /// How long a [`connect`](Self::connect) may take, 10 seconds unless this is called.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Connects. The client goes on by itself when a server dies: it goes to the next one.
    ///
    /// # Errors
    /// [`Error::Fleet`] with what stands in the way and what to do about it, within the
    /// [patience](Self::patience).
    ///
    /// # Cancel safety
    /// Dropped, no connection is left.
    pub async fn connect(&self) -> Result<Client, Error> {
        self.connect_and_tell(|_| ()).await
    }

    /// As [`connect`](Self::connect); `tell` learns what happens to the connection later.
    pub(super) async fn connect_and_tell(
        &self,
        tell: impl Fn(Event) + Send + Sync + 'static,
    ) -> Result<Client, Error> {
        let options = self.options().await?;
        let options = options.event_callback(move |event| {
            tell(event);
            std::future::ready(())
        });
        let servers = self.servers.urls();
        let servers: Vec<async_nats::ServerAddr> = servers
            .iter()
            .map(|url| url.parse())
            .collect::<Result<_, _>>()
            .map_err(|error: io::Error| wrong(&clean(&error.to_string())))?;
        match tokio::time::timeout(self.patience, options.connect(servers)).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(error)) => Err(fleet(self.told(&error))),
            Err(_) => Err(fleet(format!(
                "no server answers within {:?} ({self}); see that the address is right and a server runs there",
                self.patience
            ))),
        }
    }

    async fn options(&self) -> Result<ConnectOptions, Error> {
        let mut options = ConnectOptions::new()
            .name(&self.name)
            .connection_timeout(self.patience.min(Duration::from_secs(5)))
            .ping_interval(Duration::from_secs(5))
            .client_capacity(COMMANDS_MAX)
            .reconnect_delay_callback(reconnect_delay);
        if let Some(inbox) = &self.inbox {
            options = options.custom_inbox_prefix(inbox);
        }
        if self.needs_tls() {
            options = options.require_tls(true);
        } else if !self.allow_plain {
            // They may be other machines, and would be spoken to in clear.
            options = options.ignore_discovered_servers();
        }
        if let Some(path) = &self.ca {
            tokio::fs::metadata(path)
                .await
                .map_err(|error| unreadable("the file of the authority", path, &error))?;
            options = options.add_root_certificates(path.clone());
        }
        if let Some(path) = &self.credentials {
            options = identified(options, path).await?;
        }
        Ok(options)
    }

    /// Whether TLS is spoken whatever a server says.
    fn needs_tls(&self) -> bool {
        self.servers.is_tls() || !self.allow_plain && !self.servers.are_here()
    }

    fn told(&self, error: &ConnectError) -> String {
        let said = clean(&sources(error));
        // What is no answer of TLS at all.
        let is_plain = ["InvalidMessage", "handshake eof"];
        if self.needs_tls() && is_plain.iter().any(|word| said.contains(word)) {
            return self.told_plain();
        }
        self.told_of(error, &said)
    }

    /// The server speaks in clear.
    fn told_plain(&self) -> String {
        if self.servers.is_tls() {
            return format!(
                "the server does not speak TLS, and its address begins with `tls://`. server=`{self}`"
            );
        }
        format!(
            "the server does not speak TLS: events could be read and changed by anyone on the way. Set up TLS \
             there, or set `allow_plain`. server=`{self}`"
        )
    }

    fn told_of(&self, error: &ConnectError, said: &str) -> String {
        let who = match &self.credentials {
            Some(path) => format!("the credentials of {}", path.display()),
            None => "a user without credentials; give a credentials file".to_owned(),
        };
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation => {
                format!("the server does not take {who} ({self})")
            }
            ConnectErrorKind::Authentication => {
                format!("the server's challenge cannot be signed with {who}: {said}")
            }
            ConnectErrorKind::Dns => format!("no such host ({self}): {said}"),
            // The other one is of an authority that has the same name.
            _ if said.contains("UnknownIssuer") || said.contains("BadSignature") => format!(
                "the certificate of the server is signed by an authority that is not known here ({self}); \
                 name its PEM file"
            ),
            _ if said.contains("InvalidCertificate") => {
                format!("the certificate of the server does not hold ({self}): {said}")
            }
            ConnectErrorKind::Tls => format!("TLS cannot be set up ({self}): {said}"),
            _ => format!(
                "no server can be reached ({self}): {said}; see that the address is right and a server runs there"
            ),
        }
    }
}

/// With the credentials of a file.
async fn identified(options: ConnectOptions, path: &Path) -> Result<ConnectOptions, Error> {
    let unusable = |error: io::Error| unreadable("the credentials file", path, &error);
    let about = tokio::fs::metadata(path).await.map_err(unusable)?;
    if about.len() > CREDENTIALS_BYTES_MAX {
        return Err(unusable(io::Error::other("it is too large")));
    }
    let text = tokio::fs::read_to_string(path).await.map_err(unusable)?;
    // A file of a seed alone is that and nothing else.
    match text.trim() {
        seed if seed.starts_with("SU") => Ok(options.nkey(seed.to_owned())),
        creds => options.credentials(creds).map_err(unusable),
    }
}

/// Between two tries to connect. The library's own has none at first, so that a server which refuses
/// expired credentials is asked hundreds of times a second.
fn reconnect_delay(attempts: usize) -> Duration {
    let steps = u32::try_from(attempts.min(6)).unwrap_or(6);
    let longest = (RECONNECT_MIN * 2_u32.pow(steps)).min(RECONNECT_MAX);
    RECONNECT_MIN + crate::flusher::random_up_to(longest)
}

/// What an error says, and what it says that caused it.
fn sources(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let said = source.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        let io = source.downcast_ref::<io::Error>();
        let is_of_the_system = io.is_some_and(|io| io.raw_os_error().is_some());
        // The whole of what rustls says is only in its debug form.
        if source.source().is_none() && !is_of_the_system {
            text = format!("{text} ({source:?})");
        }
        next = source.source();
    }
    text
}

fn unreadable(what: &str, path: &Path, error: &io::Error) -> Error {
    fleet(format!(
        "{what} cannot be used: {error}. path=`{}`",
        path.display()
    ))
}

fn wrong(reason: &str) -> Error {
    Error::Sink {
        reason: reason.to_owned(),
    }
}

pub(super) fn fleet(reason: impl Into<String>) -> Error {
    Error::Fleet {
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_listed_with_or_without_ports() {
        let shown = |list: &str| Access::new(list).unwrap().to_string();
        assert_eq!(shown("a"), "nats://a:4222");
        assert_eq!(
            shown("tls://a.example,b:7, [::1]:8"),
            "tls://a.example:4222,b:7,[::1]:8"
        );
        for bad in [
            "",
            " , ",
            "http://a",
            "nats://a/x",
            "nats://",
            "nats://a?b",
            "a b",
        ] {
            assert!(Access::new(bad).is_err(), "{bad:?}");
        }
    }

    /// The page of a relay said "Connection refused" three times, once as `Os { code: 111, ... }`.
    #[tokio::test]
    async fn what_the_system_says_is_said_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = Access::new(&address).unwrap().connect().await.unwrap_err();
        let text = error.to_string();
        assert_eq!(text.matches("os error").count(), 1, "{text}");
        assert!(!text.contains("Os {"), "{text}");
    }

    #[test]
    fn what_is_secret_does_not_stand_in_an_address_nor_in_the_error() {
        for bad in ["nats://hunter2@a", "nats://u:hunter2@a:4222", "u:hunter2@a"] {
            let error = Access::new(bad).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
            assert!(error.contains(".creds"), "{error}");
        }
    }

    #[test]
    fn another_machine_is_spoken_to_in_clear_only_if_that_is_said() {
        let access = |servers: &str| Access::new(servers).unwrap();
        for (servers, needs_tls) in [
            ("nats://127.0.0.1,localhost", false),
            ("nats://127.0.0.1,10.0.0.2", true),
            ("tls://127.0.0.1", true),
        ] {
            assert_eq!(access(servers).needs_tls(), needs_tls, "{servers}");
            let allowed = access(servers).allow_plain(true);
            assert_eq!(allowed.needs_tls(), servers.starts_with("tls"), "{servers}");
        }
    }

    #[test]
    fn an_inbox_is_a_subject() {
        let access = || Access::new("a").unwrap();
        assert!(access().inbox_prefix("_INBOX_w.1").is_ok());
        for bad in ["", "a.", "a..b", "a>", "*", "a b"] {
            assert!(access().inbox_prefix(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn no_server_is_asked_again_at_once() {
        for attempts in [0, 1, 5, 1000] {
            let delay = reconnect_delay(attempts);
            assert!(delay >= RECONNECT_MIN && delay <= RECONNECT_MIN + RECONNECT_MAX);
        }
    }
}
