//! `relay`: the API's own door on this machine, as a service.

pub(crate) mod args;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use everpost::botanalytics::{Botanalytics, KeySource};
use everpost::relay::{Channel, Port, Relay, Tokens};
use everpost::sandbox::Sandbox;
use everpost::{Closed, Durability, FlusherState, OnFull, Queue, Settings, exit};
use serde::Serialize;
use tracing::level_filters::LevelFilter;

use crate::append::Tally;
use crate::args::Cli;
use crate::environment;
use crate::fault::Fault;
use crate::key_care::KeyCare;
use crate::listen::refused;
use crate::logging;
use crate::notify;
use crate::out::{Out, remark};
use crate::owner::{Way, opened, own};
use crate::place::Place;
use crate::service::{DEADLINE, Keepers, close, delivery_ended, finish, tell_what_was_found};
use crate::settings::Effective;
use crate::signals::{Hangup, Hangups, Signals};
use crate::target::in_time;
use crate::text::plain;
use args::{Action, Dir, PORT};

/// The channel of a sandbox if none is typed.
const UNIVERSAL: &str = "universal";

/// Where the relay is, for the clients that are to send to it.
#[derive(Serialize)]
struct Address<'a> {
    /// What BA_BASE_URL is to be, for each port.
    base_urls: &'a [String],
    channel: &'a str,
    dir: &'a Path,
    /// Shown with a sandbox alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

pub(crate) async fn relay(cli: &Cli, args: &args::Relay, out: Out) -> Result<(), Fault> {
    // The variable is meant for other commands.
    if cli.spool.is_some() && Place::of(cli)?.by == "--spool" {
        let text = "a relay has a spool for each channel, and --spool names one";
        return Err(Fault::usage(text).hint("name the directory of all of them with --dir"));
    }
    match &args.action {
        Some(Action::Token(token)) => show_token(token, out),
        None => serve(cli, args, out).await,
    }
}

fn dir(dir: &Dir) -> Result<PathBuf, Fault> {
    match &dir.dir {
        Some(dir) if dir.as_os_str().is_empty() => Err(Fault::usage("--dir is empty")),
        Some(dir) => Ok(dir.clone()),
        None => Place::of_relay(),
    }
}

fn show_token(args: &args::Token, out: Out) -> Result<(), Fault> {
    #[derive(Serialize)]
    struct Shown<'a> {
        token: &'a str,
        channel: &'a str,
    }
    let token = Tokens::open(&dir(&args.dir)?)?.mint(&args.channel)?;
    let (token, channel) = (token.expose(), args.channel.as_str());
    out.show(&Shown { token, channel }, || format!("{token}\n"))
}

async fn serve(cli: &Cli, args: &args::Relay, out: Out) -> Result<(), Fault> {
    let dir = dir(&args.dir)?;
    // Which spool it is, its channel says, and that may be said by what all spools share.
    let shared = environment::effective_in(cli, None, true)?;
    logging::begin_for_a_service(LevelFilter::INFO, shared.service().log_format);
    let listeners = bind(args)?;
    let mut signals = Signals::catch_for_a_service()?;
    let hangups = Hangups::catch()?;
    let upstream = Upstream::of(args, &shared).await?;
    let spool = dir.join(&upstream.channel);
    let effective = environment::effective_in(cli, Some(&spool), true)?;
    let settings = settings(&effective)?;
    let tokens = Tokens::open(&dir)?;
    let token = tokens.mint(&upstream.channel)?;
    let open = async |spool: &Path| {
        let builder = Queue::builder(spool).settings(settings.clone());
        opened(builder.sink(upstream.sink.clone()).open().await)
    };
    let way = Way::to(&spool);
    let opening = own(&way, cli.owners.wait, open);
    let owned = in_time(opening, &mut signals, exit::PENDING, None).await?;
    let queue = owned.queue();
    tell_what_was_found(queue);
    let channel = Channel::new(&upstream.channel, queue.clone()).upstream(upstream.sink.clone());
    let ports = open_door(args, tokens, channel, listeners)?;
    let base_urls: Vec<String> = ports
        .iter()
        .map(|port| format!("http://{}/v2", port.address()))
        .collect();
    let address = Address {
        base_urls: &base_urls,
        channel: &upstream.channel,
        dir: &dir,
        token: args.sandbox.then(|| token.expose()),
    };
    out.show(&address, || address.text())?;
    let care = KeyCare::new(upstream.sink.clone(), environment::key_file(&effective));
    let deadline = args.deadline.deadline.or(effective.service().deadline);
    let ended = stay(queue, care, hangups, &mut signals).await;
    let closed = leave(queue, ports, deadline.unwrap_or(DEADLINE), &mut signals).await;
    upstream.stop().await;
    finish((Tally::default(), ended), &closed?, out)
}

