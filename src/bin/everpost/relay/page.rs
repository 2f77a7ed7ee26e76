//! The page of a relay, for the people who run it.

use std::net::TcpListener;
use std::path::Path;

use everpost::admin::{Admin, Shown, Token};
use everpost::fleet::BooksWatch;
use everpost::relay::{Door, Port, Relay};

#[cfg(unix)]
use super::doors::bound;
use super::passed::Passed;
use super::plan::Plan;
use super::spot::Spot;
use super::station::Station;
use crate::fault::Fault;
use crate::listen::refused;

/// Where the page is to be, taken and not served yet, and the token that lets it act.
#[derive(Debug)]
pub(super) struct Desk {
    doors: Vec<Door>,
    token: Option<Token>,
}

impl Desk {
    /// Takes the place that is named for the page, beside those that were passed for it, and makes the
    /// token, if that is wanted. None if there is no place.
    pub(super) fn bind(plan: &Plan, passed: Vec<Passed>) -> Result<Option<Self>, Fault> {
        let mut doors = Vec::new();
        for one in passed {
            if one.is_public && !plan.is_plain() {
                return Err(public("a socket that was passed for the page"));
            }
            doors.push(one.door);
        }
        if let Some(spot) = plan.admin() {
            doors.push(match spot {
                Spot::Tcp(at) if spot.public().is_some() && !plan.is_plain() => {
                    return Err(public(&at.to_string()));
                }
                Spot::Tcp(at) => {
                    let bound = TcpListener::bind(at).map_err(|error| refused(*at, &error))?;
                    bound.into()
                }
                Spot::Unix(path) => unix(path)?,
            });
        }
        if doors.is_empty() {
            if plan.has_admin_token() {
                let text = "--admin-token is for the page, and there is none";
                return Err(Fault::usage(text).hint("add --admin 127.0.0.1:7680"));
            }
            if plan.fleet().is_some() {
                let text = "a fleet is shown on the page and beside it, and there is none";
                return Err(Fault::usage(text).hint("add --admin 127.0.0.1:7680"));
            }
            return Ok(None);
        }
        let token = plan.has_admin_token().then(|| Token::open(plan.dir()));
        let token = token.transpose()?;
        Ok(Some(Self { doors, token }))
    }

    /// The file with the token.
    pub(super) fn token_file(&self) -> Option<&Path> {
        self.token.as_ref().map(Token::path)
    }

    /// Serves the page, and beside it health and numbers for probes.
    pub(super) fn open(
        self,
        plan: &Plan,
        relay: &Relay,
        stations: &[Station],
        fleet: Option<BooksWatch>,
        is_for_a_sandbox: bool,
    ) -> Result<Vec<Port>, Fault> {
        let builder = Admin::builder().sample(is_for_a_sandbox);
        let mut builder = builder.health(relay.health());
        for (assignment, station) in plan.channels().iter().zip(stations) {
            let mut shown = station.shown();
            if let Some(file) = assignment.key_file() {
                let file = file.display();
                shown = shown.key_hint(format!(
                    "Put a valid key into {file}: it is read again by itself."
                ));
            }
            builder = builder.channel(shown);
        }
        for host in plan.hosts() {
            builder = builder.host(host);
        }
        if let Some(token) = self.token {
            builder = builder.token(token);
        }
        if let Some(fleet) = fleet {
            builder = builder.fleet(fleet);
        }
        let admin = builder.build();
        let serve = |door| {
            let port = admin.serve(door);
            port.map_err(|error| Fault::io("listen", &error))
        };
        self.doors.into_iter().map(serve).collect()
    }
}

fn public(what: &str) -> Fault {
    let text = format!("other machines can reach {what}, and see there what the relay does");
    Fault::usage(text).hint(
        "serve the page on 127.0.0.1 or [::1], and come through ssh: \
         `ssh -L 7680:127.0.0.1:7680 HOST`; or add `--plain`",
    )
}

/// For this user alone: who gets there may do everything.
#[cfg(unix)]
fn unix(path: &Path) -> Result<Door, Fault> {
    bound(&everpost::relay::UnixSocket::at(path))
}

#[cfg(not(unix))]
fn unix(_: &Path) -> Result<Door, Fault> {
    Err(Fault::usage("this system has no Unix sockets").hint("add --admin 127.0.0.1:7680"))
}

impl Station {
    /// For the page.
    fn shown(&self) -> Shown {
        Shown::new(self.name(), self.queue().clone()).upstream(self.sink().url())
    }
}
