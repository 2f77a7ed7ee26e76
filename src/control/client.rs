//! The client of the control socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use hyper::Method;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::dial::{Address, Trust, exchange};
use super::lines::{self, LINE_BYTES_MAX, Lines};
use super::wire::{
    Acknowledged, DrainLine, Entry, ErrorBody, EventLine, FateLine, LetterLine, Readiness,
};
use super::{FATE_WAIT_MAX, REQUEST_BYTES_MAX, SOCKET};
use crate::control::error::ClientError;
use crate::error::Error;
use crate::event::{Event, Receipt};
use crate::fate::Fate;
use crate::id::{EventId, Seq};
use crate::incident::Incident;
use crate::status::{Pace, Recovery, Status};

/// How long an owner may take to answer, where it does not wait for something itself.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// Speaks to the owner of a spool through its control socket. Each call is a connection of its
/// own. Needs a tokio runtime.
///
/// Every method fails with the [`ClientError`] that tells what happened; where nothing else is
/// said, the owner has 30 seconds to answer.
///
/// What changes something is only asked of an owner that has just answered on the same connection.
/// So [`ClientError::NoOwner`] means for certain that nothing was done, as the kinds `busy` and
/// `closed` of [`ClientError::Refused`] do: try again.
/// [`ClientError::Broken`] is left for an owner that died in the midst of the request.
#[derive(Clone, Debug)]
pub struct Client {
    address: Address,
}

impl Client {
    /// The client of the process that owns the spool in this directory. Connects to nothing yet.
    ///
    /// It speaks only to a process of root's, or of the user whom the spool belongs to.
    #[must_use]
    pub fn new(spool: impl AsRef<Path>) -> Self {
        let path = spool.as_ref().join(SOCKET);
        let trust = Trust::Spool;
        let address = Address { path, trust };
        Self { address }
    }

