//! A way that is long: a proxy that holds every byte back.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Pieces that are on their way in a direction; so much may be in the air.
const PIECES: usize = 1_024;

/// Bytes of a piece.
const PIECE_BYTES: usize = 64 << 10;

/// A proxy on this machine.
#[derive(Debug)]
pub(crate) struct Way {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Way {
    /// A way to this address, so long in each direction. Call it within a runtime.
    pub(crate) async fn to(address: &str, each: Duration) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (to, at) = (address.to_owned(), listener.local_addr()?);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, to.clone(), each));
            }
        });
        Ok(Self { address: at, task })
    }

    /// The base URL for a sink.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v2", self.address)
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(near: TcpStream, to: String, each: Duration) {
    // The system has accepted the connection; over a real way that takes there and back.
    tokio::time::sleep(2 * each).await;
    let Ok(far) = TcpStream::connect(to).await else {
        return;
    };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    tokio::join!(
        direction(near_in, far_out, each),
        direction(far_in, near_out, each)
    );
}

/// Passes on what comes, in its order, each piece so much later, and the end of it too.
async fn direction(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, each: Duration) {
    let (push, mut pull) = mpsc::channel::<(Instant, Bytes)>(PIECES);
    let read = async move {
        loop {
            let mut piece = BytesMut::with_capacity(PIECE_BYTES);
            let is_end = from.read_buf(&mut piece).await.unwrap_or(0) == 0;
            let due = Instant::now() + each;
            if push.send((due, piece.freeze())).await.is_err() || is_end {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, piece)) = pull.recv().await {
            tokio::time::sleep_until(due).await;
            let ended = if piece.is_empty() {
                to.shutdown().await
            } else {
                to.write_all(&piece).await
            };
            if ended.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}
