//! One connection: hyper reads and answers the requests; where a fault needs the bare socket,
//! hyper is set aside and the fault is played on it.

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::contract::{AnswerBody, Contract, respond, write_out};
use super::fault::Fault;
use super::reply::Reply;
use super::shared::{Shared, Turn};

/// What every connection of a sandbox is given.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) shared: Arc<Shared>,
    pub(super) contract: Contract,
    /// Where a fault asks for an outage of the whole listener.
    pub(super) outages: mpsc::Sender<Duration>,
}

/// What is done with the bare socket, after which the connection ends.
enum WireFault {
    /// RST.
    Reset,
    /// FIN.
    Close,
    /// These bytes, then FIN.
    Bytes(Vec<u8>),
    /// These bytes one by one with a pause between them, then FIN.
    Drip(Vec<u8>, Duration),
    /// The head of an answer and a body of so many bytes, then FIN.
    Flood(u64),
}

type HttpAnswer = Result<Response<AnswerBody>, Infallible>;
type BoxedAnswer = Pin<Box<dyn Future<Output = HttpAnswer> + Send>>;

/// Serves one connection to its end. The future can be dropped at any point: that closes the
/// connection.
pub(super) async fn serve(stream: TcpStream, service: Service) {
    let (sender, mut wire) = oneshot::channel();
    let line = Arc::new(OpenConnection::new(service, sender));
    let io = TokioIo::new(Tap {
        stream,
        line: line.clone(),
    });
    let answers = service_fn(move |request| -> BoxedAnswer {
        let line = line.clone();
        Box::pin(async move { line.answer(request).await })
    });
    let mut http = http1::Builder::new().serve_connection(io, answers);
    let wire = tokio::select! {
        // A fault comes first: hyper must not go on with a connection that is to be reset.
        biased;
        wire = &mut wire => wire.ok(),
        // How the connection ended does not matter here: clients come and go as they like.
        _ = poll_fn(|cx| http.poll_without_shutdown(cx)) => wire.try_recv().ok(),
    };
    let stream = http.into_parts().io.into_inner().stream;
    if let Some(wire) = wire {
        // The client may be gone before the fault has been played; then the fault has no audience.
        let _ = play(wire, stream).await;
    }
}

async fn play(wire: WireFault, mut stream: TcpStream) -> io::Result<()> {
    match wire {
        WireFault::Reset => {
            stream.set_zero_linger()?;
            return Ok(());
        }
        WireFault::Close => {}
        WireFault::Bytes(bytes) => stream.write_all(&bytes).await?,
        WireFault::Drip(bytes, pause) => {
            stream.set_nodelay(true)?;
            for byte in bytes {
                stream.write_all(&[byte]).await?;
                tokio::time::sleep(pause).await;
            }
        }
        WireFault::Flood(bytes) => flood(bytes, &mut stream).await?,
    }
    stream.shutdown().await
}

/// Sends a JSON string that hardly ends: the size is not announced, and the body never becomes
/// wrong before its last byte.
async fn flood(bytes: u64, stream: &mut TcpStream) -> io::Result<()> {
    const HEAD: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
    const START: &[u8] = b"{\"request_id\":\"";
    stream.write_all(HEAD).await?;
    let some = [b'r'; 16 * 1024];
    let mut left = bytes;
    let mut next = START;
    while left > 0 {
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(next.len());
        let (part, _) = next.split_at(size);
        stream.write_all(part).await?;
        left -= u64::try_from(size).unwrap_or(left);
        next = &some;
    }
    Ok(())
}

/// What the two ends of one connection share: the tap below hyper and the answers above it.
struct OpenConnection {
    service: Service,
    progress: Mutex<Progress>,
}

/// Where the request at hand stands.
struct Progress {
    /// Between two requests: the next byte begins a new one.
    between: bool,
    /// The request whose bytes come, until its head has been read.
    turn: Option<Turn>,
    /// Its bytes so far.
    bytes: u64,
    /// After how many of them the connection is reset.
    reset_at: Option<u64>,
    /// Takes the socket from hyper; used once.
    wire: Option<oneshot::Sender<WireFault>>,
}

impl OpenConnection {
    fn new(service: Service, wire: oneshot::Sender<WireFault>) -> Self {
        Self {
            service,
            progress: Mutex::new(Progress {
                between: true,
                turn: None,
                bytes: 0,
                reset_at: None,
                wire: Some(wire),
            }),
        }
    }

