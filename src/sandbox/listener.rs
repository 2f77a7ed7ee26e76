//! The listening socket: one task owns it and every connection, so that going away takes all of
//! them along.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::connection::{self, Service};
use super::shared::Shared;

/// Clients that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// How long the listener rests when the system has no more sockets to give.
const REST: Duration = Duration::from_millis(10);

/// How often a port that is in use is asked for again: for some seconds.
const BIND_TRIES: u32 = 500;

/// What the handle asks for; each is answered when it is done.
#[derive(Debug)]
pub(super) enum Command {
    /// Stop listening and drop all connections.
    GoAway(oneshot::Sender<io::Result<()>>),
    /// Listen again, on the same port.
    ComeBack(oneshot::Sender<io::Result<()>>),
}

/// Whether the port is listened on.
enum Accepting {
    Open(TcpListener),
    Shut {
        /// Holds the port, bound but not listening, so that no other program is given it meanwhile.
        reserved: Option<TcpSocket>,
        /// When to open again without being told.
        until: Option<Instant>,
    },
}

/// The listening socket and all that came through it.
pub(super) struct Listener {
    address: SocketAddr,
    door: Accepting,
    connections: JoinSet<()>,
    service: Service,
    commands: mpsc::Receiver<Command>,
    outages: mpsc::Receiver<Duration>,
}

/// Binds a port, 0 for any free one, without listening yet.
fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections of before keep the port busy for a while after they have ended; on Windows
    // they do not, and the option means something else.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// As [`reserve`], waiting a little for a port that is in use. While it is not bound, the system may
/// lend it to a client as the port that it calls from; and a child that this process starts at that
/// moment has a copy of the listening socket until its own program begins.
async fn reserve_in_time(address: SocketAddr) -> io::Result<TcpSocket> {
    for _ in 0..BIND_TRIES {
        match reserve(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                tokio::time::sleep(REST).await;
            }
            other => return other,
        }
    }
    reserve(address)
}

/// Binds and listens.
pub(super) fn open(address: SocketAddr) -> io::Result<TcpListener> {
    reserve(address)?.listen(BACKLOG)
}

impl Listener {
    pub(super) fn new(
        listener: TcpListener,
        address: SocketAddr,
        service: Service,
        commands: mpsc::Receiver<Command>,
        outages: mpsc::Receiver<Duration>,
    ) -> Self {
        Self {
            address,
            door: Accepting::Open(listener),
            connections: JoinSet::new(),
            service,
            commands,
            outages,
        }
    }

    /// Accepts and serves until the last handle is gone.
    ///
    /// # Panics
    /// Passes on the panic of a connection, such as one in a rule of the user's.
    pub(super) async fn run(mut self) {
        let _stopped = Stopped(self.service.shared.clone());
        loop {
            tokio::select! {
                // What the test asks for comes before what clients do.
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::GoAway(done)) => answer(done, self.shut(None).await),
                    Some(Command::ComeBack(done)) => answer(done, self.come_back().await),
                    // The handle is gone, or gone into its `stop`.
                    None => break,
                },
                // A scripted outage.
                Some(time) = self.outages.recv() => {
                    // Who cannot reserve the port is away all the same, and tries again then.
                    let _ = self.shut(Some(Instant::now() + time)).await;
                }
                // Its end.
                () = reopening(&self.door) => self.reopen(),
                // A connection ended: only its panic is of interest.
                Some(ended) = self.connections.join_next() => raise_panic(ended),
                // A new connection.
                accepted = accept(&self.door) => self.welcome(accepted).await,
            }
        }
        self.drop_connections().await;
    }

    async fn welcome(&mut self, accepted: io::Result<TcpStream>) {
        match accepted {
            Ok(stream) => {
                let service = self.service.clone();
                self.connections.spawn(connection::serve(stream, service));
            }
            Err(_) => tokio::time::sleep(REST).await,
        }
    }

    /// Closes the listening socket and every connection.
    async fn shut(&mut self, until: Option<Instant>) -> io::Result<()> {
        if let Accepting::Shut { until: known, .. } = &mut self.door {
            *known = until;
            return Ok(());
        }
        // The old socket must be closed before its port can be reserved.
        self.door = Accepting::Shut {
            reserved: None,
            until,
        };
        let socket = reserve(self.address);
        self.drop_connections().await;
        let socket = match socket {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                reserve_in_time(self.address).await
            }
            other => other,
        };
        self.door = Accepting::Shut {
            reserved: Some(socket?),
            until,
        };
        Ok(())
    }

    /// Listens again, unless it does already.
    fn open(&mut self) -> io::Result<()> {
        if let Accepting::Shut { reserved, .. } = &mut self.door {
            let socket = match reserved.take() {
                Some(socket) => socket,
                None => reserve(self.address)?,
            };
            self.door = Accepting::Open(socket.listen(BACKLOG)?);
        }
        Ok(())
    }

    /// As [`open`](Self::open), waiting a little for a port that is in use.
    async fn come_back(&mut self) -> io::Result<()> {
        if let Accepting::Shut {
            reserved: reserved @ None,
            ..
        } = &mut self.door
        {
            *reserved = Some(reserve_in_time(self.address).await?);
        }
        self.open()
    }

    /// Ends a scripted outage. No caller waits for the answer, so it tries until it works.
    fn reopen(&mut self) {
        if self.open().is_err() {
            self.door = Accepting::Shut {
                reserved: None,
                until: Some(Instant::now() + REST),
            };
        }
    }

    async fn drop_connections(&mut self) {
        self.connections.abort_all();
        while let Some(ended) = self.connections.join_next().await {
            raise_panic(ended);
        }
    }
}

/// Marks the end for the callers that wait, however it came.
struct Stopped(Arc<Shared>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn answer(done: oneshot::Sender<io::Result<()>>, result: io::Result<()>) {
    // Who asked may have stopped waiting; it is done nevertheless.
    let _ = done.send(result);
}

/// # Panics
/// If the task did.
pub(super) fn raise_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

async fn accept(door: &Accepting) -> io::Result<TcpStream> {
    match door {
        Accepting::Open(listener) => listener.accept().await.map(|(stream, _)| stream),
        Accepting::Shut { .. } => std::future::pending().await,
    }
}

async fn reopening(door: &Accepting) {
    match door {
        Accepting::Shut {
            until: Some(until), ..
        } => tokio::time::sleep_until(*until).await,
        _ => std::future::pending().await,
    }
}