/// Relays until a signal, or until delivery ends by itself.
async fn stay(
    queue: &Queue,
    care: KeyCare,
    mut hangups: Hangups,
    signals: &mut Signals,
) -> Result<(), Fault> {
    let channel = care.look().await;
    let (spool, pending) = (queue.spool().display(), queue.status().pending);
    tracing::info!(url = %care.url(), %channel, %spool, pending, "relaying");
    notify::say("READY=1");
    let _keepers = Keepers::begin(queue);
    wait_for_the_end(queue, &care, &mut hangups, signals).await
}

/// Answers what is under way, takes nothing more in, and delivers until the deadline.
async fn leave(
    queue: &Queue,
    ports: Vec<Port>,
    deadline: Duration,
    signals: &mut Signals,
) -> Result<Closed, Fault> {
    tracing::info!(?deadline, pending = queue.status().pending, "closing");
    notify::say("STOPPING=1");
    // All at once: each waits for the requests that it holds.
    let closing = ports.into_iter().map(|port| tokio::spawn(port.close()));
    for port in closing.collect::<Vec<_>>() {
        if let Ok(Err(error)) = port.await {
            // What is in the queue is to be kept and delivered all the same.
            tracing::error!(%error, "a port did not end well");
        }
    }
    Ok(close(queue, deadline, signals.next()).await?)
}

/// Waits for a signal, or for what ends the delivery; SIGHUP has the key read again.
async fn wait_for_the_end(
    queue: &Queue,
    care: &KeyCare,
    hangups: &mut Hangups,
    signals: &mut Signals,
) -> Result<(), Fault> {
    let mut watch = queue.watch();
    let failed = watch.wait_for(|status| {
        let state = &status.flusher;
        matches!(state, FlusherState::Failed { .. } | FlusherState::Closed)
    });
    let follow = async {
        while let Hangup::ReadAgain = hangups.next().await {
            notify::say_reloading();
            let channel = care.look().await;
            // If delivery has ended instead, that is told elsewhere.
            drop(queue.wake().await);
            tracing::info!(url = %care.url(), %channel, "the key was read again");
            notify::say("READY=1");
        }
    };
    tokio::select! {
        () = signals.next() => Ok(()),
        () = follow => Ok(()),
        _ = failed => Err(delivery_ended(queue)),
    }
}

/// Where events go.
struct Upstream {
    channel: String,
    sink: Botanalytics,
    sandbox: Option<Sandbox>,
}

impl Upstream {
    async fn of(args: &args::Relay, effective: &Effective) -> Result<Self, Fault> {
        let typed = args.channel.clone();
        if args.sandbox {
            let channel = typed.unwrap_or_else(|| UNIVERSAL.to_owned());
            return Self::sandbox(channel).await;
        }
        let said = typed.or_else(|| effective.service().channel.clone());
        let mut builder = environment::sink_builder(effective).wait_for_key();
        if let Some(channel) = &said {
            builder = builder.channel(channel);
        }
        let sink = environment::built(builder, effective)?;
        let channel = match said {
            Some(channel) => channel,
            None => match sink.key().await {
                Ok(key) => key.channel().to_owned(),
                Err(error) => {
                    let text = format!("no channel is named, and the key does not say it: {error}");
                    let hint = "add --channel universal, or whichever it is: what comes is kept until there is a key";
                    return Err(Fault::usage(text).hint(hint));
                }
            },
        };
        let sandbox = None;
        Ok(Self {
            channel,
            sink,
            sandbox,
        })
    }

