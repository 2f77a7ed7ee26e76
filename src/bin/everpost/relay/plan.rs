//! What a relay is to do: its file and what was typed, put together.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use everpost::relay::{HOLD, Origin, Rate, RepeatWindows, Rules};

use super::args;
use super::assignment::Assignment;
use super::file::{CHANNELS, File};
use super::fleet::Fleet;
use super::spot::Spot;
use crate::args::Cli;
use crate::fault::Fault;
use crate::service::DEADLINE;
use crate::settings::{Layer, LogFormat, Parts};

/// What a relay is to do.
#[derive(Debug)]
pub(super) struct Plan {
    dir: PathBuf,
    listen: Vec<Spot>,
    socket_group: Option<String>,
    socket_mode: Option<u32>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    rate: Option<NonZeroU32>,
    hosts: Vec<String>,
    origins: BTreeSet<Origin>,
    admin: Option<Spot>,
    has_admin_token: bool,
    plain: bool,
    tokens_only: bool,
    validate: bool,
    hold: Duration,
    dedupe: Option<Duration>,
    deadline: Duration,
    log_format: Option<LogFormat>,
    fleet: Option<Fleet>,
    channels: Vec<Assignment>,
}

impl Plan {
    /// Reads the file, if one is named, and what else is said of each channel. Nothing is made.
    ///
    /// # Errors
    /// A fault that says where something is wrong and what to type.
    pub(super) async fn of(cli: &Cli, args: &args::Relay, dir: &Path) -> Result<Self, Fault> {
        let named = args.config.as_deref();
        let named = named.filter(|path| !path.as_os_str().is_empty());
        let parts = match named {
            Some(path) => Parts::<File>::read(path, CHANNELS)?,
            None => Parts {
                own: File::default(),
                layers: Vec::new(),
            },
        };
        let file = parts.own;
        let channels = channels(cli, args, dir, parts.layers).await?;
        // With one alone, its settings may say when it has to end.
        let of_channel = match channels.as_slice() {
            [one] => one.effective().service().clone(),
            _ => Default::default(),
        };
        let typed = args.deadline.deadline;
        let deadline = typed.or(file.deadline).or(of_channel.deadline);
        let log = args.deadline.log.log_format;
        let hosts = file.hosts.into_iter().map(|host| host.0);
        let origins = file.allow_origins.into_iter().map(|origin| origin.0);
        Ok(Self {
            dir: dir.to_owned(),
            listen: if args.listen.is_empty() {
                file.listen
            } else {
                args.listen.clone()
            },
            socket_group: args.socket_group.clone().or(file.socket_group),
            socket_mode: args.socket_mode.or(file.socket_mode).map(|mode| mode.0),
            // Both are typed or neither is.
            tls_cert: args.tls_cert.clone().or(file.tls_cert),
            tls_key: args.tls_key.clone().or(file.tls_key),
            rate: args.rate.or(file.rate),
            hosts: hosts.chain(args.listen_host.iter().cloned()).collect(),
            origins: origins.chain(args.allow_origin.iter().cloned()).collect(),
            admin: args.admin.clone().or(file.admin),
            has_admin_token: args.admin_token || file.admin_token,
            plain: args.plain || file.plain,
            tokens_only: args.tokens_only || file.tokens_only,
            validate: args.validate || file.validate,
            hold: args.hold.or(file.hold).unwrap_or(HOLD),
            dedupe: args.dedupe.or(file.dedupe),
            deadline: deadline.unwrap_or(DEADLINE),
            log_format: log.or(file.log_format).or(of_channel.log_format),
            fleet: Fleet::of(&args.fleet, file.fleet)?,
            channels,
        })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where it listens; nothing stands for the usual places.
    pub(super) fn listen(&self) -> &[Spot] {
        &self.listen
    }

    /// By name or number.
    pub(super) fn socket_group(&self) -> Option<&str> {
        self.socket_group.as_deref()
    }

    pub(super) fn socket_mode(&self) -> Option<u32> {
        self.socket_mode
    }

    /// The files of the certificate and its key, if TLS is spoken.
    pub(super) fn tls(&self) -> Result<Option<(&Path, &Path)>, Fault> {
        match (&self.tls_cert, &self.tls_key) {
            (None, None) => Ok(None),
            (Some(cert), Some(key)) => Ok(Some((cert, key))),
            _ => {
                let text = "a certificate and its key go together, and one of both is not named";
                Err(Fault::usage(text).hint("set both tls_cert and tls_key in the file"))
            }
        }
    }

    /// Names that requests may have beside addresses and `localhost`.
    pub(super) fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Where the page is served, if it is.
    pub(super) fn admin(&self) -> Option<&Spot> {
        self.admin.as_ref()
    }

    /// Whether the page lets those act who have its token.
    pub(super) fn has_admin_token(&self) -> bool {
        self.has_admin_token
    }

    /// Whether addresses that other machines can reach may be listened on.
    pub(super) fn is_plain(&self) -> bool {
        self.plain
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(super) fn log_format(&self) -> Option<LogFormat> {
        self.log_format
    }

    /// The fleet that is shown beside the channels, if one is.
    pub(super) fn fleet(&self) -> Option<&Fleet> {
        self.fleet.as_ref()
    }

    pub(super) fn channels(&self) -> &[Assignment] {
        &self.channels
    }

    /// How it deals with what comes; `is_public` if other machines can reach one of its doors.
    pub(super) fn rules(&self, is_public: bool) -> Rules {
        let mut rules = Rules::new().hold(self.hold);
        if let Some(per_second) = self.rate {
            rules = rules.rate(Rate::per_second(per_second));
        }
        if !self.tokens_only && !is_public {
            rules = rules.any_key();
        }
        if self.validate {
            rules = rules.validate();
        }
        let hosts = self.hosts.iter();
        let rules = hosts.fold(rules, |rules, host| rules.host(host));
        let origins = self.origins.iter().cloned();
        origins.fold(rules, Rules::origin)
    }

    /// For how long what comes again is recognised.
    pub(super) fn windows(&self) -> RepeatWindows {
        let windows = RepeatWindows::new();
        self.dedupe.map_or(windows, |time| windows.messages(time))
    }

    /// Which rules another plan has otherwise.
    pub(super) fn other_rules(&self, new: &Self) -> Vec<String> {
        named([
            ("hosts", self.hosts != new.hosts),
            ("allow_origins", self.origins != new.origins),
            ("tokens_only", self.tokens_only != new.tokens_only),
            ("validate", self.validate != new.validate),
            ("hold", self.hold != new.hold),
            ("dedupe", self.dedupe != new.dedupe),
            ("rate", self.rate != new.rate),
        ])
    }

    /// What else another plan has otherwise: it takes effect when the relay is started by it.
    pub(super) fn other_work(&self, new: &Self) -> Vec<String> {
        let mut names = named([
            ("listen", self.listen != new.listen),
            ("socket_group", self.socket_group != new.socket_group),
            ("socket_mode", self.socket_mode != new.socket_mode),
            ("tls_cert", self.tls_cert != new.tls_cert),
            ("tls_key", self.tls_key != new.tls_key),
            ("admin", self.admin != new.admin),
            ("admin_token", self.has_admin_token != new.has_admin_token),
            ("plain", self.plain != new.plain),
            ("deadline", self.deadline != new.deadline),
            ("log_format", self.log_format != new.log_format),
            ("fleet", self.fleet != new.fleet),
        ]);
        let (old, mut found) = (self.by_name(), new.by_name());
        for (name, old) in old {
            let Some(found) = found.remove(name) else {
                names.push(format!("{CHANNELS}.{name} (gone)"));
                continue;
            };
            let other = found
                .iter()
                .filter(|(key, value)| old.get(*key) != Some(value));
            names.extend(other.map(|(key, _)| format!("{CHANNELS}.{name}.{key}")));
        }
        names.extend(
            found
                .into_keys()
                .map(|name| format!("{CHANNELS}.{name} (new)")),
        );
        names
    }

    fn by_name(&self) -> BTreeMap<&str, BTreeMap<String, serde_json::Value>> {
        let channels = self.channels.iter();
        channels.map(|one| (one.name(), one.values())).collect()
    }
}

/// The channels of the file, or those that were typed.
async fn channels(
    cli: &Cli,
    args: &args::Relay,
    dir: &Path,
    of_file: Vec<(String, Layer)>,
) -> Result<Vec<Assignment>, Fault> {
    if !of_file.is_empty() && !args.channel.is_empty() {
        let text = "the file names the channels, and --channel names others";
        return Err(Fault::usage(text).hint("leave --channel out, or add a table to the file"));
    }
    let mut channels = if of_file.is_empty() {
        Assignment::typed(cli, args, dir).await?
    } else {
        let of = |(name, layer)| Assignment::of_file(cli, dir, name, Some(layer));
        of_file.into_iter().map(of).collect::<Result<_, _>>()?
    };
    if args.sandbox {
        channels.iter_mut().for_each(Assignment::use_sandbox);
    }
    Ok(channels)
}

/// The names of what is another.
fn named<const N: usize>(found: [(&str, bool); N]) -> Vec<String> {
    let others = found.into_iter().filter(|(_, is_other)| *is_other);
    others.map(|(name, _)| name.to_owned()).collect()
}
