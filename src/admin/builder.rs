//! The page, how it is set up, and the port it is served on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use tokio::runtime::Handle;

use super::access::{Door, Gate};
use super::channel::Shown;
use super::desk::{self, Desk, Rules};
use super::keeper::keep;
use super::token::Token;
use super::{CONNECTION_TIME, CONNECTIONS_MAX, Port};
use crate::control;
use crate::control::answer::Refusal;
#[cfg(feature = "fleet")]
use crate::fleet::BooksWatch;
use crate::hosts::Hosts;
use crate::queue::Queue;
use crate::relay;
use crate::serving::{self, Bounds};

/// Connections beyond the limit that are told so; more wait unheard.
const TURNED_AWAY_MAX: usize = 16;

/// How long answers under way may take once a port is to go; live news never end by themselves.
const GRACE: Duration = Duration::from_secs(1);

/// By how much live news end before the connection does.
const MARGIN: Duration = Duration::from_secs(3);

/// The host that programs name on a Unix socket, where there is none.
const SOCKET_HOST: &str = "everpost";

/// The page over some queues; see the [module](super).
///
/// It holds the queues: drop it, and close its ports, when the program is done. Cloning gives another
/// handle to the same page.
#[derive(Clone, Debug)]
pub struct Admin {
    desk: Arc<Desk>,
    doors: [Arc<Hosts>; 2],
    health: Router,
    bounds: Bounds,
    #[cfg(feature = "fleet")]
    fleet: Option<BooksWatch>,
    is_kept: Arc<AtomicBool>,
}

/// What a page is made of.
#[derive(Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct Builder {
    channels: Vec<Shown>,
    hosts: Hosts,
    rules: Rules,
    health: Router,
    bounds: Bounds,
    #[cfg(feature = "fleet")]
    fleet: Option<BooksWatch>,
}

impl Admin {
    /// Begins to set up a page.
    pub fn builder() -> Builder {
        Builder {
            channels: Vec::new(),
            hosts: Hosts::default(),
            rules: Rules::default(),
            health: Router::new(),
            bounds: Bounds {
                name: "the port of the page",
                connections_max: CONNECTIONS_MAX,
                turned_away_max: TURNED_AWAY_MAX,
                head_bytes_max: control::HEAD_BYTES_MAX,
                head_time: control::HEAD_TIME,
                write_time: control::WRITE_TIME,
                connection_time: Some(CONNECTION_TIME),
                grace: GRACE,
            },
            #[cfg(feature = "fleet")]
            fleet: None,
        }
    }

    /// The routes for those who can reach a TCP port: they may look, and with the token act.
    ///
    /// Call it in a tokio runtime: live news and charts are made by a task for each channel, which
    /// ends with the queue or with the page.
    pub fn router(&self) -> Router {
        self.routes(Door::Tcp)
    }

    /// The same routes for those who may do everything: serve them only where no others can come,
    /// such as on a Unix socket in a directory of one user. Requests may also name the host
    /// `everpost` there.
    pub fn trusted_router(&self) -> Router {
        self.routes(Door::Trusted)
    }

    fn routes(&self, door: Door) -> Router {
        self.keep();
        let hosts = match door {
            Door::Tcp => &self.doors[0],
            Door::Trusted => &self.doors[1],
        };
        let gate = Gate {
            desk: Arc::clone(&self.desk),
            hosts: Arc::clone(hosts),
            door,
        };
        desk::routes(gate, self.health.clone())
    }

