//! Who owns the spool: this command, which then serves the control socket, or another process,
//! which is asked through its socket, or waited for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use everpost::control::{self, Client, ClientError, Control, GroupSocket};
use everpost::{Closed, Error, FlusherState, OpenError, Queue, Settings, Status, exit};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::args::Cli;
use crate::environment;
use crate::fault::Fault;
use crate::group::group_socket;
use crate::times::span;
use crate::waiting::Patience;

/// An owner that has done its own work, and that others wait for, goes on serving them until none
/// has come for this long, which is longer than they rest; on a busy machine for as long as it took
/// to open the spool, which each of them would have to do otherwise.
const LINGER: Duration = Duration::from_millis(75);

/// But not much longer than this in all.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// How long an owner that cannot do what is wanted is not asked again. It must be longer than
/// [`LINGER`]: an owner that is done goes on for as long as others come.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What is typed about owners, for all commands.
#[derive(Debug, Args)]
pub(crate) struct Owners {
    /// How long to wait for a process that uses the spool and cannot be asked to do what is
    /// wanted: `10s`, or `0` to not wait at all; without a time, a week. If another one takes its
    /// place, the time begins anew.
    #[arg(
        long,
        global = true,
        env = "EVERPOST_WAIT",
        value_name = "TIME",
        num_args = 0..=1,
        default_value = "10s",
        default_missing_value = "7days",
        value_parser = span,
        hide_env_values = true
    )]
    pub(crate) wait: Duration,

    /// A control socket outside of the spool, as `--socket-group` makes one: what is asked for goes
    /// to the process that serves it, and the spool is not touched.
    #[arg(
        long,
        global = true,
        env = "EVERPOST_SOCKET",
        value_name = "PATH",
        hide_env_values = true
    )]
    pub(crate) socket: Option<PathBuf>,

    /// Serves a second control socket, by which the members of this group (a name or a number) may
    /// append and see the status: at `--socket`, or in the directory that systemd's
    /// `RuntimeDirectory=` gives.
    #[arg(long, global = true, value_name = "GROUP")]
    pub(crate) socket_group: Option<String>,
}

/// How this command comes to a spool.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// By its directory.
    Spool {
        path: PathBuf,
        /// Served too, by this command as the owner.
        group: Option<GroupSocket>,
    },
    /// By a socket alone.
    Socket(PathBuf),
}

impl Way {
    /// By this directory.
    pub(crate) fn to(spool: &Path) -> Self {
        let path = spool.to_owned();
        Self::Spool { path, group: None }
    }

    /// As typed.
    pub(crate) fn of(cli: &Cli) -> Result<Self, Fault> {
        match (&cli.owners.socket, &cli.owners.socket_group) {
            (Some(socket), None) => Ok(Self::Socket(socket.clone())),
            _ => Self::to_own(cli),
        }
    }

    /// As typed, for a command that must own the spool: `--socket` is where it serves.
    pub(crate) fn to_own(cli: &Cli) -> Result<Self, Fault> {
        let group = match &cli.owners.socket_group {
            Some(group) => Some(group_socket(group, cli.owners.socket.as_deref())?),
            None => None,
        };
        let path = environment::spool(cli)?;
        Ok(Self::Spool { path, group })
    }

    /// As [`to_own`](Self::to_own), for the service: the settings may name the group too.
    pub(crate) fn to_run(cli: &Cli) -> Result<Self, Fault> {
        let mut way = Self::to_own(cli)?;
        if let Self::Spool {
            group: group @ None,
            ..
        } = &mut way
            && let Some(named) = environment::service(cli)?.socket_group
        {
            *group = Some(group_socket(&named, cli.owners.socket.as_deref())?);
        }
        Ok(way)
    }

    /// The spool, if it can be looked at.
    pub(crate) fn spool(&self) -> Option<&Path> {
        match self {
            Self::Spool { path, .. } => Some(path),
            Self::Socket(_) => None,
        }
    }

    /// The client of the owner, if there is one.
    pub(crate) fn client(&self) -> Client {
        match self {
            Self::Spool { path, .. } => Client::new(path),
            Self::Socket(path) => Client::at(path),
        }
    }

