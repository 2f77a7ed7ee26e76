//! Requests to servers: each within a time, and none believed to have failed only because it was not
//! answered.
//!
//! A client keeps what it could not send and sends it once it is connected again, long after the request
//! has ended for us. So every write here names what it replaces, or is one that does no harm later.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use super::api::{self, Entry, Got, GotMessage, Info, Page, Piece, Refusal, Stored};
use super::connect::fleet;
use super::text::clean;
use crate::error::Error;

/// How long one answer is waited for. A leader that is there answers in milliseconds; a new one is chosen
/// in some seconds, and there is no use in waiting for the old one.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// How long a server may be silent while it sends a batch.
const PIECE_MAX: Duration = Duration::from_secs(2);
/// What one batch may hold beyond what was asked for.
const ENTRIES_MAX: usize = 200_000;

/// Reaches the servers. Cloning is cheap.
#[derive(Clone)]
pub(super) struct Wire(Arc<watch::Receiver<Option<Client>>>);

/// What becomes of a write.
#[derive(Debug)]
pub(super) enum Put {
    /// It is stored, at this place.
    Stored(u64),
    /// It is not: another message is there.
    Guarded,
}

/// Which messages of a stream are wanted.
#[derive(Clone, Debug)]
pub(super) enum Wanted<'a> {
    /// Those of a subject from a place on, so many, and so many bytes.
    From {
        seq: u64,
        subject: &'a str,
        max: usize,
        bytes_max: u64,
    },
    /// The last one of each subject.
    LastOf(&'a str),
}

impl Wanted<'_> {
    fn body(&self) -> Value {
        match self {
            Self::From {
                seq,
                subject,
                max,
                bytes_max,
            } => {
                json!({"seq": seq, "next_by_subj": subject, "batch": max, "max_bytes": bytes_max})
            }
            Self::LastOf(subject) => json!({"multi_last": [subject], "batch": 1024}),
        }
    }
}

impl Wire {
    /// One client, for as long as it is wanted.
    pub(super) fn of(client: Client) -> Self {
        Self(Arc::new(watch::channel(Some(client)).1))
    }

    /// Whatever client there is at the moment.
    pub(super) fn through(clients: watch::Receiver<Option<Client>>) -> Self {
        Self(Arc::new(clients))
    }

    fn client(&self) -> Result<Client, Error> {
        let client = self.0.borrow().clone();
        client.ok_or_else(|| fleet("there is no connection to the servers at present"))
    }

    /// The largest message that the servers take, in bytes.
    pub(super) fn payload_max(&self) -> usize {
        self.client().map_or(0, |client| client.max_payload())
    }

