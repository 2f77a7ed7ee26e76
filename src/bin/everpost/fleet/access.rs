//! How the servers are reached, from words.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use everpost::fleet::setup::discover;
use everpost::fleet::{Access, Client};
use everpost::nats::Names;
use everpost::{Error, exit};

use crate::fault::Fault;
use crate::text::plain;

/// How soon a stream without a leader is looked for again.
const AGAIN: Duration = Duration::from_secs(1);

/// The servers, and what is shown to them.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Servers")]
pub(crate) struct Servers {
    /// The servers of NATS: `nats://HOST[:PORT][,HOST...]`, or `tls://` to insist on TLS. Can be given
    /// several times, for servers of one cluster.
    #[arg(
        long,
        value_name = "URL",
        required = true,
        env = "EVERPOST_NATS",
        hide_env_values = true
    )]
    pub(crate) nats: Vec<String>,

    /// The file that says who this is: one of NATS (.creds), or one with a seed alone (SU...).
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials_file: Option<PathBuf>,

    /// Authorities to trust beside those of the system, as certificates in PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,

    /// Allows a connection in clear to another machine: each who is on the way can then read and change
    /// events, and make up answers, for which events are taken for delivered that nothing has taken.
    #[arg(long)]
    pub(crate) allow_plain: bool,

    /// What the subjects of answers begin with, where these credentials may subscribe to no other;
    /// _INBOX otherwise.
    #[arg(long, value_name = "PREFIX")]
    pub(crate) inbox_prefix: Option<String>,
}

impl Servers {
    /// # Errors
    /// A fault if it is no address of servers.
    pub(crate) fn access(&self) -> Result<Access, Fault> {
        let access = Access::new(&self.nats.join(",")).map_err(unusable)?;
        let access = access.named("everpost fleet");
        let mut access = access.allow_plain(self.allow_plain);
        if let Some(file) = &self.credentials_file {
            access = access.credentials_file(file);
        }
        if let Some(file) = &self.ca_file {
            access = access.ca_file(file);
        }
        match &self.inbox_prefix {
            Some(prefix) => access.inbox_prefix(prefix).map_err(unusable),
            None => Ok(access),
        }
    }
}

fn unusable(error: Error) -> Fault {
    match error {
        Error::Sink { reason } => Fault::usage(reason)
            .hint("name the servers: --nats nats://HOST[:PORT][,HOST[:PORT]...]"),
        error => error.into(),
    }
}

/// A fleet that is there.
#[derive(Debug, Args)]
pub(crate) struct Which {
    #[command(flatten)]
    servers: Servers,

    /// The stream of events.
    #[arg(long, value_name = "NAME", default_value = Names::STREAM)]
    stream: String,
}

impl Which {
    /// The servers, and the names with as many partitions as the stream was made for.
    ///
    /// # Errors
    /// A fault if the servers cannot be reached, or there is no such stream.
    pub(super) async fn open(&self) -> Result<(Access, Names), Fault> {
        let access = self.servers.access()?;
        let names = self.names(&access.connect().await?).await?;
        Ok((access, names))
    }

    /// As [`open`](Self::open), for a service: once a server lets it in, a stream that has no leader at
    /// present is waited for.
    pub(super) async fn open_for_a_service(&self) -> Result<(Access, Names), Fault> {
        let access = self.servers.access()?;
        let client = access.connect().await?;
        loop {
            match self.names(&client).await {
                Ok(names) => return Ok((access, names)),
                Err(fault) if fault.code == exit::USAGE => return Err(fault),
                Err(fault) => tracing::warn!("the stream is waited for: {}", plain(&fault.text)),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn names(&self, client: &Client) -> Result<Names, Fault> {
        let found = discover(client, &self.stream).await?;
        found.ok_or_else(|| {
            Fault::usage(format!(
                "there is no stream `{}` on these servers",
                self.stream
            ))
            .hint("`everpost fleet setup` makes it; --stream names another")
        })
    }
}