    /// Opens the spool, or reaches the process that owns it, if that one suits. Otherwise waits
    /// until one of both is the case, or `patience` is over.
    ///
    /// # Cancel safety
    /// A spool that is being opened is closed again.
    pub(crate) async fn find(
        &self,
        open: impl AsyncFn(&Path) -> Result<Opened, Fault>,
        suits: impl Fn(&Status) -> Result<(), Fault>,
        patience: &mut Patience,
    ) -> Result<Found, Fault> {
        let mut unsuited: Option<Unsuited> = None;
        loop {
            let mut unopened = None;
            if let Self::Spool { path, group } = self {
                let began = Instant::now();
                match open(path).await? {
                    Ok(queue) => {
                        let mut owned = Owned::serve(queue, group.clone()).await;
                        owned.is_wanted = patience.has_rested();
                        owned.linger = began.elapsed().clamp(LINGER, LINGER_MAX);
                        return Ok(Found::Own(owned));
                    }
                    Err(error) => {
                        if let Unopened::InUse(error) = &error {
                            patience.meet(error);
                        }
                        unopened = Some(error);
                    }
                }
            }
            if let Some(known) = &unsuited
                && known.is_still(unopened.as_ref())
            {
                patience.rest(known.why.clone()).await?;
                continue;
            }
            let (why, no) = match self.ask(&suits).await {
                Ok(found) => return Ok(found),
                Err(refused) => refused,
            };
            let pid = unopened.as_ref().and_then(Unopened::pid);
            let why = match unopened {
                Some(Unopened::InUse(in_use)) => not_to_be_asked(in_use, why),
                // No other process does it, and this command cannot before they are mended.
                Some(Unopened::Settings(broken)) if matches!(no, No::Silent | No::Unsuited) => {
                    return Err(broken);
                }
                _ => why,
            };
            match no {
                No::ForGood => return Err(why),
                No::Unsuited => unsuited = Some(Unsuited::new(pid, why.clone())),
                No::Silent | No::NotNow => {}
            }
            patience.rest(why).await?;
        }
    }

    /// Asks the owner whether it can do what is wanted.
    async fn ask(
        &self,
        suits: impl Fn(&Status) -> Result<(), Fault>,
    ) -> Result<Found, (Fault, No)> {
        let client = self.client();
        match client.status().await {
            Ok(status) => match suits(&status) {
                Ok(()) => Ok(Found::Live(client, Box::new(status))),
                Err(why) => Err((why, No::Unsuited)),
            },
            Err(error) => {
                let no = match (&error, Undone::of(&error)) {
                    (ClientError::NoOwner { .. }, _) => No::Silent,
                    (_, Some(_)) => No::NotNow,
                    (_, None) => No::ForGood,
                };
                Err((error.into(), no))
            }
        }
    }
}

/// Owns the spool, once no other process does: for what only its owner can do.
pub(crate) async fn own(
    way: &Way,
    wait: Duration,
    open: impl AsyncFn(&Path) -> Result<Opened, Fault>,
) -> Result<Owned, Fault> {
    let mut patience = Patience::new(wait, &Arc::new(Notify::new()));
    match way.find(open, none, &mut patience).await? {
        Found::Own(owned) => Ok(owned),
        // None suits.
        Found::Live(..) => Err(Fault::new(exit::IN_USE, "the spool has another owner")),
    }
}

/// An open queue, or why another process may have to be asked.
pub(crate) type Opened = Result<Queue, Unopened>;

/// Why a spool is not open, though what is wanted may be done all the same.
#[derive(Debug)]
pub(crate) enum Unopened {
    /// The error that says who has it in use.
    InUse(Error),
    /// It was not tried: the settings to open it with are not usable. An owner has its own.
    Settings(Fault),
}

impl Unopened {
    /// The owner, if it is known.
    fn pid(&self) -> Option<u32> {
        match self {
            Self::InUse(Error::InUse { pid, .. }) => *pid,
            _ => None,
        }
    }
}

/// Tells a spool that is in use from other errors.
pub(crate) fn opened(result: Result<Queue, OpenError>) -> Result<Opened, Fault> {
    match result {
        Ok(queue) => Ok(Ok(queue)),
        Err(OpenError::InUse { path, pid }) => Ok(Err(Unopened::InUse(Error::InUse { path, pid }))),
        Err(error) => Err(error.into()),
    }
}

/// Reads the settings of this command and opens with them.
pub(crate) async fn with_settings(
    cli: &Cli,
    open: impl AsyncFnOnce(Settings) -> Result<Opened, Fault>,
) -> Result<Opened, Fault> {
    match environment::settings(cli) {
        Ok(settings) => open(settings).await,
        Err(broken) => Ok(Err(Unopened::Settings(broken))),
    }
}

/// Why no owner was found that does what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum No {
    /// No owner answers.
    Silent,
    /// The owner cannot do it.
    Unsuited,
    /// The owner has too much to do, or is about to end.
    NotNow,
    /// Asking again would not help.
    ForGood,
}

/// An owner that answered and cannot do what is wanted: it is waited for.
#[derive(Debug)]
struct Unsuited {
    pid: Option<u32>,
    why: Fault,
    asked: Instant,
}

impl Unsuited {
    fn new(pid: Option<u32>, why: Fault) -> Self {
        let asked = Instant::now();
        Self { pid, why, asked }
    }