    /// Starts the tasks of the channels, once.
    fn keep(&self) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if self.is_kept.swap(true, Ordering::AcqRel) {
            return;
        }
        for at in 0..self.desk.channels.len() {
            runtime.spawn(keep(Arc::downgrade(&self.desk), at));
        }
        #[cfg(feature = "fleet")]
        if let Some(fleet) = &self.fleet {
            runtime.spawn(super::fleet::keep(
                Arc::downgrade(&self.desk),
                fleet.clone(),
            ));
        }
    }

    /// Serves the page at a door until the [`Port`] is closed or dropped: the [`router`](Self::router)
    /// on a TCP port, the [`trusted_router`](Self::trusted_router) on a Unix socket, whose file says
    /// who gets there.
    ///
    /// Without TLS it is plain HTTP, and who can reach a TCP port may look: bind it to a loopback
    /// address.
    ///
    /// At most [`CONNECTIONS_MAX`] connections are served at once, one request each.
    ///
    /// # Errors
    /// If there is no tokio runtime, or the system refuses.
    pub fn serve(&self, door: impl Into<relay::Door>) -> io::Result<Port> {
        let connections_max = self.bounds.connections_max;
        let busy = async move || {
            Refusal::busy(format!(
                "too many connections are open. max=`{connections_max}`"
            ))
        };
        let busy = Router::new().fallback(busy);
        let door = door.into().into_inner();
        let routes = match door.is_tcp() {
            true => self.router(),
            false => self.trusted_router(),
        };
        serving::Port::serve(door, routes, busy, self.bounds.clone()).map(Port)
    }
}

impl Builder {
    /// Adds a queue; those on the page are in this order.
    pub fn channel(mut self, shown: Shown) -> Self {
        self.channels.retain(|other| other.name() != shown.name());
        self.channels.push(shown);
        self
    }

    /// Lets those act who present this token. Without one, nothing can be changed over TCP.
    pub fn token(mut self, token: Token) -> Self {
        self.rules.token = Some(token);
        self
    }

    /// Answers requests that name this host, besides addresses and `localhost`; without a port.
    pub fn host(mut self, name: impl Into<String>) -> Self {
        self.hosts.add(name.into());
        self
    }

    /// Whether the page offers to append a message to try out what happens: for a queue whose
    /// receiver is a stand-in.
    pub fn sample(mut self, is_wanted: bool) -> Self {
        self.rules.sample = is_wanted;
        self
    }

    /// Serves `/livez`, `/readyz` and `/metrics` of this queue too, and all within the bounds of
    /// [`control::listen`], so that probes find what they find there: at most
    /// [`TCP_CONNECTIONS_MAX`](control::TCP_CONNECTIONS_MAX) connections, each for one request and
    /// for [`TCP_TIME`](control::TCP_TIME). Live news are taken up again and again then.
    pub fn beside_probes_of(mut self, queue: &Queue) -> Self {
        self.bounds.name = "the health port";
        self.bounds.connections_max = control::TCP_CONNECTIONS_MAX;
        self.bounds.connection_time = Some(control::TCP_TIME);
        self.rules.live_time = Some(control::TCP_TIME.saturating_sub(MARGIN));
        self.health(control::health::routes(queue.clone()))
    }

    /// Routes that are served beside the page, behind the same door: for probes, such as those of
    /// [`Relay::health`](crate::relay::Relay::health). They must have no fallback, and none of the
    /// paths of the page.
    pub fn health(mut self, routes: Router) -> Self {
        self.health = self.health.merge(routes);
        self
    }

    /// Shows the books of this fleet beside the channels. They are only read; that they cannot be read is shown, and
    /// changes nothing else.
    #[cfg(feature = "fleet")]
    pub fn fleet(mut self, fleet: BooksWatch) -> Self {
        self.fleet = Some(fleet);
        self
    }

    /// The page.
    #[must_use]
    pub fn build(self) -> Admin {
        let mut trusted = self.hosts.clone();
        trusted.add(SOCKET_HOST.to_owned());
        let desk = Desk::new(self.channels, self.rules);
        #[cfg(feature = "fleet")]
        if let Some(fleet) = &self.fleet {
            desk.fleet
                .send_replace(Some(super::fleet::json(fleet).into()));
        }
        Admin {
            doors: [Arc::new(self.hosts), Arc::new(trusted)],
            desk: Arc::new(desk),
            health: self.health,
            bounds: self.bounds,
            #[cfg(feature = "fleet")]
            fleet: self.fleet,
            is_kept: Arc::new(AtomicBool::new(false)),
        }
    }
}
