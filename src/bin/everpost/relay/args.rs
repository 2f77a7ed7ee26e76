//! What is typed with `relay`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use everpost::relay::Origin;

use crate::args::Deadline;
use crate::listen::name;
use crate::times::span;

use super::fleet::Typed;
use super::spot::{Mode, Spot, mode, rate, spot};

/// The port of a relay if none is typed.
pub(crate) const PORT: u16 = 7679;

#[derive(Debug, Args)]
pub(crate) struct Relay {
    #[command(subcommand)]
    pub(crate) action: Option<Action>,

    #[command(flatten)]
    pub(crate) dir: Dir,

    /// Settings of the relay and a table for each of its channels, in TOML: see docs/relay.md. What is
    /// typed wins over it.
    #[arg(
        long,
        value_name = "FILE",
        env = "EVERPOST_RELAY_CONFIG",
        hide_env_values = true
    )]
    pub(crate) config: Option<PathBuf>,

    /// Looks at the settings and the keys, tells of what is wrong, and ends: nothing is made or
    /// changed.
    #[arg(long)]
    pub(crate) check: bool,

    /// A channel that is served, if no file says which. Can be given several times; each has a key
    /// of its own then, in NAME.key in the directory of the relay. Otherwise the one that the key is
    /// of.
    #[arg(long, value_name = "CH")]
    pub(crate) channel: Vec<String>,

    /// Where it listens. Can be given several times; otherwise on 127.0.0.1:7679 and [::1]:7679.
    /// With port 0 the first line of output names the one that was picked. unix:/run/everpost/relay.sock
    /// stands for a Unix socket. Sockets that systemd passes are served besides those that are typed,
    /// and instead of the usual ones.
    #[arg(long, value_name = "ADDR:PORT", value_parser = spot)]
    pub(crate) listen: Vec<Spot>,

    /// The group, by name or number, whose members may use the Unix socket too.
    #[arg(long, value_name = "GROUP")]
    pub(crate) socket_group: Option<String>,

    /// The rights of the Unix socket, as chmod takes them; to write is to connect. Otherwise 0660 with
    /// a group, and 0600 without.
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub(crate) socket_mode: Option<Mode>,

    /// Speaks TLS on every TCP port, with the certificates in this PEM file: that of the server first.
    /// It is read again when it changes. Other machines' addresses need no `--plain` then; only tokens
    /// of this relay and the very key of the API open that door.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The private key of the certificate, in a PEM file without a passphrase.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// How many requests a second one client may send, twice as many at once; the others are answered
    /// with 429. A client is a key and the address that it comes from. Otherwise there is no limit.
    #[arg(long, value_name = "N", value_parser = rate)]
    pub(crate) rate: Option<NonZeroU32>,

    /// Serves a page for the people who run the relay on this address, such as 127.0.0.1:7680: what
    /// each channel does and why, and its dead letters without their events; and /livez, /readyz and
    /// /metrics. Other machines can reach it only with `--plain`. On a Unix socket, `unix:` and its
    /// path, this user alone gets there, and may do everything.
    #[arg(long, value_name = "ADDR", value_parser = spot)]
    pub(crate) admin: Option<Spot>,

    /// Lets the page act, and show events, for those who have the token: it is in `admin.token` in
    /// the directory of the relay, which is made if it is not there.
    #[arg(long)]
    pub(crate) admin_token: bool,

    /// Answers requests that name this host too, besides addresses and localhost. Can be given
    /// several times.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(crate) listen_host: Vec<String>,

    /// Lets web pages of this origin in, such as https://example.org, with a token that is made for
    /// them: `everpost relay token --origin`. Can be given several times.
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) allow_origin: Vec<Origin>,

    /// Allows addresses that other machines can reach, in plain HTTP: what passes on the way can be
    /// read, keys with it. Only tokens of this relay and the very key of the API open that door.
    #[arg(long)]
    pub(crate) plain: bool,

    /// Lets in only tokens of this relay and the very key of the API. Otherwise every key that is
    /// made for the channel opens the door on loopback, so that a key that was replaced loses
    /// nothing.
    #[arg(long)]
    pub(crate) tokens_only: bool,

    /// Refuses at once, with 400, what the documentation of the channel does not allow. Otherwise it
    /// is taken in, and becomes a dead letter.
    #[arg(long)]
    pub(crate) validate: bool,

    /// How long a request is held while the queue can take nothing in; 20s if nothing is said.
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(crate) hold: Option<Duration>,

    /// Takes a message that comes again within this time, under its own `id` and with the same bytes,
    /// for the one that it has: it is in the queue once, and the answer says so. Otherwise only a
    /// request under the same `Idempotency-Key` is recognised, for a day.
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(crate) dedupe: Option<Duration>,

    /// Delivers to a sandbox in this process, which stands in for the API, and prints what to set for
    /// a bot: to try it out.
    #[arg(long)]
    pub(crate) sandbox: bool,

    #[command(flatten)]
    pub(crate) deadline: Deadline,

    #[command(flatten)]
    pub(crate) fleet: Typed,
}

#[derive(Debug, Args)]
pub(crate) struct Dir {
    /// The directory with the spool of each channel and the secret of the relay. Otherwise
    /// $STATE_DIRECTORY, /var/lib/everpost-relay for root, and everpost/relay in $XDG_STATE_HOME
    /// (~/.local/state) for others.
    #[arg(
        long,
        value_name = "DIR",
        env = "EVERPOST_RELAY_DIR",
        hide_env_values = true
    )]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Prints a token for a bot to present instead of the key of the API.
    ///
    /// It is good at this relay alone, for as long as `relay.secret` in its directory stays. Each
    /// call makes another one.
    Token(Token),
}

#[derive(Debug, Args)]
pub(crate) struct Token {
    #[command(flatten)]
    pub(crate) dir: Dir,

    /// The channel that it is for.
    #[arg(long, value_name = "CH", default_value = "universal")]
    pub(crate) channel: String,

    /// Makes a token that a web page of this origin may show: it only writes, from there alone, where
    /// the relay lets that origin in. Can be given several times.
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) origin: Vec<Origin>,
}
