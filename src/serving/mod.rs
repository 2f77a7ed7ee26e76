//! HTTP at a door of any kind, within bounds: accepting, connections, and the end.

mod connection;
mod door;
mod patient;
#[cfg(feature = "relay")]
mod tls;
mod via;
mod waiting;

use std::io;
use std::time::Duration;

use axum::Router;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::error::Error;
use crate::observe;
use connection::Serving;
use door::{Caller, Open};
use waiting::Chairs;

#[cfg(feature = "relay")]
pub use door::Address;
pub(crate) use door::Door;
pub(crate) use patient::Patient;
#[cfg(feature = "relay")]
pub use tls::Tls;
#[cfg(feature = "relay")]
pub(crate) use via::{Peer, Via};

/// How long the listener rests when the system has no more sockets to give.
const REST: Duration = Duration::from_millis(100);

/// What clients may take.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// What the port is called in the log and in errors.
    pub(crate) name: &'static str,
    /// Connections that are served at once. Beyond them, the one on which nothing was asked for the
    /// longest time makes way.
    pub(crate) connections_max: usize,
    /// Connections beyond them that are told so, if something is asked on each; more wait unheard.
    pub(crate) turned_away_max: usize,
    /// Bytes of the head of a request.
    pub(crate) head_bytes_max: usize,
    /// How long the head of a request may take, and a connection may be idle before it.
    pub(crate) head_time: Duration,
    /// How long a client may take nothing of its answer.
    pub(crate) write_time: Duration,
    /// How long a connection may take in all. It serves one request then; without a limit, as many
    /// as come, each of which the routes have to bound.
    pub(crate) connection_time: Option<Duration>,
    /// How long answers under way may take once the port is to go.
    pub(crate) grace: Duration,
}

/// A door that is served. It is closed soon after this is dropped.
#[derive(Debug)]
pub(crate) struct Port {
    #[cfg(feature = "relay")]
    address: Address,
    #[cfg(feature = "relay")]
    is_encrypted: bool,
    name: &'static str,
    /// Its closing is the sign to end.
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Port {
    /// Serves these routes, and `busy` to clients beyond the bound. Each request has the [`Via`] by
    /// which it came among its extensions.
    pub(crate) fn serve(
        door: impl Into<Door>,
        routes: Router,
        busy: Router,
        bounds: Bounds,
    ) -> io::Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let door = door.into().open()?;
        let (stop, stopped) = watch::channel(());
        let name = bounds.name;
        let hall = Hall {
            routes,
            busy,
            chairs: Chairs::new(bounds.connections_max + bounds.turned_away_max),
            bounds,
            #[cfg(feature = "relay")]
            tls: door.tls().cloned(),
            connections: JoinSet::new(),
            stop: stopped,
        };
        #[cfg(feature = "relay")]
        let (address, is_encrypted) = (door.address().clone(), door.tls().is_some());
        let task = runtime.spawn(hall.accept(door));
        Ok(Self {
            #[cfg(feature = "relay")]
            address,
            #[cfg(feature = "relay")]
            is_encrypted,
            name,
            stop,
            task,
        })
    }

    /// Where it listens.
    #[cfg(feature = "relay")]
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    #[cfg(feature = "relay")]
    pub(crate) fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// Closes it and waits until answers under way are out, or the grace is over.
    pub(crate) async fn close(self) -> Result<(), Error> {
        drop(self.stop);
        self.task.await.map_err(|error| Error::Panicked {
            part: self.name,
            message: error.to_string(),
        })
    }
}

/// Where clients are served.
struct Hall {
    routes: Router,
    busy: Router,
    bounds: Bounds,
    #[cfg(feature = "relay")]
    tls: Option<Tls>,
    connections: JoinSet<()>,
    chairs: Chairs,
    stop: watch::Receiver<()>,
}

impl Hall {
    /// Accepts and serves until `stop` closes; then lets answers under way finish for a moment.
    async fn accept(mut self, door: Open) {
        let callers_max = self.bounds.connections_max + self.bounds.turned_away_max;
        let mut stop = self.stop.clone();
        loop {
            let has_place = self.connections.len() < callers_max;
            tokio::select! {
                biased;
                _ = stop.changed() => break,
                Some(_) = self.connections.join_next() => {}
                accepted = door.accept(), if has_place => match accepted {
                    Ok(caller) => self.let_in(caller),
                    Err(error) => {
                        observe::not_accepted(self.bounds.name, &error);
                        sleep(REST).await;
                    }
                },
            }
        }
        for caller in door.close(callers_max) {
            self.let_in(caller);
        }
        let rest = async { while self.connections.join_next().await.is_some() {} };
        if timeout(self.bounds.grace, rest).await.is_err() {
            self.connections.shutdown().await;
        }
    }

    fn let_in(&mut self, caller: Caller) {
        let is_full = self.connections.len() >= self.bounds.connections_max;
        let is_turned_away = is_full && !self.chairs.make_room();
        let routes = if is_turned_away {
            &self.busy
        } else {
            &self.routes
        };
        let serving = Serving {
            routes: routes.clone(),
            bounds: self.bounds.clone(),
            is_turned_away,
            #[cfg(feature = "relay")]
            tls: self.tls.clone(),
            chair: self.chairs.add(),
            stop: self.stop.clone(),
        };
        self.connections.spawn(serving.serve(caller));
    }
}

#[cfg(test)]
mod tests;
