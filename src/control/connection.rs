//! One connection to the socket: who is too slow is cut off.

use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

use super::{HEAD_BYTES_MAX, HEAD_TIME, WRITE_TIME};

/// Bytes that are read or written ahead.
const BUFFER_BYTES: usize = 64 << 10;

/// Serves one connection until it ends, or, once `stop` closes, until its present answer is out.
pub(super) async fn serve(stream: UnixStream, router: Router, mut stop: watch::Receiver<()>) {
    let stuck = None;
    let io = TokioIo::new(Patient { stream, stuck });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES);
    let mut http = pin!(http.serve_connection(io, TowerToHyperService::new(router)));
    // How the connection ends does not matter here: clients come and go as they like.
    tokio::select! {
        _ = http.as_mut() => return,
        _ = stop.changed() => http.as_mut().graceful_shutdown(),
    }
    let _ = http.await;
}

/// The socket of a client, whose patience with a client that takes nothing has an end.
struct Patient {
    stream: UnixStream,
    /// Runs while the client takes nothing.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(cx, buf) {
            self.stuck = None;
            return Poll::Ready(written);
        }
        let stuck = self
            .stuck
            .get_or_insert_with(|| Box::pin(sleep(WRITE_TIME)));
        ready!(stuck.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
