//! How the servers are reached, from words.

use std::path::PathBuf;

use clap::Args;
use everpost::Error;
use everpost::fleet::Access;

use crate::fault::Fault;

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
    nats: Vec<String>,

    /// The file that says who this is: one of NATS (.creds), or one with a seed alone (SU...).
    #[arg(long, value_name = "FILE")]
    credentials_file: Option<PathBuf>,

    /// Authorities to trust beside those of the system, as certificates in PEM.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// What the subjects of answers begin with, where these credentials may subscribe to no other;
    /// _INBOX otherwise.
    #[arg(long, value_name = "PREFIX")]
    inbox_prefix: Option<String>,
}

impl Servers {
    /// # Errors
    /// A fault if it is no address of servers.
    pub(super) fn access(&self) -> Result<Access, Fault> {
        let access = Access::new(&self.nats.join(",")).map_err(unusable)?;
        let mut access = access.named("everpost fleet");
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
