//! The task that lets clients in.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::CONNECTIONS_MAX;
use super::answer::Refusal;
use super::connection::{self, Door};
use crate::ending::panic_text;
use crate::observe;
use crate::seat::Seat;

/// Connections beyond the limit that are told so; more wait unheard.
const TURNED_AWAY_MAX: usize = 16;

/// How long the listener rests when the system has no more sockets to give.
const REST: Duration = Duration::from_millis(100);

/// How often it is seen whether the files of the sockets are still there.
const LOOK: Duration = Duration::from_secs(2);

/// Where clients come in: through the spool's socket, and through that of the group.
#[derive(Debug)]
pub(super) struct Doors {
    seats: Vec<Seat>,
    own: UnixListener,
    group: Option<UnixListener>,
    stop: watch::Receiver<()>,
    /// How many clients came in.
    count: Arc<AtomicU64>,
}

impl Doors {
    /// # Errors
    /// If the runtime cannot wait for them.
    pub(super) fn new(
        seats: Vec<Seat>,
        own: StdListener,
        group: Option<StdListener>,
        stop: watch::Receiver<()>,
    ) -> io::Result<Self> {
        Ok(Self {
            seats,
            own: UnixListener::from_std(own)?,
            group: group.map(UnixListener::from_std).transpose()?,
            stop,
            count: Arc::default(),
        })
    }

    /// How many clients came in so far.
    pub(super) fn count(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.count)
    }

    /// The next client, and whether it is a guest: one that came through the socket of the group,
    /// and is neither root nor this user.
    ///
    /// # Cancel safety
    /// No client is lost.
    async fn next(&self) -> io::Result<(UnixStream, bool)> {
        let through_group = async {
            match &self.group {
                Some(group) => group.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = self.own.accept() => Ok((accepted?.0, false)),
            accepted = through_group => {
                let stream = accepted?.0;
                let uid = stream.peer_cred()?.uid();
                let is_guest = uid != 0 && uid != rustix::process::geteuid().as_raw();
                Ok((stream, is_guest))
            }
        }
    }

    /// Takes the sockets that were bound anew.
    fn take(&mut self, renewed: Renewed) {
        let places = std::iter::once(&mut self.own).chain(&mut self.group);
        for (place, renewed) in places.zip(renewed) {
            match renewed.and_then(|new| new.map(UnixListener::from_std).transpose()) {
                Ok(Some(listener)) => {
                    observe::socket_renewed();
                    *place = listener;
                }
                Ok(None) => {}
                Err(error) => observe::socket_not_renewed(&error),
            }
        }
    }
}

/// What came of a look at each socket's file.
type Renewed = Vec<io::Result<Option<StdListener>>>;

/// Accepts and serves until the sockets are to go; then lets answers under way finish.
pub(super) async fn listen(mut doors: Doors, router: Router) {
    let mut connections = JoinSet::new();
    let busy = Router::new().fallback(turn_away);
    let mut stop = doors.stop.clone();
    let mut look = interval_at(Instant::now() + LOOK, LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // On a thread of its own, and one at a time: it touches the directory (I9).
    let mut looks = JoinSet::new();
    loop {
        let has_place = connections.len() < CONNECTIONS_MAX + TURNED_AWAY_MAX;
        tokio::select! {
            // The end comes before what clients do.
            biased;
            _ = stop.changed() => break,
            Some(ended) = connections.join_next() => report(ended),
            accepted = doors.next(), if has_place => match accepted {
                Ok((stream, is_guest)) => {
                    doors.count.fetch_add(1, Ordering::Relaxed);
                    let is_full = connections.len() >= CONNECTIONS_MAX;
                    let router = if is_full { &busy } else { &router };
                    let (router, stop) = (router.clone(), stop.clone());
                    let door = Door { router, is_guest, stop };
                    connections.spawn(connection::serve(stream, door));
                }
                Err(error) => {
                    observe::not_accepted("control.sock", &error);
                    tokio::time::sleep(REST).await;
                }
            },
            Some(Ok(renewed)) = looks.join_next() => doors.take(renewed),
            _ = look.tick(), if looks.is_empty() => {
                let seats = doors.seats.clone();
                looks.spawn_blocking(move || seats.iter().map(Seat::renew).collect());
            }
        }
    }
    drop(doors);
    // Each ends by itself, in bounded time.
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

async fn turn_away() -> Refusal {
    Refusal::busy(format!(
        "too many connections are open. max=`{CONNECTIONS_MAX}`"
    ))
}

/// A connection has ended: only its panic is of interest.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        let message = panic_text(error.into_panic().as_ref());
        observe::connection_panicked(&message);
    }
}
