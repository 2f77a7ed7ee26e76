//! The page of a relay, for the people who run it.

use std::net::TcpListener;
use std::path::Path;

use everpost::admin::{Admin, Shown, Token};
use everpost::relay::{Port, Relay};

use super::plan::Plan;
use super::station::Station;
use crate::fault::Fault;
use crate::listen::refused;

/// The port of the page, taken and not served yet, and the token that lets the page act.
#[derive(Debug)]
pub(super) struct Desk {
    listener: TcpListener,
    token: Option<Token>,
}

impl Desk {
    /// Takes the port, if one is wanted, and makes the token, if that is wanted.
    pub(super) fn bind(plan: &Plan) -> Result<Option<Self>, Fault> {
        let Some(at) = plan.admin() else {
            if plan.has_admin_token() {
                let text = "--admin-token is for the page, and there is none";
                return Err(Fault::usage(text).hint("add --admin 127.0.0.1:7680"));
            }
            return Ok(None);
        };
        if !at.ip().is_loopback() && !plan.is_plain() {
            let text = format!("other machines can reach {at}, and see there what the relay does");
            let hint = "serve the page on 127.0.0.1 or [::1], and come through ssh: \
                        `ssh -L 7680:127.0.0.1:7680 HOST`; or add `--plain`";
            return Err(Fault::usage(text).hint(hint));
        }
        let listener = TcpListener::bind(at).map_err(|error| refused(at, &error))?;
        let token = plan.has_admin_token().then(|| Token::open(plan.dir()));
        let token = token.transpose()?;
        Ok(Some(Self { listener, token }))
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
        is_for_a_sandbox: bool,
    ) -> Result<Port, Fault> {
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
        let port = builder.build().serve(self.listener);
        port.map_err(|error| Fault::io("listen", &error))
    }
}

impl Station {
    /// For the page.
    fn shown(&self) -> Shown {
        let (name, sink) = (self.name(), self.sink().clone());
        Shown::new(name, self.queue().clone()).upstream(sink)
    }
}