    /// Whether that one has the spool still, and was asked a moment ago.
    fn is_still(&self, unopened: Option<&Unopened>) -> bool {
        let pid = unopened.and_then(Unopened::pid);
        pid.is_some() && pid == self.pid && self.asked.elapsed() < ASK_AGAIN
    }
}

/// Who can do what is asked.
#[derive(Debug)]
pub(crate) enum Found {
    /// This command, which owns the spool.
    Own(Owned),
    /// Another process owns it and answered.
    Live(Client, Box<Status>),
}

/// A spool that this command owns and serves.
#[derive(Clone, Debug)]
pub(crate) struct Owned {
    queue: Queue,
    /// Served until the queue is closed.
    control: Option<Arc<Control>>,
    /// Whether others may wait for it: this command had to.
    is_wanted: bool,
    linger: Duration,
}

impl Owned {
    /// Serves this queue, so that other commands need not wait for it.
    async fn serve(queue: Queue, group: Option<GroupSocket>) -> Self {
        let served = match group {
            None => control::serve(&queue).await,
            Some(group) => match control::serve_group(&queue, group).await {
                Err(error @ Error::Control { .. }) => {
                    tracing::error!(%error, hint = error.hint(), "the group cannot reach this owner");
                    control::serve(&queue).await
                }
                served => served,
            },
        };
        let control = served.inspect_err(|error| {
            // What is to be done matters more than being asked about it.
            tracing::error!(%error, hint = error.hint(), "no other process can reach this owner");
        });
        Self {
            queue,
            control: control.ok().map(Arc::new),
            is_wanted: false,
            linger: LINGER,
        }
    }

    /// Whether the spool, of which there was none when this command began, was not made by another
    /// process since.
    pub(crate) fn is_made_here(&self) -> bool {
        !self.is_wanted && self.queue.status().last_seq == 0
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Gives the spool back, with everything durable, once no other command asks any more: each
    /// that is served need not open the spool itself.
    pub(crate) async fn hand_over(&self) -> Result<Closed, Error> {
        let by = Instant::now() + LINGER_MAX;
        if let Some(control) = &self.control {
            let mut seen = 0;
            let mut is_wanted = self.is_wanted;
            while is_wanted || control.connections() > seen {
                is_wanted = false;
                seen = control.connections();
                sleep_until((Instant::now() + self.linger).min(by)).await;
                if Instant::now() >= by {
                    break;
                }
            }
        }
        self.close(Duration::ZERO).await
    }

    /// Gives the spool back, with everything durable. Requests under way are answered.
    pub(crate) async fn close(&self, deadline: Duration) -> Result<Closed, Error> {
        self.queue.close(deadline).await
    }
}

/// What is known about a request that an owner did not answer with success, if another try may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undone {
    /// It was not done.
    Certainly,
    /// It was done or not.
    Perhaps,
}

impl Undone {
    /// None if another try would end the same.
    pub(crate) fn of(error: &ClientError) -> Option<Self> {
        match error {
            ClientError::NoOwner { .. } => Some(Self::Certainly),
            ClientError::Refused { kind, .. } if kind == "closed" || kind == "busy" => {
                Some(Self::Certainly)
            }
            ClientError::Broken { .. } => Some(Self::Perhaps),
            _ => None,
        }
    }
}

/// Whether no owner answers, or it was just about to end.
pub(crate) fn is_gone(error: &ClientError) -> bool {
    match error {
        ClientError::NoOwner { .. } | ClientError::Broken { .. } => true,
        ClientError::Refused { kind, .. } => kind == "closed",
        _ => false,
    }
}

/// The spool is in use and its owner cannot be asked.
pub(crate) fn not_to_be_asked(in_use: Error, why: Fault) -> Fault {
    let mut fault = Fault::from(in_use);
    fault.text = format!("{}; {}", fault.text, why.text);
    match why.hint {
        Some(hint) if why.code != exit::IN_USE => fault.hint(hint),
        _ => fault.hint("wait for longer with `--wait 60s`, or end that process"),
    }
}

/// Takes an owner that delivers.
pub(crate) fn delivers(status: &Status) -> Result<(), Fault> {
    if status.flusher != FlusherState::Absent {
        return Ok(());
    }
    Err(Fault::new(
        exit::IN_USE,
        "that one only takes events in and does not deliver",
    ))
}

/// Takes any owner.
pub(crate) fn any(_: &Status) -> Result<(), Fault> {
    Ok(())
}

/// Takes none: what is wanted only this command can do, as the owner.
pub(crate) fn none(_: &Status) -> Result<(), Fault> {
    Err(Fault::new(exit::IN_USE, "that one is at work"))
}
