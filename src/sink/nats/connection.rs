//! One connection to a server: greeting, TLS, login, and one request after the other.
//!
//! It has no task of its own. What a server sends while nothing is asked waits until the next request;
//! a connection that a server has closed meanwhile is found then, before anything is written to it.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::credentials::Presented;
use super::protocol::{Frame, Message, NotNats, Parser};
use super::secure::Secure;
use super::servers::Candidate;
use super::trouble::Trouble;
use crate::sink::key::Strike;

/// What a server takes unless it says otherwise.
const PAYLOAD_MAX: usize = 1 << 20;
/// After a silence of this length a server is asked whether it is still there.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long that may take.
const PONG_MAX: Duration = Duration::from_secs(1);

/// For how long beyond a time limit what has come already is read.
const FLOOD_MAX: Duration = Duration::from_secs(1);

/// Bytes in both directions.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What a server says of itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Info {
    headers: bool,
    max_payload: Option<usize>,
    tls_required: bool,
    tls_available: bool,
    nonce: Option<String>,
    connect_urls: Vec<String>,
    /// It is about to leave, in its own words a lame duck.
    ldm: bool,
}

/// What all connections of a sink have in common.
pub(super) struct Opening<'a> {
    pub(super) presented: &'a Presented,
    pub(super) secure: &'a Secure,
    /// Before the name of each inbox: no other connection has the same one, so that no answer to
    /// another one is read.
    pub(super) inbox: String,
    /// Its own name, which a server shows.
    pub(super) name: &'a str,
    pub(super) needs_tls: bool,
    pub(super) allows_plain: bool,
    pub(super) limit: Duration,
}

/// A connection that a server has let in.
pub(super) struct Connection {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    parser: Parser,
    /// What is still to be written.
    out: BytesMut,
    /// Something was written that may not be on its way.
    is_unflushed: bool,
    info: Info,
    inbox: String,
    asked: u64,
    heard: Instant,
    strike: Strike,
}

/// What a frame is for a request that waits for its answer.
pub(super) type Take<'a, T> = &'a mut (dyn FnMut(&Message) -> Option<Result<T, Trouble>> + Send);

impl Connection {
    /// Connects, within the time limit.
    pub(super) async fn open(to: &Candidate, opening: &Opening<'_>) -> Result<Self, Trouble> {
        match timeout(opening.limit, Self::open_now(to, opening)).await {
            Ok(opened) => opened.map_err(|trouble| trouble.strike(&opening.presented.strike())),
            Err(_) => Err(Trouble::Gone(format!(
                "no answer in time. server=`{}`",
                to.place
            ))),
        }
    }

    async fn open_now(to: &Candidate, opening: &Opening<'_>) -> Result<Self, Trouble> {
        let place = (to.place.host(), to.place.port());
        let gone = |error: io::Error| Trouble::Gone(format!("{error}. server=`{}`", to.place));
        let mut stream = TcpStream::connect(place).await.map_err(gone)?;
        stream.set_nodelay(true).map_err(gone)?;
        let mut parser = Parser::default();
        let info = greeting(&mut stream, &mut parser).await?;
        let stream: Box<dyn Stream> = if info.tls_required || info.tls_available {
            // What came in clear behind the greeting may be of a machine in between.
            if !parser.room().is_empty() {
                return Err(Trouble::NotNats("it speaks before TLS does"));
            }
            Box::new(opening.secure.wrap(stream, &to.tls_name).await?)
        } else if opening.needs_tls {
            return Err(Trouble::Insecure(format!(
                "the server does not speak TLS, and its address begins with `tls://`. server=`{}`",
                to.place
            )));
        } else if !to.place.is_here() && !opening.allows_plain {
            return Err(Trouble::Insecure(format!(
                "the server does not speak TLS: events could be read and changed by anyone on the way. \
                 Set up TLS there, or set `allow_plain`. server=`{}`",
                to.place
            )));
        } else {
            Box::new(stream)
        };
        if !info.headers {
            return Err(Trouble::NotNats(
                "it knows no headers; a server of 2.12 or newer is needed",
            ));
        }
        let (reader, writer) = tokio::io::split(stream);
        let mut connection = Self {
            reader,
            writer,
            parser,
            out: BytesMut::new(),
            is_unflushed: false,
            info,
            inbox: format!("{}.", opening.inbox),
            asked: 0,
            heard: Instant::now(),
            strike: opening.presented.strike(),
        };
        connection.log_in(opening).await?;
        Ok(connection)
    }

