//! The protocol of NATS as a client reads it: pure, and trusting nothing of what a server says.
//!
//! The protocol is described at <https://docs.nats.io/reference/reference-protocols/nats-protocol>.
//! Whatever a server sends, no more of it is kept than [`LINE_MAX`] of a line and [`KEPT_MAX`] of a
//! message: what a message has beyond that is passed over as it comes.

use std::fmt;

use bytes::{Buf as _, Bytes, BytesMut};

/// Bytes of a line: that of a server which names every other one of a large cluster.
pub(super) const LINE_MAX: usize = 64 * 1024;
/// Bytes that are kept of a message: its headers whole, and what comes first of the rest. What a
/// server answers to a write has a few hundred; a message that is looked up is known by its headers.
pub(super) const KEPT_MAX: usize = 64 * 1024;

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// What it is and wants, in JSON.
    Info(Bytes),
    /// A message to one of our subscriptions.
    Message(Message),
    Ping,
    Pong,
    /// `+OK`, which nothing waits for.
    Ok,
    /// `-ERR`, without its quotes.
    Error(String),
}

/// A message, as far as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) subject: String,
    pub(super) headers: Headers,
    /// All of it if [`is_whole`](Self::is_whole).
    pub(super) payload: Bytes,
    pub(super) is_whole: bool,
}

/// Prints nothing of the content, which may be an event.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("subject", &self.subject)
            .field("status", &self.headers.status)
            .field("payload_bytes", &self.payload.len())
            .field("is_whole", &self.is_whole)
            .finish_non_exhaustive()
    }
}

/// The headers of a message.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Headers {
    /// Such as 503 and `No Responders`, where a server speaks for itself.
    pub(super) status: Option<(u16, String)>,
    pairs: Vec<(String, String)>,
}

impl Headers {
    /// The value of a header by its name, whose case matters.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.pairs.iter();
        let (_, value) = pairs.find(|(known, _)| known == name)?;
        Some(value)
    }

    /// Reads `NATS/1.0[ status[ text]]`, then `name: value` in lines, then an empty one.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.strip_prefix("NATS/1.0")?.strip_suffix("\r\n\r\n")?;
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default().trim();
        let status = match first.split_once(' ') {
            Some((code, text)) => Some((code.parse().ok()?, text.trim().to_owned())),
            None if first.is_empty() => None,
            None => Some((first.parse().ok()?, String::new())),
        };
        let pair = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.trim().to_owned()))
        };
        let pairs = lines.map(pair).collect::<Option<_>>()?;
        Some(Self { status, pairs })
    }
}

/// What is no NATS. It holds nothing of what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotNats(pub(super) &'static str);

/// What a message is said to be.
#[derive(Debug)]
struct Head {
    subject: String,
    headers: usize,
    total: usize,
}

/// What is being read.
#[derive(Debug, Default)]
enum State {
    /// A line; its first so many bytes hold no end of a line.
    #[default]
    Start,
    /// A message.
    Message(Head),
    /// What is passed over of a message that is kept as far as it is.
    Rest { message: Message, left: usize },
}

/// Reads frames out of bytes as they come, however they are divided.
#[derive(Debug, Default)]
pub(super) struct Parser {
    bytes: BytesMut,
    /// How many of them hold no end of a line.
    searched: usize,
    state: State,
}

impl Parser {
    /// Where the next bytes go to.
    pub(super) fn room(&mut self) -> &mut BytesMut {
        self.bytes.reserve(4 * 1024);
        &mut self.bytes
    }

