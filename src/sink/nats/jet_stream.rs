//! The sink: a batch becomes an atomic batch of the stream, behind what is known to be there.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::BufMut as _;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::batch::{self, AtomicBatch, EVENTS_MAX, Last};
use super::connection::{Connection, Opening};
use super::credentials::{Access, Presented};
use super::protocol::Message;
use super::secure::Secure;
use super::servers::{Rota, Servers};
use super::standing::{Standing, Taken, Watch, standing};
use super::trouble::{Circumstances, Meaning, Trouble};
use crate::clock::Clock;
use crate::event::StoredEvent;
use crate::id::Seq;
use crate::outcome::{Answer, Hindrance, Outcome, PauseReason};
use crate::sink::{Request, Sink};

/// How long a look-up may take: where a stream has no leader, a server may not answer at all.
const LOOK_UP_MAX: Duration = Duration::from_secs(1);
/// Look-ups within one delivery.
const LOOK_UPS_MAX: u32 = 5;
/// Before the first repeated look-up; before each further one it is four times as long.
const LOOK_UP_WAIT: Duration = Duration::from_millis(20);
const LOOK_UP_WAIT_MAX: Duration = Duration::from_secs(1);
/// Warnings that wait to be told.
const WARNINGS_MAX: usize = 8;
/// Time limits that nothing may answer for the subject before a person is asked.
const UNANSWERED_MAX: u32 = 20;

/// Delivers a spool into a stream of NATS JetStream, each event exactly once; see the
/// [module](super).
///
/// It needs a tokio runtime with I/O and time enabled. A name of a spool belongs to one sink at a time.
pub struct JetStream {
    shared: Shared,
    state: Mutex<State>,
}

/// What does not change.
pub(super) struct Shared {
    pub(super) subject: String,
    pub(super) stream: String,
    pub(super) inbox: String,
    pub(super) client: String,
    pub(super) servers: Servers,
    pub(super) access: Access,
    pub(super) secure: Secure,
    pub(super) allows_plain: bool,
    pub(super) limit: Duration,
    pub(super) clock: Arc<dyn Clock>,
}

/// What is known of the stream, and the way there.
struct State {
    rota: Rota,
    connection: Option<Connection>,
    /// The place in the stream of the subject's last message. None while that is not certain: at the
    /// beginning, and from the moment that a batch is sent until its answer is there, so that a
    /// delivery which is dropped or unclear leaves none.
    last: Option<u64>,
    /// The last place of the spool that the stream has acknowledged to this sink.
    acked: Seq,
    watch: Watch,
    /// Since when nothing answers for the subject.
    unanswered: Option<Instant>,
    /// What is odd and costs nothing: told with the next delivery, for the log and the status.
    warnings: Vec<String>,
}

impl fmt::Debug for JetStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JetStream")
            .field("servers", &self.shared.servers)
            .field("subject", &self.shared.subject)
            .field("credentials", &self.shared.access)
            .finish_non_exhaustive()
    }
}

impl JetStream {
    pub(super) fn from_shared(shared: Shared) -> Self {
        let state = State {
            // Many devices do not all begin with the same.
            rota: Rota::new(
                &shared.servers,
                usize::try_from(shared.random() >> 8).unwrap_or(0),
            ),
            connection: None,
            last: None,
            acked: 0,
            watch: Watch::default(),
            unanswered: None,
            warnings: Vec::new(),
        };
        Self {
            shared,
            state: Mutex::new(state),
        }
    }

    /// The subject of the events: see [`Names`](super::Names).
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.shared.subject
    }

    /// Connects and looks the subject up, without writing anything: what a delivery would meet on the
    /// way, where [`Outcome::delivered`] says that nothing is in the way. Whether the subject may be
    /// written to is not found by it.
    ///
    /// # Cancel safety
    /// Nothing is changed there.
    pub async fn knock(&self) -> Outcome {
        let mut state = self.state.lock().await;
        let found = self.shared.look_up(&mut state).await;
        found.map_or_else(|outcome| outcome, |_| Outcome::delivered())
    }
}

impl State {
    fn warn(&mut self, warning: String) {
        // The same may be found again before it is told.
        if !self.warnings.contains(&warning) && self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(warning);
        }
    }
}

impl Shared {
    /// What of a new id is random.
    fn random(&self) -> u64 {
        self.clock.event_id(0).as_uuid().as_u64_pair().1
    }