    /// CONNECT, the one subscription, and PING, whose answer says that all of it is accepted.
    async fn log_in(&mut self, opening: &Opening<'_>) -> Result<(), Trouble> {
        let fields = opening.presented.fields(self.info.nonce.as_deref());
        let hello = hello(opening.name, &fields)?;
        let gone = |error: io::Error| Trouble::Gone(error.to_string());
        self.writer.write_all(&hello).await.map_err(gone)?;
        let subscription = format!("SUB {}* 1\r\n", self.inbox);
        self.out.extend_from_slice(subscription.as_bytes());
        self.ping(opening.limit).await
    }

    /// Has the server answer.
    async fn ping(&mut self, limit: Duration) -> Result<(), Trouble> {
        self.out.extend_from_slice(b"PING\r\n");
        let deadline = Instant::now() + limit;
        loop {
            match self.frame(deadline).await? {
                Some(Frame::Pong) => return Ok(()),
                Some(Frame::Error(text)) => return Err(self.said(&text)),
                _ => {}
            }
        }
    }

    /// Whether it can be written to: it was not closed, the server is not about to leave, and after a
    /// long silence it answers.
    pub(super) async fn is_usable(&mut self) -> bool {
        if !self.out.is_empty() || self.info.ldm {
            return false;
        }
        // What came meanwhile is there already.
        let now = Instant::now();
        loop {
            match self.frame(now).await {
                Ok(Some(Frame::Error(_))) => return false,
                Ok(_) => {}
                Err(Trouble::Late { .. }) => break,
                Err(_) => return false,
            }
        }
        if self.info.ldm {
            return false;
        }
        self.heard.elapsed() < SILENCE_MAX || self.ping(PONG_MAX).await.is_ok()
    }

    /// Bytes of a message that the server takes.
    pub(super) fn payload_max(&self) -> usize {
        self.info.max_payload.unwrap_or(PAYLOAD_MAX)
    }

    /// The other servers that it names.
    pub(super) fn named(&self) -> &[String] {
        &self.info.connect_urls
    }

    /// A subject for the answer to the next request.
    pub(super) fn inbox(&mut self) -> String {
        self.asked += 1;
        format!("{}{}", self.inbox, self.asked)
    }