    /// The next frame; none while there are not bytes enough.
    ///
    /// # Errors
    /// If that is not the protocol. Nothing that comes after it can be told apart.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, NotNats> {
        loop {
            match std::mem::take(&mut self.state) {
                State::Start => {
                    let Some(line) = self.line()? else {
                        return Ok(None);
                    };
                    match self.frame(&line)? {
                        Some(frame) => return Ok(Some(frame)),
                        None => continue,
                    }
                }
                State::Message(head) => {
                    let kept = head.total.min(KEPT_MAX.max(head.headers));
                    if self.bytes.len() < kept {
                        self.state = State::Message(head);
                        return Ok(None);
                    }
                    let message = self.message(head, kept)?;
                    self.state = message;
                }
                State::Rest { message, left } => {
                    let passed = left.min(self.bytes.len());
                    self.bytes.advance(passed);
                    let left = left - passed;
                    if left > 0 {
                        self.state = State::Rest { message, left };
                        return Ok(None);
                    }
                    // The end of a line that follows a message.
                    match self.bytes.get(..2) {
                        None => {
                            self.state = State::Rest { message, left };
                            return Ok(None);
                        }
                        Some(b"\r\n") => self.bytes.advance(2),
                        Some(_) => {
                            return Err(NotNats("a message is longer than it was said to be"));
                        }
                    }
                    return Ok(Some(Frame::Message(message)));
                }
            }
        }
    }

    /// The next line, without its end.
    fn line(&mut self) -> Result<Option<Bytes>, NotNats> {
        let unseen = self.bytes.get(self.searched..).unwrap_or_default();
        let Some(end) = unseen.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.bytes.len();
            // One is looked for within what a line may have.
            if self.searched > LINE_MAX {
                return Err(NotNats("a line is longer than 64 KiB"));
            }
            return Ok(None);
        };
        let end = self.searched + end;
        self.searched = 0;
        if end > LINE_MAX {
            return Err(NotNats("a line is longer than 64 KiB"));
        }
        let mut line = self.bytes.split_to(end + 1).freeze();
        line.truncate(end);
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        Ok(Some(line))
    }

    /// What a line says; none if a message follows.
    fn frame(&mut self, line: &Bytes) -> Result<Option<Frame>, NotNats> {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let end = line.iter().position(is_blank).unwrap_or(line.len());
        let rest = line.slice(end..);
        let word = line.get(..end).unwrap_or_default();
        let text = || String::from_utf8_lossy(&rest).trim().to_owned();
        Ok(Some(match word.to_ascii_uppercase().as_slice() {
            b"MSG" => {
                self.state = State::Message(head(&text(), false)?);
                return Ok(None);
            }
            b"HMSG" => {
                self.state = State::Message(head(&text(), true)?);
                return Ok(None);
            }
            b"PING" => Frame::Ping,
            b"PONG" => Frame::Pong,
            b"+OK" => Frame::Ok,
            b"INFO" => Frame::Info(rest),
            b"-ERR" => Frame::Error(text().trim_matches('\'').to_owned()),
            _ => return Err(NotNats("a line is none of the protocol of NATS")),
        }))
    }

    /// What is kept of a message that is there so far.
    fn message(&mut self, head: Head, kept: usize) -> Result<State, NotNats> {
        let mut payload = self.bytes.split_to(kept).freeze();
        let headers = payload.split_to(head.headers);
        let headers = if headers.is_empty() {
            Headers::default()
        } else {
            Headers::parse(&headers).ok_or(NotNats("the headers of a message cannot be read"))?
        };
        let left = head.total - kept;
        let message = Message {
            subject: head.subject,
            headers,
            payload,
            is_whole: left == 0,
        };
        Ok(State::Rest { message, left })
    }
}