    async fn sandbox(channel: String) -> Result<Self, Fault> {
        let started = Sandbox::builder().channel(&channel).start().await;
        let sandbox = started.map_err(|error| Fault::io("start the sandbox", &error))?;
        let builder = Botanalytics::builder(KeySource::value(sandbox.key()));
        let sink = builder.base_url(sandbox.base_url()).channel(&channel);
        Ok(Self {
            channel,
            sink: sink.build()?,
            sandbox: Some(sandbox),
        })
    }

    async fn stop(self) {
        if let Some(sandbox) = self.sandbox {
            sandbox.stop().await;
        }
    }
}

/// Those of the spool, but for what would take back a 200.
fn settings(effective: &Effective) -> Result<Settings, Fault> {
    let mut settings = effective.settings().clone();
    let by = |name| match effective.said(name) {
        Some(said) => format!(" ({})", said.by),
        None => String::new(),
    };
    if settings.on_full == OnFull::DropOldest {
        let text = format!(
            "on_full = \"drop_oldest\"{} would drop what was answered with 200",
            by("on_full")
        );
        let hint = "set it to \"reject\": a relay holds requests while its queue is full";
        return Err(Fault::usage(text).hint(hint));
    }
    settings.on_full = OnFull::Reject;
    if settings.durability != Durability::Synced {
        remark(&format!(
            "everpost: a relay answers with 200 once a power cut costs nothing: it does not follow \
             `durability`{}",
            plain(&by("durability"))
        ));
        settings.durability = Durability::Synced;
    }
    Ok(settings)
}

/// Takes the ports, all or none.
fn bind(args: &args::Relay) -> Result<Vec<TcpListener>, Fault> {
    if args.listen.is_empty() {
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, PORT));
        let first = TcpListener::bind(v4).map_err(|error| refused(v4, &error))?;
        return match TcpListener::bind(v6) {
            Ok(second) => Ok(vec![first, second]),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(refused(v6, &error)),
            // This machine has no version 6 of the protocol.
            Err(_) => Ok(vec![first]),
        };
    }
    if let Some(public) = args.listen.iter().find(|at| !at.ip().is_loopback())
        && !args.plain
    {
        let text =
            format!("other machines can reach {public}, and what they send is not encrypted");
        return Err(Fault::usage(text)
            .hint("listen on 127.0.0.1 or [::1], behind a proxy with TLS, or add `--plain`"));
    }
    let bind = |at: &SocketAddr| TcpListener::bind(at).map_err(|error| refused(*at, &error));
    args.listen.iter().map(bind).collect()
}

fn open_door(
    args: &args::Relay,
    tokens: Tokens,
    channel: Channel,
    listeners: Vec<TcpListener>,
) -> Result<Vec<Port>, Fault> {
    let is_public = args.listen.iter().any(|at| !at.ip().is_loopback());
    let mut builder = Relay::builder(tokens).channel(channel).hold(args.hold);
    if !args.tokens_only && !is_public {
        builder = builder.any_key();
    }
    if args.validate {
        builder = builder.validate();
    }
    for host in &args.listen_host {
        builder = builder.host(host);
    }
    let relay = builder.build();
    let serve = |listener| {
        let port = relay.serve(listener);
        port.map_err(|error| Fault::io("listen", &error))
    };
    listeners.into_iter().map(serve).collect()
}

impl Address<'_> {
    fn text(&self) -> String {
        let mut text: String = self
            .base_urls
            .iter()
            .map(|url| format!("listening on {url}\n"))
            .collect();
        if let (Some(token), Some(url)) = (self.token, self.base_urls.first()) {
            text += &format!("export BA_BASE_URL={url}\nexport BA_API_KEY={token}\n");
        }
        text
    }
}
