//! From a client to the owner: whom it trusts, and one request on one connection.

use std::path::PathBuf;

/// Where a client finds the owner, and by what it knows that it is the owner.
#[derive(Clone, Debug)]
pub(super) struct Address {
    /// The socket.
    pub(super) path: PathBuf,
    pub(super) trust: Trust,
}

/// Whom the process that serves the socket must belong to. It gets to read events.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trust {
    /// Root, or the user whom the spool around the socket belongs to; for an ordinary user there
    /// is no other spool than the own.
    Spool,
    /// Root, or the user whom the directory of the socket belongs to, where no other user may
    /// write to it, and so none can put a socket there.
    Directory,
}

#[cfg(unix)]
pub(super) use on_unix::exchange;

#[cfg(unix)]
mod on_unix {
    use std::io;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    use axum::body::{Body, to_bytes};
    use hyper::body::Incoming;
    use hyper::client::conn::http1::{self, SendRequest};
    use hyper::{Method, Response};
    use hyper_util::rt::TokioIo;
    use tokio::net::UnixStream;
    use tokio::task::JoinSet;

    use super::{Address, Trust};
    use crate::control::error::ClientError;
    use crate::control::lines::LINE_BYTES_MAX;
    use crate::near::near;

    type Exchanged = (Response<Incoming>, JoinSet<()>);

    /// One request on one connection, which lives until the set is dropped.
    ///
    /// A request that changes something is sent only after another one was answered: an owner that
    /// closes may never take up a connection, but answers each request on one that it has. If it
    /// refuses the first one, the answer to that is given.
    pub(in crate::control) async fn exchange(
        address: &Address,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Exchanged, ClientError> {
        let stream = connect(address).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(ClientError::broken)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // What goes wrong is told to the call that waits for the answer.
            let _ = connection.await;
        });
        if method != Method::GET {
            let no_owner = |_| ClientError::NoOwner {
                path: address.path.clone(),
            };
            let hello = send(&mut sender, Method::GET, "/status", Vec::new()).await;
            let hello = hello.map_err(no_owner)?;
            if !hello.status().is_success() {
                return Ok((hello, driver));
            }
            let read = to_bytes(Body::new(hello.into_body()), LINE_BYTES_MAX).await;
            read.map_err(|_| no_owner(ClientError::TimedOut))?;
            if sender.ready().await.is_err() {
                return Err(no_owner(ClientError::TimedOut));
            }
        }
        let response = send(&mut sender, method, path, body).await?;
        Ok((response, driver))
    }

    async fn send(
        sender: &mut SendRequest<Body>,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, ClientError> {
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "everpost")
            .body(Body::from(body))
            .map_err(|error| ClientError::protocol(error.to_string()))?;
        sender
            .send_request(request)
            .await
            .map_err(ClientError::broken)
    }

    async fn connect(address: &Address) -> Result<UnixStream, ClientError> {
        let failed = |source| unreachable_socket(&address.path, source);
        let near = near(&address.path).map_err(failed)?;
        let stream = UnixStream::connect(near.path()).await.map_err(failed)?;
        let uid = stream.peer_cred().map_err(failed)?.uid();
        if is_trusted(address, uid).map_err(failed)? {
            return Ok(stream);
        }
        let path = address.path.clone();
        Err(ClientError::Stranger { path, uid })
    }

    fn is_trusted(address: &Address, uid: u32) -> io::Result<bool> {
        if uid == 0 {
            return Ok(true);
        }
        let dir = address.path.parent().unwrap_or(&address.path);
        match address.trust {
            Trust::Spool => {
                let us = rustix::process::geteuid().as_raw();
                let belongs = crate::log::dir::belongs_to(dir)?;
                Ok(uid == belongs && (us == 0 || us == uid))
            }
            Trust::Directory => {
                let meta = std::fs::metadata(dir)?;
                Ok(uid == meta.uid() && meta.mode() & 0o022 == 0)
            }
        }
    }

    fn unreachable_socket(socket: &Path, source: io::Error) -> ClientError {
        let path = socket.to_owned();
        match source.kind() {
            // Also if its owner went away before it let us in. Nothing was asked yet.
            io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected => ClientError::NoOwner { path },
            // More wait to be let in than the system keeps in line.
            io::ErrorKind::WouldBlock => ClientError::Refused {
                status: 503,
                kind: "busy".to_owned(),
                text: "too many connections wait for the owner of the spool".to_owned(),
                hint: "try again when the others are done".to_owned(),
            },
            _ => ClientError::Connect { path, source },
        }
    }
}

#[cfg(not(unix))]
pub(super) async fn exchange(
    address: &Address,
    _method: hyper::Method,
    _path: &str,
    _body: Vec<u8>,
) -> Result<
    (
        hyper::Response<hyper::body::Incoming>,
        tokio::task::JoinSet<()>,
    ),
    super::error::ClientError,
> {
    let source = std::io::Error::new(
        std::io::ErrorKind::Unsupported,
        "this system has no Unix sockets",
    );
    let path = address.path.clone();
    Err(super::error::ClientError::Connect { path, source })
}