    /// The connection that is there, or one to the next server that takes us in.
    async fn connected(&self, state: &mut State) -> Result<Connection, Outcome> {
        if let Some(mut connection) = state.connection.take()
            && connection.is_usable().await
        {
            return Ok(connection);
        }
        let presented = self.present().await?;
        let opening = Opening {
            presented: &presented,
            secure: &self.secure,
            inbox: format!("{}.{:016x}", self.inbox, self.random()),
            name: &self.client,
            needs_tls: self.servers.is_tls(),
            allows_plain: self.allows_plain,
            limit: self.limit,
        };
        let began = Instant::now();
        let mut met = Outcome::retry().because("no server is known");
        for _ in 0..state.rota.len() {
            let Some(candidate) = state.rota.current().cloned() else {
                break;
            };
            match Connection::open(&candidate, &opening).await {
                Ok(connection) => {
                    state.rota.learn(&candidate, connection.named());
                    return Ok(connection);
                }
                Err(trouble) => {
                    state.rota.pass_on();
                    met = trouble.outcome(self.circumstances(state, 0));
                    let is_of_us = met.verdict == Outcome::pause(PauseReason::Credentials).verdict;
                    // The others would say the same, or are left to the next delivery.
                    if is_of_us || began.elapsed() > self.limit {
                        break;
                    }
                }
            }
        }
        Err(met)
    }

    async fn present(&self) -> Result<Presented, Outcome> {
        let presented = self.access.present(self.limit).await;
        presented.map_err(|answer| Outcome::pause(PauseReason::Credentials).with_answer(answer))
    }

    fn circumstances(&self, state: &State, events: usize) -> Circumstances<'_> {
        Circumstances {
            events,
            unanswered: state
                .unanswered
                .map_or(Duration::ZERO, |since| since.elapsed()),
            unanswered_max: self.limit.saturating_mul(UNANSWERED_MAX),
            subject: &self.subject,
            stream: &self.stream,
        }
    }

    /// What the trouble with a request means; the connection is kept if it is of use.
    fn met(
        &self,
        state: &mut State,
        connection: Connection,
        trouble: &Trouble,
        events: usize,
    ) -> (Meaning, Outcome) {
        if *trouble == Trouble::NoResponders {
            state.unanswered.get_or_insert_with(Instant::now);
        } else {
            // It was about something else meanwhile, such as the way there.
            state.unanswered = None;
        }
        if trouble.leaves_connection() && connection.is_clean() {
            state.connection = Some(connection);
        } else {
            state.rota.pass_on();
        }
        let at = self.circumstances(state, events);
        (trouble.meaning(at), trouble.outcome(at))
    }

    /// Looks up the last message of the subject, at any replica. The guard of the batch that follows
    /// finds out if that was not the newest.
    async fn look_up(&self, state: &mut State) -> Result<Last, Outcome> {
        let mut connection = self.connected(state).await?;
        let inbox = connection.inbox();
        let (stream, subject) = (&self.stream, &self.subject);
        let ask = format!("PUB $JS.API.DIRECT.GET.{stream}.{subject} {inbox} 0\r\n\r\n");
        connection.out().put_slice(ask.as_bytes());
        let limit = self.limit.min(LOOK_UP_MAX);
        let mut take = |message: &Message| (message.subject == inbox).then(|| batch::last(message));
        match connection.ask(limit, &mut take).await {
            Ok(last) => {
                state.connection = Some(connection);
                Ok(last)
            }
            Err(trouble) => Err(self.met(state, connection, &trouble, 0).1),
        }
    }

    /// Sends these events behind the message `last`, and waits for the word that they are in.
    async fn send(
        &self,
        state: &mut State,
        events: &[StoredEvent],
        last: u64,
    ) -> Result<(), (Meaning, Outcome)> {
        let wrong = |outcome: Outcome| (Meaning::Retry, outcome);
        let mut connection = self.connected(state).await.map_err(wrong)?;
        if let Some(reason) = batch::too_large(events, connection.payload_max()) {
            state.connection = Some(connection);
            // Nothing was sent.
            state.last = Some(last);
            return Err(wrong(Outcome::divide().because(reason)));
        }
        let replies = [connection.inbox(), connection.inbox()];
        let id = self.clock.event_id(0).as_uuid().simple().to_string();
        let batch = AtomicBatch {
            subject: &self.subject,
            id: &id,
            events,
            last,
            replies: [&replies[0], &replies[1]],
        };
        batch.write(connection.out());
        let mut take = |message: &Message| {
            if !replies.contains(&message.subject) {
                return None;
            }
            // The first answer only says that the batch has begun, unless it is an error.
            batch::stored(message, &id, events.len()).transpose()
        };
        match connection.ask(self.limit, &mut take).await {
            Ok(seq) => {
                state.connection = Some(connection);
                state.unanswered = None;
                state.last = Some(seq);
                state.acked = events.last().map_or(state.acked, |stored| stored.seq);
                state.watch.taken();
                Ok(())
            }
            Err(trouble) => Err(self.met(state, connection, &trouble, events.len())),
        }
    }

    /// Brings the batch into the stream, whatever of it is there already.
    async fn deliver(&self, state: &mut State, request: &Request) -> Result<(), Outcome> {
        let mut left = request.events();
        let mut look_ups = 0;
        let mut met = Outcome::retry();
        while look_ups < LOOK_UPS_MAX {
            // Until the answer is there, it is not certain.
            let last = match state.last.take() {
                Some(last) => last,
                None => {
                    self.pause(look_ups).await;
                    look_ups += 1;
                    let found = self.look_up(state).await?;
                    left = self.behind(state, &found, left, request).await?;
                    found.seq
                }
            };
            if left.is_empty() {
                state.last = Some(last);
                return Ok(());
            }
            match self.send(state, left, last).await {
                Ok(()) => return Ok(()),
                Err((Meaning::LookUp, outcome)) => met = outcome,
                Err((_, outcome)) => return Err(outcome),
            }
        }
        Err(met)
    }

    /// Before a look-up is repeated: at random, so that those which met do not meet again.
    async fn pause(&self, look_ups: u32) {
        let Some(repeats) = look_ups.checked_sub(1) else {
            return;
        };
        let most = LOOK_UP_WAIT.saturating_mul(4_u32.saturating_pow(repeats));
        let most = most.min(LOOK_UP_WAIT_MAX);
        let wait = most / 2 + most.mul_f64((self.random() % 1_000) as f64 / 2_000.0);
        tokio::time::sleep(wait).await;
    }

    /// Which of these events are not in yet.
    async fn behind<'a>(
        &self,
        state: &mut State,
        found: &Last,
        left: &'a [StoredEvent],
        request: &Request,
    ) -> Result<&'a [StoredEvent], Outcome> {
        let first = left.first().map_or(Seq::MAX, |stored| stored.seq);
        let ours = match found.event {
            Some((place, _)) if place >= first => request.id_at(place).await.map_err(|error| {
                Outcome::retry().because(format!("the spool cannot be read: {error}"))
            })?,
            _ => None,
        };
        let place = found.event.map(|(place, _)| place);
        match standing(found, first, ours) {
            Standing::Out => {
                if let Some(place) = place.filter(|place| *place < state.acked) {
                    state.warn(format!(
                        "the stream holds less of this spool than it has acknowledged: was it restored \
                         from a backup? found=`{place}` acknowledged=`{}`",
                        state.acked
                    ));
                    // Said once.
                    state.acked = place;
                }
                Ok(left)
            }
            Standing::In { through } => {
                let is_in = |stored: &StoredEvent| stored.seq <= through;
                let missing = left.get(left.partition_point(is_in)..);
                state.acked = state.acked.max(through);
                Ok(missing.unwrap_or_default())
            }
            Standing::Foreign => match state.watch.meets(found.seq) {
                Taken::Older => {
                    state.warn(format!(
                        "the last message of this spool's subject is not of this spool, which is an \
                         older copy, or another process writes under its name; what may be there \
                         already was sent again under the same ids. subject=`{}` seq=`{}`",
                        self.subject, found.seq
                    ));
                    Ok(left)
                }
                Taken::Rival => Err(Outcome::pause(PauseReason::Address).because(format!(
                    "another process writes under the name of this spool, so each repeats what the \
                     other has sent: give each spool a name of its own. subject=`{}`",
                    self.subject
                ))),
            },
        }
    }
}