    fn progress<T>(&self, change: impl FnOnce(&mut Progress) -> T) -> T {
        change(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts bytes that came in, and says whether the connection is to be reset at them.
    fn saw(&self, bytes: u64) -> bool {
        self.progress(|progress| {
            if progress.between {
                let turn = self.service.shared.begin();
                progress.between = false;
                progress.bytes = 0;
                progress.reset_at = turn.fault.reset_at();
                progress.turn = Some(turn);
            }
            progress.bytes += bytes;
            progress.reset_at.is_some_and(|at| progress.bytes >= at)
        })
    }

    /// Hands the socket over to a fault.
    fn take_over(&self, wire: WireFault) {
        if let Some(sender) = self.progress(|progress| progress.wire.take()) {
            // The other side is only gone when the connection has ended anyway.
            let _ = sender.send(wire);
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> HttpAnswer {
        // A pipelined request came with the bytes of the one before it, unseen by the tap.
        let turn = self.progress(|progress| progress.turn.take());
        let turn = turn.unwrap_or_else(|| self.service.shared.begin());
        let shared = &self.service.shared;
        let (head, body) = request.into_parts();
        shared.note_head(turn.number, &head);
        let (bytes, body) = match read_body(body, shared.rules.max_body_bytes).await {
            Ok(read) => read,
            // The client broke off: no answer can reach it.
            Err(_) => return self.end(WireFault::Close).await,
        };
        shared.note_body(turn.number, bytes, body.as_ref());
        let number = turn.number;
        let request = TakenRequest { head, body, number };
        let response = self.misbehave(turn.fault, request).await;
        shared.answer(number, response.status().as_u16());
        drop(turn.ending);
        self.progress(|progress| progress.between = true);
        Ok(response)
    }

    /// Plays a fault as far as it can be played in HTTP, and hands over the socket otherwise.
    async fn misbehave(&self, fault: Fault, request: TakenRequest) -> Response<AnswerBody> {
        let number = request.number;
        match fault {
            Fault::None => self.comply(request).await,
            Fault::Answer(reply) => respond(reply),
            Fault::AcceptThenAnswer(reply) => {
                self.comply(request).await;
                respond(reply)
            }
            Fault::Hang => {
                self.hang().await;
                self.comply(request).await
            }
            Fault::Delay(time) => {
                let response = self.comply(request).await;
                tokio::time::sleep(time).await;
                response
            }
            Fault::ResetBefore | Fault::ResetAt(_) | Fault::ResetAfter => {
                self.end(WireFault::Reset).await
            }
            Fault::AcceptThenReset => {
                self.comply(request).await;
                self.end(WireFault::Reset).await
            }
            Fault::Close => self.end(WireFault::Close).await,
            Fault::Drip(pause) => {
                let (head, body) = self.comply_on_the_wire(request).await;
                self.end(WireFault::Drip([head, body].concat(), pause))
                    .await
            }
            Fault::Truncate => {
                let (mut bytes, body) = self.comply_on_the_wire(request).await;
                bytes.extend(body.iter().take(body.len() / 2));
                self.end(WireFault::Bytes(bytes)).await
            }
            Fault::Flood(bytes) => {
                self.comply(request).await;
                self.service.shared.answer(number, 200);
                self.end(WireFault::Flood(bytes)).await
            }
            Fault::Garbage => {
                let garbage = b"\x16\x03\x01 this is not HTTP\r\n\r\n".to_vec();
                self.end(WireFault::Bytes(garbage)).await
            }
            Fault::Refuse(time) => {
                // The listener drops this connection together with all others.
                let _ = self.service.outages.send(time).await;
                pending().await
            }
        }
    }

    /// Answers as the contract says.
    async fn comply(&self, request: TakenRequest) -> Response<AnswerBody> {
        match request.body {
            Some(body) => {
                let contract = &self.service.contract;
                contract.answer(request.number, request.head, body).await
            }
            None => {
                let shared = &self.service.shared;
                let max = shared.rules.max_body_bytes;
                let text = format!("Request has more than {max} bytes.");
                shared.refuse(request.number, text.clone());
                respond(Reply::status(413).errors([text]))
            }
        }
    }

    /// As [`comply`](OpenConnection::comply), but gives the bytes of the answer, which is begun thereby.
    async fn comply_on_the_wire(&self, request: TakenRequest) -> (Vec<u8>, Vec<u8>) {
        let number = request.number;
        let response = self.comply(request).await;
        let status = response.status().as_u16();
        self.service.shared.answer(number, status);
        write_out(response).await
    }

    /// Keeps silent until released.
    async fn hang(&self) {
        // Listens before it counts, so that who sees the count can release it.
        let released = self.service.shared.release.notified();
        let _hanging = self.service.shared.hang();
        released.await;
    }

    /// Ends the connection by a fault; never returns, because the connection drops this future.
    async fn end<T>(&self, wire: WireFault) -> T {
        self.take_over(wire);
        pending().await
    }
}

/// A request that was read to its end.
struct TakenRequest {
    number: u64,
    head: hyper::http::request::Parts,
    /// `None` if it was larger than allowed.
    body: Option<Bytes>,
}

/// Reads a body to its end and gives its size, and itself if it is within the limit. What is
/// beyond is read and thrown away, for a client that is still sending does not listen.
async fn read_body(mut body: Incoming, max: usize) -> hyper::Result<(u64, Option<Bytes>)> {
    let mut size: u64 = 0;
    let mut kept = Some(Vec::new());
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        size += u64::try_from(data.len()).unwrap_or(u64::MAX);
        kept = kept.filter(|kept| kept.len() + data.len() <= max);
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(&data);
        }
    }
    Ok((size, kept.map(Bytes::from)))
}

/// The socket, with an eye on where requests begin: hyper tells of a request only when it has
/// read its head.
struct Tap {
    stream: TcpStream,
    line: Arc<OpenConnection>,
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        if read > 0 && self.line.saw(u64::try_from(read).unwrap_or(u64::MAX)) {
            self.line.take_over(WireFault::Reset);
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