    async fn ask(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<Message, Error> {
        let client = self.client()?;
        let mut request = async_nats::Request::new().payload(payload);
        request.headers = headers;
        // The time limit of the client does not hold while its queue is full.
        match timeout(ANSWER_MAX, client.send_request(subject.clone(), request)).await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(error)) => Err(fleet(format!("{subject}: {}", clean(&error.to_string())))),
            Err(_) => Err(fleet(format!("{subject}: no answer within {ANSWER_MAX:?}"))),
        }
    }

    /// Stores a message if the last one of its subject stands at `last`, and none is there if that is 0.
    ///
    /// # Errors
    /// It may be stored or not, and may be stored later.
    pub(super) async fn put(
        &self,
        stream: &str,
        subject: String,
        last: u64,
        mut headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Put, Error> {
        headers.insert("Nats-Expected-Last-Subject-Sequence", last.to_string());
        let message = self.ask(subject, Some(headers), payload).await?;
        match api::answer::<Stored>(&message.payload) {
            Ok(stored) if stored.stream == stream => Ok(Put::Stored(stored.seq)),
            Ok(stored) => Err(fleet(format!(
                "a message for stream {stream} was taken by {}; its subjects are not those of the setup",
                clean(&stored.stream)
            ))),
            Err(Refusal::Guarded) => Ok(Put::Guarded),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Asks the API.
    pub(super) async fn api<T: DeserializeOwned>(
        &self,
        what: &str,
        stream: &str,
        body: &Value,
    ) -> Result<Result<T, Refusal>, Error> {
        let subject = format!("$JS.API.STREAM.{what}.{stream}");
        let payload = body.to_string().into();
        let message = self.ask(subject, None, payload).await?;
        Ok(api::answer(&message.payload))
    }

    /// What the leader of a stream counts.
    pub(super) async fn info(&self, stream: &str) -> Result<Info, Error> {
        Ok(self.api("INFO", stream, &json!({})).await??)
    }

    /// The same with the messages of each of these subjects, those of one page: from the subject with the number
    /// `offset` on.
    pub(super) async fn info_of_subjects(
        &self,
        stream: &str,
        subjects: &str,
        offset: u64,
    ) -> Result<Info, Error> {
        let body = json!({"subjects_filter": subjects, "offset": offset});
        Ok(self.api("INFO", stream, &body).await??)
    }

    /// The last message of a subject, as the leader has it; `None` if there is none.
    pub(super) async fn last(
        &self,
        stream: &str,
        subject: &str,
    ) -> Result<Option<(u64, Vec<u8>)>, Error> {
        let got = self.get(stream, &json!({"last_by_subj": subject})).await?;
        got.map(|message| {
            let data = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, &message.data);
            let data =
                data.map_err(|_| fleet("the server sent a message that is not as it should be"))?;
            Ok((message.seq, data))
        })
        .transpose()
    }

    /// One message, as the leader has it; `None` if there is none.
    pub(super) async fn get(
        &self,
        stream: &str,
        body: &Value,
    ) -> Result<Option<GotMessage>, Error> {
        match self.api::<Got>("MSG.GET", stream, body).await? {
            Ok(got) => Ok(Some(got.message)),
            Err(Refusal::NoMessage) => Ok(None),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Messages of a stream, read at once, as one of its servers has them: it may be a little behind.
    pub(super) async fn fetch(&self, stream: &str, wanted: &Wanted<'_>) -> Result<Page, Error> {
        let client = self.client()?;
        let inbox = client.new_inbox();
        let whole = async {
            let pieces = client.subscribe(inbox.clone()).await;
            let pieces = pieces.map_err(|error| fleet(clean(&error.to_string())))?;
            let subject = format!("$JS.API.DIRECT.GET.{stream}");
            let body = wanted.body().to_string().into();
            let asked = client.publish_with_reply(subject, inbox, body).await;
            asked.map_err(|error| fleet(clean(&error.to_string())))?;
            Ok::<_, Error>(pieces)
        };
        let pieces = timeout(ANSWER_MAX, whole).await;
        let mut pieces = pieces.map_err(|_| fleet("the connection takes no more requests"))??;
        collect(stream, &mut pieces).await
    }

    /// Messages of a subject as they come, without any promise: `max` of them, or all.
    pub(super) async fn listen(
        &self,
        subject: &str,
        max: Option<u64>,
    ) -> Result<Subscriber, Error> {
        let client = self.client()?;
        let begin = async {
            let heard = client.subscribe(subject.to_owned()).await;
            let mut heard = heard.map_err(|error| fleet(clean(&error.to_string())))?;
            if let Some(max) = max {
                let bounded = heard.unsubscribe_after(max).await;
                bounded.map_err(|error| fleet(clean(&error.to_string())))?;
            }
            Ok(heard)
        };
        let begun = timeout(ANSWER_MAX, begin).await;
        begun.unwrap_or_else(|_| Err(fleet("the connection takes no more requests")))
    }

    /// Says something to those who listen now.
    pub(super) async fn say(&self, subject: String, payload: Bytes) -> Result<(), Error> {
        let client = self.client()?;
        match timeout(ANSWER_MAX, client.publish(subject, payload)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(fleet(clean(&error.to_string()))),
            Err(_) => Err(fleet("the connection takes no more requests")),
        }
    }
}

/// Takes in what a server sends for a batch. If it falls silent, what came until then is a beginning
/// without a hole.
async fn collect(stream: &str, pieces: &mut Subscriber) -> Result<Page, Error> {
    let mut page = Page::default();
    while page.entries.len() < ENTRIES_MAX {
        let message = match timeout(PIECE_MAX, pieces.next()).await {
            Ok(Some(message)) => message,
            Ok(None) | Err(_) if !page.entries.is_empty() => return Ok(page),
            Ok(None) | Err(_) => {
                return Err(fleet(format!(
                    "no server gives messages of stream {stream} at present"
                )));
            }
        };
        if message.status == Some(async_nats::StatusCode::NO_RESPONDERS) {
            return Err(fleet(format!(
                "no server gives messages of stream {stream} at present"
            )));
        }
        match api::piece(message)? {
            Piece::Entry(entry) => take(&mut page, *entry)?,
            Piece::End(behind) => {
                page.behind = behind;
                return Ok(page);
            }
            Piece::Nothing => return Ok(page),
        }
    }
    Ok(page)
}

fn take(page: &mut Page, entry: Entry) -> Result<(), Error> {
    page.take(entry).map_err(Error::from)
}