impl Sink for JetStream {
    /// Sends the batch as one atomic batch behind what is known to be the last message of the spool's
    /// subject. Where that is not certain it is looked up first, and what is in already is not sent
    /// again. What each trouble means is in `trouble.rs`.
    ///
    /// # Cancel safety
    /// The stream may have taken the batch when the future is dropped; the next delivery looks up, in
    /// this process or the next.
    async fn deliver(&self, request: Request) -> Outcome {
        let mut state = self.state.lock().await;
        match self.shared.deliver(&mut state, &request).await {
            Ok(()) => Outcome::delivered().with_answer(Answer {
                warnings: std::mem::take(&mut state.warnings),
                ..Answer::default()
            }),
            Err(outcome) => outcome,
        }
    }

    /// Says why there are no credentials that could be used.
    ///
    /// # Cancel safety
    /// Only reads the secret.
    async fn hindrance(&self) -> Option<Hindrance> {
        let outcome = self.shared.present().await.err()?;
        Some(Hindrance {
            reason: PauseReason::Credentials,
            answer: outcome.answer,
        })
    }

    /// Resolves within seconds when the file with the credentials is another one than was read last.
    ///
    /// # Cancel safety
    /// A change is never lost by dropping the future.
    async fn changed(&self) {
        self.shared.access.changed(self.shared.limit).await;
    }

    fn batch_events_max(&self) -> Option<NonZeroUsize> {
        NonZeroUsize::new(EVENTS_MAX)
    }
}
