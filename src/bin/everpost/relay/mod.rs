//! `relay`: the API's own door on this machine, as a service.

pub(crate) mod args;
mod assignment;
mod check;
mod doors;
mod file;
mod fleet;
mod life;
mod page;
mod passed;
mod plan;
mod spot;
mod station;

use std::path::{Path, PathBuf};

use everpost::relay::{self, Port, Relay, Tokens};
use serde::Serialize;
use tracing::level_filters::LevelFilter;

use crate::args::Cli;
use crate::fault::Fault;
use crate::logging;
use crate::out::Out;
use crate::place::Place;
use crate::signals::{Hangups, Signals};
use args::{Action, Dir};
use doors::Doors;
use fleet::Fleet;
use life::Life;
use page::Desk;
use passed::passed;
use plan::Plan;
use station::Station;

pub(crate) async fn relay(cli: &Cli, args: &args::Relay, out: Out) -> Result<(), Fault> {
    // The variable is meant for other commands.
    if cli.spool.is_some() && Place::of(cli)?.by == "--spool" {
        let text = "a relay has a spool for each channel, and --spool names one";
        return Err(Fault::usage(text).hint("name the directory of all of them with --dir"));
    }
    match &args.action {
        Some(Action::Token(token)) => show_token(token, out),
        None => {
            let plan = Plan::of(cli, args, &dir(&args.dir)?).await?;
            if args.check {
                return check::show(&plan, out).await;
            }
            serve(cli, args, plan, out).await
        }
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
    let tokens = Tokens::open(&dir(&args.dir)?)?;
    let token = match args.origin.as_slice() {
        [] => tokens.mint(&args.channel)?,
        origins => tokens.mint_for_pages(&args.channel, origins)?,
    };
    let (token, channel) = (token.expose(), args.channel.as_str());
    out.show(&Shown { token, channel }, || format!("{token}\n"))
}

async fn serve(cli: &Cli, args: &args::Relay, plan: Plan, out: Out) -> Result<(), Fault> {
    logging::begin_for_a_service(LevelFilter::INFO, plan.log_format());
    // Before a spool is opened: an address that cannot be had is a mistake in the command line.
    let (of_the_page, of_the_relay) = passed()?.into_iter().partition(|one| one.is_of_the_page);
    let doors = Doors::bind(&plan, of_the_relay)?;
    let desk = Desk::bind(&plan, of_the_page)?;
    let mut signals = Signals::catch_for_a_service()?;
    let hangups = Hangups::catch()?;
    let tokens = Tokens::open(plan.dir())?;
    let (is_public, tls) = (doors.is_public(), doors.tls());
    let mut stations = Vec::new();
    for assignment in plan.channels() {
        stations
            .push(Station::open(assignment, plan.windows(), cli.owners.wait, &mut signals).await?);
    }
    let relay = stations.iter().fold(
        Relay::builder(tokens.clone()).rules(plan.rules(is_public)),
        |builder, station| builder.channel(station.channel()),
    );
    let fleet = plan.fleet().map(Fleet::watch).transpose()?;
    let relay = match &fleet {
        Some(fleet) => relay.fleet(fleet.clone()),
        None => relay,
    };
    let relay = relay.build();
    let ports = doors.open(&relay)?;
    let token_file = desk.as_ref().and_then(Desk::token_file).map(Path::to_owned);
    let page = desk.map(|desk| desk.open(&plan, &relay, &stations, fleet, args.sandbox));
    let page = page.transpose()?.unwrap_or_default();
    let mut address = Address::of(&plan, &ports, args.sandbox.then_some(&tokens))?;
    address.admin_urls = page
        .iter()
        .map(|port| match port.address() {
            relay::Address::Tcp(address) => format!("http://{address}/"),
            socket => socket.to_string(),
        })
        .collect();
    address.admin_token_file = token_file;
    address.show(out)?;
    let life = Life {
        cli,
        args,
        plan,
        is_public,
        tls,
        relay,
        ports,
        page,
        stations,
    };
    life.live(hangups, signals, out).await
}

/// Where the relay is, for the clients that are to send to it.
#[derive(Serialize)]
struct Address<'a> {
    /// What BA_BASE_URL is to be, for each port.
    base_urls: Vec<String>,
    /// Where the page is.
    admin_urls: Vec<String>,
    /// The file with what lets the page act.
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_token_file: Option<PathBuf>,
    dir: &'a Path,
    channels: Vec<Served<'a>>,
}

#[derive(Serialize)]
struct Served<'a> {
    channel: &'a str,
    spool: &'a Path,
    /// Shown with a sandbox alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl<'a> Address<'a> {
    fn of(plan: &'a Plan, ports: &[Port], shown: Option<&Tokens>) -> Result<Self, Fault> {
        let mut channels = Vec::new();
        for one in plan.channels() {
            let token = shown.map(|tokens| tokens.mint(one.name())).transpose()?;
            channels.push(Served {
                channel: one.name(),
                spool: one.spool(),
                token: token.map(|token| token.expose().to_owned()),
            });
        }
        Ok(Self {
            base_urls: ports.iter().map(Port::base_url).collect(),
            admin_urls: Vec::new(),
            admin_token_file: None,
            dir: plan.dir(),
            channels,
        })
    }

    fn show(&self, out: Out) -> Result<(), Fault> {
        out.show(self, || self.for_people())
    }

    fn for_people(&self) -> String {
        let listening = |url| format!("listening on {url}\n");
        let mut text: String = self.base_urls.iter().map(listening).collect();
        text.extend(
            self.admin_urls
                .iter()
                .map(|url| format!("admin on {url}\n")),
        );
        if let Some(file) = &self.admin_token_file {
            text += &format!("its token is in {}\n", file.display());
        }
        let is_one = self.channels.len() == 1;
        // No official client can use a Unix socket.
        let mut url = self.base_urls.iter().find(|url| url.starts_with("http"));
        for one in &self.channels {
            let Some(token) = &one.token else {
                continue;
            };
            if let Some(url) = url.take() {
                text += &format!("export BA_BASE_URL={url}\n");
            }
            let of = if is_one {
                String::new()
            } else {
                format!(" # {}", one.channel)
            };
            text += &format!("export BA_API_KEY={token}{of}\n");
        }
        text
    }
}