    /// The client of the process that serves this socket, such as one for a
    /// [group](super::GroupSocket) whose members cannot see the spool. Connects to nothing yet.
    ///
    /// It speaks only to a process of root's, or of the user whom the directory of the socket
    /// belongs to, if no other user may write to that directory: name only sockets in a directory
    /// that was made for the service.
    #[must_use]
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        let path = socket.into();
        let trust = Trust::Directory;
        let address = Address { path, trust };
        Self { address }
    }

    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.address.path
    }

    /// The state of the queue.
    ///
    /// # Errors
    /// See [`ClientError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.one(Method::GET, "/status").await
    }

    /// Whether the owner would take an append, and what delivery does meanwhile.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with what keeps it from that: `kind`, text and hint are those of a
    /// [`Readiness`]. See [`ClientError`] for the others.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn ready(&self) -> Result<Readiness, ClientError> {
        self.one(Method::GET, "/readyz").await
    }

    /// The state of the queue now and at each change, at most ten a second; ends with the queue.
    ///
    /// # Errors
    /// See [`ClientError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn watch(&self) -> Result<Lines<Status>, ClientError> {
        let asked = self.ask(Method::GET, "/status/watch", Vec::new());
        in_time(asked).await.map(Asked::lines)
    }

    /// What opening the spool found and mended.
    ///
    /// # Errors
    /// See [`ClientError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn recovery(&self) -> Result<Recovery, ClientError> {
        self.one(Method::GET, "/recovery").await
    }

    /// Pending events after `after`, in order, at most `max` of them and at most about 1 MiB; the
    /// last one's `seq` goes on from there, none at all is the end.
    ///
    /// # Errors
    /// See [`ClientError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn peek(&self, after: Seq, max: usize) -> Result<Vec<EventLine>, ClientError> {
        self.list("/events", after, max).await
    }

    /// Appends these events as one commit, under their ids and times; they are then as safe as
    /// the owner's settings say. Waits without a limit, since the owner may be set to wait for
    /// room.
    ///
    /// A single event arrives to the byte; of several, white space around them and line breaks
    /// in them do not (see [`EventJson`](super::wire::EventJson)).
    ///
    /// # Errors
    /// See [`ClientError`]. A refusal with the status 413 means to send fewer at a time.
    ///
    /// # Cancel safety
    /// If the future is dropped, the events were either appended or not. Append them again under
    /// the same ids.
    pub async fn append(&self, events: &[Event]) -> Result<Vec<Receipt>, ClientError> {
        let (path, body) = match events {
            [] => return Ok(Vec::new()),
            [event] => {
                let (id, time_ms) = (event.id(), event.time_ms());
                let path = format!("/events?form=event&id={id}&time_ms={time_ms}");
                (path, event.json_bytes().to_vec())
            }
            several => ("/events?form=entries".to_owned(), entries(several)?),
        };
        if body.len() > REQUEST_BYTES_MAX {
            return Err(ClientError::Refused {
                status: 413,
                kind: "request_too_large".to_owned(),
                text: format!("request is too large. max_bytes=`{REQUEST_BYTES_MAX}`"),
                hint: "send fewer events in one request".to_owned(),
            });
        }
        let receipts: Vec<Receipt> = self.ask(Method::POST, &path, body).await?.all().await?;
        if receipts.len() == events.len() {
            Ok(receipts)
        } else {
            Err(ClientError::protocol("not one receipt for each event"))
        }
    }

    /// Dead letters after `after`, in order; bounded as [`peek`](Self::peek).
    ///
    /// # Errors
    /// See [`ClientError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn dead_letters(
        &self,
        after: Seq,
        max: usize,
    ) -> Result<Vec<LetterLine>, ClientError> {
        self.list("/dead", after, max).await
    }

    /// The dead letter that stood at `seq`.
    ///
    /// # Errors
    /// See [`ClientError`]; the kind `no_such_letter`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn dead_letter(&self, seq: Seq) -> Result<LetterLine, ClientError> {
        self.one(Method::GET, &format!("/dead/{seq}")).await
    }

    /// Appends the event of a dead letter anew and removes the letter.
    ///
    /// # Errors
    /// See [`ClientError`]; the kinds `no_such_letter` and `full`.
    ///
    /// # Cancel safety
    /// If the future is dropped, it was either done or not.
    pub async fn retry(&self, seq: Seq) -> Result<Receipt, ClientError> {
        self.one(Method::POST, &format!("/dead/{seq}/retry")).await
    }

    /// Removes a dead letter and its event for ever.
    ///
    /// # Errors
    /// See [`ClientError`]; the kind `no_such_letter`.
    ///
    /// # Cancel safety
    /// If the future is dropped, it was either done or not.
    pub async fn discard(&self, seq: Seq) -> Result<(), ClientError> {
        self.order(Method::DELETE, &format!("/dead/{seq}")).await
    }

    /// What became of the event with this number.
    ///
    /// # Errors
    /// See [`ClientError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn fate(&self, seq: Seq) -> Result<FateLine, ClientError> {
        self.one(Method::GET, &format!("/fate/{seq}")).await
    }

    /// What became of the event with this id, if it waits or is a dead letter. It takes as long as
    /// the owner needs to read what waits; there is no time limit.
    ///
    /// # Errors
    /// See [`ClientError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn fate_of_id(&self, id: EventId) -> Result<FateLine, ClientError> {
        let path = format!("/fate/{id}");
        let asked = self.ask(Method::GET, &path, Vec::new()).await?;
        lines::read(&asked.body().await?)
    }

    /// Waits until the event with this number has left the queue, but not longer than `within`, nor
    /// than [`FATE_WAIT_MAX`], and gives what it is then.
    ///
    /// # Errors
    /// See [`ClientError`]; the kind `closed` if the queue ended before.
    ///
    /// # Cancel safety
    /// Only waits.
    pub async fn settled(&self, seq: Seq, within: Duration) -> Result<FateLine, ClientError> {
        let wait_ms = within.min(FATE_WAIT_MAX).as_millis();
        let path = format!("/fate/{seq}?wait_ms={wait_ms}");
        let asked = in_time(self.ask(Method::GET, &path, Vec::new())).await?;
        let mut said: Vec<FateLine> = asked.all().await?;
        let is_last = said.len() == 2 || wait_ms == 0;
        match said.pop() {
            Some(line) if is_last || line.fate != Fate::Pending => Ok(line),
            _ => Err(ClientError::Refused {
                status: 503,
                kind: "closed".to_owned(),
                text: "the owner of the spool closed before the event left the queue".to_owned(),
                hint: "ask its next owner".to_owned(),
            }),
        }
    }

    /// All incidents on record, acknowledged or not, in order of their numbers.
    ///
    /// # Errors
    /// See [`ClientError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn incidents(&self) -> Result<Vec<Incident>, ClientError> {
        let listed = async {
            let asked = self.ask(Method::GET, "/incidents", Vec::new()).await?;
            asked.all().await
        };
        in_time(listed).await
    }

    /// Notes, durably, that a person has seen the incident of this number, or all. Gives how many
    /// were not acknowledged before.
    ///
    /// # Errors
    /// See [`ClientError`]; the kinds `no_such_incident` and `storage`.
    ///
    /// # Cancel safety
    /// If the future is dropped, it was either done or not.
    pub async fn acknowledge(&self, number: Option<u64>) -> Result<u64, ClientError> {
        let path = match number {
            Some(number) => format!("/incidents/{number}/acknowledge"),
            None => "/incidents/acknowledge".to_owned(),
        };
        let answer: Acknowledged = self.one(Method::POST, &path).await?;
        Ok(answer.acknowledged)
    }

    /// Has the owner try now, and waits until what is pending at this moment has left the queue,
    /// or until the deadline, which is at most a week; delivery goes on after it. The last line
    /// has `done` and says whether it is `drained`. Dropping the lines ends the waiting.
    ///
    /// # Errors
    /// See [`ClientError`]; the kinds `no_sink` and `failed`.
    ///
    /// # Cancel safety
    /// If the future is dropped, the wait ends.
    pub async fn drain(&self, deadline: Duration) -> Result<Lines<DrainLine>, ClientError> {
        let path = format!("/drain?deadline_ms={}", deadline.as_millis());
        let asked = self.ask(Method::POST, &path, Vec::new());
        in_time(asked).await.map(Asked::lines)
    }

    /// Stops delivery until [`resume`](Self::resume), also across restarts of the owner. Returns
    /// when nothing is sent any more and the pause is on disk; as
    /// [`Queue::pause`](crate::Queue::pause). Waits without a limit, since a request in flight is
    /// let finish.
    ///
    /// # Errors
    /// See [`ClientError`]; the kind `failed`. `storage`, and what else a disk may say: delivery
    /// is paused all the same, but a restart may deliver.
    ///
    /// # Cancel safety
    /// If the future is dropped, the owner pauses or not; ask it again.
    pub async fn pause(&self) -> Result<(), ClientError> {
        self.ask(Method::POST, "/pause", Vec::new()).await.map(drop)
    }

    /// Ends a pause, whatever its reason, and tries at once. Returns when that is on disk; waits
    /// without a limit, since a probe in flight is let finish.
    ///
    /// # Errors
    /// As [`pause`](Self::pause). `storage`: delivery goes on, but a restart may be paused.
    ///
    /// # Cancel safety
    /// If the future is dropped, the pause was ended or not; ask again.
    pub async fn resume(&self) -> Result<(), ClientError> {
        self.ask(Method::POST, "/resume", Vec::new())
            .await
            .map(drop)
    }

    /// Tries now what waits for a time. Returns when the flusher has taken that up.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    ///
    /// # Cancel safety
    /// If the future is dropped, it was either done or not.
    pub async fn wake(&self) -> Result<(), ClientError> {
        self.order(Method::POST, "/wake").await
    }

    /// Sets how much may go out in a second, until the owner ends; what is none is not bounded. The
    /// present pace is in [`Status::pace`]. Returns when the flusher has taken that up.
    ///
    /// # Errors
    /// See [`ClientError`]; the kinds `no_sink` and `failed`.
    ///
    /// # Cancel safety
    /// If the future is dropped, it was either done or not.
    pub async fn set_pace(&self, pace: Pace) -> Result<(), ClientError> {
        let rates = [
            ("rate_events", pace.rate_events.map(u64::from)),
            ("rate_bytes", pace.rate_bytes),
        ];
        let set = rates
            .iter()
            .filter_map(|(name, rate)| Some((name, (*rate)?)));
        let set: Vec<String> = set.map(|(name, rate)| format!("{name}={rate}")).collect();
        let path = format!("/pace?{}", set.join("&"));
        self.order(Method::POST, &path).await
    }

    async fn one<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, ClientError> {
        let answer = in_time(async { self.ask(method, path, Vec::new()).await?.body().await });
        lines::read(&answer.await?)
    }

    async fn order(&self, method: Method, path: &str) -> Result<(), ClientError> {
        let asked = self.ask(method, path, Vec::new());
        in_time(asked).await.map(drop)
    }

    async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        after: Seq,
        max: usize,
    ) -> Result<Vec<T>, ClientError> {
        let path = format!("{path}?after={after}&max={max}");
        in_time(async { self.ask(Method::GET, &path, Vec::new()).await?.all().await }).await
    }

    /// Sends a request and gives the answer if it is a success.
    async fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Asked, ClientError> {
        let (response, connection) = exchange(&self.address, method, path, body).await?;
        let status = response.status();
        let asked = Asked {
            body: Body::new(response.into_body()),
            connection,
        };
        if status.is_success() {
            return Ok(asked);
        }
        let refusal: ErrorBody = lines::read(&asked.body().await?)?;
        Err(ClientError::Refused {
            status: status.as_u16(),
            kind: refusal.kind,
            text: refusal.error,
            hint: refusal.hint,
        })
    }
}

/// An answer whose body is yet to come.
struct Asked {
    body: Body,
    connection: JoinSet<()>,
}

impl Asked {
    fn lines<T: DeserializeOwned>(self) -> Lines<T> {
        Lines::new(self.body, self.connection)
    }

    async fn all<T: DeserializeOwned>(self) -> Result<Vec<T>, ClientError> {
        let (mut lines, mut all) = (self.lines(), Vec::new());
        while let Some(line) = lines.next().await? {
            all.push(line);
        }
        Ok(all)
    }

    async fn body(self) -> Result<bytes::Bytes, ClientError> {
        to_bytes(self.body, LINE_BYTES_MAX)
            .await
            .map_err(ClientError::broken)
    }
}

async fn in_time<T>(
    answer: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    tokio::time::timeout(ANSWER_TIME, answer)
        .await
        .unwrap_or(Err(ClientError::TimedOut))
}

fn entries(events: &[Event]) -> Result<Vec<u8>, ClientError> {
    let mut body = Vec::new();
    for event in events {
        serde_json::to_writer(&mut body, &Entry::new(event)?).map_err(|error| {
            let reason = crate::event::json_fault(&error);
            Error::InvalidEvent { reason }
        })?;
        body.push(b'\n');
    }
    Ok(body)
}