    /// Where a request is written to before [`ask`](Self::ask).
    pub(super) fn out(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// Whether all that was to be written is.
    pub(super) fn is_clean(&self) -> bool {
        self.out.is_empty()
    }

    /// Writes what is there to be written, and reads until `take` makes something of a message. The
    /// limit is that of a silence: it begins anew whenever the connection takes something.
    ///
    /// # Cancel safety
    /// What was written stays so, and the connection is of no further use.
    pub(super) async fn ask<T>(
        &mut self,
        limit: Duration,
        take: Take<'_, T>,
    ) -> Result<T, Trouble> {
        let bytes = self.out.len();
        let mut deadline = Instant::now() + limit;
        loop {
            let left = self.out.len();
            match self.frame(deadline).await {
                Ok(Some(Frame::Message(message))) => {
                    if let Some(taken) = take(&message) {
                        return taken.map_err(|trouble| trouble.strike(&self.strike));
                    }
                }
                Ok(Some(Frame::Error(text))) => return Err(self.said(&text)),
                Ok(_) => {}
                Err(Trouble::Late { is_out, .. }) => return Err(Trouble::Late { bytes, is_out }),
                Err(trouble) => return Err(trouble),
            }
            if self.out.len() != left {
                deadline = Instant::now() + limit;
            }
        }
    }

    fn said(&self, text: &str) -> Trouble {
        Trouble::said(text).strike(&self.strike)
    }

    /// The next frame, while what is to be written is written; none when some of that was.
    async fn frame(&mut self, deadline: Instant) -> Result<Option<Frame>, Trouble> {
        let gone = |error: io::Error| Trouble::Gone(error.to_string());
        loop {
            // One that speaks without end is not waited for without end.
            if Instant::now() > deadline + FLOOD_MAX {
                return Err(self.late());
            }
            match self.parser.next().map_err(not_nats)? {
                Some(Frame::Ping) => self.out.extend_from_slice(b"PONG\r\n"),
                Some(Frame::Info(json)) => self.learn(&json),
                Some(frame) => return Ok(Some(frame)),
                None => {}
            }
            let is_writing = !self.out.is_empty() || self.is_unflushed;
            tokio::select! {
                biased;
                read = self.reader.read_buf(self.parser.room()) => {
                    if read.map_err(gone)? == 0 {
                        return Err(Trouble::Gone("the server closed the connection".to_owned()));
                    }
                    self.heard = Instant::now();
                }
                written = push(&mut self.writer, &self.out), if is_writing => {
                    let written = written.map_err(gone)?;
                    self.is_unflushed = written > 0;
                    self.out.advance(written);
                    return Ok(None);
                }
                () = sleep_until(deadline) => return Err(self.late()),
            }
        }
    }

    fn late(&self) -> Trouble {
        Trouble::Late {
            bytes: 0,
            is_out: self.out.is_empty(),
        }
    }

    /// What a server says of itself may change.
    fn learn(&mut self, json: &[u8]) {
        if let Ok(info) = serde_json::from_slice(json) {
            self.info = info;
        }
    }
}

/// Writes some of it; once all of it is written, sees that it goes out.
async fn push(writer: &mut WriteHalf<Box<dyn Stream>>, out: &[u8]) -> io::Result<usize> {
    if out.is_empty() {
        writer.flush().await.map(|()| 0)
    } else {
        writer.write(out).await
    }
}

fn not_nats(NotNats(text): NotNats) -> Trouble {
    Trouble::NotNats(text)
}

/// A server speaks first, and in clear.
async fn greeting(stream: &mut TcpStream, parser: &mut Parser) -> Result<Info, Trouble> {
    loop {
        match parser.next().map_err(not_nats)? {
            Some(Frame::Info(json)) => {
                let info = serde_json::from_slice(&json);
                return info.map_err(|_| Trouble::NotNats("its greeting is not JSON"));
            }
            Some(Frame::Error(text)) => return Err(Trouble::said(&text)),
            Some(_) => return Err(Trouble::NotNats("it does not begin with INFO")),
            None => {}
        }
        let read = stream.read_buf(parser.room()).await;
        match read {
            Ok(0) => return Err(Trouble::Gone("the server closed the connection".to_owned())),
            Ok(_) => {}
            Err(error) => return Err(Trouble::Gone(error.to_string())),
        }
    }
}

/// The line by which a client introduces itself. Wiped when it is no longer needed: it may hold a
/// password.
fn hello(name: &str, fields: &[(&str, SecretString)]) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    let failed = |_| Trouble::Odd("what is said of this client cannot be written");
    let mut line = Zeroizing::new(Vec::with_capacity(16 * 1024));
    line.extend_from_slice(
        b"CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1,\"echo\":false,\
          \"headers\":true,\"no_responders\":true,\"lang\":\"everpost\",\"version\":\"",
    );
    line.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes());
    line.extend_from_slice(b"\",\"name\":");
    serde_json::to_writer(&mut *line, name).map_err(failed)?;
    for (name, secret) in fields {
        line.extend_from_slice(b",\"");
        line.extend_from_slice(name.as_bytes());
        line.extend_from_slice(b"\":");
        serde_json::to_writer(&mut *line, secret.expose_secret()).map_err(failed)?;
    }
    line.extend_from_slice(b"}\r\n");
    Ok(line)
}
