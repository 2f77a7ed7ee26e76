//! `init --to nats://...`: a stream that a device delivers into, from words.

use std::path::{Path, PathBuf};

use clap::Args;
use everpost::http::SecretRef;
use everpost::nats::{Credentials, Names, Spool, Target};
use toml::Value;

use super::receiver::whole;
use crate::fault::Fault;

/// Characters of the name of a machine in the name of a spool.
const HOST_CHARS_MAX: usize = 40;

/// What the address begins with.
const SCHEMES: [&str; 2] = ["nats://", "tls://"];

/// Where in a stream the events go.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Stream of NATS")]
pub(super) struct Stream {
    /// The stream that `everpost fleet setup` made; EVENTS otherwise.
    #[arg(long, value_name = "NAME", requires = "to")]
    stream: Option<String>,

    /// How many partitions it was made for; 64 otherwise. A wrong number is told by the servers, or does
    /// no harm.
    #[arg(long, value_name = "N", requires = "to")]
    partitions: Option<u16>,

    /// The name of this spool in the stream, which no other spool may have. Otherwise the name of this
    /// machine and eight random characters; it is made once and kept.
    #[arg(long = "as", value_name = "NAME", requires = "to")]
    name: Option<String>,

    /// The file with the token and the seed of a user of NATS (.creds), read again whenever it changes.
    #[arg(long, value_name = "FILE", requires = "to")]
    credentials_file: Option<PathBuf>,

    /// The file with the seed of a user of NATS (SU...), read again whenever it changes.
    #[arg(
        long,
        value_name = "FILE",
        requires = "to",
        conflicts_with = "credentials_file"
    )]
    seed_file: Option<PathBuf>,

    /// Allows a connection in clear to another machine: each who is on the way can then read and change
    /// events, and make up answers, for which events are removed that nothing has taken.
    #[arg(long, requires = "to")]
    allow_plain: bool,

    /// What this process would call the spool.
    #[arg(skip = rand::random::<u32>())]
    random: u32,
}

/// Whether an address is that of servers of NATS.
pub(super) fn is_stream(address: &str) -> bool {
    SCHEMES
        .iter()
        .any(|scheme| address.trim().starts_with(scheme))
}

impl Stream {
    /// The value of the setting. `there` is the name that the spool has already.
    ///
    /// # Errors
    /// A fault that names what cannot be used.
    pub(super) fn value(
        &self,
        address: &str,
        ca_file: Option<&Path>,
        there: Option<Spool>,
    ) -> Result<Value, Fault> {
        let spool = match (&self.name, there) {
            (Some(name), _) => name.parse().map_err(|error| unusable("--as", error))?,
            (None, Some(there)) => there,
            (None, None) => self.made()?,
        };
        let stream = self.stream.as_deref().unwrap_or(Names::STREAM);
        let partitions = self.partitions.unwrap_or(Names::PARTITIONS);
        let names = Names::new(stream, partitions);
        let names = names.map_err(|error| unusable("--stream", error))?;
        let target = Target::parse(address, spool).map_err(|error| unusable("--to", error))?;
        let mut target = target.with_names(names).with_allow_plain(self.allow_plain);
        if let Some(file) = &self.credentials_file {
            let file = SecretRef::File(whole(file)?);
            target = target.with_credentials(Credentials::Creds(file));
        }
        if let Some(file) = &self.seed_file {
            let file = SecretRef::File(whole(file)?);
            target = target.with_credentials(Credentials::Nkey(file));
        }
        if let Some(file) = ca_file {
            target = target.with_ca_file(whole(file)?);
        }
        // Credentials may come later.
        let built = target.clone().builder().wait_for_secrets().build();
        built.map_err(|error| unusable("--to", error))?;
        let value = Value::try_from(target);
        value.map_err(|error| Fault::usage(format!("--to cannot be kept: {error}")))
    }

    /// Refuses words for a stream where the address is that of none.
    pub(super) fn must_be_bare(&self) -> Result<(), Fault> {
        let typed = [
            ("--stream", self.stream.is_some()),
            ("--partitions", self.partitions.is_some()),
            ("--as", self.name.is_some()),
            ("--credentials-file", self.credentials_file.is_some()),
            ("--seed-file", self.seed_file.is_some()),
            ("--allow-plain", self.allow_plain),
        ];
        match typed.iter().find(|(_, is_typed)| *is_typed) {
            None => Ok(()),
            Some((word, _)) => Err(Fault::usage(format!("{word} is for a stream of NATS"))
                .hint("name its servers, such as --to nats://10.0.0.1,10.0.0.2; or leave it out")),
        }
    }

    /// The machine's name with a random part, so that two devices never share one, also where they are
    /// made from one image.
    fn made(&self) -> Result<Spool, Fault> {
        Ok(format!("{}-{:08x}", machine(), self.random).parse()?)
    }
}

/// What this machine is called, in letters, digits and hyphens.
pub(crate) fn machine() -> String {
    let host = host_name();
    let host = host.split('.').next().unwrap_or_default();
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    let host: String = host.chars().filter(is_plain).take(HOST_CHARS_MAX).collect();
    if host.is_empty() {
        "device".to_owned()
    } else {
        host
    }
}

#[cfg(unix)]
fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

fn unusable(word: &str, error: everpost::Error) -> Fault {
    match error {
        everpost::Error::Sink { reason } => {
            Fault::usage(format!("{word} cannot be used: {reason}"))
                .hint("see `everpost init --help` for how a stream is named")
        }
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_is_named_once_after_its_machine_and_never_as_another_one() {
        let made = |stream: &Stream| {
            let value = stream.value("nats://a", None, None).unwrap();
            value["spool"].as_str().unwrap().to_owned()
        };
        let one = Stream {
            random: 7,
            ..Stream::default()
        };
        assert!(made(&one).ends_with("-00000007"), "{}", made(&one));
        let there = one.value("nats://a", None, Some("old".parse().unwrap()));
        assert_eq!(there.unwrap()["spool"].as_str(), Some("old"));
        let named = Stream {
            name: Some("new".to_owned()),
            ..one
        };
        let there = named.value("nats://a", None, Some("old".parse().unwrap()));
        assert_eq!(there.unwrap()["spool"].as_str(), Some("new"));
    }
}
