//! A relay under way: until a signal ends it, or delivery ends by itself.

use std::pin::pin;
use std::time::Duration;

use everpost::Queue;
use everpost::relay::{Port, Relay, Tls};
use futures_util::future::select_all;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::args;
use super::plan::Plan;
use super::station::Station;
use crate::append::Tally;
use crate::args::Cli;
use crate::fault::Fault;
use crate::notify;
use crate::out::Out;
use crate::service::{End, Keepers, finish};
use crate::signals::{Hangup, Hangups, Signals};

/// How long ports may take to close, whatever the deadline: a client that was let in has a moment to
/// ask what it has sent already.
const PORTS_TIME: Duration = Duration::from_secs(2);

/// All that is under way.
pub(super) struct Life<'a> {
    pub(super) cli: &'a Cli,
    pub(super) args: &'a args::Relay,
    /// What it was started by.
    pub(super) plan: Plan,
    /// Whether other machines can reach one of its ports.
    pub(super) is_public: bool,
    pub(super) tls: Option<Tls>,
    pub(super) relay: Relay,
    pub(super) ports: Vec<Port>,
    /// Stays until the queues are closed: how that goes is seen there.
    pub(super) page: Vec<Port>,
    pub(super) stations: Vec<Station>,
}

impl Life<'_> {
    /// Relays until it is to end, and ends.
    pub(super) async fn live(
        mut self,
        hangups: Hangups,
        mut signals: Signals,
        out: Out,
    ) -> Result<(), Fault> {
        for station in &self.stations {
            station.tell_that_it_relays().await;
        }
        notify::say("READY=1");
        let queues: Vec<Queue> = self
            .stations
            .iter()
            .map(|one| one.queue().clone())
            .collect();
        let keepers = Keepers::begin(&queues);
        let ended = self.wait_for_the_end(hangups, &mut signals).await;
        drop(keepers);
        let page = std::mem::take(&mut self.page);
        let end = self.leave(signals).await?;
        for port in page {
            if let Err(error) = port.close().await {
                tracing::error!(%error, "the page did not end well");
            }
        }
        finish((Tally::default(), ended), end, out)
    }

    /// Waits for a signal, or for what ends a delivery.
    async fn wait_for_the_end(
        &self,
        mut hangups: Hangups,
        signals: &mut Signals,
    ) -> Result<(), Fault> {
        let failed = self
            .stations
            .iter()
            .map(|station| Box::pin(station.failed()));
        tokio::select! {
            () = signals.next() => Ok(()),
            () = self.follow(&mut hangups) => Ok(()),
            (fault, ..) = select_all(failed) => Err(fault),
        }
    }

    /// Reads again at each SIGHUP; ends once the terminal of the service is gone.
    async fn follow(&self, hangups: &mut Hangups) {
        let mut newer: Option<Plan> = None;
        while let Hangup::ReadAgain = hangups.next().await {
            notify::say_reloading();
            match Plan::of(self.cli, self.args, self.plan.dir()).await {
                Ok(plan) => {
                    self.relay.set_rules(plan.rules(self.is_public));
                    for station in &self.stations {
                        station.recognise(plan.windows());
                    }
                    let before = newer.as_ref().unwrap_or(&self.plan);
                    tell_changes(&before.other_rules(&plan), &self.plan.other_work(&plan));
                    newer = Some(plan);
                }
                Err(fault) => tracing::error!(
                    hint = fault.hint,
                    "the settings cannot be read again, and those in effect stay: {}",
                    fault.text
                ),
            }
            self.read_tls_again().await;
            for station in &self.stations {
                station.read_key_again().await;
            }
            notify::say("READY=1");
        }
    }

    async fn read_tls_again(&self) {
        let Some(tls) = self.tls.clone() else {
            return;
        };
        match tokio::task::spawn_blocking(move || tls.look()).await {
            Ok(Ok(true)) => tracing::info!("the certificate was read again"),
            Ok(Err(error)) => tracing::error!(
                %error,
                "the certificate or its key cannot be used; those from before stay in use"
            ),
            _ => {}
        }
    }

    /// Answers what is under way, takes nothing more in, and delivers until the deadline.
    async fn leave(self, mut signals: Signals) -> Result<End, Fault> {
        let deadline = self.plan.deadline();
        let pending = |one: &Station| one.queue().status().pending;
        let pending: u64 = self.stations.iter().map(pending).sum();
        tracing::info!(?deadline, pending, "closing");
        notify::say("STOPPING=1");
        let until = Instant::now() + deadline.max(PORTS_TIME);
        let hastened = tokio::select! {
            () = close_ports(self.ports, until) => false,
            () = signals.next() => true,
        };
        // What the ports took beyond that is not added.
        let rest = until.saturating_duration_since(Instant::now());
        let deadline = if hastened {
            Duration::ZERO
        } else {
            deadline.min(rest + PORTS_TIME)
        };
        let (hasten, _) = watch::channel(());
        let mut closing = JoinSet::new();
        for station in self.stations {
            let mut hastened = hasten.subscribe();
            let signal = async move { drop(hastened.changed().await) };
            closing.spawn(station.close(deadline, signal));
        }
        let closed = async {
            let mut end = End::default();
            let mut failed = None;
            // One that fails takes no time from the others.
            while let Some(closed) = closing.join_next().await {
                match closed.unwrap_or_else(|error| Err(panicked(&error))) {
                    Ok(closed) => end.add(&closed),
                    Err(error) => failed = failed.or(Some(Fault::from(error))),
                }
            }
            failed.map_or(Ok(end), Err)
        };
        let mut closed = pin!(closed);
        tokio::select! {
            end = &mut closed => return end,
            () = signals.next() => drop(hasten),
        }
        closed.await
    }
}

/// All at once. One that is not closed until then is left to the end of the process.
async fn close_ports(ports: Vec<Port>, until: Instant) {
    let closing = ports.into_iter().map(|port| tokio::spawn(port.close()));
    for port in closing.collect::<Vec<_>>() {
        match timeout_at(until, port).await {
            Ok(Ok(Err(error))) => {
                // What is in a queue is to be kept and delivered all the same.
                tracing::error!(%error, "a port did not end well");
            }
            Ok(_) => {}
            Err(_) => tracing::warn!("requests are still under way, and are cut off"),
        }
    }
}

fn panicked(error: &tokio::task::JoinError) -> everpost::Error {
    everpost::Error::Panicked {
        part: "closing a channel",
        message: error.to_string(),
    }
}

/// Says in the log what a file that was read again says otherwise.
fn tell_changes(now: &[String], later: &[String]) {
    if !now.is_empty() {
        tracing::info!(settings = %now.join(", "), "settings have changed, and hold from now on");
    }
    if !later.is_empty() {
        let settings = later.join(", ");
        tracing::warn!(%settings, "settings have changed; they take effect at the next start");
    }
}
