//! The receiver: takes batches over HTTP and checks each event to the byte and in order, and now
//! and then refuses, or takes a batch and hangs up.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::program::json;
use crate::prove::Failure;

/// An outage ends after so many refused requests at the latest.
const REFUSED_MAX: u32 = 60;

/// What was received so far.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// The last event that came.
    pub(super) last: u64,
    /// Events that came again.
    pub(super) again: u64,
    /// The first event of the batch that came last.
    batch_first: u64,
    pub(super) requests: u64,
    pub(super) outages: u64,
    pub(super) hung_up: u64,
    /// What must not be.
    pub(super) fault: Option<String>,
}

pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    taken: Arc<Mutex<Taken>>,
    /// The last event acknowledged to the program.
    pub(super) acknowledged: Arc<AtomicU64>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    message: &'a RawValue,
}

impl Receiver {
    pub(super) fn start(seed: u64) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let taken = Arc::new(Mutex::new(Taken::default()));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let mood = Arc::new(Mutex::new(Mood::new(seed)));
        let shared = (Arc::clone(&taken), Arc::clone(&acknowledged));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (taken, acknowledged) = (Arc::clone(&shared.0), Arc::clone(&shared.1));
                let mood = Arc::clone(&mood);
                // One ends with its connection; what it finds is in `taken`.
                std::thread::spawn(move || drop(serve(&stream, &taken, &acknowledged, &mood)));
            }
        });
        Ok(Self {
            address,
            taken,
            acknowledged,
        })
    }

    pub(super) fn taken<T>(&self, look: impl FnOnce(&mut Taken) -> T) -> T {
        look(&mut self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether it is away, and for how long.
struct Mood {
    rng: fastrand::Rng,
    /// Away until so many acknowledged events wait.
    away_until_waiting: Option<u64>,
    refused: u32,
}

enum Turn {
    Take,
    TakeAndHangUp,
    Refuse,
}

impl Mood {
    fn new(seed: u64) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(seed),
            away_until_waiting: None,
            refused: 0,
        }
    }

    fn next(&mut self, waiting: u64) -> Turn {
        if let Some(enough) = self.away_until_waiting {
            self.refused += 1;
            if waiting < enough && self.refused < REFUSED_MAX {
                return Turn::Refuse;
            }
            self.away_until_waiting = None;
        } else if self.rng.u32(..400) == 0 {
            self.away_until_waiting = Some(self.rng.u64(1_000..60_000));
            self.refused = 0;
            return Turn::Refuse;
        }
        match self.rng.u32(..300) {
            0 => Turn::TakeAndHangUp,
            _ => Turn::Take,
        }
    }
}

fn serve(
    stream: &TcpStream,
    taken: &Mutex<Taken>,
    acknowledged: &AtomicU64,
    mood: &Mutex<Mood>,
) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    loop {
        let Some(body) = request(&mut reader)? else {
            return Ok(());
        };
        let turn = {
            let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = acknowledged
                .load(Ordering::Relaxed)
                .saturating_sub(taken.last);
            let turn = mood
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .next(waiting);
            taken.requests += 1;
            match turn {
                Turn::Refuse => taken.outages += 1,
                Turn::Take => taken.take(&body),
                Turn::TakeAndHangUp => {
                    taken.hung_up += 1;
                    taken.take(&body);
                }
            }
            turn
        };
        let answer = match turn {
            Turn::Take => {
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
            }
            Turn::Refuse => "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
            Turn::TakeAndHangUp => return Ok(()),
        };
        (&mut &*stream).write_all(answer.as_bytes())?;
    }
}

/// The body of the next request; none at the end of the connection, even in mid-request.
fn request(reader: &mut impl BufRead) -> Result<Option<Vec<u8>>, Failure> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    match reader.read_exact(&mut body) {
        Ok(()) => Ok(Some(body)),
        // Killed in mid-request: nothing of it counts.
        Err(_) => Ok(None),
    }
}

impl Taken {
    fn take(&mut self, body: &[u8]) {
        if let Err(fault) = self.check(body) {
            self.fault.get_or_insert(fault.to_string());
        }
    }

    /// Only the batch that came last may come again, alone or with what follows it; everything
    /// else is the next event, to the byte.
    fn check(&mut self, body: &[u8]) -> Result<(), Failure> {
        let body: Body = serde_json::from_slice(body)?;
        let first = body.messages.first().ok_or("an empty batch")?.message.get();
        let first = number(first)?;
        if first > self.last + 1 || first < self.batch_first {
            return Err(format!(
                "event {first} came when {} or at the earliest {} was due",
                self.last + 1,
                self.batch_first
            )
            .into());
        }
        let count = body.messages.len() as u64;
        for (n, message) in (first..).zip(&body.messages) {
            if message.message.get() != json(n) {
                return Err(format!("event {n} is not what was appended in its place").into());
            }
        }
        let last = first + count - 1;
        self.again += last.min(self.last) + 1 - first.min(self.last + 1);
        self.last = self.last.max(last);
        self.batch_first = first;
        Ok(())
    }
}

fn number(json: &str) -> Result<u64, Failure> {
    #[derive(Deserialize)]
    struct Named {
        timestamp: u64,
    }
    Ok(serde_json::from_str::<Named>(json)?.timestamp)
}