/// `subject sid [reply-to] [bytes of headers] bytes in all`.
fn head(text: &str, has_headers: bool) -> Result<Head, NotNats> {
    const WRONG: NotNats = NotNats("the line before a message cannot be read");
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let number = |word: &&str| word.parse::<usize>().map_err(|_| WRONG);
    let (subject, headers, total) = match (has_headers, words.as_slice()) {
        (false, [subject, _, total] | [subject, _, _, total]) => (subject, 0, number(total)?),
        (true, [subject, _, headers, total] | [subject, _, _, headers, total]) => {
            (subject, number(headers)?, number(total)?)
        }
        _ => return Err(WRONG),
    };
    if headers > total {
        return Err(WRONG);
    }
    if headers > KEPT_MAX {
        return Err(NotNats("the headers of a message are longer than 64 KiB"));
    }
    Ok(Head {
        subject: (*subject).to_owned(),
        headers,
        total,
    })
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    fn read(parser: &mut Parser, bytes: &[u8]) -> Result<Vec<Frame>, NotNats> {
        parser.room().extend_from_slice(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = parser.next()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    fn spoken() -> Vec<u8> {
        let mut spoken =
            b"INFO {\"a\":1}\r\nPING\r\n+OK\r\npong\r\n-ERR 'Stale Connection'\r\n".to_vec();
        spoken.extend(b"MSG a.b 1 0\r\n\r\nMSG a.b 1 reply 4\r\nP\r\nG\r\n");
        let status = b"NATS/1.0 503\r\n\r\n";
        spoken.extend(format!("HMSG in.1 2 {} {0}\r\n", status.len()).bytes());
        spoken.extend(status);
        let headers = b"NATS/1.0\r\nA: b\r\nLong:  x y \r\n\r\n";
        let total = headers.len() + 2;
        spoken.extend(format!("\r\nHMSG in.1 2 r {} {total}\r\n", headers.len()).bytes());
        spoken.extend(headers);
        spoken.extend(b"{}\r\n");
        spoken
    }

    #[test]
    fn what_a_server_says_is_read_however_it_is_divided() {
        let spoken = spoken();
        let whole = read(&mut Parser::default(), &spoken).unwrap();
        let message = |frame: &Frame| match frame {
            Frame::Message(message) => message.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(whole.len(), 9);
        assert_eq!(whole[0], Frame::Info(Bytes::from_static(b" {\"a\":1}")));
        assert_eq!(whole[1..4], [Frame::Ping, Frame::Ok, Frame::Pong]);
        assert_eq!(whole[4], Frame::Error("Stale Connection".to_owned()));
        assert_eq!(message(&whole[6]).payload, "P\r\nG");
        let status = message(&whole[7]).headers.status;
        assert_eq!(status, Some((503, String::new())));
        let last = message(&whole[8]);
        assert_eq!(
            (last.payload.as_ref(), last.is_whole),
            (b"{}".as_slice(), true)
        );
        assert_eq!(last.headers.get("Long"), Some("x y"));
        assert_eq!(last.headers.get("a"), None);
        for cut in 0..=spoken.len() {
            let (one, two) = spoken.split_at(cut);
            let mut parser = Parser::default();
            let mut frames = read(&mut parser, one).unwrap();
            frames.extend(read(&mut parser, two).unwrap());
            assert_eq!(frames, whole, "cut at {cut}");
        }
        let mut parser = Parser::default();
        let by_byte = spoken
            .chunks(1)
            .flat_map(|byte| read(&mut parser, byte).unwrap());
        assert_eq!(by_byte.collect::<Vec<_>>(), whole);
    }

    #[test]
    fn what_is_long_is_passed_over_or_refused_and_never_kept() {
        let mut parser = Parser::default();
        let total = 100 << 20;
        assert!(
            read(&mut parser, format!("MSG a 1 {total}\r\n").as_bytes())
                .unwrap()
                .is_empty()
        );
        let piece = vec![b'x'; 1 << 16];
        let mut held = 0;
        for _ in 0..total / piece.len() {
            assert!(read(&mut parser, &piece).unwrap().is_empty());
            held = held.max(parser.bytes.capacity());
        }
        assert!(held <= 4 * KEPT_MAX, "{held}");
        let frames = read(&mut parser, b"\r\nPING\r\n").unwrap();
        let [Frame::Message(message), Frame::Ping] = frames.as_slice() else {
            panic!("{frames:?}");
        };
        assert_eq!((message.payload.len(), message.is_whole), (KEPT_MAX, false));

        let mut parser = Parser::default();
        let line = vec![b'x'; LINE_MAX + 1];
        assert!(read(&mut parser, &line).is_err());
        for bad in [
            "GET / HTTP/1.1\r\n",
            "\r\n",
            "MSG a\r\n",
            "MSG a 1 -1\r\n",
            "MSG a 1 99999999999999999999999\r\n",
            "HMSG a 1 9 8\r\n",
            "HMSG a 1 70000 80000\r\n",
            "HMSG a 1 4 4\r\nabcd\r\n",
            "MSG a 1 1\r\nab\r\n",
        ] {
            assert!(
                read(&mut Parser::default(), bad.as_bytes()).is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn random_bytes_are_refused_or_wait_for_more() {
        let seed = 20_261_127;
        println!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let spoken = spoken();
        for _ in 0..20_000 {
            let mut bytes = spoken.clone();
            for _ in 0..rng.gen_range(1..8) {
                let at = rng.gen_range(0..bytes.len());
                bytes[at] = rng.r#gen();
            }
            let mut parser = Parser::default();
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (piece, others) = rest.split_at(rng.gen_range(1..=rest.len()));
                rest = others;
                if read(&mut parser, piece).is_err() {
                    break;
                }
                assert!(parser.bytes.len() <= bytes.len());
            }
        }
    }
}
